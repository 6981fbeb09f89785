//! What an app would do to a hub by its runs, and what becomes of runs that meet several ends.

use super::*;

fn settle_with(world: &mut World, delivery: u64, advance: Option<Advance>, max: u64) -> Outcome {
    let outcome = Some(done("1"));
    let settle = SettleDelivery { delivery, outcome, advance, ..SettleDelivery::default() };
    world.number += 1;
    world.write_with("s", world.number, max, Write::Settle(settle))
}

/// The first delivery of this step.
fn at(world: &World, step: &str) -> Option<u64> {
    world.at().into_iter().find(|it| it.0 == step).map(|it| it.2)
}

#[test]
fn fan_outs_within_each_other_have_an_end() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 0);
    for _ in 0..16 {
        let delivery = at(&world, "a").unwrap();
        assert_eq!(settle_with(&mut world, delivery, Some(parts("a", &["1"])), MAX), Outcome::Done(true));
    }
    let delivery = at(&world, "a").unwrap();
    let mut other = World { queues: world.queues.clone(), ..World::with_steps(2, "") };
    (other.now_ms, other.number) = (world.now_ms, world.number);
    settle_with(&mut world, delivery, None, MAX);
    assert_eq!(world.end(run).unwrap(), format!("done {}\"1\"{}", "[".repeat(16), "]".repeat(16)));
    settle_with(&mut other, delivery, Some(parts("a", &["1"])), MAX);
    let end = other.end(run).unwrap();
    assert_eq!(end, "failed it is fanned out 17 times within each other: expected at most 16");
    other.again();
}

#[test]
fn a_run_has_so_many_parts() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 0);
    let wide = ["1"; 100];
    let first = at(&world, "a").unwrap();
    settle_with(&mut world, first, Some(parts("a", &wide)), 100 * MAX);
    for _ in 0..99 {
        let delivery = at(&world, "a").unwrap();
        assert_eq!(
            settle_with(&mut world, delivery, Some(parts("b", &wide)), 100 * MAX),
            Outcome::Done(true)
        );
        assert_eq!(world.end(run), None);
    }
    let delivery = at(&world, "a").unwrap();
    settle_with(&mut world, delivery, Some(parts("b", &wide)), 100 * MAX);
    assert_eq!(world.end(run).unwrap(), "failed it has 10100 parts in all: expected at most 10000");
    world.again();
    // One that halts drops the rest by and by.
    let waiting = world.described(&queue("b")).ready;
    let delivery = at(&world, "b").unwrap();
    settle_with(&mut world, delivery, Some(halt()), 100 * MAX);
    let left = world.described(&queue("b")).ready;
    assert!(left > 0 && left < waiting, "{left} of {waiting}");
    world.again();
    world.pass(1);
    assert_eq!(world.described(&queue("b")).ready, 0);
    assert_eq!((world.queues.joins.len(), world.queues.sweeping.len()), (0, 0));
    world.again();
}

#[test]
fn a_run_that_has_failed_may_halt_yet() {
    let mut world = World::with_steps(2, "");
    let run = world.run("1", 0);
    world.handled("1", "", Some(parts("b", &["10", "20"])));
    world.dies("10");
    world.handled("20", "2", Some(halt()));
    assert_eq!(world.end(run).unwrap(), "halted 2");
    // What is replayed of it is dropped.
    assert_eq!((world.replay("b"), world.bodies()), (1, vec![]));
    world.pass(RESULT_MS);
    assert!(world.queues.runs.is_empty() && world.queues.joins.is_empty());
    assert_eq!(world.queues.bytes(), 0);
}

#[test]
fn parts_go_to_one_step_or_end() {
    for last in ["10", "20"] {
        let mut world = World::with_steps(2, "");
        let run = world.run("1", 0);
        world.handled("1", "", Some(parts("b", &["10", "20"])));
        let mut order = ["10", "20"];
        order.sort_by_key(|it| *it == last);
        for it in order {
            world.handled(it, it, (it == "10").then(|| join("c")));
        }
        let (one, other) = if last == "20" { ("c", "the end") } else { ("the end", "c") };
        let why = format!("failed of its parts one goes to {one}, and one to {other}");
        assert_eq!((world.end(run).unwrap(), world.bodies()), (why, vec![]));
        world.again();
    }
}

#[test]
fn one_app_takes_half_of_the_names_of_steps() {
    let mut world = World::new();
    let begin = |world: &mut World, app: &str, pipeline: &str| {
        let message = QueueMessage { app: app.into(), ..message(&format!("pipe:{pipeline}:first"), "1") };
        let begin = BeginRun { pipeline: pipeline.into(), message: Some(message), result_ms: 1 };
        world.write("s", Write::BeginRun(begin))
    };
    for number in 0..STEP_QUEUES_MAX / 2 {
        assert!(
            matches!(begin(&mut world, "evil", &format!("x{number}")), Outcome::Published(_)),
            "{number}"
        );
    }
    assert!(matches!(begin(&mut world, "evil", "one-more"), Outcome::Full(it) if it.of() == Of::Queues));
    assert!(matches!(begin(&mut world, "shop", "p"), Outcome::Published(_)));
    world.again();
}

#[test]
fn a_step_whose_next_queue_can_t_be_keeps_its_message() {
    let mut world = World::with_steps(2, "");
    let steps = STEP_QUEUES_MAX - 4;
    let windows = (0..steps).map(|it| QueueWindow {
        queue: format!("pipe:q:s{it}"),
        app: format!("other-{}", it % 2),
        window: 1,
        policy: None,
    });
    let call = ConsumeQueues { server: "t".into(), started_ms: 1, number: 1, windows: windows.collect() };
    assert_eq!(world.queues.consume(call, world.now_ms, &mut Vec::new()).no_room, 0);
    let run = world.run("1", 0);
    let delivery = at(&world, "a").unwrap();
    let came = settle_with(&mut world, delivery, Some(parts("nowhere", &["1"; 1000])), MAX);
    assert!(matches!(came, Outcome::Full(it) if it.of() == Of::Queues));
    assert_eq!((world.bodies(), world.end(run)), (vec!["a 1".to_owned()], None));
    assert_eq!(settle_with(&mut world, delivery, Some(to("b")), MAX), Outcome::Done(true));
    world.again();
}

#[test]
fn messages_that_fail_take_no_more_room_than_before() {
    let mut world = World::with_steps(1, &queue("on-error"));
    let max = 1_000_000;
    let run = world.run("1", 0);
    let delivery = at(&world, "a").unwrap();
    assert_eq!(settle_with(&mut world, delivery, Some(parts("b", &[""; 200])), max), Outcome::Done(true));
    let own = |world: &World| world.queues.apps.get("shop").unwrap().bytes;
    let before = own(&world);
    // Those that are handled are late: they go to the step for errors, with why.
    world.pass(7_000);
    assert_eq!((world.described(&queue("on-error")).counts.unwrap().published, world.end(run)), (100, None));
    assert!(own(&world) <= before, "{} after {before}", own(&world));
    world.publish(message("q", ""));
    let before = own(&world);
    world.consume("a", "q", 5, policy(1, 60_000));
    let delivery = world.has("a")[0].0;
    world.settle("a", delivery, failed(&"x".repeat(5000)));
    assert_eq!(own(&world), before, "one that is dead");
    world.again();
}
