//! The lead is handed over because an administrator says so.

use super::{
    audit::marked,
    harness::{TestHub, save, until},
};
use proto::hub::v1::{Author, HandOverLead, ListAudit, session_outcome::Outcome};
use tonic::Code;

fn to(at: usize) -> HandOverLead {
    let author = Some(Author { user: "ops".into(), ..Author::default() });
    HandOverLead { to: format!("app-{at}"), author }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_is_named_leads_and_the_former_leader_follows() {
    let hub = TestHub::started(3).await;
    marked(&hub, 3).await;
    for (round, next) in [1, 2, 0, 2, 1].into_iter().enumerate() {
        let leader = hub.leader().await;
        let answer = hub.lead(leader, "web-a").hand_over(to(next)).await.unwrap().into_inner();
        if leader == next {
            assert_eq!((answer.leader, answer.changed), (format!("app-{next}"), false));
            continue;
        }
        assert_eq!((answer.leader, answer.changed), (format!("app-{next}"), true));
        let id = format!("s{round}");
        assert_eq!(hub.write(save(&id, 0, 1, "one")).await, Outcome::Version(1));
        assert_eq!(hub.leader().await, next);
        // The new one gives signs of life; the former does not, and would if it led again.
        until("it is believed", || hub.triad(next).hub.vouches()).await;
        assert!(!hub.triad(leader).hub.vouches() && hub.triad(leader).hub.must_stay().is_ok());
    }
    let leader = hub.leader().await;
    let listed = hub.audits(leader, "web-a").list(ListAudit::default()).await.unwrap().into_inner();
    let newest = &listed.entries[0];
    assert_eq!((newest.action.as_str(), newest.target.as_str()), ("hand-over-lead", "app-1"));
    assert_eq!(newest.author.as_ref().unwrap().user, "ops");
}

/// Two votes are enough: a third server may not have answered a new leader yet when it is to lead itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_just_begun_hands_the_lead_over_too() {
    let hub = TestHub::started(3).await;
    let mut leader = hub.leader().await;
    for _ in 0..4 {
        let next = (leader + 1) % 3;
        let answer = loop {
            match hub.lead(leader, "web-a").hand_over(to(next)).await {
                Ok(answer) => break answer.into_inner(),
                // It is not yet sure of its lead, or has just lost it.
                Err(refused) => assert_ne!(refused.code(), Code::OutOfRange, "{refused}"),
            }
            leader = hub.leader().await;
        };
        leader = next;
        assert!(answer.leader == format!("app-{next}"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_or_is_no_hub_server_is_not_given_the_lead() {
    let mut hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let refused = hub.lead(leader, "web-a").hand_over(to(7)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "\"app-7\" is no server of the hub: expected one of app-0, app-1, app-2");
    let other = (leader + 1) % 3;
    let follower = hub.lead(other, "web-a").hand_over(to(other)).await.unwrap_err();
    assert_eq!(follower.code(), Code::FailedPrecondition, "{follower}");
    hub.kill(other).await;
    let mut client = hub.lead(leader, "web-a");
    let refused = loop {
        match client.hand_over(to(other)).await {
            Err(refused) if refused.code() == Code::OutOfRange => break refused,
            // It was heard a moment ago: another leads after an ordinary election, or this one again.
            _ => client = hub.lead(hub.leader().await, "web-a"),
        }
    };
    assert!(refused.message().starts_with(&format!("app-{other} can't lead now: ")), "{refused}");
    let leader = hub.leader().await;
    assert_eq!(hub.write(save("s", 0, 1, "one")).await, Outcome::Version(1));
    until("signs of life are given again", || hub.triad(leader).hub.vouches()).await;
}
