//! A file of records, one after the other; when it is full, a list of their headers is put beside it.

use crate::{
    index::Position,
    record::{HEADER, Header, Record},
};
use bytes::Bytes;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) file: File,
    path: PathBuf,
}

/// How it is known what is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// By the list beside it.
    List,
    /// All of it was read.
    Whole,
    /// It was read up to what is no record.
    Torn,
}

/// What a record's header says, and where it stands.
pub(crate) type Listed = (u32, Header);

impl Segment {
    pub(crate) fn create(folder: &Path, number: u32) -> io::Result<Self> {
        let path = folder.join(format!("{number:08x}.log"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { number, file, path })
    }

    /// One that is there; `None`: it is another file.
    ///
    /// # Errors
    /// It can't be opened.
    pub(crate) fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let Some(number) = number(&path) else { return Ok(None) };
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Some(Self { number, file, path }))
    }

    /// Its records; from the list beside it, or else from itself, as far as they are whole.
    pub(crate) fn list(&self) -> io::Result<(Vec<Listed>, Source)> {
        let length = self.file.metadata()?.len();
        if let Some(list) = fs::read(self.path.with_extension("list")).ok().and_then(|it| parse(&it, length))
        {
            return Ok((list, Source::List));
        }
        let (list, is_whole) = self.scan(length)?;
        Ok((list, if is_whole { Source::Whole } else { Source::Torn }))
    }

    /// Reads all of it, up to what is not whole.
    fn scan(&self, length: u64) -> io::Result<(Vec<Listed>, bool)> {
        let (mut list, mut at, mut rest) = (Vec::new(), 0_u64, Vec::new());
        let mut head = [0; HEADER];
        while at + HEADER as u64 <= length && at <= u64::from(u32::MAX) {
            self.file.read_exact_at(&mut head, at)?;
            let Some(header) = Header::read(&head, length - at) else { break };
            rest.resize(usize::try_from(header.length()).unwrap_or(usize::MAX) - HEADER, 0);
            self.file.read_exact_at(&mut rest, at + HEADER as u64)?;
            if !header.fits([&rest, &[]]) {
                break;
            }
            list.push((u32::try_from(at).unwrap_or(u32::MAX), header));
            at += header.length();
        }
        Ok((list, at == length))
    }

    /// It is full: its list goes beside it.
    pub(crate) fn seal(&self, list: &[Listed]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(list.len() * (HEADER + 4) + 4);
        for (offset, header) in list {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&header.bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let path = self.path.with_extension("list");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all_at(&bytes, 0)
    }

    /// Its process was killed: what was its last word, and half a one, goes, and the list of the others is put beside them.
    pub(crate) fn mend(&self, list: &[Listed]) -> io::Result<()> {
        let end = list.last().map_or(0, |(offset, header)| u64::from(*offset) + header.length());
        self.file.set_len(end)?;
        self.seal(list)
    }

    /// It and its list are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        File::open(self.path.with_extension("list"))?.sync_data()
    }

    /// The record at a place; `None`: it is not what was written.
    pub(crate) fn read(&self, position: Position, length: u32) -> Option<(Header, Record)> {
        let mut head = [0; HEADER];
        self.file.read_exact_at(&mut head, position.offset()).ok()?;
        let header = Header::read(&head, u64::from(length)).filter(|it| it.length() == u64::from(length))?;
        // The body apart: it may be kept for long, without what stands before it.
        let before = header.key as usize + header.meta as usize;
        let (mut named, mut body) = (vec![0; before], vec![0; header.body as usize]);
        self.file.read_exact_at(&mut named, position.offset() + HEADER as u64).ok()?;
        self.file.read_exact_at(&mut body, position.offset() + (HEADER + before) as u64).ok()?;
        header.fits([&named, &body]).then_some(())?;
        let named = Bytes::from(named);
        let record = Record {
            key: named.slice(..header.key as usize),
            meta: named.slice(header.key as usize..),
            body: body.into(),
            expires: header.expires,
        };
        Some((header, record))
    }

    /// The files go; who reads them reads on.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(self.path.with_extension("list"));
        let _ = fs::remove_file(&self.path);
    }
}

/// The number of the segment with this name.
fn number(path: &Path) -> Option<u32> {
    (path.extension()? == "log").then_some(())?;
    let name = path.file_stem()?.to_str()?;
    (name.len() == 8).then(|| u32::from_str_radix(name, 16).ok())?
}

/// A list as it is on disk, of a segment of `length` bytes.
fn parse(bytes: &[u8], length: u64) -> Option<Vec<Listed>> {
    let (list, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32fast::hash(list).to_le_bytes() == sum && list.len().is_multiple_of(HEADER + 4)).then_some(())?;
    let parsed = list.chunks(HEADER + 4).map(|it| {
        let offset = u32::from_le_bytes(it[..4].try_into().ok()?);
        Some((offset, Header::read(&it[4..], length.checked_sub(u64::from(offset))?)?))
    });
    parsed.collect()
}
