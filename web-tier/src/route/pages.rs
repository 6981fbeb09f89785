//! Pages for errors and for a site that is closed: files that are read at the start and at a reload, and again when they change, so that no
//! answer waits for a disk. One that can't be read any more stays as it was.

use arc_swap::ArcSwap;
use bytes::Bytes;
use common::{
    config::{Action, Cluster, Config, ConfigErrors, FilePath, Host, Problem},
    file_watch::{FileWatch, Look},
    id::ServerId,
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::spawn_blocking, time::sleep};

/// The largest page: it is kept in memory, and is sent to whoever asks for what is not there.
const SIZE_MAX: u64 = 1 << 20;

/// Between two looks at the files.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// Names' ends and what such files are; any other is `application/octet-stream`.
const TYPES: [(&str, &str); 8] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("gif", "image/gif"),
];

/// A page that can't be used, with the place where its file is named.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PageError(Problem);

/// Reads the pages of every cluster that has listeners, or of that of the server `only`.
///
/// # Errors
/// Files that are missing, can't be read, or are larger than 1 MiB.
pub fn check_pages(config: &Config, only: Option<&ServerId>) -> Result<(), ConfigErrors> {
    let files = config.web_tiers(only).flat_map(|it| &it.hosts).flat_map(files);
    let problems = files.filter_map(|file| read_first(file).err());
    ConfigErrors::part(problems.map(|it| it.0).collect()).map(drop)
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) content: Bytes,
    pub(crate) content_type: &'static str,
}

/// The pages of a cluster, by their files.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: HashMap<PathBuf, ArcSwap<Page>>,
    /// Of each file.
    seen: Mutex<Vec<FileWatch>>,
}

impl Pages {
    /// Reads the pages that the hosts and rules of a cluster name. Blocks on the file system.
    ///
    /// # Errors
    /// One of them can't be read, or is too large.
    pub(crate) fn read(cluster: &Cluster) -> Result<Self, PageError> {
        let mut pages = Self::default();
        for file in cluster.hosts.iter().flat_map(files) {
            if pages.pages.contains_key(&file.path) {
                continue;
            }
            let watch = FileWatch::reading(vec![file.path.clone()]);
            let page = read_first(file)?;
            pages.pages.insert(file.path.clone(), ArcSwap::from_pointee(page));
            pages.seen.get_mut().unwrap_or_else(PoisonError::into_inner).push(watch);
        }
        Ok(pages)
    }

    /// What a file held when it was read last. `None`: the configuration does not name it.
    pub(crate) fn get(&self, path: &Path) -> Option<Arc<Page>> {
        self.pages.get(path).map(ArcSwap::load_full)
    }

    /// Reads those again that have changed. Blocks on the file system.
    pub(crate) fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for watch in &mut *seen {
            let changed = watch.look();
            if changed == Look::Still {
                continue;
            }
            watch.reading_again();
            for path in watch.paths() {
                self.read_again(path, changed == Look::Changed);
            }
        }
    }

    fn read_again(&self, path: &Path, changed: bool) {
        let Some(slot) = self.pages.get(path) else { return };
        match read(path) {
            Ok(page) if page.content == slot.load().content => {}
            Ok(page) => {
                slot.store(Arc::new(page));
                tracing::info!(path = %path.display(), "a page has changed");
            }
            Err(cause) if changed => {
                tracing::warn!(path = %path.display(), %cause, "a changed page can't be read: the old one stays");
            }
            Err(_) => {}
        }
    }
}

fn files(host: &Host) -> impl Iterator<Item = &FilePath> {
    let closed = host.dispatch.iter().filter_map(|rule| match &rule.action {
        Action::Maintenance(closed) => Some(&closed.file),
        _ => None,
    });
    host.error_pages.pages.iter().map(|(_, file)| file).chain(closed)
}

fn read_first(file: &FilePath) -> Result<Page, PageError> {
    read(&file.path).map_err(|cause| {
        let message = format!("the page {} can't be used: {cause}", file.path.display());
        PageError(file.location.error(&message))
    })
}

/// A regular file; never waits on a pipe or a device.
fn read(path: &Path) -> io::Result<Page> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it is larger than the {SIZE_MAX} bytes that a page may have")));
    }
    let end = path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
    let known = TYPES.iter().find(|(known, _)| *known == end);
    let content_type = known.map_or("application/octet-stream", |(_, content_type)| content_type);
    Ok(Page { content: content.into(), content_type })
}

/// Looks at the pages every `interval`, for as long as it is polled.
pub(crate) async fn watch(pages: Arc<Pages>, interval: Duration) {
    if pages.pages.is_empty() {
        return;
    }
    loop {
        sleep(interval).await;
        let pages = pages.clone();
        if let Err(cause) = spawn_blocking(move || pages.look()).await {
            tracing::warn!(%cause, "looking at the files of pages failed");
        }
    }
}
