//! Archives of each kind, good and malicious, built here byte by byte.

mod any_bytes;
mod folder;
mod hostile_tar;
mod hostile_zip;
mod limits;
mod links;
mod names;
mod round_trip;
mod tar_builder;
mod zip_builder;

use crate::{ArchiveError, Limits, Problem, Sink, Summary, read};
use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};
use tar_builder::Tar;
use zip_builder::Zip;

/// What a sink was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Given {
    File { path: String, executable: bool, content: Vec<u8> },
    Copy { path: String, of: String },
    Link { path: String, target: String },
}

fn file(path: &str, executable: bool, content: &[u8]) -> Given {
    Given::File { path: path.to_owned(), executable, content: content.to_vec() }
}

fn link(path: &str, target: &str) -> Given {
    Given::Link { path: path.to_owned(), target: target.to_owned() }
}

/// Keeps what it is given.
#[derive(Debug, Default)]
struct Recorder {
    given: Vec<Given>,
}

impl Sink for Recorder {
    type Error = io::Error;

    fn file(&mut self, path: &str, executable: bool, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        assert_eq!(bytes.len() as u64, size, "{path}");
        self.given.push(file(path, executable, &bytes));
        Ok(())
    }

    fn copy(&mut self, path: &str, of: &str) -> io::Result<()> {
        self.given.push(Given::Copy { path: path.to_owned(), of: of.to_owned() });
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.given.push(link(path, target));
        Ok(())
    }
}

type ReadAll = Result<(Summary, Vec<Given>), ArchiveError<io::Error>>;

fn read_path(path: &Path, limits: &Limits) -> ReadAll {
    let mut recorder = Recorder::default();
    let summary = read(path, limits, &mut recorder)?;
    Ok((summary, recorder.given))
}

fn read_within(bytes: &[u8], limits: &Limits) -> ReadAll {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read_path(file.path(), limits)
}

fn read_bytes(bytes: &[u8]) -> ReadAll {
    read_within(bytes, &Limits::default())
}

fn given(bytes: &[u8]) -> Vec<Given> {
    read_bytes(bytes).unwrap_or_else(|error| panic!("{error}")).1
}

/// Why the archive is refused, and its entry.
#[track_caller]
fn refusal(read: ReadAll) -> (Option<String>, Problem) {
    match read {
        Err(ArchiveError::Refused { entry, problem, .. }) => (entry, problem),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// The text of why it is refused, from the entry on.
#[track_caller]
fn refused(bytes: &[u8]) -> String {
    let error = read_bytes(bytes).err().unwrap_or_else(|| panic!("expected a refusal")).to_string();
    error.split_once(": ").unwrap().1.to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn an_error_names_the_archive_the_entry_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.tar");
    fs::write(&path, Tar::new().file("ok", "").file("evil\u{1b}[31m", "x").end()).unwrap();
    let error = read_path(&path, &Limits::default()).unwrap_err().to_string();
    let text = "`evil\\u{1b}[31m`: a control character in its name: expected visible ones";
    assert_eq!(error, format!("{}: {text}", path.display()));
}

#[test]
fn what_is_no_archive_is_told_what_is_taken() {
    let expected = "expected a folder, or an archive of the kind tar, tar.gz, tar.zst or zip";
    for (bytes, found) in [
        (&b"<!doctype html><title>Shop</title>"[..], "a single file, no archive"),
        (b"", "an empty file"),
        (b"BZh91AY", "a bzip2 archive"),
        (b"\xfd7zXZ\0\0", "an xz archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (&[b'a'; 2048], "a single file, no archive"),
        (&gzip(b"<!doctype html>"), "a compressed file, but no tar in it"),
        (&zstd(&[b'a'; 2048]), "a compressed file, but no tar in it"),
    ] {
        assert_eq!(refused(bytes), format!("{found}: {expected}"));
    }
}

#[test]
fn what_is_missing_or_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = refusal(read_path(&folder.path().join("app.tar"), &Limits::default())).1;
    assert!(matches!(missing, Problem::Io(error) if error.kind() == io::ErrorKind::NotFound));
    let device = refusal(read_path(Path::new("/dev/null"), &Limits::default())).1;
    assert!(matches!(device, Problem::NotAnArchive { found: "neither a file nor a folder" }));
}

#[test]
fn an_archive_without_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(read_path(folder.path(), &Limits::default())).1, Problem::Empty));
    for bytes in [Tar::new().end(), Tar::new().folder("a/").end(), gzip(&Tar::new().end()), Zip::new().end()]
    {
        assert_eq!(refused(&bytes), "no file in it: expected at least one");
    }
}

#[test]
fn the_summary_counts_and_tells_of_a_folder_around_everything() {
    let tar = Tar::new()
        .file("shop/a", "12")
        .folder("shop/empty/")
        .link("shop/b", "a")
        .hard_link("shop/c", "shop/a");
    let (summary, _) = read_bytes(&tar.end()).unwrap();
    assert_eq!((summary.files, summary.links, summary.bytes, summary.empty_folders), (2, 1, 4, 1));
    assert_eq!(summary.only_folder.as_deref(), Some("shop"));
    for tar in [Tar::new().file("shop", ""), Tar::new().file("shop/a", "").file("b", "")] {
        assert_eq!(read_bytes(&tar.end()).unwrap().0.only_folder, None);
    }
}

/// Takes only a part of each file, or none, or fails.
struct Careless {
    bytes: usize,
    fails: bool,
}

impl Sink for Careless {
    type Error = &'static str;

    fn file(&mut self, _: &str, _: bool, _: u64, content: &mut dyn Read) -> Result<(), Self::Error> {
        let _ = content.read(&mut vec![0; self.bytes]);
        if self.fails { Err("the sink's own") } else { Ok(()) }
    }

    fn copy(&mut self, _: &str, _: &str) -> Result<(), Self::Error> {
        Ok(())
    }

    fn link(&mut self, _: &str, _: &str) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[test]
fn what_a_sink_leaves_is_skipped_and_checked_all_the_same() {
    let tar = Tar::new().file("a", &"x".repeat(3000)).file("b", "y").end();
    let zip = Zip::new().deflated("a", &"x".repeat(3000)).file("b", "y").end();
    let spoilt = Zip::new().file("a", "content").checksum(1).end();
    for bytes in [0, 1, 5000] {
        for (archive, is_right) in [(&tar, true), (&zip, true), (&spoilt, false)] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(archive).unwrap();
            let mut sink = Careless { bytes, fails: false };
            let read = read(file.path(), &Limits::default(), &mut sink);
            assert_eq!(read.is_ok(), is_right, "{read:?}");
        }
    }
}

#[test]
fn a_sinks_error_ends_the_reading_but_the_archives_own_goes_before() {
    let read = |archive: &[u8], bytes| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(archive).unwrap();
        read(file.path(), &Limits::default(), &mut Careless { bytes, fails: true }).unwrap_err()
    };
    let tar = Tar::new().file("a", "12").end();
    assert!(matches!(read(&tar, 0), ArchiveError::Sink("the sink's own")));
    let cut = &tar[..512];
    assert!(matches!(read(cut, 8), ArchiveError::Refused { problem: Problem::Size { .. }, .. }));
}
