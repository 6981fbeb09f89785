//! Writes, reads, members and watches on healthy hubs.

use super::harness::{LIMIT, TestHub, save, session_key, value};
use proto::hub::v1::{
    AskAlive, ClaimSession, LoadSession, RemoveSession, SessionWrite, TouchSession, WatchEvents,
    WriteSessions, event::Event, session_outcome::Outcome, session_write::Write,
};
use std::time::{Duration, Instant};
use tonic::Code;

async fn saves_and_loads(servers: usize) {
    let hub = TestHub::started(servers).await;
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1));
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1), "sent again");
    assert_eq!(hub.write(save("s", 1, 2, "two")).await, Outcome::Version(2));
    let Outcome::Conflict(found) = hub.write(save("s", 1, 3, "three")).await else { panic!("no conflict") };
    assert_eq!((found.version, value(&found).as_str()), (2, "two"));
    let loaded = hub.load("s").await.unwrap();
    assert_eq!((loaded.version, value(&loaded).as_str(), loaded.save_id), (2, "two", 2));
    assert!(hub.load("other").await.is_none());
    let touch = Write::Touch(TouchSession { key: Some(session_key("s")) });
    assert_eq!(hub.write(touch).await, Outcome::Version(2));
    let claim = Write::Claim(ClaimSession { key: Some(session_key("s")), owner: "app-1".into() });
    let Outcome::Claimed(claimed) = hub.write(claim).await else { panic!("not claimed") };
    assert_eq!((claimed.owner.as_str(), claimed.version), ("app-1", 2));
    let remove = Write::Remove(RemoveSession { key: Some(session_key("s")) });
    assert_eq!(hub.write(remove).await, Outcome::Version(0));
    assert!(hub.load("s").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_saves_and_loads() {
    saves_and_loads(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_save_and_load() {
    saves_and_loads(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_save_and_load() {
    saves_and_loads(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_come_in_order_and_a_large_session_fits() {
    let hub = TestHub::started(3).await;
    let large = "x".repeat(9 << 20);
    assert_eq!(hub.write(save("large", 0, 1, &large)).await, Outcome::Version(1));
    assert_eq!(value(&hub.load("large").await.unwrap()).len(), 9 << 20);
    let write = |write| SessionWrite { write: Some(write) };
    let writes = vec![write(save("a", 0, 1, "1")), write(save("a", 1, 2, "2")), write(save("b", 4, 3, "3"))];
    let leader = hub.leader().await;
    let answered = hub.sessions(leader).write(WriteSessions { writes }).await.unwrap().into_inner();
    let outcomes: Vec<_> = answered.outcomes.into_iter().map(|it| it.outcome.unwrap()).collect();
    assert_eq!(outcomes[..2], [Outcome::Version(1), Outcome::Version(2)]);
    assert!(matches!(outcomes[2], Outcome::Missing(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader() {
    let hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let follower = (leader + 1) % 3;
    let name = hub.names[leader].0.to_string();
    let load = LoadSession { key: Some(session_key("s")) };
    let refused = hub.sessions(follower).load(load).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.metadata().get("copal-leader").unwrap(), name.as_str());
    let bad = hub.sessions(leader).load(LoadSession { key: None }).await.unwrap_err();
    assert_eq!((bad.code(), bad.message()), (Code::InvalidArgument, "key is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_members_and_of_its_own_sessions() {
    let hub = TestHub::started(3).await;
    hub.register("app-0", 5).await;
    hub.write(save("s", 0, 1, "one")).await;
    let mut watch = hub.watch(hub.leader().await, "app-0", 0).await;
    let first = watch.message().await.unwrap().unwrap();
    let Some(Event::Snapshot(snapshot)) = first.event else { panic!("{first:?}") };
    assert_eq!(snapshot.members[0].id, "app-0");
    hub.register("app-1", 6).await;
    let claim = Write::Claim(ClaimSession { key: Some(session_key("s")), owner: "app-1".into() });
    hub.write(claim).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let event = watch.message().await.unwrap().unwrap();
        if !matches!(event.event, Some(Event::Alive(_))) {
            heard.push(event);
        }
    }
    assert!(matches!(&heard[0].event, Some(Event::Member(it)) if it.id == "app-1"), "{heard:?}");
    assert!(matches!(&heard[1].event, Some(Event::SessionMoved(it)) if it.owner == "app-1"), "{heard:?}");
    // Comes back having seen the first only.
    let mut again = hub.watch(hub.leader().await, "app-0", heard[0].revision).await;
    assert!(matches!(again.message().await.unwrap().unwrap().event, Some(Event::Resumed(_))));
    assert_eq!(again.message().await.unwrap().unwrap(), heard[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_asks_gets_the_answer_behind_all_that_happened_before() {
    let hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let wanted = WatchEvents { server: "app-0".into(), watch: 9, ..WatchEvents::default() };
    let mut watch = hub.try_watch(leader, wanted).await.unwrap();
    hub.register("app-1", 6).await;
    let answered = async {
        let mut seen = Vec::new();
        for number in 1.. {
            // The leader may have been too busy to be confirmed just then.
            hub.ask(leader, "app-0", AskAlive { watch: 9, number }).await;
            while let Ok(event) = tokio::time::timeout(Duration::from_millis(100), watch.message()).await {
                match event.unwrap().unwrap().event.unwrap() {
                    Event::Alive(alive) => return (seen, alive.number, number),
                    Event::Member(member) => seen.push(member.id),
                    _ => {}
                }
            }
        }
        unreachable!()
    };
    let (seen, number, asked) = tokio::time::timeout(LIMIT, answered).await.expect("an answer");
    assert_eq!(seen, ["app-1"]);
    assert!((1..=asked).contains(&number), "{number} of {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_majority_falls_silent_before_another_can_be_elected() {
    let hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let mut watch = hub.watch(leader, "app-0", 0).await;
    let mut heard = async || {
        let event = tokio::time::timeout(LIMIT, watch.message()).await.unwrap();
        matches!(event, Ok(Some(_)))
    };
    assert!(heard().await && heard().await && heard().await, "alive comes by itself");
    let services = hub.triad(leader).hub.clone();
    let watch = WatchEvents { server: "other".into(), watch: 7, ..WatchEvents::default() };
    let mut direct = services.feed().watch(&watch, (false, 1), || (1, proto::hub::v1::Snapshot::default()));
    hub.part(Some(leader));
    let parted = Instant::now();
    let mut last = parted;
    let mut number = 0;
    let mut next = async || {
        loop {
            // There is always something to be said: somebody asks, and members report their loads.
            number += 1;
            if services.vouches() {
                services.feed().answer(&AskAlive { watch: 7, number });
            }
            services.heartbeats().loaded("app-0".into(), 500);
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(20), direct.recv()).await {
                return event;
            }
        }
    };
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(2500), next()).await {
        last = Instant::now();
        assert!(last - parted < Duration::from_secs(10), "it goes on speaking");
    }
    // What was on its way when it was parted counts from when it was sent.
    assert!(last - parted < Duration::from_millis(650), "the last word came after {:?}", last - parted);
    // Nor does it keep the members' heartbeats from the one that counts them.
    let refused = services.must_be_confirmed().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hands_over_gives_no_sign_of_life_any_more() {
    let hub = TestHub::started(1).await;
    let services = hub.triad(0).hub.clone();
    let mut watch = hub.watch(0, "app-0", 0).await;
    assert!(services.vouches());
    services.retire();
    assert!(!services.vouches());
    let end = async { while let Ok(Some(_)) = watch.message().await {} };
    tokio::time::timeout(LIMIT, end).await.expect("its watches have ended");
    let again = WatchEvents { server: "app-0".into(), watch: 1, ..WatchEvents::default() };
    let refused = hub.try_watch(0, again).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}
