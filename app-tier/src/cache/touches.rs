//! What was read here, for the hub: it ends what nobody reads, and takes what was not read for the longest when it needs room.

use super::Inner;
use proto::hub::v1::{CacheTouch, CacheWrite, CachedEntry, cache_write::Write};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

/// How often the hub is told.
const EVERY: Duration = Duration::from_secs(1);

/// The most keys that are told at a time; of more, some are not told this time.
const KEYS_MAX: usize = 5_000;

/// Of what is not idle by itself, one read in so many is told.
const SAMPLE: u32 = 8;

/// Bytes of keys in one call.
const BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Touches(Mutex<HashMap<String, HashSet<String>>>);

impl Touches {
    /// A value was read, near or at the hub.
    pub(super) fn read(&self, cache: &str, key: &str, entry: &CachedEntry) {
        let is_idle = entry.value.as_ref().is_some_and(|it| it.idle_ms > 0);
        let is_told = is_idle || rand::random_ratio(1, SAMPLE);
        if !is_told {
            return;
        }
        let mut touches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if touches.values().map(HashSet::len).sum::<usize>() < KEYS_MAX {
            touches.entry(cache.to_owned()).or_default().insert(key.to_owned());
        }
    }

    fn take(&self) -> HashMap<String, HashSet<String>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells the hub, until the caches are gone.
pub(super) async fn run(caches: Weak<Inner>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(inner) = caches.upgrade() else { return };
        for (cache, keys) in inner.touches.take() {
            let mut bytes = 0;
            let keys = keys.into_iter().take_while(|key| {
                bytes += key.len();
                bytes <= BYTES_MAX
            });
            let touch = Write::Touch(CacheTouch { keys: keys.collect() });
            let write = CacheWrite { cache, fence: None, write: Some(touch) };
            // What is not told is told the next time it is read.
            let _untold = inner.writer.write(write, super::WRITE_MAX).await;
        }
    }
}
