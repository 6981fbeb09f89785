//! What web-tiers have together, in the memory of a test: as the hub does it.

use acme::Storage;
use proto::hub::v1::{PutSecret, Secret, secret_put::Outcome};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use triad_client::{HubError, Secrets};

type Table = Option<Arc<BTreeMap<String, Secret>>>;

/// The store.
#[derive(Debug)]
pub(super) struct MemoryStorage {
    table: watch::Sender<Table>,
    last: AtomicU64,
    lease: Mutex<Option<(u64, Instant)>>,
    /// It does not answer.
    pub(super) away: AtomicBool,
    /// How often it was asked while it did not.
    pub(super) asked_in_vain: AtomicU64,
}

impl MemoryStorage {
    pub(super) fn new() -> Arc<Self> {
        let table = watch::channel(Some(Arc::default())).0;
        Arc::new(Self {
            table,
            last: AtomicU64::new(0),
            lease: Mutex::default(),
            away: AtomicBool::new(false),
            asked_in_vain: AtomicU64::new(0),
        })
    }

    /// One that was never heard of.
    pub(super) fn silent() -> Arc<Self> {
        let table = watch::channel(None).0;
        Arc::new(Self {
            table,
            last: AtomicU64::new(0),
            lease: Mutex::default(),
            away: AtomicBool::new(true),
            asked_in_vain: AtomicU64::new(0),
        })
    }

    /// The names of its records that have this in them.
    pub(super) fn names(&self, part: &str) -> Vec<String> {
        let table = self.table.borrow().clone().unwrap_or_default();
        table.keys().filter(|it| it.contains(part)).cloned().collect()
    }

    /// All that it holds, as who has its disk sees it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let table = self.table.borrow().clone().unwrap_or_default();
        table.values().flat_map(|it| it.sealed.to_vec()).collect()
    }

    /// It has lost all.
    pub(super) fn forget(&self) {
        self.table.send_replace(Some(Arc::default()));
    }

    fn answers(&self) -> Result<(), HubError> {
        let (deadline, last) = (Duration::from_secs(1), "away".to_owned());
        if !self.away.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.asked_in_vain.fetch_add(1, Ordering::Relaxed);
        Err(HubError::Unavailable { deadline, last })
    }
}

#[async_trait::async_trait]
impl Storage for MemoryStorage {
    fn secrets(&self) -> Secrets {
        self.table.subscribe()
    }

    async fn put(&self, put: PutSecret) -> Result<Outcome, HubError> {
        self.answers()?;
        let PutSecret { name, sealed, if_version, .. } = put;
        let mut outcome = None;
        self.table.send_modify(|table| {
            let table = Arc::make_mut(table.get_or_insert_default());
            let present = table.get(&name);
            outcome = Some(if present.map_or(0, |it| it.version) != if_version {
                Outcome::Conflict(present.cloned().unwrap_or_default())
            } else if sealed.is_empty() {
                table.remove(&name);
                Outcome::Put(Secret::default())
            } else {
                let version = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                let secret = Secret { name: name.clone(), sealed, version, expires_ms: 0 };
                table.insert(name.clone(), secret.clone());
                Outcome::Put(secret)
            });
        });
        Ok(outcome.unwrap())
    }

    async fn acquire(&self, time: Duration) -> Result<Option<u64>, HubError> {
        self.answers()?;
        let mut lease = self.lease.lock().unwrap();
        if lease.is_some_and(|(_, end)| end > Instant::now()) {
            return Ok(None);
        }
        let token = self.last.fetch_add(1, Ordering::Relaxed);
        *lease = Some((token, Instant::now() + time));
        Ok(Some(token))
    }

    async fn renew(&self, token: u64) -> Result<bool, HubError> {
        self.answers()?;
        Ok(self.lease.lock().unwrap().is_some_and(|(held, _)| held == token))
    }

    async fn release(&self, token: u64) {
        let mut lease = self.lease.lock().unwrap();
        if lease.is_some_and(|(held, _)| held == token) {
            *lease = None;
        }
    }
}
