//! No memory for new sessions: their visitors are served, and known users keep theirs.

use super::*;
use common::config::SaveMode;

/// A user who was there before the hub was full.
async fn known(a: &Server, hub: &FakeHub) -> User {
    let mut user = User::default();
    assert_eq!(a.count(&mut user).await, Ok(1));
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    hub.set_room(Some(1));
    user
}

#[tokio::test(start_paused = true)]
async fn a_new_visitor_is_served_without_a_session_and_a_known_one_with_his() {
    let (hub, a, b) = pair(&session_config());
    let mut user = known(&a, &hub).await;
    for server in [&a, &b, &a] {
        let mut visitor = User::default();
        assert_eq!(server.count(&mut visitor).await, Ok(1), "no error page");
        assert_eq!(visitor.cookie, None, "and no cookie of a session that is not there");
    }
    assert_eq!(a.count(&mut user).await, Ok(2));
    assert_eq!(b.count(&mut user).await, Ok(3));
    let stats = a.sessions.stats();
    assert_eq!((stats.without_session, stats.held, stats.unsaved), (2, 1, 0), "nothing is left of them");
    // A cookie of a session that has long gone.
    let mut late = User { cookie: Some("aa0123456789012345678901234".to_owned()), ..User::default() };
    assert_eq!(a.count(&mut late).await, Ok(1));
    assert_eq!(hub.record(late.cookie.as_deref().unwrap()), None);
    // Room again.
    hub.set_room(None);
    let mut visitor = User::default();
    assert_eq!(a.count(&mut visitor).await, Ok(1));
    assert_eq!(a.count(&mut visitor).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_first_does_not_fill_this_servers_memory() {
    for mode in [SaveMode::AfterRequest, SaveMode::OnShutdown] {
        let (hub, a, _) = pair(&config(|it| it.save_mode = mode));
        let mut user = known(&a, &hub).await;
        for _ in 0..10 {
            assert_eq!(a.count(&mut User::default()).await, Ok(1));
        }
        assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0, "{mode:?}");
        assert_eq!((a.sessions.stats().lost, a.sessions.stats().unsaved), (10, 0), "{mode:?}");
        a.sessions.sweep();
        assert_eq!(a.sessions.stats().held, 1, "{mode:?}");
        assert_eq!(a.count(&mut user).await, Ok(2));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_at_the_same_time_are_all_served() {
    let (hub, a, _) = pair(&session_config());
    known(&a, &hub).await;
    // One id, which no session has.
    let late = User { cookie: Some("aa0123456789012345678901234".to_owned()), ..User::default() };
    let guards = [a.begin(&late), a.begin(&late), a.begin(&late)];
    for (n, guard) in guards.iter().enumerate() {
        write(guard, &format!("a{n}"), n as u64).await.unwrap();
    }
    let finished = futures_util::future::join_all(guards.iter().map(|guard| guard.visit().finish())).await;
    assert!(finished.iter().all(|it| it.as_ref().is_ok_and(|it| it.cookie.is_none())), "{finished:?}");
    drop(guards);
    a.sessions.sweep();
    assert_eq!(a.sessions.stats().held, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_logout_there_is_no_fresh_session_either() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let old = user.clone();
    let guard = a.begin(&user);
    guard.visit().invalidate(guard.session_id()).await.unwrap();
    finish(&guard, &mut user).await.unwrap();
    drop(guard);
    hub.set_room(Some(0));
    let mut again = old.clone();
    assert_eq!(a.count(&mut again).await, Ok(1));
    assert_eq!((again.cookie, a.sessions.stats().unsaved), (old.cookie, 0));
}

#[tokio::test(start_paused = true)]
async fn a_known_session_that_may_not_grow_says_so_and_stays_as_it_was() {
    let (hub, a, _) = pair(&session_config());
    let mut user = known(&a, &hub).await;
    let guard = a.begin(&user);
    write(&guard, "count", 100_000).await.unwrap();
    assert_eq!(guard.visit().finish().await, Err(SessionError::NoRoom));
    drop(guard);
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(1));
    assert_eq!(a.count(&mut user).await, Ok(2), "what does not grow is saved");
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_memory_is_full_of_unsaved_sessions_serves_new_visitors_without_one() {
    let (hub, a, _) = pair(&config(|it| it.session_max = 8));
    hub.set_down(true);
    a.is_cut_off();
    for _ in 0..25 {
        assert_eq!(a.count(&mut User::default()).await, Ok(1));
    }
    let mut visitor = User::default();
    let guard = a.begin(&visitor);
    write(&guard, "count", 1).await.unwrap();
    assert_eq!(read(&guard, "count").await, Ok(1), "its own request sees what it has set");
    finish(&guard, &mut visitor).await.unwrap();
    drop(guard);
    let stats = a.sessions.stats();
    assert_eq!((visitor.cookie.is_none(), stats.without_session, stats.held), (true, 1, 25));
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(a.count(&mut visitor).await, Ok(1));
    assert!(visitor.cookie.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_hub_hears_at_once_of_the_first_use_after_the_one_that_made_a_session() {
    async fn told(hub: &FakeHub) -> u32 {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        hub.touches()
    }
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(told(&hub).await, 0);
    a.look(&mut user).await.unwrap();
    assert_eq!(told(&hub).await, 1);
    a.look(&mut user).await.unwrap();
    assert_eq!(told(&hub).await, 1, "and then once in a while");
    // Another server takes it over: the hub knows by that.
    b.look(&mut user).await.unwrap();
    b.look(&mut user).await.unwrap();
    assert_eq!(told(&hub).await, 1);
    // A restarted server finds its own session on the hub.
    let restarted = Server::new("b", 1, &hub, session_config());
    restarted.look(&mut user).await.unwrap();
    assert_eq!(told(&hub).await, 2);
    // One that could not be told is told the next time.
    let mut other = User::default();
    a.count(&mut other).await.unwrap();
    hub.set_down(true);
    let guard = a.begin(&other);
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(guard);
    hub.set_down(false);
    a.look(&mut other).await.unwrap();
    assert_eq!(told(&hub).await, 3);
}
