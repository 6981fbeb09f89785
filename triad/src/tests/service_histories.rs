//! Histories of caches and leases that several clients use at once while servers and network fail: values are linearizable, each write counts once
//! though it is sent again, and no lease has two holders.

use super::{
    harness::{LIMIT, TestHub},
    histories::{ALL, Fault, agree, hub, inflict},
    linearizable::{Operation, check},
    network::CLIENT,
};
use proto::hub::v1::{
    AcquireLease, CacheClear, CacheCondition, CacheIncrement, CachePut, CacheRemove, CacheValue, CacheWrite,
    LeaseKey, LoadCached, ReleaseLeases, WriteCaches, cache_condition::Condition, cache_outcome::Outcome,
    cache_write::Write, caches_client::CachesClient, lease_acquired, leases_client::LeasesClient,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// Clients that use caches, and such that use leases.
const CACHING: usize = 5;
const HOLDING: usize = 4;
/// A client waits so long for an answer before it asks another server.
const TRY: Duration = Duration::from_millis(250);
/// A client asks so often; then nobody knows what has come of it.
const TRIES: usize = 12;

/// Asked of one key; what clears a whole cache is written down for each of its keys.
#[derive(Debug, Clone, Copy)]
enum Input {
    Put(i64),
    PutAbsent(i64),
    Increment,
    Remove,
    Clear,
    Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Done,
    Unmet,
    Number(i64),
    Existed(bool),
    Found(Option<i64>),
}

fn apply(value: &Option<i64>, input: &Input) -> (Option<i64>, Output) {
    match *input {
        Input::PutAbsent(_) if value.is_some() => (*value, Output::Unmet),
        Input::Put(new) | Input::PutAbsent(new) => (Some(new), Output::Done),
        Input::Increment => {
            let next = value.unwrap_or(0) + 1;
            (Some(next), Output::Number(next))
        }
        Input::Remove => (None, Output::Existed(value.is_some())),
        Input::Clear => (None, Output::Done),
        Input::Load => (*value, Output::Found(*value)),
    }
}

type Histories = HashMap<&'static str, Vec<Operation<Input, Output>>>;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// Which lease, its token, and from when to when it was certainly held.
type Hold = (usize, u64, u64, u64);

/// What all clients share.
#[derive(Debug, Clone)]
struct Book {
    start: Instant,
    /// The caches' and leases' name: each round has others.
    name: String,
    /// Of writes.
    number: Arc<AtomicU64>,
    histories: Arc<Mutex<Histories>>,
    held: Arc<Mutex<Vec<Hold>>>,
}

impl Book {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }

    /// Whether enough was answered for a round of so many faults.
    fn says_something(&self, faults: usize) -> bool {
        let histories = self.histories.lock().unwrap();
        let answered = histories.values().flatten().filter(|it| it.answered.is_some()).count();
        answered > 50 * faults && self.held.lock().unwrap().len() > 10 * faults
    }
}

/// Asks one server after the other until one answers; the same call each time.
pub(super) async fn ask<T, F>(at: &mut usize, tries: usize, call: impl Fn(usize) -> F) -> Option<T>
where
    F: Future<Output = Result<T, Status>>,
{
    for _ in 0..tries {
        if let Ok(Ok(answer)) = tokio::time::timeout(TRY, call(*at)).await {
            return Some(answer);
        }
        *at = (*at + 1) % 3;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    None
}

async fn cache(
    me: usize,
    servers: [CachesClient<Channel>; 3],
    mut rng: StdRng,
    book: Book,
    stop: CancellationToken,
) {
    let mut at = me % 3;
    while !stop.is_cancelled() {
        let key = KEYS[rng.random_range(0..KEYS.len())];
        let number = book.number.fetch_add(1, Ordering::SeqCst) + 1;
        let value = i64::try_from(number).unwrap() * 1_000_000;
        let input = match rng.random_range(0..100) {
            0..25 => Input::Put(value),
            25..35 => Input::PutAbsent(value),
            35..60 => Input::Increment,
            60..68 => Input::Remove,
            68..70 => Input::Clear,
            _ => Input::Load,
        };
        let called = book.now();
        let answer = ask(&mut at, TRIES, |at| one(servers[at].clone(), &book.name, key, number, input)).await;
        let answered = answer.map(|output| (book.now(), output));
        if answered.is_some() || !matches!(input, Input::Load) {
            let keys = if matches!(input, Input::Clear) { &KEYS[..] } else { std::slice::from_ref(&key) };
            let mut histories = book.histories.lock().unwrap();
            for key in keys {
                let operation = Operation { caller: me, called, input, answered };
                histories.entry(*KEYS.iter().find(|it| *it == key).unwrap()).or_default().push(operation);
            }
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(1000..10_000))).await;
    }
}

async fn one(
    mut server: CachesClient<Channel>,
    cache: &str,
    key: &str,
    number: u64,
    input: Input,
) -> Result<Output, Status> {
    let put = |value: i64, condition| {
        let value = CacheValue { value: value.to_string().into(), ..CacheValue::default() };
        Write::Put(CachePut { key: key.to_owned(), value: Some(value), condition })
    };
    let absent = CacheCondition { condition: Some(Condition::Absent(true)) };
    let write = match input {
        Input::Put(value) => put(value, None),
        Input::PutAbsent(value) => put(value, Some(absent)),
        Input::Increment => {
            Write::Increment(CacheIncrement { key: key.to_owned(), by: 1, ..CacheIncrement::default() })
        }
        Input::Remove => Write::Remove(CacheRemove { key: key.to_owned(), condition: None }),
        Input::Clear => Write::Clear(CacheClear {}),
        Input::Load => {
            let load = LoadCached { cache: cache.to_owned(), key: key.to_owned(), watch: 0 };
            let value = server.load(load).await?.into_inner().entry.and_then(|it| it.value);
            let number = value.map(|it| std::str::from_utf8(&it.value).unwrap().parse().unwrap());
            return Ok(Output::Found(number));
        }
    };
    let write = CacheWrite { cache: cache.to_owned(), fence: None, write: Some(write) };
    let call = WriteCaches {
        server: CLIENT.to_owned(),
        started_ms: 1,
        first: number,
        settled: 0,
        writes: vec![write],
        max_bytes: 0,
    };
    let outcome = server.write(call).await?.into_inner().outcomes.into_iter().next().unwrap();
    Ok(match outcome.outcome.unwrap() {
        Outcome::Stored(_) => Output::Done,
        Outcome::Unmet(_) => Output::Unmet,
        Outcome::Number(number) => Output::Number(number.value),
        Outcome::Done(_) if matches!(input, Input::Clear) => Output::Done,
        Outcome::Done(existed) => Output::Existed(existed),
        other => panic!("{input:?}: {other:?}"),
    })
}

/// Takes one of two leases again and again, holds it for a moment and gives it back. Each holder is another process.
async fn hold(
    me: usize,
    servers: [LeasesClient<Channel>; 3],
    mut rng: StdRng,
    book: Book,
    stop: CancellationToken,
) {
    let (mut at, started_ms) = (me % 3, me as u64 + 1);
    while !stop.is_cancelled() {
        let which = rng.random_range(0..2);
        let key = Some(LeaseKey { app: String::new(), name: format!("{}-{which}", book.name) });
        let acquire = AcquireLease {
            key,
            server: CLIENT.to_owned(),
            started_ms,
            app: "shop".to_owned(),
            // Nothing ends by itself: the clock of a test that is busy is no clock.
            ttl_ms: 3_600_000,
            id: rng.next_u64() | 1,
        };
        // Until it is answered: it may have been granted.
        let asked = ask(&mut at, usize::MAX, |at| {
            let (mut server, acquire) = (servers[at].clone(), acquire.clone());
            async move { server.acquire(acquire).await }
        });
        let outcome = asked.await.unwrap().into_inner().outcome.unwrap();
        if let lease_acquired::Outcome::Granted(lease) = outcome {
            let from = book.now();
            tokio::time::sleep(Duration::from_micros(rng.random_range(1000..8_000))).await;
            book.held.lock().unwrap().push((which, lease.token, from, book.now()));
            let release = ReleaseLeases {
                server: CLIENT.to_owned(),
                started_ms,
                tokens: vec![lease.token],
                ids: Vec::new(),
            };
            let released = ask(&mut at, usize::MAX, |at| {
                let (mut server, release) = (servers[at].clone(), release.clone());
                async move { server.release(release).await }
            });
            released.await.unwrap();
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(1000..5_000))).await;
    }
}

/// Holders one after the other, each with a greater token.
fn holders_are_one(held: &mut [Hold], seed: u64) {
    held.sort_unstable_by_key(|it| (it.0, it.2));
    for pair in held.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let ((_, token, _, to), (which, newer, from, _)) = (pair[0], pair[1]);
        assert!(
            to <= from && token < newer,
            "seed {seed}, lease {which}: {token} to {to}, {newer} from {from}"
        );
    }
}

async fn round(hub: &mut TestHub, seed: u64, faults: &[Fault]) {
    let mut rng = StdRng::seed_from_u64(seed);
    let book = Book {
        start: Instant::now(),
        name: format!("round-{seed}"),
        // A number that was used in a round before would be answered as it was then.
        number: Arc::new(AtomicU64::new(seed * 1_000_000)),
        histories: Arc::default(),
        held: Arc::default(),
    };
    let stop = CancellationToken::new();
    let mut running = Vec::new();
    for me in 0..CACHING {
        let (servers, rng) = ([0, 1, 2].map(|at| hub.caches(at)), StdRng::seed_from_u64(rng.next_u64()));
        running.push(tokio::spawn(cache(me, servers, rng, book.clone(), stop.clone())));
    }
    for me in 0..HOLDING {
        let (servers, rng) = ([0, 1, 2].map(|at| hub.leases(at)), StdRng::seed_from_u64(rng.next_u64()));
        running.push(tokio::spawn(hold(me, servers, rng, book.clone(), stop.clone())));
    }
    for &fault in faults {
        inflict(hub, fault, &mut rng).await;
    }
    // However slow the machine is: a history that says something.
    let enough = async {
        while !book.says_something(faults.len()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, enough).await.expect("the hub answers after its faults");
    stop.cancel();
    for client in running {
        tokio::time::timeout(LIMIT, client).await.expect("a client ends").unwrap();
    }
    agree(hub, seed).await;
    holders_are_one(&mut book.held.lock().unwrap(), seed);
    let histories = std::mem::take(&mut *book.histories.lock().unwrap());
    for (key, history) in histories {
        if let Err(text) = check(&None, history, apply) {
            panic!("key {key}, seed {seed}, faults {faults:?}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_and_leases_are_linearizable_when_servers_fail() {
    let faults = [Fault::LeaderLosesPower, Fault::FollowerMissesALot, Fault::AllLosePower];
    round(&mut hub().await, 21, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_and_leases_are_linearizable_when_the_network_fails() {
    let faults = [Fault::LeaderHeld, Fault::LeaderCut, Fault::LeaderPaused, Fault::HandOver];
    round(&mut hub().await, 22, &faults).await;
}

/// Another seed each time; `COPAL_HISTORIES_SECONDS` and `COPAL_HISTORIES_SEED` make it longer, and a given one.
#[tokio::test(flavor = "multi_thread")]
async fn caches_and_leases_are_linearizable_whatever_fails() {
    let number = |name: &str| std::env::var(name).ok().map(|it| it.parse::<u64>().unwrap());
    let length = Duration::from_secs(number("COPAL_HISTORIES_SECONDS").unwrap_or(0));
    let first = number("COPAL_HISTORIES_SEED").unwrap_or_else(|| rand::random_range(1_000..1_000_000));
    let (mut hub, start) = (hub().await, Instant::now());
    for seed in first.. {
        let mut rng = StdRng::seed_from_u64(seed);
        let faults: Vec<Fault> = (0..2).map(|_| ALL[rng.random_range(0..ALL.len())]).collect();
        round(&mut hub, seed, &faults).await;
        if start.elapsed() >= length {
            return;
        }
    }
}

#[test]
fn two_holders_at_once_are_found() {
    let mut held = vec![(0, 1, 10, 20), (0, 2, 21, 30), (1, 3, 5, 40), (0, 4, 31, 32)];
    holders_are_one(&mut held, 0);
    for wrong in [(0, 5, 15, 16), (0, 1, 50, 60)] {
        let mut held: Vec<_> = held.iter().copied().chain([wrong]).collect();
        assert!(std::panic::catch_unwind(move || holders_are_one(&mut held, 0)).is_err(), "{wrong:?}");
    }
}
