//! What stands before an entry and is about it: pax's extended headers, and GNU's long names and targets.

use super::{damaged, header::Header, skip_padding};
use crate::{error::Problem, limits::Limits};
use std::{io::Read, str};

/// Bytes of one extended header: pax has room for names, attributes and comments; nobody's are as long.
const SIZE_MAX: u64 = 256 * 1024;

/// What an entry's header has no room for.
#[derive(Debug, Default)]
pub(crate) struct Extension {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    /// There was one that is for the next entry.
    read: bool,
}

impl Extension {
    /// Reads the extension that `header` begins; false if it begins an entry.
    pub(crate) fn read(
        &mut self,
        header: &Header,
        limits: &Limits,
        stream: &mut impl Read,
    ) -> Result<bool, Problem> {
        let kind = header.kind();
        if !matches!(kind, b'L' | b'K' | b'x' | b'g') {
            return Ok(false);
        }
        let content = read_whole(header.size()?, stream)?;
        match kind {
            b'L' => set(&mut self.path, name(&content, limits)?)?,
            b'K' => set(&mut self.target, name(&content, limits)?)?,
            b'x' => self.records(&content, limits)?,
            _ => for_all(&content, limits)?,
        }
        self.read |= kind != b'g';
        Ok(true)
    }

    /// Whether it would be lost at the archive's end.
    pub(crate) fn awaits_entry(&self) -> bool {
        self.read
    }

    fn records(&mut self, content: &[u8], limits: &Limits) -> Result<(), Problem> {
        for record in Records(content) {
            let (key, value) = record?;
            match key {
                // "… shall delete": as if it were not there.
                _ if value.is_empty() => {}
                b"path" => set(&mut self.path, name(value, limits)?)?,
                b"linkpath" => set(&mut self.target, name(value, limits)?)?,
                b"size" => set(&mut self.size, decimal(value)?)?,
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(Problem::Unsupported {
                        found: "a sparse file".to_owned(),
                        expected: "files that are written in full",
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A header for all entries to come, such as the commit's id that Git writes: nothing that is read from it makes sense there.
fn for_all(content: &[u8], limits: &Limits) -> Result<(), Problem> {
    let mut extension = Extension::default();
    extension.records(content, limits)?;
    if extension.path.is_some() || extension.target.is_some() || extension.size.is_some() {
        return Err(damaged("a name or size for all entries, expected one for each"));
    }
    Ok(())
}

fn read_whole(size: u64, stream: &mut impl Read) -> Result<Vec<u8>, Problem> {
    if size > SIZE_MAX {
        return Err(Problem::TooMany { what: "bytes in an extended header", max: SIZE_MAX });
    }
    let mut content = Vec::new();
    stream.by_ref().take(size).read_to_end(&mut content)?;
    if (content.len() as u64) < size {
        return Err(Problem::Truncated);
    }
    skip_padding(size, stream)?;
    Ok(content)
}

/// A name, with the NUL at its end that GNU's have.
fn name(content: &[u8], limits: &Limits) -> Result<Vec<u8>, Problem> {
    let name = content.strip_suffix(&[0]).unwrap_or(content);
    if name.len() > limits.path {
        return Err(crate::BadName::PathTooLong(limits.path).into());
    }
    Ok(name.to_vec())
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), Problem> {
    if place.replace(value).is_some() {
        return Err(damaged("two names or sizes for one entry, expected one"));
    }
    Ok(())
}

fn decimal(digits: &[u8]) -> Result<u64, Problem> {
    let text = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| damaged("a number in an extended header is none"))
}

/// `LENGTH KEY=VALUE\n`, one after the other.
struct Records<'c>(&'c [u8]);

impl<'c> Iterator for Records<'c> {
    type Item = Result<(&'c [u8], &'c [u8]), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((key, value, rest)) = record(self.0) else {
            self.0 = &[];
            return Some(Err(damaged("an extended header is not made of `LENGTH KEY=VALUE` lines")));
        };
        self.0 = rest;
        Some(Ok((key, value)))
    }
}

fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&content[..space]).ok()?).ok()?;
    let (record, rest) = content.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}
