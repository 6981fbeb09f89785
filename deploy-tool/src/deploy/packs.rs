//! Sends objects in packs of a bounded size, each safe on the hub when it has been answered: a cut upload loses one of them at most.

use super::scan::Scan;
use crate::{
    client::{self, Body},
    progress::Progress,
    target::Target,
};
use anyhow::{Context, anyhow};
use archive::{Limits, Sink};
use bytes::Bytes;
use http::Method;
use repository::{Kind, ObjectId, PackWriter};
use std::{
    collections::{HashSet, VecDeque},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;

/// Content of one pack, unless a single file has more.
const PACK_BYTES: u64 = 32 << 20;

/// Objects of one pack.
const PACK_OBJECTS: usize = 20_000;

/// Bytes of a chunk, and chunks that wait to be sent.
const CHUNK: usize = 64 << 10;
const UNDER_WAY: usize = 8;

/// The packs' chunks, each pack in a channel of its own.
type Packs = mpsc::Sender<mpsc::Receiver<Bytes>>;

/// Sends all that is missing.
pub(super) async fn send(
    target: &Target,
    source: &Path,
    scan: &Scan,
    missing: &HashSet<ObjectId>,
) -> anyhow::Result<()> {
    let blobs: Vec<_> = scan.blobs.iter().filter(|(id, _)| missing.contains(id)).copied().collect();
    let trees: Vec<_> = scan.trees.iter().filter(|(id, _)| missing.contains(id)).cloned().collect();
    let total = blobs.iter().map(|(_, size)| size).sum::<u64>()
        + trees.iter().map(|(_, it)| it.len() as u64).sum::<u64>();
    let mut progress = Progress::new(total);
    let plan = plan(&blobs, trees.len());
    let (packs, mut next) = mpsc::channel(1);
    let (source, wanted): (PathBuf, HashSet<_>) =
        (source.to_owned(), blobs.iter().map(|(id, _)| *id).collect());
    let order = scan.order.clone();
    let packing = tokio::task::spawn_blocking(move || pack(&source, order, wanted, trees, plan, &packs));
    let mut sent = Ok(());
    while let Some(chunks) = next.recv().await {
        let body = Body::chunks(chunks, progress.counter());
        sent = client::ask(target, Method::POST, "/api/v1/objects", body).await.map(drop);
        progress.show();
        if sent.is_err() {
            break;
        }
    }
    // Ends the packing, too, if it is still going on.
    drop(next);
    let packed = packing.await?;
    progress.end();
    sent?;
    packed
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

/// Reads the source again, and writes the packs.
fn pack(
    source: &Path,
    order: Vec<ObjectId>,
    wanted: HashSet<ObjectId>,
    trees: Vec<(ObjectId, Vec<u8>)>,
    plan: VecDeque<u32>,
    packs: &Packs,
) -> anyhow::Result<()> {
    let mut packing = Packing { order: order.into_iter(), wanted, plan, packs, open: None };
    archive::read(source, &Limits::default(), &mut packing)?;
    for (_, content) in trees {
        packing.add(Kind::Tree, content.len() as u64, &mut &content[..])?;
    }
    packing.close()?;
    if packing.wanted.is_empty() && packing.plan.is_empty() {
        return Ok(());
    }
    Err(anyhow!(changed())).with_context(|| source.display().to_string())
}

struct Packing<'a> {
    /// What each file is, in the order of the source.
    order: std::vec::IntoIter<ObjectId>,
    wanted: HashSet<ObjectId>,
    plan: VecDeque<u32>,
    packs: &'a Packs,
    /// The pack that is being written, and how many objects it lacks.
    open: Option<(PackWriter<Chunks>, u32)>,
}

impl Packing<'_> {
    fn add(&mut self, kind: Kind, size: u64, content: &mut dyn Read) -> io::Result<()> {
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

    fn close(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Err(changed());
        }
        Ok(())
    }
}

impl Packing<'_> {
    /// The next file or link of the source, if the hub lacks its content. Should it have changed since it was hashed, the hub will not
    /// find the content that the tree names.
    fn next(&mut self, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let id = self.order.next().ok_or_else(changed)?;
        if self.wanted.remove(&id) { self.add(Kind::Blob, size, content) } else { Ok(()) }
    }
}

fn changed() -> io::Error {
    io::Error::other("it has changed while it was read")
}

impl Sink for Packing<'_> {
    type Error = io::Error;

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
