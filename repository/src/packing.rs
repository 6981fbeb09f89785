//! Writing packs of what is stored: entries are copied as they are where that is possible.

use crate::error::{At, RepositoryError};
use crate::pack::{Entry, Indexed, PackWriter};
use crate::{ObjectId, Repository};
use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

impl Repository {
    /// Writes a pack of every object that the roots lead to and `have` does not, as [`Self::reachable`] has them. How many these are.
    ///
    /// # Errors
    /// An object is missing or damaged; what writing says. What was written until then is no pack.
    pub fn pack(
        &self,
        roots: &[ObjectId],
        have: &[ObjectId],
        out: &mut dyn Write,
    ) -> Result<u64, RepositoryError> {
        let ids = self.reachable(roots, have)?;
        self.pack_objects(&ids, out)?;
        Ok(ids.len() as u64)
    }

    /// Writes a pack of just these objects, each of which is to be given once.
    ///
    /// # Errors
    /// An object is missing or damaged; what writing says. What was written until then is no pack.
    pub fn pack_objects(&self, ids: &[ObjectId], out: &mut dyn Write) -> Result<(), RepositoryError> {
        let mut writer = self.begin_pack(ids, out)?;
        self.fill_pack(ids, &mut writer, |_| {})?;
        writer.finish().at("pack objects of", self.path())?;
        Ok(())
    }

    pub(crate) fn begin_pack<W: Write>(
        &self,
        ids: &[ObjectId],
        out: W,
    ) -> Result<PackWriter<W>, RepositoryError> {
        let limit = u64::from(u32::MAX);
        let count = u32::try_from(ids.len()).map_err(|_| RepositoryError::Limit {
            what: "the number of objects of a pack".to_owned(),
            limit,
        })?;
        PackWriter::new(out, count).at("pack objects of", self.path())
    }

    /// Adds objects to a pack; `added` is told where each is.
    pub(crate) fn fill_pack<W: Write>(
        &self,
        ids: &[ObjectId],
        writer: &mut PackWriter<W>,
        mut added: impl FnMut(Indexed),
    ) -> Result<(), RepositoryError> {
        let wanted: HashSet<_> = ids.iter().copied().collect();
        for id in ids {
            let offset = writer.written();
            match self.copyable(id, &wanted)? {
                Some((entry, base)) => entry.copy(base, writer).at("pack objects of", self.path())?,
                None => self.add_whole(*id, writer)?,
            }
            added(Indexed { id: *id, offset, crc: writer.crc() });
        }
        Ok(())
    }

    /// A copy that can be sent as it is. A delta can when its base is sent too, and from the same pack: a pack has no circles.
    fn copyable(
        &self,
        id: &ObjectId,
        wanted: &HashSet<ObjectId>,
    ) -> Result<Option<(Entry, Option<ObjectId>)>, RepositoryError> {
        let Some(entry) = self.copies(id).next() else { return Err(RepositoryError::Missing(*id)) };
        let usable = |entry: &Entry| -> io::Result<Option<Option<ObjectId>>> {
            if !entry.is_whole()? {
                return Ok(None);
            }
            let Some(base) = entry.base()? else { return Ok(Some(None)) };
            let beside = self.copies(&base).next().is_some_and(|it| Arc::ptr_eq(&it.pack, &entry.pack));
            Ok((beside && wanted.contains(&base)).then_some(Some(base)))
        };
        // What can't be read so is read with its hash, which says what is wrong.
        Ok(usable(&entry).ok().flatten().map(|base| (entry, base)))
    }

    fn add_whole<W: Write>(&self, id: ObjectId, writer: &mut PackWriter<W>) -> Result<(), RepositoryError> {
        // Unpacked first: what is damaged is found before any of it is written.
        let (kind, content) = self.content(id)?;
        let size = content.len();
        writer.add(kind, size, &mut content.into_reader()).at("pack objects of", self.path())
    }
}
