//! Reads what people deploy, a tar, tar.gz, tar.zst or zip archive or a folder, as one sequence of files and links, and refuses
//! whatever could do harm where they are laid out. Streams, writes nothing to the disk, and all of its calls block.

mod content;
mod entries;
mod error;
mod folder;
mod format;
mod intake;
mod limits;
mod links;
mod meter;
mod name;
mod tar;
mod zip;
mod zstd;

pub use error::{ArchiveError, BadName, Problem};
pub use format::Format;
pub use limits::Limits;

use error::Failure;
use flate2::bufread::MultiGzDecoder;
use intake::Intake;
use meter::Meter;
use std::{
    fs::{self, File, Metadata},
    io::{BufReader, Read},
    path::Path,
};

/// Takes the entries of an archive: each name once, a folder's files never before it is known that it is a folder.
///
/// Paths are relative, their parts divided by one `/`, UTF-8, without `.` and `..`. Folders are implied by them; those with nothing
/// in them are dropped, as Git has none. Entries come in the archive's own order (a zip's is that of its central directory); those
/// of a folder on disk are sorted, folder by folder, by the bytes of their names.
///
/// What a sink has been given counts only once [`read()`] has returned `Ok`: a checksum at the end may be wrong, and where links
/// lead is known when all entries are.
pub trait Sink {
    /// Why it can't go on.
    type Error;

    /// Whether the file `path` of a folder on disk, of which the file system says what was `found`, need not be read: the sink knows its content, or
    /// has no use for it. Else [`Self::file`] follows.
    fn knows(&mut self, _path: &str, _found: &Metadata) -> bool {
        false
    }

    /// The file `path` of `size` bytes. What is left unread of `content` is skipped. When `content` fails, return any error (or
    /// none): [`read()`] returns the archive's own.
    ///
    /// # Errors
    /// The sink's own: the reading ends with it.
    fn file(
        &mut self,
        path: &str,
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Self::Error>;

    /// The file `path` with the content and the mode of the earlier file `of`: a hard link in a tar archive.
    ///
    /// # Errors
    /// The sink's own: the reading ends with it.
    fn copy(&mut self, path: &str, of: &str) -> Result<(), Self::Error>;

    /// The symbolic link `path` to `target`, which is relative and, once all is read, known to stay inside; it may lead nowhere.
    ///
    /// # Errors
    /// The sink's own: the reading ends with it.
    fn link(&mut self, path: &str, target: &str) -> Result<(), Self::Error>;
}

/// What an archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What it was.
    pub format: Format,
    /// Files, hard links included.
    pub files: u64,
    /// Symbolic links.
    pub links: u64,
    /// The files' sizes, added up.
    pub bytes: u64,
    /// Files and folders that were left out of a folder: `.git`, and what its `.gitignore` and `.copalignore` say. A folder that
    /// is left out counts as one.
    pub ignored: u64,
    /// Folders with nothing in them, which were dropped.
    pub empty_folders: u64,
    /// The one folder at the top when everything is in it (`shop-1.2/…`). It is not taken off the paths: say so to whoever
    /// deploys it, as an `app.yaml` in it is not found.
    pub only_folder: Option<String>,
}

/// Reads `source`, a folder or a file whose content says which archive it is, and hands its entries to `sink`.
///
/// # Errors
/// [`ArchiveError::Refused`] for whatever is wrong with it, what a limit forbids and the disk's errors; [`ArchiveError::Sink`] for
/// the sink's own.
pub fn read<S: Sink>(
    source: &Path,
    limits: &Limits,
    sink: &mut S,
) -> Result<Summary, ArchiveError<S::Error>> {
    let mut intake = Intake::new(limits, sink);
    let read = read_into(source, limits, &mut intake).and_then(|format| intake.finish(format));
    read.map_err(|failure| match failure {
        Failure::Sink(error) => ArchiveError::Sink(error),
        Failure::Archive { entry, problem } => {
            ArchiveError::Refused { archive: source.to_owned(), entry, problem }
        }
    })
}

fn read_into<S: Sink>(
    source: &Path,
    limits: &Limits,
    intake: &mut Intake<'_, S>,
) -> Result<Format, Failure<S::Error>> {
    let metadata = fs::metadata(source)?;
    if metadata.is_dir() {
        folder::read(source, intake)?;
        return Ok(Format::Folder);
    }
    // A FIFO's opening would wait for a writer.
    if !metadata.is_file() {
        return Err(Problem::NotAnArchive { found: "neither a file nor a folder" }.into());
    }
    let file = File::open(source)?;
    let format = format::of(&file)?;
    let meter = Meter::new(limits);
    let packed = BufReader::with_capacity(meter::PIECE, meter.packed(&file));
    let result = match format {
        Format::Zip => zip::read(&file, limits, intake),
        Format::TarGz => tar::read(meter.unpacked(MultiGzDecoder::new(packed)), limits, intake),
        Format::TarZst => tar::read(meter.unpacked(zstd::Decoder::new(packed)), limits, intake),
        Format::Tar | Format::Folder => tar::read(meter.unpacked(packed), limits, intake),
    };
    result.map(|()| format)
}

#[cfg(test)]
mod tests;
