//! What a web-tier does for its certificates, against a hub that is a table in memory.

use super::*;
use common::{
    clock::SystemClock,
    config::{AcmeChallenge, AcmeKeyType},
};
use proto::hub::v1::{PutSecret, secret_put::Outcome};
use rcgen::date_time_ymd;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use tempfile::TempDir;
use tokio::sync::watch;
use triad_client::{HubError, Secrets};

const FIRST: &str = "shop.example";

/// What servers have together.
struct Store {
    table: watch::Sender<Option<Arc<BTreeMap<String, Kept>>>>,
    version: AtomicU64,
    asked: watch::Sender<u32>,
    panics: AtomicBool,
    away: AtomicBool,
    /// Whether the lease is given.
    grants: AtomicBool,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            table: watch::channel(Some(Arc::default())).0,
            version: AtomicU64::new(0),
            asked: watch::channel(0).0,
            panics: AtomicBool::new(false),
            away: AtomicBool::new(false),
            grants: AtomicBool::new(false),
        })
    }

    /// How many were put.
    fn puts(&self) -> u64 {
        self.version.load(Relaxed)
    }

    fn table(&self) -> Arc<BTreeMap<String, Kept>> {
        self.table.borrow().clone().unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl Storage for Store {
    fn secrets(&self) -> Secrets {
        self.table.subscribe()
    }

    async fn put(&self, put: PutSecret) -> Result<Outcome, HubError> {
        if self.away.load(Relaxed) {
            return Err(HubError::Unavailable { deadline: Duration::ZERO, last: "away".to_owned() });
        }
        let PutSecret { name, sealed, if_version, .. } = put;
        let mut table = (*self.table()).clone();
        if table.get(&name).map_or(0, |it| it.version) != if_version {
            return Ok(Outcome::Conflict(table[&name].clone()));
        }
        let version = self.version.fetch_add(1, Relaxed) + 1;
        let kept = Kept { name: name.clone(), sealed, version, expires_ms: 0 };
        table.insert(name, kept.clone());
        self.table.send_replace(Some(Arc::new(table)));
        Ok(Outcome::Put(kept))
    }

    async fn acquire(&self, _: Duration) -> Result<Option<u64>, HubError> {
        self.asked.send_modify(|it| *it += 1);
        assert!(!self.panics.swap(false, Relaxed), "as the test wants it");
        Ok(self.grants.load(Relaxed).then_some(1))
    }

    async fn renew(&self, _: u64) -> Result<bool, HubError> {
        Ok(true)
    }

    async fn release(&self, _: u64) {}
}

fn keeper(store: &Arc<Store>, [key, also]: [&str; 2], names: &[&str]) -> (Keeper, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let acme = Acme {
        directory: "https://127.0.0.1:1/".to_owned(),
        ca: None,
        contact: Vec::new(),
        challenge: AcmeChallenge::Http01,
        key_type: AcmeKeyType::Ec256,
        external_account: None,
        domains: names.iter().map(|&it| vec![it.to_owned()]).collect(),
    };
    let config = ManagerConfig {
        acme,
        cluster: "web".into(),
        key: Secret::from(key.as_bytes()),
        key_also: Secret::from(also.as_bytes()),
        data: data.path().to_owned(),
        times: Times::default(),
    };
    (Keeper::new(config, Live::default(), store.clone(), Arc::new(SystemClock)), data)
}

/// A certificate from one year's begin to another's.
fn certificate(from: i32, to: i32) -> CertificateRecord {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([FIRST.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    CertificateRecord {
        directory: "https://127.0.0.1:1/".to_owned(),
        key_type: AcmeKeyType::Ec256.name().to_owned(),
        names: vec![FIRST.to_owned()],
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// Until nobody puts anything any more.
async fn heard_by(store: &Store, keepers: &mut [&mut Keeper]) {
    for _ in 0..20 {
        let before = store.puts();
        for keeper in &mut *keepers {
            keeper.hear(&store.table()).await;
        }
        if store.puts() == before {
            return;
        }
    }
    panic!("they never end: {}", store.puts());
}

#[tokio::test(start_paused = true)]
async fn a_fault_does_not_end_the_upkeep_for_ever() {
    let store = Store::new();
    store.panics.store(true, Relaxed);
    let (keeper, _data) = keeper(&store, ["", ""], &[FIRST]);
    let (mut asked, began) = (store.asked.subscribe(), Instant::now());
    let manager =
        Manager { running: tokio::spawn(keeper.run_on()).abort_handle(), wanted_now: Arc::default() };
    asked.wait_for(|it| *it >= 2).await.unwrap();
    assert!(!store.panics.load(Relaxed) && began.elapsed() >= PAUSE, "{:?}", began.elapsed());
    drop(manager);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_has_lost_all_is_not_believed_to_know_more() {
    let store = Store::new();
    let (mut keeper, _data) = keeper(&store, ["", ""], &[FIRST]);
    let name = keeper.orders.names.attempts(FIRST);
    let failed = AttemptsRecord { failures: 3, next_ms: u64::MAX, ..AttemptsRecord::default() };
    keeper.orders.put(&name, &failed, 0, None).await.unwrap().unwrap();
    keeper.hear(&store.table()).await;
    assert_eq!(keeper.attempts[FIRST], failed);
    store.table.send_replace(Some(Arc::default()));
    keeper.hear(&store.table()).await;
    let (due, at) = keeper.next().unwrap();
    assert_eq!((due.attempts, at), (AttemptsRecord::default(), Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn one_that_another_server_tries_does_not_keep_the_others() {
    let (mut keeper, _data) = keeper(&Store::new(), ["", ""], &["a", "b", "c", "d", "e"]);
    let mut tried = Vec::new();
    for _ in 0..7 {
        let (due, at) = keeper.next().unwrap();
        sleep_until(at).await;
        keeper.tried(&due.domains[0], Tried::ByAnother);
        tried.push(due.domains[0].clone());
    }
    assert_eq!(tried, ["a", "b", "c", "d", "e", "a", "b"]);
}

#[tokio::test]
async fn while_the_cluster_key_changes_server_by_server_each_seals_a_record_anew_once() {
    let store = Store::new();
    let (mut old, _data) = keeper(&store, ["old", "new"], &[FIRST]);
    let (mut new, _data) = keeper(&store, ["new", "old"], &[FIRST]);
    let (orders, names) = (old.orders.clone(), old.orders.names.clone());
    let lasting =
        [names.certificate(FIRST), names.attempts(FIRST), names.account("https://127.0.0.1:1/", None)];
    orders.put(&lasting[0], &certificate(2020, 2040), 0, None).await.unwrap();
    orders.put(&lasting[1], &AttemptsRecord::default(), 0, None).await.unwrap();
    orders.put(&lasting[2], &"an account", 0, None).await.unwrap();
    heard_by(&store, &mut [&mut new, &mut old]).await;
    assert_eq!(store.puts(), 9, "each of three by each of two");
    // The last one has the new key: all is sealed by it, and who knows no other reads it.
    let (mut last, _data) = keeper(&store, ["new", "old"], &[FIRST]);
    heard_by(&store, &mut [&mut new, &mut last]).await;
    let only = Sealer::new(&Secret::from(&b"new"[..]), &Secret::default());
    assert!(lasting.iter().all(|name| only.open(name, &store.table()[name].sealed).is_some()));
}

#[tokio::test]
async fn servers_that_can_not_read_each_others_records_give_back_their_own_once() {
    let store = Store::new();
    let (mut one, _data) = keeper(&store, ["one", ""], &[FIRST]);
    let (mut other, _data) = keeper(&store, ["two", ""], &[FIRST]);
    let record = certificate(2020, 2040);
    one.held.insert(FIRST.to_owned(), Held::new(record.clone(), 0).unwrap());
    other.held.insert(FIRST.to_owned(), Held::new(record, 0).unwrap());
    heard_by(&store, &mut [&mut one, &mut other]).await;
    assert_eq!(store.puts(), 3);
    // One that is lost is given back as often as it is.
    for puts in [4, 5] {
        store.table.send_replace(Some(Arc::default()));
        heard_by(&store, &mut [&mut one, &mut other]).await;
        assert_eq!(store.puts(), puts);
    }
}

#[tokio::test]
async fn tries_that_can_not_be_read_do_not_undo_what_is_known() {
    let store = Store::new();
    let (mut one, _data) = keeper(&store, ["one", ""], &[FIRST]);
    let (other, _data) = keeper(&store, ["two", ""], &[FIRST]);
    let name = one.orders.names.attempts(FIRST);
    let failed = AttemptsRecord { failures: 3, next_ms: u64::MAX, ..AttemptsRecord::default() };
    let version = one.orders.put(&name, &failed, 0, None).await.unwrap().unwrap();
    one.hear(&store.table()).await;
    other.orders.put(&name, &AttemptsRecord::default(), version, None).await.unwrap().unwrap();
    one.hear(&store.table()).await;
    assert_eq!(one.attempts[FIRST], failed);
}

#[tokio::test]
async fn a_try_is_counted_before_it_begins_and_after_it_has_ended() {
    let store = Store::new();
    store.grants.store(true, Relaxed);
    let (mut keeper, _data) = keeper(&store, ["", ""], &[FIRST]);
    let name = keeper.orders.names.attempts(FIRST);
    // A server has died while it tried, with another file.
    let begun = AttemptsRecord::default().begin("something else".to_owned(), 1, 0);
    keeper.orders.put(&name, &begun, 0, None).await.unwrap().unwrap();
    keeper.hear(&store.table()).await;
    let (due, _) = keeper.next().unwrap();
    let began_ms = keeper.orders.clock.unix_ms();
    let tried = keeper.orders.clone().try_order(due).await;
    assert!(matches!(tried, Tried::Failed(_)), "{tried:?}");
    let attempts = keeper.orders.read::<AttemptsRecord>(&name).0.unwrap();
    assert_eq!((attempts.failures, attempts.begun, attempts.tried_ms.len()), (2, false, 2));
    assert!(attempts.next_ms("something else", None) >= began_ms + 8 * 60_000, "{attempts:?}");
}

#[tokio::test]
async fn an_older_certificate_on_the_hub_replaces_no_newer_one() {
    let store = Store::new();
    let (mut keeper, data) = keeper(&store, ["one", ""], &[FIRST]);
    let (name, file) = (keeper.orders.names.certificate(FIRST), data.path().join("acme/shop.example.sealed"));
    let (older, newer) = (certificate(2020, 2041), certificate(2021, 2040));
    keeper.orders.put(&name, &newer, 0, None).await.unwrap().unwrap();
    heard_by(&store, &mut [&mut keeper]).await;
    let copy = fs::read(&file).unwrap();
    // Another hub, from a backup: its version is the same one.
    let sealed = keeper.orders.sealer.seal(&name, &serde_json::to_vec(&older).unwrap()).unwrap();
    let kept = Kept { name: name.clone(), sealed: sealed.into(), version: 1, expires_ms: 0 };
    store.table.send_replace(Some(Arc::new(BTreeMap::from([(name.clone(), kept)]))));
    heard_by(&store, &mut [&mut keeper]).await;
    assert!(keeper.held[FIRST].record == newer);
    assert!(keeper.orders.read::<CertificateRecord>(&name).0 == Some(newer), "it is given back");
    assert_eq!((keeper.held[FIRST].version, store.puts()), (2, 2));
    let opened = |sealed: &[u8]| keeper.orders.sealer.open(&name, sealed);
    assert_eq!(opened(&fs::read(&file).unwrap()), opened(&copy));
    // Another order is another certificate, whenever it was issued.
    let other = CertificateRecord { directory: "https://127.0.0.1:2/".to_owned(), ..older };
    keeper.orders.put(&name, &other, 2, None).await.unwrap().unwrap();
    heard_by(&store, &mut [&mut keeper]).await;
    assert!(keeper.held[FIRST].record == other);
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_outlives_a_hub_that_is_away() {
    let store = Store::new();
    let (mut keeper, data) = keeper(&store, ["one", ""], &[FIRST]);
    let (name, record) = (keeper.orders.names.certificate(FIRST), certificate(2021, 2040));
    let former = keeper.orders.put(&name, &certificate(2020, 2030), 0, None).await.unwrap();
    heard_by(&store, &mut [&mut keeper]).await;
    keeper.put_anew.insert(name.clone());
    store.away.store(true, Relaxed);
    keeper.orders.keep(FIRST, record.clone()).await;
    keeper.tried(FIRST, Tried::NoHub("away".to_owned()));
    keeper.hear(&store.table()).await;
    assert!(keeper.held[FIRST].record == record && keeper.is_refused);
    let copy = fs::read(data.path().join("acme/shop.example.sealed")).unwrap();
    let opened = keeper.orders.sealer.open(&name, &copy).unwrap();
    assert_eq!(opened.value, serde_json::to_vec(&record).unwrap());
    assert_eq!(former, Some(store.table()[&name].version));
    store.away.store(false, Relaxed);
    heard_by(&store, &mut [&mut keeper]).await;
    assert!(keeper.orders.read::<CertificateRecord>(&name).0 == Some(record) && !keeper.is_refused);
}

#[tokio::test]
async fn what_an_operator_wants_while_an_order_is_under_way_comes_when_that_has_failed() {
    let store = Store::new();
    let (mut keeper, _data) = keeper(&store, ["", ""], &[FIRST]);
    let name = keeper.orders.names.attempts(FIRST);
    let wanted = wanted(&keeper.orders.acme, &[FIRST.to_owned()]);
    let now_ms = keeper.orders.clock.unix_ms();
    let in_an_hour = now_ms + 3_600_000;
    let begun = AttemptsRecord::default().begin(wanted.clone(), now_ms, in_an_hour);
    let version = keeper.orders.put(&name, &begun, 0, None).await.unwrap().unwrap();
    keeper.hear(&store.table()).await;
    keeper.try_now();
    let failed = AttemptsRecord { begun: false, failures: 1, ..begun };
    let version = keeper.orders.put(&name, &failed, version, None).await.unwrap().unwrap();
    keeper.hear(&store.table()).await;
    assert!(keeper.next().unwrap().1 <= Instant::now());
    // Once: whoever has tried it.
    let again = AttemptsRecord { begun: false, ..failed.begin(wanted, now_ms + 1, in_an_hour) };
    keeper.orders.put(&name, &again, version, None).await.unwrap().unwrap();
    keeper.hear(&store.table()).await;
    assert!(keeper.next().unwrap().1 > Instant::now() + Duration::from_secs(60));
}
