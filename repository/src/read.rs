//! Reading objects: whatever is read is hashed, and another copy is tried when one is damaged.

use crate::error::RepositoryError;
use crate::objects::Hasher;
use crate::pack::{Content, ContentReader, Entry, Inflate};
use crate::{Kind, ObjectId, Repository};
use std::io::{self, Read};

/// Reads an object's content as it streams. The last read fails with `InvalidData` when it was not the object that was asked for.
#[derive(Debug)]
pub struct ObjectReader {
    id: ObjectId,
    kind: Kind,
    size: u64,
    left: u64,
    source: Source,
    hasher: Option<Hasher>,
}

#[derive(Debug)]
enum Source {
    Whole(Box<Inflate>),
    Unpacked(ContentReader),
}

impl ObjectReader {
    fn new(id: ObjectId, entry: &Entry, repository: &Repository) -> io::Result<Self> {
        let (kind, size, source) = if let Some((kind, size, inflate)) = entry.stream()? {
            (kind, size, Source::Whole(Box::new(inflate)))
        } else {
            let (kind, content) = entry.content(&repository.packs_folder())?;
            (kind, content.len(), Source::Unpacked(content.into_reader()))
        };
        let hasher = Some(Hasher::of_object(kind, size));
        Ok(Self { id, kind, size, left: size, source, hasher })
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of its content.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Checks the hash once, at the end.
    fn end(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.left == 0 && hasher.finish()? == self.id {
            return Ok(());
        }
        let why = format!("object {} is damaged: its content is not what was stored", self.id);
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match &mut self.source {
            _ if most == 0 => 0,
            Source::Whole(inflate) => inflate.read(&mut buffer[..most])?,
            Source::Unpacked(content) => content.read(&mut buffer[..most])?,
        };
        self.left -= count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if count == 0 {
            self.end()?;
        }
        Ok(count)
    }
}

impl Repository {
    /// Opens an object for reading.
    ///
    /// # Errors
    /// It is missing, or every copy of it is damaged.
    pub fn reader(&self, id: ObjectId) -> Result<ObjectReader, RepositoryError> {
        self.any_copy(id, |entry| ObjectReader::new(id, entry, self))
    }

    pub(crate) fn entry_reader(&self, id: ObjectId, entry: &Entry) -> io::Result<ObjectReader> {
        ObjectReader::new(id, entry, self)
    }

    /// An object's kind and its size in bytes.
    ///
    /// # Errors
    /// It is missing, or every copy of it is damaged.
    pub fn header(&self, id: ObjectId) -> Result<(Kind, u64), RepositoryError> {
        self.any_copy(id, Entry::size)
    }

    /// An object in memory, if it is of that kind and not too long for that.
    pub(crate) fn read(&self, id: ObjectId, expected: Kind) -> Result<Vec<u8>, RepositoryError> {
        let limit = self.limits().structure_bytes;
        let (found, content) = self.any_copy(id, |entry| {
            let mut reader = ObjectReader::new(id, entry, self)?;
            if reader.size > limit {
                return Ok((reader.kind, None));
            }
            let mut content = Vec::with_capacity(usize::try_from(reader.size.min(64 << 10)).unwrap_or(0));
            reader.read_to_end(&mut content)?;
            Ok((reader.kind, Some(content)))
        })?;
        if found != expected {
            return Err(RepositoryError::Kind { id, found, expected });
        }
        content.ok_or_else(|| RepositoryError::Limit { what: format!("the size of object {id}"), limit })
    }

    /// An object where it can be addressed, checked.
    pub(crate) fn content(&self, id: ObjectId) -> Result<(Kind, Content), RepositoryError> {
        self.any_copy(id, |entry| {
            let mut reader = ObjectReader::new(id, entry, self)?;
            let (kind, size) = (reader.kind, reader.size);
            Ok((kind, Content::unpack(&mut reader, size, &self.packs_folder())?))
        })
    }

    /// What the first copy gives that is not damaged.
    pub(crate) fn any_copy<T>(
        &self,
        id: ObjectId,
        mut with: impl FnMut(&Entry) -> io::Result<T>,
    ) -> Result<T, RepositoryError> {
        let mut error = RepositoryError::Missing(id);
        for entry in self.copies(&id) {
            match with(&entry) {
                Ok(it) => return Ok(it),
                Err(cause) => error = RepositoryError::damaged(id, &cause),
            }
        }
        Err(error)
    }
}
