//! How far the log was synced: a small file beside the segments, written behind each group's sync and not synced itself. After a
//! crash it may say less than was synced, and never says more. So what can't be read before it is damage, or was cut off, and is
//! no write that a crash left unfinished.

use crate::disk::{Disk, DiskFile, read_whole};
use std::{io, sync::Arc};

/// Its name.
pub(super) const FILE: &str = "synced";

/// Segment (8), length (8), CRC-32 of both (4), little-endian.
const LENGTH: usize = 20;

/// All of the log up to this length of this segment was on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) segment: u64,
    pub(super) length: u64,
}

impl Synced {
    fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.segment.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk()?;
        let (length, sum) = rest.split_first_chunk()?;
        let found = Self { segment: u64::from_le_bytes(*segment), length: u64::from_le_bytes(*length) };
        (found.encode()[16..] == *sum).then_some(found)
    }

    /// What the last process has noted; `None` where that is not known.
    pub(super) fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        if !disk.list()?.iter().any(|it| it == FILE) {
            return Ok(None);
        }
        let found = Self::decode(&read_whole(&*disk.open(FILE)?)?);
        if found.is_none() {
            tracing::info!(file = FILE, "the hub's log: how far it was synced is not known after a crash");
        }
        Ok(found)
    }
}

/// The open file.
#[derive(Debug, Default)]
pub(super) struct Mark(Option<Arc<dyn DiskFile>>);

impl Mark {
    /// Makes the file unless it is there. The log goes on without one: it is only needed to tell damage from a crash.
    pub(super) fn open(disk: &dyn Disk) -> Self {
        let made = disk.list().and_then(|names| match names.iter().any(|it| it == FILE) {
            true => disk.open(FILE),
            false => disk.create(FILE),
        });
        Self(made.map_err(|cause| gone(&cause)).ok())
    }

    /// Notes how far the log was synced.
    pub(super) fn note(&mut self, synced: Synced) {
        if let Some(file) = &self.0
            && let Err(cause) = file.write_at(0, &synced.encode())
        {
            gone(&cause);
            self.0 = None;
        }
    }
}

fn gone(cause: &io::Error) {
    tracing::warn!(%cause, "the hub's log: how far it is synced can't be noted");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn what_was_noted_is_read_and_half_of_it_is_not() {
        let disk = SimDisk::default();
        assert_eq!(Synced::read(&disk).unwrap(), None);
        let synced = Synced { segment: 3, length: 1 << 40 };
        Mark::open(&disk).note(Synced { segment: 2, length: 7 });
        Mark::open(&disk).note(synced);
        assert_eq!(Synced::read(&disk).unwrap(), Some(synced));
        disk.edit(FILE, |bytes| bytes[9] ^= 1);
        assert_eq!(Synced::read(&disk).unwrap(), None);
        disk.edit(FILE, |bytes| bytes.truncate(10));
        assert_eq!(Synced::read(&disk).unwrap(), None);
    }

    #[test]
    fn a_disk_without_room_for_it_is_no_failure() {
        let disk = SimDisk::default();
        disk.fail_after(1);
        let mut mark = Mark::open(&disk);
        mark.note(Synced { segment: 1, length: 1 });
        disk.fail_after(u64::MAX);
        mark.note(Synced { segment: 1, length: 2 });
        assert_eq!(Synced::read(&disk).unwrap(), None);
    }
}
