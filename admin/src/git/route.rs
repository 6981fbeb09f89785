//! What a request of Git's asks for: `deploy.git`, or `git/[HOST/]NAME.git`, and what of it.

use crate::refusal::Refusal;
use common::app_tag::{AppTag, DEFAULT_HOST, PRODUCTION};
use http::{HeaderMap, Method, Uri, header};

/// A repository, as Git is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Every app's branches, to read.
    All,
    /// One app's: a branch is a stage.
    App { host: String, name: String },
}

/// What Git speaks to (gitprotocol-http).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    UploadPack,
    ReceivePack,
}

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GitRoute {
    /// `GET …/info/refs?service=SERVICE`.
    Advertise(Place, Service),
    /// `POST …/SERVICE`.
    Answer(Place, Service),
}

/// Whether a path below a web-app's is Git's.
pub(crate) fn is_git(below: &str) -> bool {
    below.starts_with("/deploy.git/") || below.starts_with("/git/")
}

impl Service {
    /// As the path has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    /// The type of the answer to `info/refs`.
    pub(crate) const fn advertisement(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-advertisement",
            Self::ReceivePack => "application/x-git-receive-pack-advertisement",
        }
    }

    /// The type of the answer to a `POST`.
    pub(crate) const fn result(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-result",
            Self::ReceivePack => "application/x-git-receive-pack-result",
        }
    }

    /// The type of a `POST`'s body. No page of another site can send it without asking first.
    const fn request(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-request",
            Self::ReceivePack => "application/x-git-receive-pack-request",
        }
    }

    /// Checks the type of a `POST`'s body.
    ///
    /// # Errors
    /// It is another one.
    pub(crate) fn check(self, headers: &HeaderMap) -> Result<(), Refusal> {
        let right = headers.get(header::CONTENT_TYPE).is_some_and(|it| it == self.request());
        if right { Ok(()) } else { Err(Refusal::ContentType(self.request())) }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|it| it.name() == name)
    }
}

impl GitRoute {
    /// Of the parts of a path.
    ///
    /// # Errors
    /// Nothing is there, or not for this method; no app can have that name.
    pub(crate) fn of(method: &Method, parts: &[&str], uri: &Uri) -> Result<Self, Refusal> {
        let (place, rest) = match parts {
            ["deploy.git", rest @ ..] => (Place::All, rest),
            ["git", name, rest @ ..] if name.ends_with(".git") => (app(DEFAULT_HOST, name)?, rest),
            ["git", host, name, rest @ ..] if name.ends_with(".git") => (app(host, name)?, rest),
            _ => return Err(Refusal::NotFound),
        };
        match rest {
            ["info", "refs"] if !matches!(*method, Method::GET | Method::HEAD) => {
                Err(Refusal::Method("GET, HEAD"))
            }
            ["info", "refs"] => {
                let service = uri.query().and_then(|it| it.strip_prefix("service=")).and_then(Service::named);
                service.map(|it| Self::Advertise(place, it)).ok_or(Refusal::NoGitService)
            }
            [service] => {
                let service = Service::named(service).ok_or(Refusal::NotFound)?;
                if *method == Method::POST {
                    return Ok(Self::Answer(place, service));
                }
                Err(Refusal::Method("POST"))
            }
            _ => Err(Refusal::NotFound),
        }
    }

    /// Which repository, and which service.
    pub(crate) fn wants(&self) -> (&Place, Service) {
        match self {
            Self::Advertise(place, service) | Self::Answer(place, service) => (place, *service),
        }
    }
}

fn app(host: &str, name: &str) -> Result<Place, Refusal> {
    let name = name.strip_suffix(".git").unwrap_or(name);
    let tag = AppTag::new(PRODUCTION, host, name, None);
    let tag = tag.map_err(|cause| Refusal::Body(cause.to_string()))?;
    Ok(Place::App { host: tag.host, name: tag.name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, target: &str) -> String {
        let uri: Uri = target.parse().unwrap();
        let parts: Vec<_> = uri.path().trim_start_matches('/').split('/').collect();
        match GitRoute::of(&method.parse().unwrap(), &parts, &uri) {
            Ok(route) => format!("{route:?}"),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn paths_lead_where_they_say() {
        let shop = "App { host: \"default\", name: \"shop\" }";
        let refs = |service: &str| format!("/info/refs?service={service}");
        assert_eq!(
            route("GET", &format!("/deploy.git{}", refs("git-upload-pack"))),
            "Advertise(All, UploadPack)"
        );
        assert_eq!(
            route("GET", &format!("/git/shop.git{}", refs("git-receive-pack"))),
            format!("Advertise({shop}, ReceivePack)")
        );
        assert_eq!(route("POST", "/git/shop.git/git-receive-pack"), format!("Answer({shop}, ReceivePack)"));
        assert_eq!(
            route("POST", "/git/www.example.com/shop.git/git-upload-pack"),
            "Answer(App { host: \"www.example.com\", name: \"shop\" }, UploadPack)"
        );
        assert_eq!(route("GET", "/git/shop.git/git-upload-pack"), "this path takes POST alone");
        assert_eq!(
            route("POST", "/git/shop.git/info/refs?service=git-upload-pack"),
            "this path takes GET, HEAD alone"
        );
    }

    #[test]
    fn there_is_nothing_else() {
        for nowhere in [
            "/deploy.git",
            "/deploy.git/HEAD",
            "/deploy.git/objects/info/packs",
            "/git",
            "/git/shop",
            "/git/shop/info/refs?service=git-upload-pack",
            "/git/a/b/shop.git/git-upload-pack",
            "/deploy.git/info/refs/x",
        ] {
            assert_eq!(route("GET", nowhere), "there is nothing at this path", "{nowhere}");
        }
        for dumb in ["/deploy.git/info/refs", "/deploy.git/info/refs?service=git-upload-archive"] {
            assert!(route("GET", dumb).contains("smart HTTP"), "{dumb}");
        }
        for name in ["..git", ".git", "a%2fb.git", "shop-1.2.git", "-.git"] {
            let refused = route("GET", &format!("/git/{name}/info/refs?service=git-upload-pack"));
            assert!(refused.starts_with("name is"), "{name}: {refused}");
        }
    }
}
