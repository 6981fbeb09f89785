//! From a path to an open file inside the root, in its best encoding.

use crate::{
    APP_FILE,
    encoding::Encoding,
    media_type::media_type,
    open_files::{Identity, OpenFiles},
};
use http::{HeaderMap, HeaderValue, header};
use std::{
    borrow::Cow,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A folder with an index, without the slash at its end.
    Folder,
    /// A file.
    File(Representation),
}

/// An open file and what is said of it.
#[derive(Debug)]
pub(crate) struct Representation {
    pub(crate) file: File,
    pub(crate) identity: Identity,
    /// Where it was found, every link followed.
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    /// Strong: another content has another one.
    pub(crate) etag: String,
    pub(crate) modified: Option<SystemTime>,
    media_type: Cow<'static, str>,
    encoding: Option<Encoding>,
    /// There are other encodings of it.
    varies: bool,
}

/// Finds what `path`, decoded and below the web-app's own, leads to. Blocks.
///
/// # Errors
/// The disk's; what does not exist or may not be read is `None`.
pub(crate) fn find(root: &Path, path: &str, accepted: &[Encoding]) -> io::Result<Option<Found>> {
    let Some((relative, folder)) = relative(path) else { return Ok(None) };
    // Once for the whole request, which stays within one release.
    let Some(root) = canonical(root)? else { return Ok(None) };
    let root = root.as_path();
    let Some(mut place) = inside(root, &root.join(relative))? else { return Ok(None) };
    if fs::metadata(&place)?.is_dir() {
        let Some(index) = inside(root, &place.join("index.html"))? else { return Ok(None) };
        if !folder {
            return Ok(Some(Found::Folder));
        }
        place = index;
    } else if folder {
        return Ok(None);
    }
    if place == root.join(APP_FILE) {
        return Ok(None);
    }
    represent(root, &place, accepted).map(|found| found.map(Found::File))
}

/// Whether [`find`] would find a file, an index too. Blocks as long as the disk takes to look up a name.
pub(crate) fn exists(root: &Path, path: &str) -> bool {
    let look = || -> io::Result<bool> {
        let Some((relative, folder)) = relative(path) else { return Ok(false) };
        let Some(root) = canonical(root)? else { return Ok(false) };
        let root = root.as_path();
        let Some(place) = inside(root, &root.join(relative))? else { return Ok(false) };
        if place == root.join(APP_FILE) {
            return Ok(false);
        }
        if !fs::metadata(&place)?.is_dir() {
            return Ok(!folder && fs::metadata(&place)?.is_file());
        }
        let index = inside(root, &place.join("index.html"))?;
        Ok(index.is_some_and(|index| index.is_file()))
    };
    look().unwrap_or(false)
}

/// The path as a relative one, and whether it names a folder by a slash at its end. `None` for what is never served: empty and
/// dot segments, hidden files (but `.well-known`, RFC 8615), backslashes.
fn relative(path: &str) -> Option<(PathBuf, bool)> {
    // The web-app's own path, without a slash at its end or with it.
    if path.is_empty() || path == "/" {
        return Some((PathBuf::new(), !path.is_empty()));
    }
    let path = path.strip_prefix('/').unwrap_or(path);
    let (path, folder) = match path.strip_suffix('/') {
        Some(path) => (path, true),
        None => (path, false),
    };
    let served = |segment: &str| {
        !segment.is_empty()
            && (!segment.starts_with('.') || segment == ".well-known")
            && !segment.contains(['\\', '\0'])
    };
    path.split('/').all(served).then(|| (PathBuf::from(path), folder))
}

/// The path with every link followed, if it exists and is still inside.
fn inside(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    Ok(canonical(path)?.filter(|place| place.starts_with(root)))
}

/// The path with every link followed, if it exists and may be read.
fn canonical(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.canonicalize() {
        Ok(place) => Ok(Some(place)),
        Err(cause) if is_absence(&cause) => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn is_absence(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    // A circle of links leads nowhere.
    let circle = cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    circle || matches!(cause.kind(), NotFound | NotADirectory | PermissionDenied | InvalidFilename)
}

fn represent(root: &Path, place: &Path, accepted: &[Encoding]) -> io::Result<Option<Representation>> {
    let media_type = media_type(place);
    let mut varies = false;
    for encoding in Encoding::ALL {
        let mut name = place.as_os_str().to_owned();
        name.push(encoding.suffix());
        let Some(variant) = inside(root, Path::new(&name))? else { continue };
        varies = true;
        if accepted.contains(&encoding)
            && let Some(opened) = open(OpenFiles::of_process(), &variant)?
        {
            return Ok(Some(Representation::new(opened, &variant, media_type, Some(encoding), true)));
        }
    }
    let opened = open(OpenFiles::of_process(), place)?;
    Ok(opened.map(|opened| Representation::new(opened, place, media_type, None, varies)))
}

/// Opens a regular file: another kind, a pipe say, could block for ever. Blocks as long as the disk takes.
///
/// # Errors
/// The disk's; what does not exist or may not be read is `None`.
pub(crate) fn open(files: &OpenFiles, path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let look = || {
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let file = files.open(path)?;
        let metadata = file.metadata()?;
        Ok(Some((file, metadata)))
    };
    look().or_else(|cause| if is_absence(&cause) { Ok(None) } else { Err(cause) })
}

impl Representation {
    fn new(
        (file, metadata): (File, Metadata),
        place: &Path,
        media_type: Cow<'static, str>,
        encoding: Option<Encoding>,
        varies: bool,
    ) -> Self {
        // Of what every server has of the same file, if it was copied with its time: no inode.
        let length = metadata.len();
        let suffix = encoding.map_or("", |it| it.suffix());
        let etag = format!("\"{:x}.{:x}-{length:x}{suffix}\"", metadata.mtime(), metadata.mtime_nsec());
        // A time before 1970 can't be written as a date.
        let modified = metadata.modified().ok().filter(|time| *time >= SystemTime::UNIX_EPOCH);
        let (identity, path) = (Identity::from(&metadata), place.to_owned());
        Self { file, identity, path, length, etag, modified, media_type, encoding, varies }
    }

    /// The headers that any answer on it has.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        if let Ok(media_type) = HeaderValue::from_str(&self.media_type) {
            headers.insert(header::CONTENT_TYPE, media_type);
        }
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        if let Some(Ok(date)) = self.modified.map(|time| HeaderValue::try_from(httpdate::fmt_http_date(time)))
        {
            headers.insert(header::LAST_MODIFIED, date);
        }
        if let Some(encoding) = self.encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        if self.varies {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
    }
}
