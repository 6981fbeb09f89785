//! What administrators say of members, and the loads that members report.

use super::harness::{LIMIT, TestHub};
use common::clock::ManualClock;
use proto::hub::v1::{Event, Member, MemberAdmin, MemberHeartbeat, SetMemberAdmin, event::Event as Kind};
use std::sync::Arc;
use tonic::{Code, Streaming};

fn set(id: &str, admin: MemberAdmin) -> SetMemberAdmin {
    SetMemberAdmin { id: id.into(), admin: admin.into(), author: None }
}

/// The first event that `wanted` makes something of.
pub(super) async fn news<T>(watch: &mut Streaming<Event>, wanted: impl Fn(Kind) -> Option<T>) -> T {
    let heard = async {
        loop {
            let event = watch.message().await.unwrap().unwrap().event.unwrap();
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(LIMIT, heard).await.expect("news")
}

fn member(event: Kind) -> Option<Member> {
    if let Kind::Member(member) = event { Some(member) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_member_is_known_to_all_and_stays_so_through_restarts() {
    let mut hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    hub.register("app-9", 5).await;
    let mut web = hub.watch(leader, "web-a", 0).await;
    let done = hub.members(leader, "web-a").set_admin(set("app-9", MemberAdmin::Disabled)).await.unwrap();
    let answered = done.into_inner().member.unwrap();
    assert_eq!((answered.admin(), answered.started_ms), (MemberAdmin::Disabled, 5));
    assert_eq!(news(&mut web, member).await, answered);
    // The member starts again, then the leader dies.
    let members = hub.register("app-9", 6).await;
    let of = |members: &[Member]| members.iter().find(|it| it.id == "app-9").map(Member::admin);
    assert_eq!(of(&members), Some(MemberAdmin::Disabled));
    hub.kill(leader).await;
    let next = hub.leader().await;
    let mut web = hub.watch(next, "web-a", 0).await;
    let snapshot = |event| if let Kind::Snapshot(it) = event { Some(it.members) } else { None };
    assert_eq!(of(&news(&mut web, snapshot).await), Some(MemberAdmin::Disabled));
    hub.members(next, "web-a").set_admin(set("app-9", MemberAdmin::DisabledSoft)).await.unwrap();
    assert_eq!(news(&mut web, member).await.admin(), MemberAdmin::DisabledSoft);
    hub.members(next, "web-a").set_admin(set("app-9", MemberAdmin::Enabled)).await.unwrap();
    assert_eq!(news(&mut web, member).await.admin(), MemberAdmin::Enabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_a_member_and_what_is_no_word_are_refused() {
    let hub = TestHub::started(1).await;
    hub.register("app-8", 5).await;
    hub.register("app-9", 5).await;
    let refused = async |set| hub.members(0, "web-a").set_admin(set).await.unwrap_err();
    let unknown = refused(set("app-7", MemberAdmin::Disabled)).await;
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert_eq!(
        unknown.message(),
        "id is \"app-7\": no such server has registered; expected one of app-8, app-9"
    );
    let odd = refused(SetMemberAdmin { id: "app-8".into(), admin: 7, author: None }).await;
    assert_eq!(odd.message(), "admin is 7: expected enabled (0), disabled-soft (1) or disabled (2)");
    let nameless = refused(set("", MemberAdmin::Disabled)).await;
    assert!(nameless.message().starts_with("id is \"\""), "{nameless}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sets_nothing_and_names_the_leader() {
    let hub = TestHub::started(3).await;
    hub.register("app-9", 5).await;
    let leader = hub.leader().await;
    let follower = hub.members((leader + 1) % 3, "web-a");
    let refused = follower.clone().set_admin(set("app-9", MemberAdmin::Disabled)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.metadata().get("copal-leader").unwrap(), hub.names[leader].0.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_loads_reach_every_watcher() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let mut hub = TestHub::new(1);
    hub.clock = clock.clone();
    hub.start_all().await;
    hub.register("app-9", 5).await;
    let mut web = hub.watch(0, "web-a", 0).await;
    let heartbeat = |started_ms, cpu_load| MemberHeartbeat { id: "app-9".into(), started_ms, cpu_load };
    for (started_ms, load) in [(5, Some(250)), (5, None), (4, Some(900))] {
        hub.members(0, "app-9").heartbeat(heartbeat(started_ms, load)).await.unwrap();
    }
    clock.advance(std::time::Duration::from_secs(1));
    let loads = |event| if let Kind::MemberLoads(it) = event { Some(it.loads) } else { None };
    let told: Vec<_> = news(&mut web, loads).await.into_iter().map(|it| (it.id, it.cpu_load)).collect();
    assert_eq!(told, [("app-9".to_owned(), 250)], "an old process and a silent one say nothing");
}
