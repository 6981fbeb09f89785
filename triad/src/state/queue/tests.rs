//! The rules of queues; and that whatever happens nothing is lost, and nothing is two servers' at once.

mod bounds;
mod runs;

use super::*;
use crate::state::written::Writer;
use proptest::prelude::*;
use proto::hub::v1::{
    ConsumeQueues, DeliveryDone, DeliveryFailed, DeliveryGivenBack, ManageQueue, PublishMessages,
    PurgeMessages, QueuePolicy, QueueWindow, ReceiveMessages, ReplayMessages, SettleDelivery, manage_queue,
    settle_delivery,
};
use std::collections::{BTreeMap, BTreeSet};

const MAX: u64 = 10_000_000;

/// The queues with what they need, and the number of the next write.
struct World {
    queues: Queues,
    leases: Leases,
    caches: Caches,
    now_ms: u64,
    number: u64,
    consumed: u64,
}

fn message(queue: &str, body: &str) -> QueueMessage {
    QueueMessage {
        queue: queue.into(),
        body: body.to_owned().into(),
        app: "shop".into(),
        ..QueueMessage::default()
    }
}

fn policy(attempts: u32, delay_ms: u64) -> QueuePolicy {
    QueuePolicy {
        timeout_ms: 1000,
        attempts,
        delay_ms,
        factor: 2000,
        max_delay_ms: 60_000,
        dead_to: String::new(),
    }
}

fn done(body: &str) -> settle_delivery::Outcome {
    settle_delivery::Outcome::Done(DeliveryDone { body: body.to_owned().into(), content_type: String::new() })
}

fn failed(why: &str) -> settle_delivery::Outcome {
    settle_delivery::Outcome::Failed(DeliveryFailed { why: why.into(), after_ms: 0 })
}

fn given_back(after_ms: u64) -> settle_delivery::Outcome {
    settle_delivery::Outcome::GivenBack(DeliveryGivenBack { after_ms })
}

impl World {
    fn new() -> Self {
        let (queues, leases, caches) = (Queues::default(), Leases::default(), Caches::default());
        Self { queues, leases, caches, now_ms: 1_000_000, number: 0, consumed: 0 }
    }

    fn write_with(&mut self, server: &str, number: u64, max_bytes: u64, write: Write) -> Outcome {
        let call = WriteQueues {
            server: server.into(),
            started_ms: 1,
            first: number,
            settled: 0,
            writes: vec![QueueWrite { fence: None, write: Some(write) }],
            max_bytes,
            cache_max_bytes: MAX,
        };
        let changes = &mut Vec::new();
        let (leases, caches, jobs) = (&self.leases, &mut self.caches, &mut Jobs::default());
        let mut around = Around { leases, caches, jobs, now_ms: self.now_ms, changes };
        let written = self.queues.write(call, &mut around);
        written.outcomes.into_iter().next().unwrap().outcome.unwrap()
    }

    fn write(&mut self, server: &str, write: Write) -> Outcome {
        self.number += 1;
        self.write_with(server, self.number, MAX, write)
    }

    fn publish(&mut self, message: QueueMessage) -> u64 {
        match self.write("x", Write::Publish(PublishMessages { messages: vec![message] })) {
            Outcome::Published(it) => it.ids[0],
            other => panic!("{other:?}"),
        }
    }

    fn consume(&mut self, server: &str, queue: &str, window: u32, policy: QueuePolicy) {
        self.consumed += 1;
        let (queue, app, policy) = (queue.into(), "shop".into(), Some(policy));
        let call = ConsumeQueues {
            server: server.into(),
            started_ms: 1,
            number: self.consumed,
            windows: vec![QueueWindow { queue, app, window, policy }],
        };
        assert!(!self.queues.consume(call, self.now_ms, &mut Vec::new()).outdated);
    }

    /// What a server has: delivery, message, attempt.
    fn has(&self, server: &str) -> Vec<(u64, u64, u32)> {
        let (deliveries, _) = self.queues.handed(server, (0, 0), (1000, 1 << 30), self.now_ms);
        deliveries.iter().map(|it| (it.number, it.id, it.attempt)).collect()
    }

    fn settle(&mut self, server: &str, delivery: u64, outcome: settle_delivery::Outcome) -> Outcome {
        let settle = SettleDelivery { delivery, outcome: Some(outcome), ..SettleDelivery::default() };
        self.write(server, Write::Settle(settle))
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let expire = ExpireQueues { limit: 10_000, deliveries: true };
        self.queues.expire(&expire, self.now_ms, &mut Vec::new());
    }

    fn manage(&mut self, action: manage_queue::Action) -> u64 {
        let call =
            ManageQueue { queue: "q".into(), action: Some(action), limit: 3, ..ManageQueue::default() };
        let (mut count, mut upto, mut after) = (0, 0, 0);
        loop {
            let call = ManageQueue { upto, after, ..call.clone() };
            let managed = self.queues.manage(call, self.now_ms, &mut Vec::new());
            (count, upto, after) = (count + managed.count, managed.last, managed.after);
            if !managed.more {
                return count;
            }
        }
    }

    fn described(&self, queue: &str) -> proto::hub::v1::QueueDescription {
        self.queues.describe(self.now_ms).find(|it| it.name == queue).unwrap()
    }

    /// A snapshot makes the same, and what apps take is all that there is.
    fn again(&self) {
        let taken: u64 = self.queues.apps.values().map(|it| it.bytes).sum();
        assert_eq!(taken, self.queues.bytes());
        let mut again = Queues::default();
        self.queues.export().for_each(|it| again.restore(it));
        assert_eq!(again, self.queues);
    }
}

#[test]
fn messages_are_handed_out_in_turn_and_by_priority() {
    let mut world = World::new();
    let ids: Vec<u64> = [None, Some(9), Some(0), None, Some(9)]
        .into_iter()
        .map(|priority| world.publish(QueueMessage { priority, ..message("q", "x") }))
        .collect();
    world.consume("a", "q", 2, policy(10, 10));
    assert_eq!(world.has("a").iter().map(|it| it.1).collect::<Vec<_>>(), [ids[1], ids[4]]);
    world.consume("b", "q", 2, policy(10, 10));
    assert_eq!(world.has("b").iter().map(|it| it.1).collect::<Vec<_>>(), [ids[0], ids[3]]);
    let first = world.has("a")[0].0;
    assert_eq!(world.settle("b", first, done("")), Outcome::Over(true), "it is another's");
    assert_eq!(world.settle("a", first, done("")), Outcome::Done(true));
    assert_eq!(world.settle("a", first, done("")), Outcome::Over(true));
    assert_eq!(world.has("a")[1].1, ids[2]);
    world.again();
    for (server, delivery) in ["a", "b"].map(|it| (it, world.has(it))) {
        for (delivery, ..) in delivery {
            world.settle(server, delivery, done(""));
        }
    }
    for _ in 0..6 {
        world.publish(message("q", "x"));
    }
    assert_eq!([world.has("a").len(), world.has("b").len()], [2, 2]);
    assert_eq!(world.described("q").ready, 2);
}

#[test]
fn a_message_is_tried_again_later_and_later_and_dies() {
    let mut world = World::new();
    let id = world.publish(message("q", "x"));
    world.consume("a", "q", 1, policy(3, 100));
    for (attempt, ms) in [(1, 100), (2, 200)] {
        let (delivery, _, found) = world.has("a")[0];
        assert_eq!(found, attempt);
        assert_eq!(world.settle("a", delivery, failed("no luck")), Outcome::Done(true));
        world.pass(ms * 8 / 10);
        assert_eq!(world.has("a"), [], "{attempt}");
        world.pass(ms * 3 / 10);
    }
    world.again();
    let (delivery, ..) = world.has("a")[0];
    world.settle("a", delivery, failed("still no luck"));
    let browsed = BrowseQueue { queue: "q".into(), limit: 5, body_max: 1, ..browse(Which::Dead) };
    let dead = world.queues.browse(&browsed).unwrap();
    assert_eq!((dead[0].id, dead[0].attempts, dead[0].why.as_str()), (id, 3, "still no luck"));
    world.again();
    assert_eq!(world.manage(manage_queue::Action::Replay(ReplayMessages { ids: vec![id + 7] })), 0);
    assert_eq!(world.manage(manage_queue::Action::Replay(ReplayMessages { ids: vec![] })), 1);
    assert_eq!(world.has("a")[0].2, 1, "its attempts begin anew");
    let (delivery, ..) = world.has("a")[0];
    world.settle("a", delivery, settle_delivery::Outcome::Dead("nonsense".into()));
    assert_eq!((world.described("q").dead, world.described("q").counts.unwrap().died), (1, 2));
    assert_eq!(world.manage(manage_queue::Action::Purge(PurgeMessages { dead: true })), 1);
    assert_eq!((world.queues.bytes(), world.described("q").dead), (0, 0));
}

use proto::hub::v1::{BrowseQueue, browse_queue::Which};

fn browse(which: Which) -> BrowseQueue {
    BrowseQueue { which: which.into(), ..BrowseQueue::default() }
}

#[test]
fn what_is_given_back_is_no_attempt_and_what_is_late_is_one() {
    let mut world = World::new();
    world.publish(message("q", "x"));
    world.consume("a", "q", 1, policy(10, 100));
    let (delivery, ..) = world.has("a")[0];
    world.settle("a", delivery, given_back(50));
    assert_eq!(world.has("a"), []);
    world.pass(50);
    let (delivery, _, attempt) = world.has("a")[0];
    assert_eq!(attempt, 1);
    world.settle("a", delivery, settle_delivery::Outcome::ExtendMs(10_000));
    world.pass(14_000);
    assert_eq!(world.has("a")[0].0, delivery);
    world.pass(2_000);
    world.pass(120);
    assert_eq!(world.has("a")[0].2, 2, "a time-out is an attempt");
    assert_eq!(world.settle("a", delivery, done("")), Outcome::Over(true));
}

#[test]
fn a_group_goes_one_at_a_time_and_in_order() {
    let mut world = World::new();
    let grouped = |group: &str| QueueMessage { group: group.into(), ..message("q", "x") };
    let ids: Vec<u64> = ["g", "g", "h", "g"].map(|group| world.publish(grouped(group))).into();
    world.consume("a", "q", 9, policy(10, 100));
    let has = |world: &World| world.has("a").iter().map(|it| it.1).collect::<Vec<_>>();
    assert_eq!(has(&world), [ids[0], ids[2]]);
    world.again();
    let (delivery, ..) = world.has("a")[0];
    world.settle("a", delivery, failed("later"));
    assert_eq!(has(&world), [ids[2]], "those behind it wait for it");
    world.pass(120);
    assert_eq!(has(&world), [ids[2], ids[0]]);
    let (delivery, ..) = world.has("a")[1];
    world.settle("a", delivery, settle_delivery::Outcome::Dead("no".into()));
    assert_eq!(has(&world), [ids[2], ids[1]], "the dead hold nobody up");
    assert_eq!(world.manage(manage_queue::Action::Purge(PurgeMessages { dead: false })), 1);
    world.again();
}

#[test]
fn keys_times_and_delays() {
    let mut world = World::new();
    let keyed = |key: &str| QueueMessage { idempotency_key: key.into(), key_ms: 1000, ..message("q", "x") };
    let unique = || QueueMessage { unique: "u".into(), ..message("q", "x") };
    let first = world.publish(keyed("k"));
    assert_eq!(world.publish(keyed("k")), first);
    assert_ne!(world.publish(keyed("l")), first);
    world.pass(1000);
    assert_ne!(world.publish(keyed("k")), first, "it was forgotten");
    let only = world.publish(unique());
    assert_eq!(world.publish(unique()), only);
    world.consume("a", "q", 99, policy(10, 100));
    let (delivery, ..) = *world.has("a").iter().find(|it| it.1 == only).unwrap();
    assert_eq!(world.publish(unique()), only, "someone has it");
    world.settle("a", delivery, done(""));
    assert_ne!(world.publish(unique()), only);
    let before = world.has("a").len();
    world.publish(QueueMessage { delay_ms: 500, ..message("q", "x") });
    assert_eq!(world.has("a").len(), before);
    world.pass(499);
    assert_eq!((world.has("a").len(), world.described("q").delayed), (before, 1));
    world.pass(1);
    assert_eq!(world.has("a").len(), before + 1);
    world.manage(manage_queue::Action::Pause(true));
    world.publish(QueueMessage { ttl_ms: 100, ..message("q", "x") });
    assert_eq!(world.described("q").ready, 1);
    world.pass(100);
    assert_eq!((world.described("q").ready, world.described("q").counts.unwrap().expired), (0, 1));
    world.publish(message("q", "x"));
    assert_eq!(world.has("a").len(), before + 1);
    world.manage(manage_queue::Action::Pause(false));
    assert_eq!(world.has("a").len(), before + 2);
    world.again();
}

#[test]
fn who_asks_is_answered_and_no_other_process_of_the_server() {
    let mut world = World::new();
    let ask = || QueueMessage { wait_ms: 1000, ..message("q", "?") };
    let replies = |world: &World| world.queues.handed("x", (0, 0), (9, 9999), world.now_ms).1;
    let id = world.publish(ask());
    world.consume("a", "q", 9, policy(10, 100));
    let (delivery, ..) = world.has("a")[0];
    world.settle("a", delivery, done("42"));
    let reply = replies(&world).remove(0);
    assert_eq!(reply.id, id);
    assert!(matches!(reply.outcome, Some(message_reply::Outcome::Done(it)) if it.body == "42"));
    world.again();
    world.pass(1000);
    assert_eq!((replies(&world).len(), world.queues.bytes()), (0, 0));
    world.publish(ask());
    let (delivery, ..) = world.has("a")[0];
    world.settle("a", delivery, settle_delivery::Outcome::Dead("no idea".into()));
    assert!(
        matches!(replies(&world).remove(0).outcome, Some(message_reply::Outcome::Failed(it)) if it == "no idea")
    );
    world.publish(ask());
    let (delivery, ..) = world.has("a")[0];
    world.queues.follows("x", 2, world.now_ms, &mut Vec::new());
    world.settle("a", delivery, done("43"));
    assert_eq!(replies(&world), []);
}

#[test]
fn who_asks_for_messages_gets_them_together_or_as_soon_as_there_is_one() {
    let mut world = World::new();
    let receive = |id, max, wait_ms| {
        let (queue, app) = ("q".to_owned(), "shop".to_owned());
        Write::Receive(ReceiveMessages { queue, app, id, max, wait_ms, timeout_ms: 0 })
    };
    for _ in 0..3 {
        world.publish(message("q", "x"));
    }
    assert_eq!(world.write("a", receive(1, 2, 0)), Outcome::Receiving(2));
    assert_eq!(world.write("a", receive(2, 9, 0)), Outcome::Receiving(1));
    assert_eq!(world.write("a", receive(3, 9, 0)), Outcome::Receiving(0));
    for (id, wait_ms) in [(4, 1000), (5, 1000), (6, 10)] {
        assert_eq!(world.write("a", receive(id, 9, wait_ms)), Outcome::Receiving(0));
    }
    world.again();
    world.pass(10);
    world.write("a", Write::StopReceiving(5));
    let two = Write::Publish(PublishMessages { messages: vec![message("q", "x"), message("q", "y")] });
    world.write("x", two);
    let (deliveries, _) = world.queues.handed("a", (0, 0), (99, 9999), world.now_ms);
    let found: Vec<_> = deliveries.iter().map(|it| (it.receive, it.of)).collect();
    assert_eq!(found, [(1, 2), (1, 2), (2, 1), (4, 1)]);
    assert_eq!(world.described("q").ready, 1);
}

#[test]
fn what_a_dead_server_had_is_others_at_once() {
    let mut world = World::new();
    world.consume("a", "q", 2, policy(2, 100));
    for _ in 0..2 {
        world.publish(message("q", "x"));
    }
    world.consume("b", "q", 9, policy(2, 100));
    let delivery = world.has("a")[0].0;
    world.queues.release("a", world.now_ms, &mut Vec::new());
    assert_eq!((world.has("a").len(), world.has("b").len()), (0, 2));
    assert_eq!(world.settle("a", delivery, done("")), Outcome::Over(true));
    assert!(world.has("b").iter().all(|it| it.2 == 2));
    world.again();
    world.queues.release("b", world.now_ms, &mut Vec::new());
    assert_eq!(world.described("q").dead, 2, "what takes servers down does not go round");
}

#[test]
fn a_settlement_is_whole_or_not_at_all() {
    use proto::hub::v1::{CacheIncrement, CachePut, CacheValue, CacheWrite, cache_write};
    let mut world = World::new();
    world.publish(message("q", "x"));
    world.consume("a", "q", 1, policy(10, 100));
    let (delivery, ..) = world.has("a")[0];
    let put = |value: &str| {
        let value = Some(CacheValue { value: value.to_owned().into(), ..CacheValue::default() });
        cache_write::Write::Put(CachePut { key: "k".into(), value, condition: None })
    };
    let increment =
        cache_write::Write::Increment(CacheIncrement { key: "k".into(), by: 1, ..CacheIncrement::default() });
    let cache = |write| CacheWrite { cache: "c".into(), fence: None, write: Some(write) };
    let settle = |caches: Vec<CacheWrite>| {
        let publish = vec![message("next", "y")];
        Write::Settle(SettleDelivery { delivery, outcome: Some(done("")), publish, caches, advance: None })
    };
    let refused = world.write("a", settle(vec![cache(put("no number")), cache(increment.clone())]));
    assert!(matches!(&refused, Outcome::Refused(why) if why.contains("cache c")), "{refused:?}");
    assert!(world.caches.get("c", "k", world.now_ms).is_none());
    assert_eq!((world.queues.all.len(), world.has("a").len()), (1, 1));
    assert_eq!(world.write("a", settle(vec![cache(put("7")), cache(increment)])), Outcome::Done(true));
    let value = world.caches.get("c", "k", world.now_ms).unwrap().value.unwrap().value;
    assert_eq!((&value[..], world.has("a").len(), world.described("next").ready), (&b"8"[..], 0, 1));
}

#[test]
fn a_write_that_is_sent_again_counts_once() {
    let mut world = World::new();
    let publish = || Write::Publish(PublishMessages { messages: vec![message("q", "x")] });
    let first = world.write_with("x", 5, MAX, publish());
    assert_eq!(world.write_with("x", 5, MAX, publish()), first);
    assert_eq!(world.described("q").ready, 1);
    world.consume("a", "q", 1, policy(10, 100));
    let (delivery, ..) = world.has("a")[0];
    let settle = SettleDelivery { delivery, outcome: Some(done("")), ..SettleDelivery::default() };
    for _ in 0..2 {
        assert_eq!(world.write_with("a", 1, MAX, Write::Settle(settle.clone())), Outcome::Done(true));
    }
    world.again();
}

#[derive(Debug, Clone)]
enum Step {
    PublishWithKey(u8),
    Publish { group: u8, priority: u8, ttl_ms: u64, delay_ms: u64, unique: u8 },
    Consume(u8, u32),
    Receive(u8, u32),
    Settle(u8, usize, u8),
    Pass(u64),
    Release(u8),
    Manage(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![3 => Just(0_u64), 1 => 1..400_u64];
    prop_oneof![
        6 => (0..3_u8, 0..10_u8, times.clone(), times, 0..4_u8).prop_map(
            |(group, priority, ttl_ms, delay_ms, unique)| Step::Publish { group, priority, ttl_ms, delay_ms, unique }
        ),
        1 => (0..3_u8).prop_map(Step::PublishWithKey),
        2 => (0..3_u8, 0..4_u32).prop_map(|(server, window)| Step::Consume(server, window)),
        2 => (0..3_u8, 1..4_u32).prop_map(|(server, max)| Step::Receive(server, max)),
        6 => (0..3_u8, 0..5_usize, 0..6_u8).prop_map(|(server, which, how)| Step::Settle(server, which, how)),
        3 => (1..3000_u64).prop_map(Step::Pass),
        1 => (0..3_u8).prop_map(Step::Release),
        1 => (0..5_u8).prop_map(Step::Manage),
    ]
}

proptest! {
    /// Whatever happens: nothing is lost, nothing is two servers' at once, a group goes in order, and a snapshot changes nothing.
    #[test]
    fn nothing_is_lost_and_nothing_is_twos(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new();
        let mut receives = 0;
        let mut groups = BTreeMap::<u8, u64>::new();
        let mut of_group = BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish { group, priority, ttl_ms, delay_ms, unique } => {
                    let text = |it: u8| if it == 0 { String::new() } else { it.to_string() };
                    let id = world.publish(QueueMessage {
                        group: text(group),
                        unique: text(unique),
                        priority: Some(priority.into()),
                        ttl_ms,
                        delay_ms,
                        wait_ms: ttl_ms,
                        ..message("q", "body")
                    });
                    of_group.entry(id).or_insert(group);
                }
                Step::PublishWithKey(key) => {
                    let idempotency_key = format!("key{key}");
                    world.publish(QueueMessage { idempotency_key, key_ms: 500, ..message("q", "") });
                }
                Step::Consume(server, window) => world.consume(&server.to_string(), "q", window, policy(3, 50)),
                Step::Receive(server, max) => {
                    receives += 1;
                    let (queue, app) = ("q".to_owned(), "shop".to_owned());
                    let receive = ReceiveMessages { queue, app, id: receives, max, wait_ms: 300, timeout_ms: 0 };
                    world.write(&server.to_string(), Write::Receive(receive));
                }
                Step::Settle(server, which, how) => {
                    let server = server.to_string();
                    let Some((delivery, id, _)) = world.has(&server).get(which).copied() else { continue };
                    let outcome = match how {
                        0..3 => done("reply"),
                        3 => failed("why"),
                        4 => given_back(20),
                        _ => settle_delivery::Outcome::Dead("why".into()),
                    };
                    prop_assert_eq!(world.settle(&server, delivery, outcome), Outcome::Done(true));
                    if how < 3 && let Some(group) = of_group.get(&id).filter(|it| **it != 0) {
                        let last = groups.insert(*group, id).unwrap_or_default();
                        // One that came back from the dead is behind those after it.
                        prop_assert!(last < id || world.described("q").counts.unwrap().died > 0);
                    }
                }
                Step::Pass(ms) => world.pass(ms),
                Step::Release(server) => world.queues.release(&server.to_string(), world.now_ms, &mut Vec::new()),
                Step::Manage(what) => {
                    world.manage(match what {
                        0 | 1 => manage_queue::Action::Pause(what == 0),
                        2 | 3 => manage_queue::Action::Purge(PurgeMessages { dead: what == 2 }),
                        _ => manage_queue::Action::Replay(ReplayMessages { ids: vec![] }),
                    });
                }
            }
            if let Some(q) = world.queues.describe(world.now_ms).find(|it| it.name == "q") {
                let counts = q.counts.unwrap();
                let there = q.ready + q.delayed + q.waiting + q.assigned + q.dead;
                prop_assert_eq!(counts.published, counts.settled + counts.expired + counts.purged + there);
                let has: Vec<u64> = ["0", "1", "2"].iter().flat_map(|it| world.has(it)).map(|it| it.1).collect();
                prop_assert_eq!(has.len() as u64, q.assigned);
                prop_assert_eq!(has.iter().collect::<BTreeSet<_>>().len(), has.len());
                let busy: Vec<u8> = has.iter().filter_map(|id| of_group.get(id)).filter(|it| **it != 0).copied().collect();
                prop_assert_eq!(busy.iter().collect::<BTreeSet<_>>().len(), busy.len(), "one of a group");
                let windows: u32 = q.consumers.iter().map(|it| it.assigned).sum();
                prop_assert!(u64::from(windows) <= q.assigned);
                let may = !q.paused && q.consumers.iter().any(|it| it.assigned < it.window);
                prop_assert!(q.ready == 0 || !may, "what is ready is handed out");
            }
            world.again();
        }
        // Nothing that is not there takes room.
        world.manage(manage_queue::Action::Purge(PurgeMessages { dead: false }));
        for server in ["0", "1", "2"] {
            world.consume(server, "other", 0, policy(1, 1));
            for (delivery, ..) in world.has(server) {
                world.settle(server, delivery, done(""));
            }
        }
        world.manage(manage_queue::Action::Purge(PurgeMessages { dead: false }));
        world.manage(manage_queue::Action::Purge(PurgeMessages { dead: true }));
        world.pass(10_000);
        prop_assert_eq!(world.queues.bytes(), 0);
        prop_assert!(world.queues.assigned.is_empty() && world.queues.deadlines.is_empty());
        prop_assert!(world.queues.ends.is_empty() && world.queues.by_due.is_empty());
        prop_assert!(world.queues.apps.values().all(|it| it.bytes == 0 && it.receives == 0));
    }
}

#[test]
fn who_has_written_is_remembered_in_a_snapshot() {
    let mut queues = Queues::default();
    let outcomes = [(3_u64, QueueOutcome { outcome: Some(Outcome::Done(true)) })].into_iter().collect();
    queues.written.restore("a".into(), Writer { started_ms: 1, settled: 2, outcomes, used: 4 });
    let mut again = Queues::default();
    queues.export().for_each(|it| again.restore(it));
    assert_eq!(again, queues);
}
