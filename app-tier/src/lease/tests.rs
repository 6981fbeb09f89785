//! Leases against a hub that does as the test says.

use super::*;
use futures_util::future::BoxFuture;
use proto::hub::v1::RenewLeases;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::sync::watch;

/// Who holds what, by app and name.
type Held = BTreeMap<(String, String), Lease>;

#[derive(Debug)]
struct FakeHub {
    is_away: AtomicBool,
    granted: AtomicU64,
    renewals: AtomicU64,
    lost: Mutex<Vec<u64>>,
    released: Mutex<Vec<ReleaseLeases>>,
    heard: watch::Sender<Option<Arc<Held>>>,
}

impl FakeHub {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            is_away: AtomicBool::new(false),
            granted: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
            lost: Mutex::default(),
            released: Mutex::default(),
            heard: watch::channel(Some(Arc::default())).0,
        })
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce() -> T,
    ) -> BoxFuture<'static, Result<T, HubError>> {
        let away = || HubError::Unavailable { deadline: Duration::ZERO, last: "away".into() };
        let answer = if self.is_away.load(Ordering::SeqCst) { Err(away()) } else { Ok(answer()) };
        Box::pin(std::future::ready(answer))
    }
}

impl LeaseHub for FakeHub {
    fn acquire(&self, acquire: AcquireLease, _: Duration) -> BoxFuture<'_, Result<Outcome, HubError>> {
        self.answer(|| {
            let token = self.granted.fetch_add(1, Ordering::SeqCst) + 1;
            Outcome::Granted(Lease { token, ttl_ms: acquire.ttl_ms, ..Lease::default() })
        })
    }

    fn renew(&self, renew: RenewLeases, _: Duration) -> BoxFuture<'_, Result<Vec<u64>, HubError>> {
        self.answer(|| {
            self.renewals.fetch_add(1, Ordering::SeqCst);
            let lost = self.lost.lock().unwrap();
            renew.tokens.into_iter().filter(|it| lost.contains(it)).collect()
        })
    }

    fn release(&self, release: ReleaseLeases, _: Duration) -> BoxFuture<'_, Result<Vec<u64>, HubError>> {
        self.answer(|| {
            let released = release.tokens.clone();
            self.released.lock().unwrap().push(release);
            released
        })
    }

    fn heard(&self) -> triad_client::Leases {
        self.heard.subscribe()
    }
}

fn name() -> Name {
    Name { app: "shop".into(), name: ServiceName::new("counter").unwrap() }
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it becomes so");
}

const TTL: Duration = Duration::from_millis(400);

#[tokio::test]
async fn the_servers_are_renewed_and_are_late_when_the_hub_is_silent() {
    let hub = FakeHub::new();
    let leases = Leases::start(hub.clone(), "a", 7);
    let held = leases.acquire(&name(), "shop", TTL, Renewed::ByServer).await.unwrap();
    assert_eq!((held.token(), leases.daemons_held()), (1, 1));
    until(|| hub.renewals.load(Ordering::SeqCst) > 3).await;
    assert!(held.left() > Duration::ZERO);
    hub.is_away.store(true, Ordering::SeqCst);
    held.is_late(80).await;
    // Not before its time.
    assert!(held.at(80) <= BootTime::now());
    hub.is_away.store(false, Ordering::SeqCst);
    hub.lost.lock().unwrap().push(1);
    held.is_late(1_000_000).await;
    assert_eq!((held.left(), leases.held(1).is_none()), (Duration::ZERO, true));
}

#[tokio::test]
async fn an_apps_own_is_renewed_when_it_says_so_and_ends_when_it_does_not() {
    let hub = FakeHub::new();
    let leases = Leases::start(hub.clone(), "a", 7);
    let held = leases.acquire(&name(), "shop", TTL, Renewed::ByApp).await.unwrap();
    let before = held.at(100);
    leases.renew(&held).await.unwrap();
    assert!(held.at(100) > before && hub.renewals.load(Ordering::SeqCst) == 1);
    until(|| leases.held(held.token()).is_none()).await;
    assert!(matches!(leases.renew(&held).await, Err(LeaseError::Over)));
    assert_eq!(hub.renewals.load(Ordering::SeqCst), 1, "nobody renews it by itself");
}

#[tokio::test]
async fn what_could_not_be_given_back_is_given_back_later() {
    let hub = FakeHub::new();
    let leases = Leases::start(hub.clone(), "a", 7);
    let held = leases.acquire(&name(), "shop", Duration::from_secs(60), Renewed::ByApp).await.unwrap();
    hub.is_away.store(true, Ordering::SeqCst);
    assert!(matches!(leases.release(&held).await, Err(LeaseError::HubLost(_))));
    // Nor is it known what became of this one.
    let lost = leases.acquire(&name(), "shop", Duration::from_secs(60), Renewed::ByApp).await;
    assert!(matches!(lost, Err(LeaseError::HubLost(_))));
    hub.is_away.store(false, Ordering::SeqCst);
    until(|| hub.released.lock().unwrap().len() == 2).await;
    let released = hub.released.lock().unwrap();
    assert!(released.iter().any(|it| it.tokens == [1]) && released.iter().any(|it| it.ids.len() == 1));
    assert!(released.iter().all(|it| (it.server.as_str(), it.started_ms) == ("a", 7)));
}

#[tokio::test]
async fn what_a_caller_that_went_away_was_granted_is_given_back() {
    let hub = FakeHub::new();
    let leases = Leases::start(hub.clone(), "a", 7);
    let name = name();
    let mut asking = Box::pin(leases.acquire_for(&name, "shop", Duration::from_secs(60)));
    assert!(futures_util::poll!(&mut asking).is_pending());
    drop(asking);
    until(|| hub.released.lock().unwrap().len() == 1).await;
    assert!(leases.held(1).is_none());
}
