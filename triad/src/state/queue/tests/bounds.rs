//! What may be there, whose room it takes, and that no command does very much.

use super::*;
use proto::hub::v1::{QueueCounts, snapshot_item::Item, snapshot_message::Status};

#[test]
fn bounds() {
    let mut world = World::new();
    let publish = |world: &mut World, app: &str, queue: &str, bytes: usize| {
        let body = vec![b'x'; bytes].into();
        let message = QueueMessage { queue: queue.into(), body, app: app.into(), ..QueueMessage::default() };
        world.number += 1;
        world.write_with(
            "x",
            world.number,
            100_000,
            Write::Publish(PublishMessages { messages: vec![message] }),
        )
    };
    let of = |outcome: Outcome| match outcome {
        Outcome::Full(it) => Some(it.of()),
        _ => None,
    };
    assert_eq!(of(publish(&mut world, "a", "q", 48_000)), None);
    assert_eq!(of(publish(&mut world, "a", "q", 2_000)), Some(Of::App));
    assert_eq!(of(publish(&mut world, "b", "q", 48_000)), None);
    assert_eq!(of(publish(&mut world, "c", "q", 5_000)), Some(Of::All));
    let before = world.queues.clone();
    assert_eq!(of(publish(&mut world, "c", "other", 5_000)), Some(Of::All));
    assert_eq!(world.queues.all, before.all, "what is refused changes nothing");
    assert_eq!(world.manage(manage_queue::Action::Purge(PurgeMessages { dead: false })), 2);
    assert_eq!((world.queues.bytes(), world.queues.apps.get("b")), (0, None));
    for number in 0..names::APP_QUEUES_MAX {
        world.publish(message(&format!("q{number}"), "x"));
    }
    let one_more = Write::Publish(PublishMessages { messages: vec![message("one-more", "x")] });
    assert_eq!(of(world.write("x", one_more.clone())), Some(Of::Queues));
    world.publish(message("q7", "what is there takes messages as before"));
    world.again();
    world.queues.manage(purge("q7"), world.now_ms, &mut Vec::new());
    assert_eq!(of(world.write("x", one_more)), None, "one that is empty makes room");
    let jobs: Vec<QueueWindow> = (0..1000).map(|it| window(&format!("job:j{it}"))).collect();
    let call = ConsumeQueues { server: "a".into(), started_ms: 1, number: 1, windows: jobs };
    assert_eq!(world.queues.consume(call, 1, &mut Vec::new()).no_room, 0, "jobs take no app's room");
    let subscriptions = (0..=SUBSCRIPTION_QUEUES_MAX).map(|it| window(&format!("topic:t:s{it}")));
    let windows = subscriptions.collect();
    let call = ConsumeQueues { server: "a".into(), started_ms: 1, number: 2, windows };
    assert_eq!(world.queues.consume(call, 1, &mut Vec::new()).no_room, 1);
    world.again();
}

fn window(queue: &str) -> QueueWindow {
    QueueWindow { queue: queue.into(), app: "shop".into(), window: 1, ..QueueWindow::default() }
}

fn purge(queue: &str) -> ManageQueue {
    let action = Some(manage_queue::Action::Purge(PurgeMessages { dead: false }));
    ManageQueue { queue: queue.into(), action, limit: 100, ..ManageQueue::default() }
}

#[test]
fn keys_and_replies_and_why_take_the_room_of_their_app() {
    let mut world = World::new();
    let own = |world: &World| world.queues.apps.get("shop").map_or(0, |it| it.bytes);
    let with_key = QueueMessage { idempotency_key: "k".repeat(50), key_ms: 9000, ..message("q", "x") };
    world.publish(with_key.clone());
    assert_eq!(own(&world), bytes_of(&with_key) + bytes_of_key(&with_key.idempotency_key));
    world.consume("a", "q", 1, policy(1, 100));
    world.settle("a", world.has("a")[0].0, done(""));
    assert_eq!(own(&world), bytes_of_key(&with_key.idempotency_key));
    world.again();
    world.queues.manage(purge("q"), world.now_ms, &mut Vec::new());
    assert_eq!((own(&world), world.queues.bytes()), (0, 0), "a purge forgets keys of what is gone");
    world.publish(message("q", "x"));
    let before = own(&world);
    world.settle("a", world.has("a")[0].0, failed(&"x".repeat(2000)));
    assert_eq!(own(&world), before, "why it is dead is cut off, and was counted before");
    world.again();
    let ask = QueueMessage { wait_ms: 5000, ask: 7, ..message("q", "x") };
    world.publish(ask.clone());
    world.publish(ask);
    let reply = |world: &World| world.queues.handed("x", (0, 0), (100, 1 << 30), world.now_ms).1;
    world.settle("a", world.has("a")[0].0, done(&"x".repeat(1000)));
    assert_eq!(reply(&world).len(), 1);
    world.again();
    let settle = SettleDelivery {
        delivery: world.has("a")[0].0,
        outcome: Some(done(&"x".repeat(1000))),
        ..SettleDelivery::default()
    };
    world.number += 1;
    let room = world.queues.bytes();
    assert_eq!(world.write_with("a", world.number, room, Write::Settle(settle)), Outcome::Done(true));
    let failed =
        |it: &proto::hub::v1::MessageReply| matches!(&it.outcome, Some(message_reply::Outcome::Failed(_)));
    assert!(reply(&world).last().is_some_and(failed), "there is no room for a second one");
    world.pass(6000);
    world.again();
}

#[test]
fn what_very_many_had_is_others_step_by_step() {
    let mut world = World::new();
    world.consume("a", "q", 5000, policy(0, 0));
    for _ in 0..2500 {
        world.publish(message("q", "x"));
    }
    world.queues.release("a", world.now_ms, &mut Vec::new());
    assert_eq!(world.queues.next_due_ms().0, Some(0));
    let some = ExpireQueues { limit: 1000, deliveries: false };
    let mut left = Vec::new();
    while world.queues.next_due_ms().0 == Some(0) {
        left.push(world.described("q").assigned);
        world.queues.expire(&some, world.now_ms, &mut Vec::new());
        world.again();
    }
    assert_eq!((left[0], world.described("q").ready), (1500, 2500));
    assert!(world.has("a").is_empty());
}

#[test]
fn a_subscription_that_ends_leaves_nothing() {
    let mut world = World::new();
    let (topic, name, app) = ("t".to_owned(), "s".to_owned(), "shop".to_owned());
    let subscribe = proto::hub::v1::SubscribeTopic { topic: topic.clone(), name: name.clone(), app };
    world.write("x", Write::Subscribe(subscribe.clone()));
    for _ in 0..5 {
        world.write("x", Write::PublishToTopic(message("t", "x")));
    }
    world.consume("a", "topic:t:s", 2, policy(5, 10));
    world.write("x", Write::Unsubscribe(proto::hub::v1::UnsubscribeTopic { topic, name }));
    while world.queues.next_due_ms().0 == Some(0) {
        world.queues.expire(&ExpireQueues { limit: 1, deliveries: false }, world.now_ms, &mut Vec::new());
    }
    assert_eq!((world.described("topic:t:s").ready, world.has("a").len()), (0, 2));
    world.write("x", Write::Subscribe(subscribe));
    world.write("x", Write::PublishToTopic(message("t", "new")));
    assert_eq!(world.described("topic:t:s").ready, 1, "what comes after it stays");
    let (topic, name) = ("t".to_owned(), "s".to_owned());
    world.write("x", Write::Unsubscribe(proto::hub::v1::UnsubscribeTopic { topic, name }));
    for (delivery, ..) in world.has("a") {
        world.settle("a", delivery, failed("why"));
    }
    world.pass(100_000);
    assert_eq!((world.described("topic:t:s").ready, world.queues.bytes()), (0, 0));
    world.again();
}

#[test]
fn replay_meets_each_dead_one_once() {
    let mut world = World::new();
    world.consume("a", "q", 9, policy(1, 10));
    for unique in ["", "u", "", ""] {
        let id = world.publish(QueueMessage { unique: unique.into(), ..message("q", "x") });
        let delivery = world.has("a").iter().find(|it| it.1 == id).unwrap().0;
        world.settle("a", delivery, failed("why"));
    }
    world.consume("a", "q", 0, policy(1, 10));
    world.publish(QueueMessage { unique: "u".into(), ..message("q", "x") });
    let all = manage_queue::Action::Replay(ReplayMessages { ids: vec![] });
    assert_eq!(world.manage(all), 3, "one whose key another has is left out, and holds nobody up");
    assert_eq!(world.described("q").dead, 1);
    world.again();
}

#[test]
fn how_long_a_message_was_someones_is_counted() {
    let mut world = World::new();
    world.consume("a", "q", 2, policy(3, 0));
    for _ in 0..2 {
        world.publish(message("q", "x"));
    }
    let [first, second] = world.has("a").try_into().unwrap();
    world.now_ms += 30;
    world.settle("a", first.0, done(""));
    world.now_ms += 40;
    world.settle("a", second.0, done(""));
    let counts = world.described("q").counts.unwrap();
    assert_eq!((counts.took_ms, counts.last_took_ms, counts.timed), (100, 70, 2));
    // A version before did not note since when someone has it.
    world.publish(message("q", "x"));
    let mut again = Queues::default();
    for item in world.queues.export() {
        again.restore(match item {
            Item::Message(mut it) => {
                let Some(Status::Assigned(delivery)) = &mut it.status else { panic!("{it:?}") };
                delivery.handed_ms = 0;
                Item::Message(it)
            }
            item => item,
        });
    }
    world.queues = again;
    world.settle("a", world.has("a")[0].0, done(""));
    assert_eq!(
        world.described("q").counts.unwrap(),
        QueueCounts { published: 3, settled: 3, delivered: 3, ..counts }
    );
    world.again();
}
