//! Runs of pipelines: they go from step to step, in parts and together again, and end once.

mod hostile;
mod operators;

use super::*;
use proto::hub::v1::run_end::End;
use proto::hub::v1::{Advance, BeginRun, RunPart, advance::To};

/// An hour.
const RESULT_MS: u64 = 3_600_000;

fn queue(step: &str) -> String {
    format!("pipe:p:{step}")
}

fn to(step: &str) -> Advance {
    Advance { to: Some(To::Queue(queue(step))), parts: Vec::new() }
}

fn parts(step: &str, bodies: &[&str]) -> Advance {
    let part = |it: &&str| RunPart { body: (*it).to_owned().into(), content_type: "application/json".into() };
    Advance { parts: bodies.iter().map(part).collect(), ..to(step) }
}

fn join(step: &str) -> Advance {
    Advance { to: Some(To::Join(queue(step))), parts: Vec::new() }
}

fn halt() -> Advance {
    Advance { to: Some(To::Halt(true)), parts: Vec::new() }
}

/// Without the message's number.
fn reason(why: &str) -> String {
    match why.split_once(", message ") {
        Some((step, rest)) => format!("failed {step}: {}", rest.split_once(": ").unwrap().1),
        None => format!("failed {why}"),
    }
}

fn text(end: &End) -> String {
    match end {
        End::Done(it) => format!("done {}", String::from_utf8_lossy(&it.body)),
        End::Halted(it) => format!("halted {}", String::from_utf8_lossy(&it.body)),
        End::Failed(why) => reason(why),
    }
}

impl World {
    /// Steps `a`, `b`, `c` and `on-error` are handled by the server `s`, which tries twice.
    fn with_steps(attempts: u32, dead_to: &str) -> Self {
        let mut world = Self::new();
        world.consumed += 1;
        let windows = ["a", "b", "c", "on-error"].map(|step| QueueWindow {
            queue: queue(step),
            app: "shop".into(),
            window: 100,
            policy: Some(QueuePolicy {
                dead_to: if step == "on-error" { String::new() } else { dead_to.into() },
                ..policy(attempts, 50)
            }),
        });
        let call = ConsumeQueues { server: "s".into(), started_ms: 1, number: 1, windows: windows.into() };
        world.queues.consume(call, world.now_ms, &mut Vec::new());
        world
    }

    fn begin(&mut self, message: QueueMessage) -> Outcome {
        let begin = BeginRun { pipeline: "p".into(), message: Some(message), result_ms: RESULT_MS };
        self.write("s", Write::BeginRun(begin))
    }

    fn run(&mut self, body: &str, wait_ms: u64) -> u64 {
        match self.begin(QueueMessage { wait_ms, ask: 7, ..message(&queue("a"), body) }) {
            Outcome::Published(it) => it.ids[0],
            other => panic!("{other:?}"),
        }
    }

    /// Messages that are being handled: the step, the body, and the delivery.
    fn at(&self) -> Vec<(String, String, u64)> {
        let (deliveries, _) = self.queues.handed("s", (0, 0), (1000, 1 << 30), self.now_ms);
        let told = deliveries.into_iter().map(|it| {
            let message = it.message.unwrap();
            let step = message.queue.rsplit(':').next().unwrap().to_owned();
            (step, String::from_utf8_lossy(&message.body).into_owned(), it.number)
        });
        told.collect()
    }

    /// The same without deliveries.
    fn bodies(&self) -> Vec<String> {
        self.at().into_iter().map(|(step, body, _)| format!("{step} {body}")).collect()
    }

    /// A message is handled: the first one with this body.
    fn handled(&mut self, body: &str, reply: &str, advance: Option<Advance>) -> Outcome {
        let found = self.at().into_iter().find(|it| it.1 == body);
        let delivery = found.unwrap_or_else(|| panic!("{body} is not there: {:?}", self.bodies())).2;
        let outcome = settle_delivery::Outcome::Done(DeliveryDone {
            body: reply.to_owned().into(),
            content_type: "application/json".into(),
        });
        let settle =
            SettleDelivery { delivery, outcome: Some(outcome), advance, ..SettleDelivery::default() };
        let came = self.write("s", Write::Settle(settle));
        self.again();
        came
    }

    fn dies(&mut self, body: &str) {
        let delivery = self.at().into_iter().find(|it| it.1 == body).unwrap().2;
        self.settle("s", delivery, settle_delivery::Outcome::Dead("no stock".into()));
        self.again();
    }

    fn end(&self, run: u64) -> Option<String> {
        let described = self.queues.run("p", run);
        assert!(!described.unknown, "{run}");
        described.end.map(|it| text(&it.end.unwrap()))
    }

    fn replies(&self) -> Vec<String> {
        let (_, replies) = self.queues.handed("s", (0, 0), (1000, 1 << 30), self.now_ms);
        let told = replies.into_iter().map(|it| match it.outcome.unwrap() {
            message_reply::Outcome::Done(it) => format!("done {}", String::from_utf8_lossy(&it.body)),
            message_reply::Outcome::Halted(it) => format!("halted {}", String::from_utf8_lossy(&it.body)),
            message_reply::Outcome::Failed(why) => reason(&why),
        });
        told.collect()
    }

    fn replay(&mut self, step: &str) -> u64 {
        let call = ManageQueue {
            queue: queue(step),
            action: Some(manage_queue::Action::Replay(ReplayMessages { ids: vec![] })),
            limit: 100,
            ..ManageQueue::default()
        };
        let count = self.queues.manage(call, self.now_ms, &mut Vec::new()).count;
        self.again();
        count
    }
}

#[test]
fn a_run_goes_from_step_to_step_and_ends_once() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 5_000);
    assert_eq!(world.bodies(), ["a 1"]);
    world.handled("1", "2", Some(to("b")));
    assert_eq!((world.bodies(), world.end(run)), (vec!["b 2".to_owned()], None));
    world.handled("2", "3", Some(to("c")));
    assert_eq!((world.handled("3", "4", None), world.bodies()), (Outcome::Done(true), vec![]));
    assert_eq!((world.end(run).unwrap(), world.replies()), ("done 4".into(), vec!["done 4".to_owned()]));
    assert!(world.queues.run("q", run).unknown, "it is not another pipeline's");
    // What has come of it is kept for an hour.
    world.pass(RESULT_MS - 1);
    assert_eq!(world.end(run).unwrap(), "done 4");
    world.pass(1);
    assert!(world.queues.run("p", run).unknown);
    assert_eq!((world.queues.bytes(), world.queues.ends.len()), (0, 0));
}

#[test]
fn a_run_that_was_begun_before_is_not_begun_twice() {
    let mut world = World::with_steps(2, "");
    let keyed = || QueueMessage { idempotency_key: "k".into(), key_ms: 60_000, ..message(&queue("a"), "1") };
    let Outcome::Published(first) = world.begin(keyed()) else { panic!() };
    let Outcome::Published(second) = world.begin(keyed()) else { panic!() };
    assert_eq!((second.ids, second.repeated), (first.ids, vec![0]));
    assert_eq!((world.bodies().len(), world.queues.runs.len()), (1, 1));
    world.again();
}

#[test]
fn parts_are_joined_in_their_order() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 0);
    world.handled("1", "", Some(parts("b", &["10", "20", "30"])));
    assert_eq!(world.bodies(), ["b 10", "b 20", "b 30"]);
    // A part may be fanned out itself.
    world.handled("20", "", Some(parts("b", &["21", "22"])));
    world.handled("30", "{\"z\":3}", None);
    world.handled("10", "", None);
    world.handled("22", "\"y\"", None);
    assert_eq!((world.bodies(), world.end(run)), (vec!["b 21".to_owned()], None));
    world.handled("21", "\"x\"", None);
    // The part that was fanned out is one again.
    assert_eq!(world.end(run).unwrap(), "done [null,[\"x\",\"y\"],{\"z\":3}]");
    assert!(world.queues.joins.is_empty() && world.queues.joined.is_empty());
    // One whose parts are joined goes on at that step, as one.
    let run = world.run("1", 0);
    world.handled("1", "", Some(parts("b", &["10", "20"])));
    world.handled("20", "", Some(parts("a", &["21"])));
    world.handled("21", "22", Some(join("b")));
    assert_eq!(world.bodies(), ["b 10", "b [22]"]);
    world.handled("[22]", "23", Some(join("c")));
    world.handled("10", "11", Some(join("c")));
    world.handled("[11,23]", "34", None);
    assert_eq!(world.end(run).unwrap(), "done 34");
}

#[test]
fn a_step_that_joins_has_all_parts_as_its_message() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 0);
    world.handled("1", "", Some(parts("b", &["10", "20"])));
    world.handled("10", "11", Some(join("c")));
    world.handled("20", "21", Some(join("c")));
    assert_eq!(world.bodies(), ["c [11,21]"]);
    world.handled("[11,21]", "32", None);
    assert_eq!(world.end(run).unwrap(), "done 32");
    // Without parts there is one.
    let run = world.run("1", 0);
    world.handled("1", "7", Some(join("c")));
    world.handled("[7]", "8", None);
    assert_eq!(world.end(run).unwrap(), "done 8");
}

#[test]
fn what_is_no_json_is_a_text_or_bytes_in_a_list() {
    let part = |body: &[u8], kind: &str| RunPart { body: body.to_vec().into(), content_type: kind.into() };
    let all = [
        part(b"{\"a\":1}", "application/json"),
        part(b"say \"hi\"\n", "text/plain"),
        part(b"", "text/plain"),
        part(&[0xff, 0xfe], "application/octet-stream"),
    ];
    let list = run::list(all.iter());
    assert_eq!(&list.body[..], br#"[{"a":1},"say \"hi\"\n",null,{"base64":"//4="}]"#);
}

#[test]
fn a_halt_ends_all_of_a_run() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 5_000);
    world.handled("1", "", Some(parts("b", &["10", "20", "30"])));
    world.settle("s", world.at()[2].2, given_back(100));
    world.handled("10", "\"enough\"", Some(halt()));
    assert_eq!(
        (world.end(run).unwrap(), world.replies()[0].clone()),
        ("halted \"enough\"".into(), "halted \"enough\"".into())
    );
    // One that is being handled may be settled: nothing comes of it. One that waited is dropped.
    assert_eq!(world.handled("20", "21", Some(to("c"))), Outcome::Done(true));
    world.pass(200);
    assert_eq!(world.bodies(), [""; 0]);
    assert_eq!(world.described(&queue("b")).counts.unwrap().purged, 1);
    assert_eq!(world.end(run).unwrap(), "halted \"enough\"");
    world.again();
}

#[test]
fn a_run_fails_with_a_dead_message_and_goes_on_when_it_is_replayed() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 5_000);
    world.handled("1", "", Some(parts("b", &["10", "20", "30"])));
    world.dies("10");
    assert_eq!(
        (world.end(run).unwrap(), world.replies()),
        ("failed at b: no stock".into(), vec!["failed at b: no stock".to_owned()])
    );
    // The others go on.
    world.handled("30", "31", None);
    world.dies("20");
    world.pass(1000);
    let dead = world.described(&queue("b")).dead;
    assert_eq!((world.end(run).unwrap(), dead), ("failed at b: no stock".into(), 2));
    assert_eq!((world.replay("b"), world.end(run)), (2, None));
    world.handled("20", "21", None);
    world.handled("10", "11", None);
    assert_eq!(world.end(run).unwrap(), "done [11,21,31]");
    assert_eq!(world.replies().len(), 1, "who has been told is not told again");
}

#[test]
fn a_failed_run_is_forgotten_with_its_parts_and_one_that_is_replayed_then_can_t_be_joined() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 0);
    world.handled("1", "", Some(parts("b", &["10", "20"])));
    world.handled("20", "21", None);
    world.dies("10");
    world.pass(RESULT_MS);
    assert!(world.queues.run("p", run).unknown && world.queues.joins.is_empty());
    world.again();
    assert_eq!(world.replay("b"), 1);
    assert_eq!(world.end(run), None);
    world.handled("10", "11", None);
    assert_eq!(world.end(run).unwrap(), "failed its other parts are forgotten");
    // One without parts goes on as if nothing had been.
    let run = world.run("1", 0);
    world.dies("1");
    world.pass(RESULT_MS);
    assert_eq!(world.replay("a"), 1);
    world.handled("1", "2", None);
    assert_eq!(world.end(run).unwrap(), "done 2");
}

#[test]
fn a_message_that_would_be_dead_goes_to_the_step_for_errors() {
    let mut world = World::with_steps(2, &queue("on-error"));
    let run = world.run("1", 5_000);
    world.handled("1", "2", Some(to("b")));
    for _ in 0..2 {
        let delivery = world.at()[0].2;
        world.settle("s", delivery, failed("the card is refused"));
        world.pass(200);
    }
    let (deliveries, _) = world.queues.handed("s", (0, 0), (10, 1000), world.now_ms);
    let message = deliveries[0].message.clone().unwrap();
    let meta: Vec<_> = message.meta.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
    assert_eq!(meta, [("copal-error", "the card is refused"), ("copal-from", "pipe:p:b")]);
    assert_eq!((message.queue, &message.body[..], world.end(run)), (queue("on-error"), &b"2"[..], None));
    // It goes on, without what was said of the error.
    world.handled("2", "3", Some(to("c")));
    let (deliveries, _) = world.queues.handed("s", (0, 0), (10, 1000), world.now_ms);
    assert!(deliveries[0].message.as_ref().unwrap().meta.is_empty());
    world.dies("3");
    // And where the step for errors fails there is no other.
    world.dies("3");
    assert_eq!(
        (world.end(run).unwrap(), world.described(&queue("on-error")).dead),
        ("failed at on-error: no stock".into(), 1)
    );
    assert_eq!(world.replies(), ["failed at on-error: no stock"]);
}

#[test]
fn a_plain_queue_may_have_a_queue_of_dead_letters() {
    let mut world = World::new();
    world.consume("s", "q", 10, QueuePolicy { dead_to: "lost".into(), ..policy(1, 1) });
    world.consume("s", "q", 10, QueuePolicy { dead_to: "lost".into(), ..policy(1, 1) });
    world.publish(QueueMessage { wait_ms: 1000, unique: "u".into(), ..message("q", "x") });
    world.settle("s", world.has("s")[0].0, failed("why"));
    let (q, lost) = (world.described("q"), world.described("lost"));
    assert_eq!((q.dead, q.ready, q.counts.unwrap().died, lost.ready), (0, 0, 1, 1));
    let (_, replies) = world.queues.handed("x", (0, 0), (10, 1000), world.now_ms);
    assert_eq!(replies[0].outcome, Some(message_reply::Outcome::Failed("why".into())));
    world.again();
}

#[test]
fn what_a_step_makes_needs_room() {
    let mut world = World::with_steps(2, "");
    world.run("1", 0);
    let big = "1".repeat(2_000);
    let delivery = world.at()[0].2;
    let settle = |world: &mut World, number: u64, max: u64| {
        let outcome = Some(done(""));
        let advance = Some(parts("b", &[&big, &big]));
        let settle = SettleDelivery { delivery, outcome, advance, ..SettleDelivery::default() };
        world.write_with("s", number, max, Write::Settle(settle))
    };
    let before = world.queues.clone();
    assert!(matches!(settle(&mut world, 1001, 5_000), Outcome::Full(_)));
    assert!(matches!(settle(&mut world, 1002, 12_000), Outcome::Full(it) if it.of() == Of::App));
    assert_eq!((world.queues.all.clone(), world.bodies()), (before.all, vec!["a 1".to_owned()]));
    assert_eq!(settle(&mut world, 1003, 20_000), Outcome::Done(true));
    world.again();
}

#[test]
fn there_are_so_many_runs_of_an_app() {
    let mut world = World::new();
    world.queues.share(&"shop".into(), |it| it.runs = run::APP_RUNS_MAX);
    let full = world.begin(message(&queue("a"), "1"));
    assert!(matches!(full, Outcome::Full(it) if it.of() == Of::Runs));
}

#[derive(Debug, Clone)]
enum Move {
    Begin,
    Handled(usize, u8),
    Failed(usize),
    Dead(usize),
    End(usize),
    Replay(u8),
    Purge(u8),
    Pass(u64),
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        2 => Just(Move::Begin),
        8 => (0..6_usize, 0..8_u8).prop_map(|(which, how)| Move::Handled(which, how)),
        2 => (0..6_usize).prop_map(Move::Failed),
        1 => (0..6_usize).prop_map(Move::End),
        1 => (0..6_usize).prop_map(Move::Dead),
        1 => (0..3_u8).prop_map(Move::Replay),
        1 => (0..3_u8).prop_map(Move::Purge),
        2 => (0..RESULT_MS / 3).prop_map(Move::Pass),
    ]
}

proptest! {
    /// Whatever happens: each run ends, or waits for what an operator does with a dead message; nothing that is over takes room.
    #[test]
    fn every_run_ends(moves in prop::collection::vec(a_move(), 0..60), errors in prop::bool::ANY) {
        let steps = ["a", "b", "c"];
        let mut world = World::with_steps(2, &if errors { queue("on-error") } else { String::new() });
        let mut runs = Vec::new();
        for it in moves {
            match it {
                Move::Begin => runs.push(world.run("1", 1000)),
                Move::Handled(which, how) => {
                    let Some((_, body, _)) = world.at().get(which).cloned() else { continue };
                    let next = match how {
                        0 => None,
                        1 => Some(halt()),
                        2 | 3 => Some(join("c")),
                        4 => Some(parts("b", &["1", "2", "3"])),
                        5 => Some(parts("c", &["1"])),
                        _ => Some(to("b")),
                    };
                    prop_assert_eq!(world.handled(&body, "5", next), Outcome::Done(true));
                }
                Move::Failed(which) => {
                    let Some((_, _, delivery)) = world.at().get(which).cloned() else { continue };
                    world.settle("s", delivery, failed("why"));
                }
                Move::Dead(which) => {
                    let Some((_, _, delivery)) = world.at().get(which).cloned() else { continue };
                    world.settle("s", delivery, settle_delivery::Outcome::Dead("why".into()));
                }
                Move::Replay(step) => drop(world.replay(steps[usize::from(step)])),
                Move::Purge(step) => {
                    let action = Some(manage_queue::Action::Purge(PurgeMessages { dead: step == 2 }));
                    let queue = queue(steps[usize::from(step)]);
                    let call = ManageQueue { queue, action, limit: 100, ..ManageQueue::default() };
                    world.queues.manage(call, world.now_ms, &mut Vec::new());
                }
                Move::End(which) => {
                    let Some(run) = runs.get(which) else { continue };
                    world.ends("p", *run);
                }
                Move::Pass(ms) => world.pass(ms),
            }
            world.again();
        }
        while let Some((_, body, _)) = world.at().first().cloned() {
            world.handled(&body, "5", None);
        }
        world.pass(1000);
        while let Some((_, body, _)) = world.at().first().cloned() {
            world.handled(&body, "5", None);
        }
        for run in world.queues.runs.values() {
            prop_assert!(run.end.is_some(), "{:?}", run);
        }
        world.pass(2 * RESULT_MS);
        prop_assert!(world.queues.pipelines.is_empty() && world.queues.runs.is_empty());
        prop_assert!( world.queues.joins.is_empty() && world.queues.joined.is_empty());
        for step in ["a", "b", "c", "on-error"] {
            let action = Some(manage_queue::Action::Purge(PurgeMessages { dead: true }));
            let call = ManageQueue { queue: queue(step), action, limit: 1000, ..ManageQueue::default() };
            world.queues.manage(call, world.now_ms, &mut Vec::new());
        }
        prop_assert_eq!(world.queues.bytes(), 0);
        prop_assert!(world.queues.apps.values().all(|it| it.bytes == 0 && it.runs == 0));
    }
}
