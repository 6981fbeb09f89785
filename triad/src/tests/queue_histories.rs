//! Histories of a queue that several servers publish to and consume while hub servers and the network fail: what was acknowledged is settled, dead or there;
//! a message is never handed out after its acknowledgement, nor to two at once; a group goes in order.

use super::{
    harness::{LIMIT, TestHub, until},
    histories::{ALL, Fault, agree, hub, inflict},
    network::CLIENT,
    service_histories::ask,
};
use crate::command::QUEUES;
use proto::hub::v1::{
    ConsumeQueues, DeliverMessages, Delivery, DeliveryDone, DeliveryFailed, DeliveryGivenBack,
    DescribeQueues, PublishMessages, QueueDescription, QueueMessage, QueuePolicy, QueueWindow, QueueWrite,
    SettleDelivery, WriteQueues, queue_outcome::Outcome, queue_write::Write, queues_client::QueuesClient,
    settle_delivery::Outcome as Settled,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

/// Servers that consume.
const CONSUMERS: [&str; 3] = ["app-50", "app-51", "app-52"];
const PUBLISHERS: usize = 3;

type Servers = [QueuesClient<Channel>; 3];

/// What all clients share.
#[derive(Debug, Clone)]
struct Book {
    queue: String,
    seed: u64,
    number: Arc<AtomicU64>,
    /// Acknowledged, by id.
    published: Arc<Mutex<BTreeSet<u64>>>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Who has which message.
    held: BTreeMap<u64, usize>,
    /// The acknowledgement was answered.
    done: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    deliveries: u64,
    /// The last message of each group that was handed out.
    groups: BTreeMap<String, u64>,
}

impl Book {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// What was acknowledged is done or dead, and nothing else is.
    fn adds_up(&self, queue: &QueueDescription, faults: &str) {
        let (published, known, seed) = (self.published.lock().unwrap(), self.known(), self.seed);
        let counts = queue.counts.unwrap();
        assert_eq!(counts.published, counts.settled + queue.dead, "seed {seed}, {faults}");
        let ended = (known.done.len() as u64, known.dead.len() as u64);
        assert_eq!((counts.settled, queue.dead), ended, "seed {seed}, {faults}");
        let lost = published.iter().filter(|id| !known.done.contains(id) && !known.dead.contains(id));
        let lost: Vec<_> = lost.collect();
        assert!(lost.is_empty(), "seed {seed}, {faults}: {lost:?} were acknowledged and are nowhere");
        assert_eq!(
            counts.delivered, known.deliveries,
            "seed {seed}: each was handed out as often as it was seen"
        );
    }

    /// A consumer was handed a message.
    fn delivered(&self, me: usize, delivery: &Delivery) {
        let (mut known, id, seed) = (self.known(), delivery.id, self.seed);
        known.deliveries += 1;
        assert!(!known.done.contains(&id), "seed {seed}: {id} was handed out after its acknowledgement");
        assert!(!known.dead.contains(&id), "seed {seed}: {id} was handed out after its death");
        let holder = known.held.insert(id, me);
        assert_eq!(holder, None, "seed {seed}: {id} is {me}'s as well");
        let group = &delivery.message.as_ref().unwrap().group;
        if !group.is_empty() {
            let last = known.groups.insert(group.clone(), id).unwrap_or(0);
            assert!(last <= id, "seed {seed}: of the group {group} {id} comes after {last}");
        }
    }
}

async fn write(
    servers: &Servers,
    me: &str,
    started_ms: u64,
    at: &mut usize,
    book: &Book,
    write: Write,
) -> Outcome {
    let first = book.number.fetch_add(1, Ordering::SeqCst) + 1;
    let writes = vec![QueueWrite { fence: None, write: Some(write) }];
    let server = me.to_owned();
    let call =
        WriteQueues { server, started_ms, first, settled: 0, writes, max_bytes: 0, cache_max_bytes: 0 };
    // The same call until it is answered.
    let asked = ask(at, usize::MAX, |at| {
        let (mut server, call) = (servers[at].clone(), call.clone());
        async move { server.write(call).await }
    });
    let written = asked.await.unwrap().into_inner();
    written.outcomes.into_iter().next().unwrap().outcome.unwrap()
}

async fn publish(me: usize, servers: Servers, mut rng: StdRng, book: Book, stop: CancellationToken) {
    let mut at = me % 3;
    while !stop.is_cancelled() {
        let group = if rng.random_range(0..3) == 0 {
            format!("group-{}", rng.random_range(0..2))
        } else {
            String::new()
        };
        let message = QueueMessage {
            queue: book.queue.clone(),
            body: vec![b'x'; rng.random_range(0..200)].into(),
            app: "shop".into(),
            group,
            delay_ms: if rng.random_range(0..10) == 0 { 30 } else { 0 },
            priority: Some(rng.random_range(0..10)),
            ..QueueMessage::default()
        };
        let publish = Write::Publish(PublishMessages { messages: vec![message] });
        match write(&servers, CLIENT, 1, &mut at, &book, publish).await {
            Outcome::Published(published) => book.published.lock().unwrap().extend(published.ids),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(500..5_000))).await;
    }
}

/// Consumes until the book says that it is over.
async fn consume(me: usize, servers: Servers, mut rng: StdRng, book: Book, over: CancellationToken) {
    let (server, started_ms) = (CONSUMERS[me].to_owned(), book.seed + 10);
    let (mut at, mut number, mut after) = (me, 0, 0);
    while !over.is_cancelled() {
        number += 1;
        let policy = QueuePolicy {
            timeout_ms: 3_600_000,
            attempts: 4,
            delay_ms: 10,
            factor: 1000,
            max_delay_ms: 50,
            dead_to: String::new(),
        };
        let (queue, app, policy) = (book.queue.clone(), "shop".to_owned(), Some(policy));
        let windows = vec![QueueWindow { queue, app, window: 3, policy }];
        let consume = ConsumeQueues { server: server.clone(), started_ms, number, windows };
        let asked = ask(&mut at, usize::MAX, |at| {
            let (mut server, consume) = (servers[at].clone(), consume.clone());
            async move { server.consume(consume).await }
        });
        assert!(!asked.await.unwrap().into_inner().outdated);
        let call =
            DeliverMessages { server: server.clone(), started_ms, after_delivery: after, after_reply: 0 };
        let begun = tokio::time::timeout(Duration::from_millis(300), servers[at].clone().deliver(call)).await;
        let Ok(Ok(stream)) = begun else { continue };
        let mut stream = stream.into_inner();
        loop {
            let next = tokio::time::timeout(Duration::from_millis(700), stream.message());
            let next = tokio::select! {
                next = next => next,
                () = over.cancelled() => return,
            };
            let Ok(Ok(Some(delivered))) = next else { break };
            for delivery in delivered.deliveries {
                after = delivery.number;
                book.delivered(me, &delivery);
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
                settle(me, (&servers, &mut at), &mut rng, &book, (&server, started_ms), &delivery).await;
            }
        }
        at = (at + 1) % 3;
    }
}

async fn settle(
    me: usize,
    (servers, at): (&Servers, &mut usize),
    rng: &mut StdRng,
    book: &Book,
    (server, started_ms): (&str, u64),
    delivery: &Delivery,
) {
    let outcome = match rng.random_range(0..20) {
        0 | 1 => Settled::Failed(DeliveryFailed { why: "no luck".into(), after_ms: 0 }),
        2 => Settled::GivenBack(DeliveryGivenBack { after_ms: 5 }),
        3 => Settled::Dead("nonsense".into()),
        _ => Settled::Done(DeliveryDone::default()),
    };
    let is_done = matches!(outcome, Settled::Done(_));
    let dies =
        matches!(outcome, Settled::Dead(_)) || matches!(outcome, Settled::Failed(_)) && delivery.attempt >= 4;
    // From when it is asked for on another may have it.
    assert_eq!(book.known().held.remove(&delivery.id), Some(me));
    let settle =
        SettleDelivery { delivery: delivery.number, outcome: Some(outcome), ..SettleDelivery::default() };
    let outcome = write(servers, server, started_ms, at, book, Write::Settle(settle)).await;
    assert_eq!(outcome, Outcome::Done(true), "seed {}: {delivery:?}", book.seed);
    let mut known = book.known();
    if is_done {
        known.done.insert(delivery.id);
    }
    if dies {
        known.dead.insert(delivery.id);
    }
}

async fn described(servers: &Servers, queue: &str) -> QueueDescription {
    let mut at = 0;
    let asked = ask(&mut at, usize::MAX, |at| {
        let mut server = servers[at].clone();
        async move { server.describe(DescribeQueues {}).await }
    });
    asked.await.unwrap().into_inner().queues.into_iter().find(|it| it.name == queue).unwrap()
}

type Clients = Vec<tokio::task::JoinHandle<()>>;

fn clients(
    hub: &TestHub,
    book: &Book,
    rng: &mut StdRng,
    (stop, over): (&CancellationToken, &CancellationToken),
) -> (Clients, Clients) {
    let mut seeded = || StdRng::seed_from_u64(rng.next_u64());
    let publishing = (0..PUBLISHERS).map(|me| {
        let servers = [0, 1, 2].map(|at| hub.queues(at, CLIENT));
        tokio::spawn(publish(me, servers, seeded(), book.clone(), stop.clone()))
    });
    let publishing = publishing.collect();
    let consuming = CONSUMERS.iter().enumerate().map(|(me, name)| {
        let servers = [0, 1, 2].map(|at| hub.queues(at, name));
        tokio::spawn(consume(me, servers, seeded(), book.clone(), over.clone()))
    });
    (publishing, consuming.collect())
}

async fn round(hub: &mut TestHub, seed: u64, faults: &[Fault]) {
    let inflicted = async |hub: &mut TestHub, rng: &mut StdRng, _: &Book| {
        for &fault in faults {
            inflict(hub, fault, rng).await;
        }
    };
    history(hub, seed, (faults.len(), &format!("faults {faults:?}")), inflicted).await;
}

/// Servers publish and consume while so many things happen to the hub.
async fn history(
    hub: &mut TestHub,
    seed: u64,
    (count, what): (usize, &str),
    happens: impl AsyncFnOnce(&mut TestHub, &mut StdRng, &Book),
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let book = Book {
        queue: format!("round-{seed}"),
        seed,
        // A number that was used in a round before would be answered as it was then.
        number: Arc::new(AtomicU64::new(seed * 1_000_000)),
        published: Arc::default(),
        known: Arc::default(),
    };
    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    let (publishing, consuming) = clients(hub, &book, &mut rng, (&stop, &over));
    happens(hub, &mut rng, &book).await;
    // However slow the machine is: a history that says something.
    let enough = async {
        while book.known().done.len() < 30 * count
            && !consuming.iter().any(tokio::task::JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let enough = tokio::time::timeout(LIMIT, enough).await;
    stop.cancel();
    for publisher in publishing {
        tokio::time::timeout(LIMIT, publisher).await.expect("a publisher ends").unwrap();
    }
    let servers = [0, 1, 2].map(|at| hub.queues(at, CLIENT));
    let drained = async {
        loop {
            let queue = described(&servers, &book.queue).await;
            let is_empty = queue.ready + queue.delayed + queue.assigned + queue.waiting == 0;
            if is_empty || consuming.iter().any(tokio::task::JoinHandle::is_finished) {
                return queue;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let queue = tokio::time::timeout(LIMIT, drained).await;
    over.cancel();
    for consumer in consuming {
        tokio::time::timeout(LIMIT, consumer).await.expect("a consumer ends").unwrap();
    }
    enough.expect("messages are handled after the hub's faults");
    let queue = queue.expect("the queue is empty in the end");
    agree(hub, seed).await;
    book.adds_up(&queue, what);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_queue_is_lost_when_servers_fail() {
    let faults = [Fault::LeaderLosesPower, Fault::FollowerMissesALot, Fault::AllLosePower];
    round(&mut hub().await, 31, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_queue_is_lost_when_the_network_fails() {
    let faults = [Fault::LeaderHeld, Fault::LeaderCut, Fault::LeaderPaused, Fault::HandOver];
    round(&mut hub().await, 32, &faults).await;
}

/// One server after the other is stopped, and started with this version: queues wait for the last one that does not read their commands, and go on
/// while the others are away.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_upgraded_server_by_server_while_queues_are_used() {
    let mut hub = TestHub::new(3);
    (hub.old, hub.old_reads) = (Some(2), QUEUES - 1);
    hub.start_all().await;
    hub.make_leader(0).await;
    let message = QueueMessage { queue: "q".into(), app: "shop".into(), ..QueueMessage::default() };
    let publish = Write::Publish(PublishMessages { messages: vec![message] });
    let writes = vec![QueueWrite { fence: None, write: Some(publish) }];
    let call =
        WriteQueues { server: CLIENT.to_owned(), started_ms: 1, first: 1, writes, ..WriteQueues::default() };
    let refused = hub.queues(0, CLIENT).write(call).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("app-2 reads commands up to version"), "{refused}");
    let upgraded = async |hub: &mut TestHub, _: &mut StdRng, book: &Book| {
        assert_eq!(book.known().done.len(), 0, "nothing is done before all read it");
        for at in [2, 1, 0] {
            hub.kill(at).await;
            hub.old = None;
            hub.start(at).await;
            hub.ready(at).await;
            let before = book.known().done.len();
            until("messages are handled", || book.known().done.len() > before).await;
        }
    };
    history(&mut hub, 33, (3, "an upgrade"), upgraded).await;
}

/// Another seed each time; `COPAL_HISTORIES_SECONDS` and `COPAL_HISTORIES_SEED` make it longer, and a given one.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_queue_is_lost_whatever_fails() {
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
