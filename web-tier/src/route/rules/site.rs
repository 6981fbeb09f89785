//! The web-apps of a host that this server answers itself: those that are folders of files.

use super::{HeaderSource, Target};
use common::config::{Content, WebApp};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use static_files::{ASKED_HEADERS, Answer, Asked, FileBody, StaticFiles};
use std::{io, path::Path, rc::Rc};

/// The web-apps of a host, the longest path first.
#[derive(Debug, Default)]
pub(crate) struct Sites(Vec<WebAppPlace>);

#[derive(Debug)]
struct WebAppPlace {
    /// Without a slash at its end.
    prefix: Box<str>,
    /// `None`: its own cluster can't be reached, which the file's checks rule out.
    at: Option<Place>,
}

#[derive(Debug)]
enum Place {
    Files(Rc<Site>),
    App(Target),
    /// Files at the root, beside which apps are deployed: what is one of them the app tier knows.
    FilesOfApp(Rc<Site>, Target),
}

/// Where a path leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// To a folder's files.
    Files(&'a Rc<Site>),
    /// To an app with a process.
    App(&'a Target),
}

impl Sites {
    /// Looks at each web-app's folder: one with an `app.yaml` is an app, which an app tier answers: `own` knows which. So does the
    /// administration. `deployed` is the way to apps that are deployed to this cluster, whose paths no file has.
    pub(super) fn new(
        web_apps: &[WebApp],
        mut deployed: Option<Target>,
        mut own: impl FnMut(&Content) -> Option<Target>,
    ) -> Self {
        let place = |web_app: &WebApp| {
            let at = match &web_app.content {
                Content::Folder(root) if !root.join(static_files::APP_FILE).exists() => {
                    let site = Rc::new(Site::new(&web_app.id, root));
                    let beside = deployed.take_if(|_| web_app.id.is_empty());
                    Some(match beside {
                        Some(target) => Place::FilesOfApp(site, target),
                        None => Place::Files(site),
                    })
                }
                app => own(app).map(Place::App),
            };
            WebAppPlace { prefix: web_app.id.as_str().into(), at }
        };
        let mut places: Vec<_> = web_apps.iter().map(place).collect();
        if places.iter().all(|place| !place.prefix.is_empty()) {
            let root = |target| WebAppPlace { prefix: "".into(), at: Some(Place::App(target)) };
            places.extend(deployed.map(root));
        }
        places.sort_by_key(|place| std::cmp::Reverse(place.prefix.len()));
        Self(places)
    }

    /// The web-app with the longest path that `path` is, or lies below.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        Some(match self.place(path)? {
            Place::Files(site) => Found::Files(site),
            Place::App(target) | Place::FilesOfApp(_, target) => Found::App(target),
        })
    }

    fn place(&self, path: &str) -> Option<&Place> {
        let below = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().find(|place| below(&place.prefix))?.at.as_ref()
    }

    /// Whether a decoded path leads to a file of a web-app that is files. Blocks.
    pub(super) fn has_file(&self, path: &str) -> bool {
        match self.place(path) {
            Some(Place::Files(site) | Place::FilesOfApp(site, _)) => {
                site.files.exists(&path[site.prefix.len()..])
            }
            Some(Place::App(_)) | None => false,
        }
    }
}

/// A folder of files at a path.
#[derive(Debug)]
pub(crate) struct Site {
    prefix: Box<str>,
    files: StaticFiles,
}

/// Two are the same if they are at one place.
impl PartialEq for Site {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Site {}

/// A request as a site needs it. After a `forward`, path and query are the new ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SiteRequest<'a> {
    pub(crate) method: &'a str,
    /// Decoded and normalised, whole.
    pub(crate) path: &'a str,
    /// Percent-encoded, whole.
    pub(crate) target: &'a str,
    pub(crate) query: Option<&'a str>,
    /// By [`Site::headers`].
    pub(crate) headers: &'a HeaderMap,
}

impl Site {
    fn new(id: &str, root: &Path) -> Self {
        if let Err(cause) = root.read_dir() {
            tracing::warn!(
                root = %root.display(), %cause,
                "a web-app's folder can't be read: its files are answered 404 until it can"
            );
        }
        Self { prefix: id.into(), files: StaticFiles::new(root.to_owned()) }
    }

    /// What a site needs of a request's headers.
    pub(crate) fn headers(source: &dyn HeaderSource) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in ASKED_HEADERS {
            source.for_each(name.as_str(), &mut |value| {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(&name, value);
                }
            });
        }
        headers
    }

    /// The whole answer: 404 without such a file, 405 with `Allow` for methods other than GET and HEAD. Files are opened and read
    /// by threads that may block.
    ///
    /// # Errors
    /// The disk's: 500.
    pub(crate) async fn answer(&self, request: &SiteRequest<'_>) -> io::Result<Answer> {
        if !matches!(request.method, "GET" | "HEAD") {
            let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
            answer.headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(answer);
        }
        let Some(below) = request.path.strip_prefix(&*self.prefix) else {
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        let asked = Asked {
            head: request.method == "HEAD",
            below,
            target: request.target,
            query: request.query,
            headers: request.headers,
        };
        Ok(self.files.find(&asked).await?.unwrap_or_else(|| empty(StatusCode::NOT_FOUND)))
    }
}

fn empty(status: StatusCode) -> Answer {
    Answer { status, headers: HeaderMap::new(), body: FileBody::Empty }
}
