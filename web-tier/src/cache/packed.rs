//! Kept answers, compressed once for all clients that take it. A compressed body stands beside the answer, with a key and a size of its own, and is
//! good as long as the answer has the same body: what freshens, purges or replaces the answer need not know of it.

use super::{
    Cache, Slot,
    entry::{Entry, Packed},
    key,
    near::{Got, Near},
};
use bytes::Bytes;
use common::config::Encoding;
use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Instant,
};

/// How many bodies are compressed at a time: beside the workers, which serve.
const AT_A_TIME: usize = 2;

/// What there is of an answer's body in an encoding.
#[derive(Debug)]
pub(crate) enum PackedBody {
    /// It is there.
    Is(Bytes),
    /// It would not be shorter.
    Useless,
    /// Not yet.
    Missing,
}

impl Cache {
    /// The body of a kept answer in an encoding.
    pub(crate) fn packed(&self, near: &Near, entry: &Entry, encoding: Encoding, now: Instant) -> PackedBody {
        let key = entry.key.packed(encoding);
        match near.get(self, key::hash_of(&key), &key, now) {
            Some(Got::Packed(packed)) if packed.is_of(entry) => {
                packed.bytes.clone().map_or(PackedBody::Useless, PackedBody::Is)
            }
            _ => PackedBody::Missing,
        }
    }

    /// Begins to compress the body of a kept answer, on a thread of its own, unless others are being compressed.
    pub(crate) fn pack(self: &Arc<Self>, entry: &Arc<Entry>, encoding: Encoding) {
        // What was asked for once may be so for ever.
        let Some(body) = entry.body.get().filter(|_| entry.hits.load(Relaxed) > 0).cloned() else { return };
        let key = entry.key.packed(encoding);
        let hash = key::hash_of(&key);
        {
            let mut packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
            if packing.len() >= AT_A_TIME || packing.contains(&hash) || entry.life.is_over() {
                return;
            }
            packing.push(hash);
        }
        let (under_way, entry) = (UnderWay { cache: self.clone(), hash }, entry.clone());
        tokio::task::spawn_blocking(move || {
            let packed = compression::encoder::whole(encoding, &body).ok();
            let shorter = packed.filter(|it| it.len() < body.len()).map(Bytes::from);
            if !entry.life.is_over() {
                let packed = Packed::new(entry.key.with(key), &entry, shorter);
                under_way.cache.put(Slot::Packed(Arc::new(packed)));
            }
        });
    }

    /// Forgets the compressed bodies of an answer.
    pub(super) fn forget_packed(&self, entry: &Entry) {
        for encoding in Encoding::ALL {
            self.table.invalidate(&key::hash_of(&entry.key.packed(encoding)));
        }
    }
}

/// A body that is being compressed, until that has ended, however it does.
struct UnderWay {
    cache: Arc<Cache>,
    hash: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut packing = self.cache.packing.lock().unwrap_or_else(PoisonError::into_inner);
        packing.retain(|it| *it != self.hash);
    }
}
