//! How sessions begin, live and end.

use super::*;
use common::config::SaveMode;

/// What runs in the background gets its turns.
async fn turns() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_with_its_first_change() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    assert_eq!(a.look(&mut user).await.unwrap(), 0);
    assert_eq!(user.cookie, None, "reading makes no session");
    assert_eq!(hub.loads(), 0, "a visitor without a cookie has none");
    assert_eq!(a.count(&mut user).await.unwrap(), 1);
    let cookie = user.cookie.clone().unwrap();
    assert!(cookie.starts_with("aa"), "home is server 0: {cookie}");
    let record = hub.record(&cookie).unwrap();
    assert_eq!((record.version, record.owner.as_str()), (1, "a"));
    assert_eq!(a.count(&mut user).await.unwrap(), 2);
    assert_eq!(user.cookie.as_deref(), Some(cookie.as_str()));
    assert_eq!((hub.value(&cookie, "count"), hub.loads()), (Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_loaded_until_the_app_asks() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let guard = b.begin(&user);
    finish(&guard, &mut user).await.unwrap();
    assert_eq!(hub.loads(), 0);
    assert_eq!(guard.session_id(), user.cookie.clone().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_reused_or_not() {
    for (reuse, cookie, kept) in [
        (true, "ba3456789012345678901234", true),
        (false, "ba3456789012345678901234", false),
        (true, "bXXX", false),
    ] {
        let (hub, a, _) = pair(&config(|it| it.reuse_session_id = reuse));
        let mut user = User { cookie: Some(cookie.to_owned()), ..User::default() };
        assert_eq!(a.count(&mut user).await.unwrap(), 1);
        assert_eq!(user.cookie.as_deref() == Some(cookie), kept, "{cookie} {reuse}");
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(1));
        assert_eq!(a.count(&mut user).await.unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn invalidate_ends_it_everywhere() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let old = user.clone();
    let other = a.begin(&user);
    assert_eq!(read(&other, "count").await.unwrap(), 1);
    let guard = a.begin(&user);
    guard.visit().invalidate(guard.session_id()).await.unwrap();
    finish(&guard, &mut user).await.unwrap();
    assert_eq!((user.cookie.clone(), hub.record(old.cookie.as_deref().unwrap())), (None, None));
    assert_eq!(write(&other, "count", 2).await, Err(SessionError::Stale), "it must not rise again");
    assert_eq!(other.visit().finish().await, Err(SessionError::Stale));
    assert_eq!(b.look(&mut old.clone()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_after_invalidate_is_another_session() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let old = user.cookie.clone().unwrap();
    let guard = a.begin(&user);
    guard.visit().invalidate(guard.session_id()).await.unwrap();
    write(&guard, "count", 9).await.unwrap();
    finish(&guard, &mut user).await.unwrap();
    let new = user.cookie.clone().unwrap();
    assert_ne!(new, old);
    assert_eq!((hub.record(&old), hub.value(&new, "count")), (None, Some(9)));
}

#[tokio::test(start_paused = true)]
async fn change_id_moves_it_with_unsaved_changes() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let (old, mut thief) = (user.cookie.clone().unwrap(), user.clone());
    let guard = a.begin(&user);
    write(&guard, "user", 7).await.unwrap();
    let told = guard.visit().change_id(guard.session_id()).await.unwrap();
    finish(&guard, &mut user).await.unwrap();
    let new = user.cookie.clone().unwrap();
    assert_eq!(told.as_str(), new);
    assert_eq!(
        (hub.record(&old), hub.value(&new, "user"), hub.value(&new, "count")),
        (None, Some(7), Some(1))
    );
    assert_eq!(a.look(&mut thief).await.unwrap(), 0, "who knew the old id has nothing");
    assert_eq!(a.count(&mut user).await.unwrap(), 2);
    assert_eq!(b.count(&mut user).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn another_session_than_the_request_s_is_refused() {
    let (_, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let stranger = a.begin(&User::default());
    let stolen = stranger.visit().load(user.cookie.as_deref().unwrap()).await;
    assert_eq!(stolen, Err(SessionError::NotThisRequest));
    let handle = stranger.handle();
    assert!(a.sessions.visit(&handle).is_some());
    drop(stranger);
    assert!(a.sessions.visit(&handle).is_none(), "a request that is over can't be called for");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_what_was_evicted_is_loaded_again() {
    let (hub, a, _) = pair(&config(|it| it.session_max = 4));
    let mut users = vec![User::default(); 10];
    for user in &mut users {
        a.count(user).await.unwrap();
    }
    assert_eq!(a.sessions.stats().held, 4);
    for user in &mut users {
        assert_eq!(a.count(user).await.unwrap(), 2);
    }
    assert!(hub.loads() >= 6);
}

#[tokio::test(start_paused = true)]
async fn unsaved_sessions_are_never_evicted() {
    let (hub, a, _) = pair(&config(|it| it.session_max = 4));
    hub.set_down(true);
    a.is_cut_off();
    let mut users = vec![User::default(); 40];
    let mut answered = Vec::new();
    for user in &mut users {
        assert_eq!(a.count(user).await, Ok(1));
        answered.extend(user.cookie.is_some().then(|| user.clone()));
    }
    assert_eq!(answered.len(), 20, "session-max, an eighth of it, and 16");
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    for user in &answered {
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_changes_of_one_session_share_saves() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let before = hub.saves();
    let mut guards = Vec::new();
    for number in 0..20_u64 {
        let guard = a.begin(&user);
        write(&guard, &format!("n{number}"), number).await.unwrap();
        guards.push(guard);
    }
    let finished = guards.iter().map(|guard| guard.visit().finish());
    for done in futures_util::future::join_all(finished).await {
        assert_eq!(done, Ok(crate::session::Finished::default()));
    }
    assert!(hub.saves() - before <= 2, "{} saves", hub.saves() - before);
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "n19"), Some(19));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_is_still_saved() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let guard = a.begin(&user);
    write(&guard, "count", 5).await.unwrap();
    drop(guard);
    turns().await;
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(5));
}

#[tokio::test(start_paused = true)]
async fn save_modes() {
    for (mode, soon) in [(SaveMode::AfterRequest, 1), (SaveMode::OnShutdown, 0)] {
        let (hub, a, _) = pair(&config(|it| it.save_mode = mode));
        let mut user = User::default();
        let guard = a.begin(&user);
        write(&guard, "count", 1).await.unwrap();
        finish(&guard, &mut user).await.unwrap();
        assert_eq!(hub.saves(), 0, "{mode:?}: the answer did not wait");
        // Its body is still on its way.
        turns().await;
        assert_eq!(hub.saves(), soon, "{mode:?}");
        drop(guard);
        turns().await;
        assert_eq!(hub.saves(), soon, "{mode:?}");
        assert_eq!(a.sessions.save_all(Duration::from_secs(5)).await, 0);
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn always_save_saves_all_at_each_request() {
    let (hub, a, _) = pair(&config(|it| it.always_save_session = true));
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(a.look(&mut user).await.unwrap(), 1);
    assert_eq!(hub.record(user.cookie.as_deref().unwrap()).unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_hub_memory_is_all() {
    let (hub, a, _) = pair(&config(|it| {
        it.use_persistent_store = false;
        it.session_timeout = Duration::from_secs(60);
    }));
    let mut user = User::default();
    assert_eq!(a.count(&mut user).await.unwrap(), 1);
    assert_eq!(a.count(&mut user).await.unwrap(), 2);
    a.clock.advance(Duration::from_secs(61));
    assert_eq!(a.count(&mut user).await.unwrap(), 1, "idle for longer than session-timeout");
    a.clock.advance(Duration::from_secs(61));
    a.sessions.sweep();
    assert_eq!((a.sessions.stats().held, hub.saves(), hub.loads()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn use_keeps_a_session_alive_on_the_hub() {
    let (hub, a, _) = pair(&config(|it| it.session_timeout = Duration::from_secs(60)));
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.expire(user.cookie.as_deref().unwrap());
    // The touch finds that it is gone.
    a.clock.advance(Duration::from_secs(7));
    a.link_is_current();
    drop(a.begin(&user));
    turns().await;
    assert_eq!(a.look(&mut user).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn too_large_is_refused_and_the_request_goes_on() {
    let (_, a, _) = pair(&session_config());
    let mut user = User::default();
    let guard = a.begin(&user);
    let set = HashMap::from([("blob".to_owned(), Bytes::from(vec![0; 16 * 1024 * 1024 + 1]))]);
    let refused = guard.visit().update(guard.session_id(), set, Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "attribute \"blob\" has 16777217 bytes; at most 16777216");
    write(&guard, "count", 1).await.unwrap();
    finish(&guard, &mut user).await.unwrap();
    assert_eq!(a.look(&mut user).await.unwrap(), 1);
}

/// A whole request that sets one large attribute.
async fn fill(server: &Server, user: &mut User, size: usize) -> Result<(), SessionError> {
    let guard = server.begin(user);
    let set = HashMap::from([("blob".to_owned(), Bytes::from(vec![0; size]))]);
    guard.visit().update(guard.session_id(), set, Vec::new()).await?;
    finish(&guard, user).await
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_in_bytes() {
    let (hub, a, _) = pair(&session_config());
    let mut users = vec![User::default(); 20];
    for user in &mut users {
        fill(&a, user, MEMORY / 8).await.unwrap();
        assert!(a.sessions.stats().bytes <= MEMORY, "{:?}", a.sessions.stats());
    }
    assert_eq!(a.sessions.stats().held, 7, "with its name, an eighth has no room eight times");
    for user in &mut users {
        assert_eq!(a.count(user).await.unwrap(), 1);
        assert!(a.sessions.stats().bytes <= MEMORY, "{:?}", a.sessions.stats());
        let record = hub.record(user.cookie.as_deref().unwrap()).unwrap();
        assert_eq!((record.version, record.attributes["blob"].len()), (2, MEMORY / 8));
    }
    // What the hub lacks stays, and is not added to without end.
    hub.set_down(true);
    a.is_cut_off();
    let mut answered = 0;
    for user in &mut vec![User::default(); 20] {
        match fill(&a, user, MEMORY / 8).await {
            Ok(()) => answered += 1,
            Err(refused) => assert_eq!(refused, SessionError::NoRoom),
        }
    }
    assert_eq!(answered, 9, "an eighth more");
    // Who has a session on the hub hears that there is no room for it here.
    let refused = a.count(&mut users[0]).await.unwrap_err();
    assert!(matches!(refused, SessionError::Full { .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_large_value_can_be_replaced() {
    let (_, a, _) = pair(&session_config());
    let mut user = User::default();
    for _ in 0..2 {
        let guard = a.begin(&user);
        for name in ["one", "two"] {
            let set = HashMap::from([(name.to_owned(), Bytes::from(vec![0; 15 * 1024 * 1024]))]);
            guard.visit().update(guard.session_id(), set, Vec::new()).await.unwrap();
        }
        finish(&guard, &mut user).await.unwrap();
    }
    let set = HashMap::from([("three".to_owned(), Bytes::from(vec![0; 15 * 1024 * 1024]))]);
    let guard = a.begin(&user);
    let refused = guard.visit().update(guard.session_id(), set.clone(), Vec::new()).await.unwrap_err();
    assert!(matches!(refused, SessionError::TooLarge { .. }), "{refused}");
    guard.visit().update(guard.session_id(), set, vec!["one".to_owned()]).await.unwrap();
}
