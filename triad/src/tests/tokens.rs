//! Tokens on a whole hub: told to every watcher, kept through the leader's death, ended by the leader's clock.

use super::{harness::TestHub, members::news};
use common::clock::ManualClock;
use proto::hub::v1::{
    CreateToken, ListTokens, RevokeToken, Token, TokenState, event::Event as Kind, token_created::Outcome,
};
use std::{sync::Arc, time::Duration};
use tonic::Code;

fn create(number: u8, valid_ms: u64) -> CreateToken {
    let (name, roles) = (format!("ci-{number}"), vec!["deploy".to_owned()]);
    let (hash, user) = (vec![number; 32].into(), "ops".into());
    CreateToken { hash, name, user, roles, valid_ms, author: None }
}

fn token(event: Kind) -> Option<Token> {
    if let Kind::Token(token) = event { Some(token) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_its_end_are_told_to_all_and_outlive_the_leader() {
    let mut hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let mut web = hub.watch(leader, "web-a", 0).await;
    let mut client = hub.tokens(leader, "web-a");
    let made = client.create(create(1, 3_600_000)).await.unwrap().into_inner().outcome.unwrap();
    let Outcome::Created(made) = made else { panic!("{made:?}") };
    assert_eq!(news(&mut web, token).await, made);
    let taken =
        client.create(CreateToken { name: "ci-1".into(), ..create(2, 5) }).await.unwrap().into_inner();
    assert_eq!(taken.outcome, Some(Outcome::NameTaken(made.clone())));
    client.create(create(3, 3_600_000)).await.unwrap();
    client.revoke(RevokeToken { hash: made.hash.clone(), author: None }).await.unwrap();
    let ended = |event| token(event).filter(|it| it.state() == TokenState::Revoked);
    assert_eq!(news(&mut web, ended).await.name, "ci-1");

    hub.kill(leader).await;
    let next = hub.leader().await;
    let mut web = hub.watch(next, "web-a", 0).await;
    let snapshot = |event| if let Kind::Snapshot(it) = event { Some(it.tokens) } else { None };
    let told: Vec<_> =
        news(&mut web, snapshot).await.into_iter().map(|it| (it.name.clone(), it.state())).collect();
    assert_eq!(told, [("ci-1".to_owned(), TokenState::Revoked), ("ci-3".to_owned(), TokenState::Valid)]);
    let listed = hub.tokens(next, "web-a").list(ListTokens {}).await.unwrap().into_inner().tokens;
    assert_eq!(listed.len(), 2);
    let unknown = RevokeToken { hash: vec![9; 32].into(), author: None };
    let none = hub.tokens(next, "web-a").revoke(unknown).await.unwrap();
    assert_eq!(none.into_inner().token, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_by_the_leaders_clock() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let mut hub = TestHub::new(1);
    hub.clock = clock.clone();
    hub.start_all().await;
    let mut web = hub.watch(0, "web-a", 0).await;
    hub.tokens(0, "web-a").create(create(1, 60_000)).await.unwrap();
    assert_eq!(news(&mut web, token).await.state(), TokenState::Valid);
    clock.advance(Duration::from_secs(61));
    let ended = news(&mut web, token).await;
    assert_eq!((ended.state(), ended.ended_ms), (TokenState::Expired, ended.expires_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_is_refused_by_field() {
    let hub = TestHub::started(1).await;
    let refused = async |create| {
        let refused = hub.tokens(0, "web-a").create(create).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        refused.message().to_owned()
    };
    assert_eq!(
        refused(CreateToken { hash: vec![1; 31].into(), ..create(1, 5) }).await,
        "hash has 31 bytes: expected 32"
    );
    assert!(
        refused(CreateToken { name: "x".repeat(65), ..create(1, 5) }).await.starts_with("name has 65 bytes")
    );
    assert!(
        refused(CreateToken { roles: Vec::new(), ..create(1, 5) }).await.starts_with("roles has 0 entries")
    );
    assert!(refused(create(1, 0)).await.starts_with("valid_ms is 0"));
    assert!(refused(create(1, u64::MAX)).await.starts_with("valid_ms is 1844"));
}
