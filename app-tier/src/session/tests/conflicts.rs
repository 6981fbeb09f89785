//! Two servers, one session: fail-over, fail-back and stale copies.

use super::*;

#[tokio::test(start_paused = true)]
async fn fail_over_and_back() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    for count in 1..=5 {
        assert_eq!(a.count(&mut user).await.unwrap(), count);
    }
    assert_eq!(b.count(&mut user).await.unwrap(), 6);
    assert_eq!(b.count(&mut user).await.unwrap(), 7);
    assert_eq!(hub.loads(), 1, "the second needs no load");
    a.hears();
    assert_eq!(a.count(&mut user).await.unwrap(), 8);
    assert!(user.cookie.as_deref().unwrap().starts_with("aa"), "the id stays");
    b.hears();
    assert_eq!(b.look(&mut user).await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_never_answers_with_a_change() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(b.count(&mut user).await.unwrap(), 2);
    // The event is still on its way.
    assert_eq!(a.count(&mut user).await, Err(SessionError::Stale));
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
    assert_eq!(a.count(&mut user).await.unwrap(), 3, "sent again, it is right");
    assert_eq!(a.sessions.stats().stale, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_stopped_asks_before_it_answers() {
    let (_, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    b.count(&mut user).await.unwrap();
    a.is_cut_off();
    assert_eq!(a.look(&mut user).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_stopped_within_a_request_asks_before_the_answer_leaves() {
    let (_, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let guard = a.begin(&user);
    assert_eq!(read(&guard, "count").await.unwrap(), 1);
    a.is_cut_off();
    b.count(&mut user).await.unwrap();
    assert_eq!(guard.visit().finish().await, Err(SessionError::Stale));
}

#[tokio::test(start_paused = true)]
async fn a_change_on_what_has_moved_on_is_refused() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let guard = a.begin(&user);
    let count = read(&guard, "count").await.unwrap();
    b.count(&mut user).await.unwrap();
    a.hears();
    // Another request of this server has the new value loaded meanwhile.
    assert_eq!(a.look(&mut user).await.unwrap(), 2);
    assert_eq!(write(&guard, "count", count + 1).await, Err(SessionError::Stale));
    assert_eq!(guard.visit().finish().await, Err(SessionError::Stale), "whatever the app answers");
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn other_attributes_are_merged() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let (on_a, on_b) = (a.begin(&user), b.begin(&user));
    write(&on_a, "x", 1).await.unwrap();
    write(&on_b, "y", 2).await.unwrap();
    finish(&on_b, &mut user).await.unwrap();
    finish(&on_a, &mut user).await.unwrap();
    let cookie = user.cookie.clone().unwrap();
    assert_eq!((hub.value(&cookie, "x"), hub.value(&cookie, "y")), (Some(1), Some(2)));
    assert_eq!((a.sessions.stats().merged, hub.record(&cookie).unwrap().version), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn after_a_snapshot_every_copy_is_asked_for_again() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    a.look(&mut user).await.unwrap();
    assert_eq!(hub.loads(), 0);
    a.snapshot();
    a.link_is_current();
    assert_eq!(a.look(&mut user).await.unwrap(), 1);
    assert_eq!(a.look(&mut user).await.unwrap(), 1);
    assert_eq!(hub.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_expired_elsewhere_refuses_the_change_in_flight() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let guard = a.begin(&user);
    write(&guard, "count", 2).await.unwrap();
    hub.expire(user.cookie.as_deref().unwrap());
    assert_eq!(guard.visit().finish().await, Err(SessionError::Stale));
    drop(guard);
    assert_eq!((a.count(&mut user).await.unwrap(), a.sessions.stats().lost), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_event_during_the_load_is_not_overlooked() {
    let (_, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    a.is_cut_off();
    a.link_is_current();
    a.snapshot();
    a.link_is_current();
    let guard = a.begin(&user);
    let loading = guard.visit().load(guard.session_id());
    let moving = async { a.sessions.moved(id(&user).as_str()) };
    // The load's question is out when the event comes.
    let (loaded, ()) = tokio::join!(biased; loading, moving);
    loaded.unwrap();
    b.count(&mut user.clone()).await.unwrap();
    assert_eq!(a.look(&mut user).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_save_sent_again_does_not_make_an_outdated_copy_current() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    // Done, but a does not know: it answers, and the save is still to be sent again.
    hub.lose_an_answer();
    let sent = hub.saves();
    let guard = a.begin(&user);
    write(&guard, "count", 2).await.unwrap();
    drop(guard);
    while hub.saves() == sent {
        tokio::task::yield_now().await;
    }
    assert_eq!(b.count(&mut user).await.unwrap(), 3);
    a.hears();
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(a.look(&mut user).await.unwrap(), 3, "not the 2 of the save that was sent again");
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_sets_equal_values_is_one_that_reads() {
    for always in [false, true] {
        let (_, a, b) = pair(&config(|it| it.always_save_session = always));
        let mut user = User::default();
        a.count(&mut user).await.unwrap();
        let guard = a.begin(&user);
        assert_eq!(read(&guard, "count").await.unwrap(), 1);
        write(&guard, "count", 1).await.unwrap();
        a.is_cut_off();
        b.count(&mut user).await.unwrap();
        assert_eq!(guard.visit().finish().await, Err(SessionError::Stale), "always-save-session {always}");
    }
}
