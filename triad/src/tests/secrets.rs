//! Secrets on a whole hub: put and heard by web-tiers alone, kept through the leader's death; and the lease of who renews them.

use super::{harness::TestHub, members::news};
use common::service_name::ACME_LEASES;
use proto::hub::v1::{
    AcquireLease, LeaseKey, Member, PutSecret, RegisterMember, Secret, WatchEvents, event::Event as Kind,
    lease_acquired, secret_put::Outcome,
};
use tonic::Code;

fn put(name: &str, sealed: &str, if_version: u64) -> PutSecret {
    PutSecret { name: name.into(), sealed: sealed.as_bytes().to_vec().into(), if_version, valid_ms: 0 }
}

fn secret(event: Kind) -> Option<Secret> {
    if let Kind::Secret(secret) = event { Some(secret) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_heard_by_web_tiers_alone_and_outlive_the_leader() {
    let mut hub = TestHub::started(3).await;
    let leader = hub.leader().await;
    let mut web = hub.watch(leader, "just-web", 0).await;
    let mut app = hub.watch(leader, "just-app", 0).await;
    let mut client = hub.secrets(leader, "just-web");
    let made = client.put(put("acme/a", "one", 0)).await.unwrap().into_inner().outcome.unwrap();
    let Outcome::Put(made) = made else { panic!("{made:?}") };
    assert_eq!(news(&mut web, secret).await, made);
    let refused = client.put(put("acme/a", "two", 0)).await.unwrap().into_inner().outcome.unwrap();
    assert_eq!(refused, Outcome::Conflict(made.clone()));
    let refused = hub.secrets(leader, "just-app").put(put("acme/b", "x", 0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    // An app server hears what comes after it, and of no secret.
    let member = Member {
        id: "just-app".into(),
        address: "127.0.0.1:1".into(),
        cluster: "apps".into(),
        started_ms: 1,
        ..Member::default()
    };
    hub.members(leader, "just-app").register(RegisterMember { member: Some(member) }).await.unwrap();
    let heard = news(&mut app, |event| match event {
        Kind::Secret(it) => panic!("{it:?}"),
        Kind::Snapshot(it) => (!it.secrets.is_empty()).then(|| panic!("{it:?}")),
        Kind::Member(it) => (it.id == "just-app").then_some(it.id),
        _ => None,
    });
    assert_eq!(heard.await, "just-app");

    hub.kill(leader).await;
    let next = hub.leader().await;
    let snapshot = |event| if let Kind::Snapshot(it) = event { Some(it.secrets) } else { None };
    let mut web = hub.watch(next, "just-web", 0).await;
    assert_eq!(news(&mut web, snapshot).await, std::slice::from_ref(&made));
    let mut app = hub.watch(next, "just-app", 0).await;
    assert_eq!(news(&mut app, snapshot).await, []);
    // One that got no right before, and has it now, hears what is there; one that had it misses nothing, and is resumed.
    let after = hub.watch(next, "just-web", 0).await.message().await.unwrap().unwrap().revision;
    for had in [false, true] {
        let wanted = WatchEvents {
            server: "just-web".into(),
            after_revision: after,
            with_secrets: had,
            ..WatchEvents::default()
        };
        let mut again = hub.try_watch(next, wanted).await.unwrap();
        match again.message().await.unwrap().unwrap().event {
            Some(Kind::Snapshot(it)) if !had => {
                assert_eq!((it.secrets.as_slice(), it.with_secrets), (std::slice::from_ref(&made), true));
            }
            Some(Kind::Resumed(_)) if had => {}
            other => panic!("{had}: {other:?}"),
        }
    }
    let gone = |event| if let Kind::SecretGone(it) = event { Some(it.name) } else { None };
    hub.secrets(next, "just-web").put(put("acme/a", "", made.version)).await.unwrap();
    assert_eq!(news(&mut web, gone).await, "acme/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_has_leases_of_its_own() {
    let hub = TestHub::started(1).await;
    let leader = hub.leader().await;
    // What counts as an app's is the app's: nobody takes up what another role may have.
    for (server, of, app, expected) in [
        ("just-web", ACME_LEASES, ACME_LEASES, Code::Ok),
        ("just-web", ACME_LEASES, "shop", Code::InvalidArgument),
        ("just-web", "", "shop", Code::PermissionDenied),
        ("just-web", "shop", "shop", Code::PermissionDenied),
        ("just-app", ACME_LEASES, ACME_LEASES, Code::PermissionDenied),
        ("just-app", ACME_LEASES, "shop", Code::InvalidArgument),
        ("just-app", "", ACME_LEASES, Code::InvalidArgument),
        ("just-app", "shop", ACME_LEASES, Code::InvalidArgument),
        ("just-app", "", "shop", Code::Ok),
    ] {
        let key = Some(LeaseKey { app: of.into(), name: "orders".into() });
        let (server, app) = (server.to_owned(), app.to_owned());
        let acquire = AcquireLease { key, server: server.clone(), app, started_ms: 1, ttl_ms: 60_000, id: 7 };
        let asked = hub.leases_as(leader, &server).acquire(acquire.clone()).await;
        let code = match asked.map(|it| it.into_inner().outcome) {
            Ok(Some(lease_acquired::Outcome::Granted(_))) => Code::Ok,
            Ok(other) => panic!("{acquire:?}: {other:?}"),
            Err(refused) => refused.code(),
        };
        assert_eq!(code, expected, "{acquire:?}");
    }
}
