//! Objects in packs of a bounded size, each to be safe before the next one: a cut upload loses one of them at most.

use crate::{ImportError, Scan};
use archive::{ArchiveError, Limits, Sink};
use bytes::Bytes;
use repository::{Kind, ObjectId, PackWriter};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::Metadata,
    io::{self, Read, Write},
    path::Path,
    slice,
};
use tokio::sync::mpsc;

/// Content of one pack, unless a single file has more.
const PACK_BYTES: u64 = 32 << 20;

/// Objects of one pack.
const PACK_OBJECTS: usize = 20_000;

/// Bytes of a chunk, and chunks that wait to be sent.
const CHUNK: usize = 64 << 10;
const UNDER_WAY: usize = 8;

/// Takes the packs one after the other, the chunks of each in a channel of its own. One that ends early is none.
pub type Packs = mpsc::Sender<mpsc::Receiver<Bytes>>;

/// Reads the source again, and packs those of its objects that are `wanted`.
///
/// # Errors
/// It can't be read, has changed since it was scanned, or nobody takes the packs.
pub fn pack(
    source: &Path,
    scan: &Scan,
    wanted: &HashSet<ObjectId>,
    packs: &Packs,
) -> Result<(), ImportError> {
    let blobs: Vec<_> = scan.blobs.iter().filter(|(id, _)| wanted.contains(id)).copied().collect();
    let trees: Vec<_> = scan.trees.iter().filter(|(id, _)| wanted.contains(id)).collect();
    let plan = plan(&blobs, trees.len());
    let wanted = blobs.iter().copied().collect();
    let mut packing = Packing { order: scan.order.iter(), wanted, plan, packs, open: None, untaken: false };
    let packed = packing.all(source, &trees);
    match packed {
        Err(_) if packing.untaken => Err(ImportError::Untaken),
        Err(cause) => Err(cause),
        Ok(()) if packing.open.is_some() || !packing.wanted.is_empty() || !packing.plan.is_empty() => {
            Err(ImportError::Changed)
        }
        Ok(()) => Ok(()),
    }
}

/// How many objects each pack has: the blobs in their order, and all trees in the last one.
fn plan(blobs: &[(ObjectId, u64)], trees: usize) -> VecDeque<u32> {
    let (mut counts, mut count, mut bytes) = (VecDeque::new(), 0_usize, 0);
    for (_, size) in blobs {
        if count > 0 && (bytes + size > PACK_BYTES || count >= PACK_OBJECTS) {
            counts.push_back(count);
            (count, bytes) = (0, 0);
        }
        (count, bytes) = (count + 1, bytes + size);
    }
    counts.push_back(count + trees);
    counts.into_iter().map(|it| u32::try_from(it).unwrap_or(u32::MAX)).collect()
}

struct Packing<'a> {
    /// What each file is, in the order of the source.
    order: slice::Iter<'a, ObjectId>,
    /// With their sizes.
    wanted: HashMap<ObjectId, u64>,
    /// How many objects each further pack has.
    plan: VecDeque<u32>,
    packs: &'a Packs,
    /// The pack that is being written, and how many objects it lacks.
    open: Option<(PackWriter<Chunks>, u32)>,
    untaken: bool,
}

impl Packing<'_> {
    fn all(&mut self, source: &Path, trees: &[&(ObjectId, Vec<u8>)]) -> Result<(), ImportError> {
        if !self.wanted.is_empty() {
            match archive::read(source, &Limits::default(), self) {
                // The rest is of no use.
                Err(ArchiveError::Sink(Stop::Done)) | Ok(_) => {}
                Err(ArchiveError::Sink(Stop::Failed(cause))) => return Err(ArchiveError::Sink(cause).into()),
                Err(ArchiveError::Refused { archive, entry, problem }) => {
                    return Err(ArchiveError::Refused { archive, entry, problem }.into());
                }
            }
        }
        for (_, content) in trees {
            self.add(Kind::Tree, content.len() as u64, &mut &content[..])
                .map_err(|_| ImportError::Changed)?;
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let added = self.add_to_pack(kind, size, content);
        self.untaken |= matches!(&added, Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe);
        added
    }

    fn add_to_pack(&mut self, kind: Kind, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let (mut pack, left) = match self.open.take() {
            Some(open) => open,
            None => {
                let count = self.plan.pop_front().ok_or_else(changed)?;
                let (sender, chunks) = mpsc::channel(UNDER_WAY);
                self.packs.blocking_send(chunks).map_err(|_| io::ErrorKind::BrokenPipe)?;
                (PackWriter::new(Chunks { sender, pending: Vec::new() }, count)?, count)
            }
        };
        pack.add(kind, size, content)?;
        if left > 1 {
            self.open = Some((pack, left - 1));
            return Ok(());
        }
        let (_, mut chunks) = pack.finish()?;
        chunks.flush()
    }

    /// The next file or link of the source, if its content is wanted. Should it have changed since it was hashed, the tree names
    /// content that nobody has.
    fn next(&mut self, size: u64, content: &mut dyn Read) -> Result<(), Stop> {
        let id = self.order.next().ok_or_else(changed)?;
        let Some(expected) = self.wanted.remove(id) else { return Ok(()) };
        if size != expected {
            return Err(changed().into());
        }
        self.add(Kind::Blob, size, content)?;
        if self.wanted.is_empty() { Err(Stop::Done) } else { Ok(()) }
    }
}

/// Why the source is not read any further.
enum Stop {
    /// All that is wanted has been packed.
    Done,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(cause: io::Error) -> Self {
        Self::Failed(cause)
    }
}

fn changed() -> io::Error {
    io::Error::other(ImportError::Changed)
}

impl Sink for Packing<'_> {
    type Error = Stop;

    fn knows(&mut self, _: &str, _: &Metadata) -> bool {
        let unwanted = self.order.as_slice().first().is_some_and(|id| !self.wanted.contains_key(id));
        if unwanted {
            self.order.next();
        }
        unwanted
    }

    fn file(&mut self, _: &str, _: bool, size: u64, content: &mut dyn Read) -> Result<(), Self::Error> {
        self.next(size, content)
    }

    fn copy(&mut self, _: &str, _: &str) -> Result<(), Self::Error> {
        Ok(())
    }

    fn link(&mut self, _: &str, target: &str) -> Result<(), Self::Error> {
        self.next(target.len() as u64, &mut target.as_bytes())
    }
}

/// What is written, in chunks.
struct Chunks {
    sender: mpsc::Sender<Bytes>,
    pending: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.pending);
        self.sender.blocking_send(chunk.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_bounded_and_the_trees_go_last() {
        let blob = |size| (repository::blob_id(0, &b""[..]).unwrap(), size);
        assert_eq!(plan(&[], 2), [2]);
        assert_eq!(plan(&[blob(1), blob(2)], 1), [3]);
        assert_eq!(plan(&[blob(PACK_BYTES * 3), blob(1), blob(PACK_BYTES)], 1), [1, 1, 2]);
        assert_eq!(plan(&vec![blob(0); PACK_OBJECTS + 1], 1), [20_000, 2]);
    }
}
