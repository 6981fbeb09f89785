//! Requests at a time.

use super::{LimitReport, Refused, SHARDS, Subject, key, rate::Hashed, shard};
use common::config::ConnectionLimit;
use std::{
    cell::Cell,
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// How many requests of each key are being answered; keys without any are not there, so there are no more than requests.
type Shard = HashMap<u64, u32, BuildHasherDefault<Hashed>>;

/// What one `connection-limit` counts.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    pub(super) config: ConnectionLimit,
    hasher: key::Hasher,
    shards: Box<[Mutex<Shard>]>,
    passed: AtomicU64,
    refused_count: AtomicU64,
    refused: Refused,
}

/// A request that is being answered; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    table: Arc<ConnectionTable>,
    hash: u64,
    /// Another one of the same request.
    former: Option<Box<Self>>,
}

/// Those of one request, which has none nearly always: it is small then.
#[derive(Default)]
pub(crate) struct Permits(Cell<Option<Box<Permit>>>);

impl Permits {
    pub(crate) fn push(&self, mut permit: Permit) {
        permit.former = self.0.take();
        self.0.set(Some(Box::new(permit)));
    }

    /// They count no longer.
    pub(crate) fn clear(&self) {
        drop(self.0.take());
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").finish_non_exhaustive()
    }
}

impl ConnectionTable {
    pub(super) fn new(config: &ConnectionLimit) -> Self {
        Self {
            config: config.clone(),
            hasher: key::Hasher::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            passed: AtomicU64::new(0),
            refused_count: AtomicU64::new(0),
            refused: Refused::default(),
        }
    }

    /// Counts a request as long as the permit is there: none if it has no key.
    ///
    /// # Errors
    /// There are as many already as there may be.
    pub(crate) fn enter(self: &Arc<Self>, subject: Subject<'_>) -> Result<Option<Permit>, ()> {
        let Some(hash) = self.hasher.hash(&self.config.by, subject) else { return Ok(None) };
        let passes = {
            let mut shard = shard(&self.shards, hash);
            let count = shard.entry(hash).or_default();
            let passes = *count < self.config.max;
            *count += u32::from(passes);
            passes
        };
        if !passes {
            self.refused_count.fetch_add(1, Relaxed);
            self.refused.note(hash, || key::shown(&self.config.by, subject));
            return Err(());
        }
        self.passed.fetch_add(1, Relaxed);
        Ok(Some(Permit { table: self.clone(), hash, former: None }))
    }

    pub(super) fn report(&self) -> LimitReport {
        let keys = |it: &Mutex<Shard>| it.lock().map_or(0, |it| it.len());
        LimitReport {
            name: self.config.name.clone(),
            kind: "connection-limit",
            allows: format!("{} at a time", self.config.max),
            passed: self.passed.load(Relaxed),
            refused: self.refused_count.load(Relaxed),
            keys: self.shards.iter().map(keys).sum::<usize>() as u64,
            most_refused: self.refused.most(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut shard = shard(&self.table.shards, self.hash);
        if let Entry::Occupied(mut count) = shard.entry(self.hash) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Fields;
    use common::config::RequestKey;

    #[test]
    fn as_many_at_a_time_and_none_left_behind() {
        let table = Arc::new(ConnectionTable::new(&ConnectionLimit {
            name: "test".to_owned(),
            by: RequestKey::RemoteAddr,
            max: 2,
        }));
        let fields = Fields::default();
        let of = |last: u8| Subject { remote: [192, 0, 2, last].into(), path: "/", fields: &fields };
        let (one, two) = (table.enter(of(1)).unwrap(), table.enter(of(1)).unwrap());
        assert!(table.enter(of(1)).is_err() && table.enter(of(2)).is_ok());
        drop(one);
        let three = table.enter(of(1)).unwrap();
        assert!(table.enter(of(1)).is_err());
        drop((two, three));
        let report = table.report();
        assert_eq!((report.keys, report.passed, report.refused), (0, 4, 2));
        assert_eq!(report.most_refused, [("192.0.2.1".to_owned(), 2)]);
    }
}
