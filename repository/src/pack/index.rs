//! Where each object of a pack is (gitformat-pack, version 2 of `.idx`). Kept in memory as it is on disk: 28 bytes an object.

use crate::ObjectId;
use crate::objects::Hasher;
use std::io::{self, Write};

/// One line of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Indexed {
    pub(crate) id: ObjectId,
    pub(crate) offset: u64,
    /// Of the entry as it is in the pack.
    pub(crate) crc: u32,
}

/// An index that was read and found whole.
#[derive(Debug)]
pub(crate) struct Index {
    bytes: Vec<u8>,
    count: usize,
}

const MAGIC: [u8; 8] = *b"\xfftOc\0\0\0\x02";
const FANOUT: usize = 8;
const IDS: usize = FANOUT + 256 * 4;
/// Set in an offset that stands for a line of the table of 64-bit offsets.
const FAR: u32 = 1 << 31;

impl Index {
    /// Writes the index of a pack with that checksum; `objects` are sorted by id.
    pub(crate) fn write(objects: &[Indexed], pack: ObjectId, out: &mut dyn Write) -> io::Result<()> {
        let mut hasher = Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            out.write_all(bytes)
        };
        put(&MAGIC)?;
        for first in 0..=255u8 {
            let up_to = objects.partition_point(|it| it.id.as_bytes()[0] <= first);
            put(&number(up_to).to_be_bytes())?;
        }
        objects.iter().try_for_each(|it| put(it.id.as_bytes()))?;
        objects.iter().try_for_each(|it| put(&it.crc.to_be_bytes()))?;
        let mut far = Vec::new();
        for object in objects {
            let near = u32::try_from(object.offset).ok().filter(|it| it & FAR == 0);
            put(&near.unwrap_or_else(|| FAR | number(far.len())).to_be_bytes())?;
            if near.is_none() {
                far.push(object.offset);
            }
        }
        far.iter().try_for_each(|it| put(&it.to_be_bytes()))?;
        put(pack.as_bytes())?;
        let checksum = hasher.finish()?;
        out.write_all(checksum.as_bytes())
    }

    /// Takes an index as it is on disk; what is wrong with it otherwise.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if !bytes.starts_with(&MAGIC) || bytes.len() < IDS + 40 {
            return Err("it is no index of version 2");
        }
        let (content, checksum) = bytes.split_at(bytes.len() - 20);
        let mut hasher = Hasher::new();
        hasher.update(content);
        if hasher.finish().ok().is_none_or(|it| it.as_bytes() != checksum) {
            return Err("its checksum is not that of its content");
        }
        let fanout: Vec<u32> = (0..256).map(|it| be32(&bytes, FANOUT + it * 4)).collect();
        let count = fanout[255] as usize;
        let least = count.checked_mul(28).and_then(|it| it.checked_add(IDS + 40));
        if !fanout.is_sorted()
            || least.is_none_or(|it| it > bytes.len())
            || !(bytes.len() - IDS - 40 - count * 28).is_multiple_of(8)
        {
            return Err("its tables don't fit its size");
        }
        Ok(Self { bytes, count })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// As it is on disk.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The checksum of its pack.
    pub(super) fn pack(&self) -> &[u8] {
        let end = self.bytes.len() - 20;
        &self.bytes[end - 20..end]
    }

    /// An object's line.
    pub(crate) fn find(&self, id: &ObjectId) -> Option<Indexed> {
        let first = usize::from(id.as_bytes()[0]);
        let begin = if first == 0 { 0 } else { be32(&self.bytes, FANOUT + (first - 1) * 4) as usize };
        let end = be32(&self.bytes, FANOUT + first * 4) as usize;
        let (mut low, mut high) = (begin, end);
        while low < high {
            let middle = low.midpoint(high);
            match self.id_bytes(middle).cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.line(middle)),
            }
        }
        None
    }

    /// All lines, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Indexed> {
        (0..self.count).map(|line| self.line(line))
    }

    pub(super) fn line(&self, line: usize) -> Indexed {
        Indexed {
            id: ObjectId::from_bytes(self.id_bytes(line)).unwrap_or(ObjectId::NULL),
            offset: self.offset(line),
            crc: be32(&self.bytes, IDS + self.count * 20 + line * 4),
        }
    }

    fn id_bytes(&self, line: usize) -> &[u8] {
        let begin = IDS + line * 20;
        &self.bytes[begin..begin + 20]
    }

    /// An offset beyond the pack for a line that the tables don't have: reading there fails.
    fn offset(&self, line: usize) -> u64 {
        let near = be32(&self.bytes, IDS + self.count * 24 + line * 4);
        if near & FAR == 0 {
            return u64::from(near);
        }
        let begin = IDS + self.count * 28 + (near & !FAR) as usize * 8;
        let bytes = self.bytes.get(begin..begin + 8).and_then(|it| it.try_into().ok());
        bytes.map_or(u64::MAX, u64::from_be_bytes)
    }
}

/// A pack has fewer than 2³¹ objects: the limits see to it.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn be32(bytes: &[u8], begin: usize) -> u32 {
    bytes[begin..begin + 4].try_into().map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_written() {
        let line =
            |number: u8, offset| Indexed { id: ObjectId::from([number; 20]), offset, crc: u32::from(number) };
        let objects = [line(0, 12), line(1, 1 << 31), line(7, 40), line(255, 1 << 40)];
        let mut bytes = Vec::new();
        Index::write(&objects, ObjectId::from([9; 20]), &mut bytes).unwrap();
        let index = Index::parse(bytes.clone()).unwrap();
        assert_eq!(index.iter().collect::<Vec<_>>(), objects);
        assert_eq!(index.pack(), [9; 20]);
        for it in objects {
            assert_eq!(index.find(&it.id), Some(it));
        }
        assert_eq!(index.find(&ObjectId::from([8; 20])), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Index::parse(damaged).is_err(), "byte {at}");
        }
    }
}
