//! A session that ended a moment ago, and a browser that still comes with its id: the hub takes no session under it.

use super::*;
use common::config::SaveMode;

/// A user who has logged out, and whose browser goes on with the old cookie.
async fn logged_out(a: &Server, hub: &FakeHub) -> User {
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    let guard = a.begin(&user);
    guard.visit().invalidate(guard.session_id()).await.unwrap();
    let cookie = user.cookie.clone();
    finish(&guard, &mut user).await.unwrap();
    assert_eq!((user.cookie, hub.record(cookie.as_deref().unwrap())), (None, None));
    User { cookie, ..User::default() }
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_under_a_fresh_id() {
    for mode in [SaveMode::BeforeResponse, SaveMode::AfterRequest, SaveMode::OnShutdown] {
        let (hub, a, b) = pair(&config(|it| it.save_mode = mode));
        let old = logged_out(&a, &hub).await;
        for server in [&a, &b] {
            let mut user = old.clone();
            assert_eq!(server.count(&mut user).await, Ok(1), "{mode:?}");
            assert_ne!(user.cookie, old.cookie, "{mode:?}");
            assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(1), "{mode:?}");
            assert_eq!(server.count(&mut user).await, Ok(2), "{mode:?}");
            assert_eq!(server.sessions.stats().held, 1, "nothing is left of the old one");
        }
        assert_eq!(hub.record(old.cookie.as_deref().unwrap()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_at_the_same_time_get_one_session() {
    let (hub, a, _) = pair(&session_config());
    let old = logged_out(&a, &hub).await;
    let guards = [a.begin(&old), a.begin(&old), a.begin(&old)];
    for (n, guard) in guards.iter().enumerate() {
        write(guard, &format!("a{n}"), n as u64).await.unwrap();
    }
    let finished = futures_util::future::join_all(guards.iter().map(|guard| guard.visit().finish())).await;
    let cookies: Vec<_> = finished.into_iter().map(|it| it.unwrap().cookie.unwrap()).collect();
    assert!(cookies.iter().all(|it| *it == cookies[0]), "{cookies:?}");
    drop(guards);
    let id = cookies[0].to_str().unwrap().strip_prefix("S=").unwrap().split(';').next().unwrap().to_owned();
    for n in 0..3 {
        assert_eq!(hub.value(&id, &format!("a{n}")), Some(n));
    }
    assert_eq!((hub.record(&id).unwrap().version, a.sessions.stats().held), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_without_the_hub_is_not_undone_by_a_fresh_id() {
    let (hub, a, b) = pair(&config(|it| it.reuse_session_id = true));
    let cookie = "ba3456789012345678901234";
    let mut user = User { cookie: Some(cookie.to_owned()), ..User::default() };
    // What a saves does not arrive.
    hub.stall(cookie);
    a.is_cut_off();
    a.count(&mut user).await.unwrap();
    // A logout on another server, before a has saved anything.
    let guard = b.begin(&user);
    guard.visit().invalidate(guard.session_id()).await.unwrap();
    drop(guard);
    hub.stall("");
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!((a.sessions.stats().lost, hub.record(user.cookie.as_deref().unwrap())), (1, None));
}

#[tokio::test(start_paused = true)]
async fn without_the_hub_there_is_no_fresh_id() {
    let (hub, a, _) = pair(&session_config());
    let old = logged_out(&a, &hub).await;
    let guard = a.begin(&old);
    write(&guard, "count", 1).await.unwrap();
    a.sessions.save_all(Duration::from_secs(60)).await;
    hub.set_down(true);
    let finished = guard.visit().finish().await;
    assert!(matches!(finished, Err(SessionError::HubLost(_))), "{finished:?}");
    assert_eq!(a.sessions.stats().unsaved, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_leaves_nothing() {
    let (hub, a, _) = pair(&session_config());
    let old = logged_out(&a, &hub).await;
    let guard = a.begin(&old);
    write(&guard, "count", 1).await.unwrap();
    drop(guard);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    let (mut user, stats) = (old.clone(), a.sessions.stats());
    assert_eq!((stats.unsaved, hub.record(old.cookie.as_deref().unwrap())), (0, None));
    assert_eq!(a.count(&mut user).await, Ok(1));
    assert_ne!(user.cookie, old.cookie);
}
