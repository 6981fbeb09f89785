//! The hub can't be reached, or its answers can't.

use super::*;
use common::config::{OnHubLoss, SaveMode};

#[tokio::test(start_paused = true)]
async fn counting_goes_on_from_memory_and_the_hub_gets_the_final_value() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.set_down(true);
    a.is_cut_off();
    let began = tokio::time::Instant::now();
    for count in 2..=10 {
        assert_eq!(a.count(&mut user).await.unwrap(), count);
    }
    let waited = began.elapsed();
    assert!(waited <= Duration::from_secs(5), "only the first waits: {waited:?}");
    let cookie = user.cookie.clone().unwrap();
    assert_eq!(hub.value(&cookie, "count"), Some(1));
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(hub.value(&cookie, "count"), Some(10));
    assert!(a.sessions.stats().unsaved_answers >= 9);
    a.link_is_current();
    assert_eq!(a.count(&mut user).await.unwrap(), 11);
}

#[tokio::test(start_paused = true)]
async fn new_visitors_are_served_from_memory() {
    let (hub, a, _) = pair(&session_config());
    hub.set_down(true);
    a.is_cut_off();
    let mut user = User::default();
    assert_eq!(a.count(&mut user).await.unwrap(), 1);
    assert_eq!(a.count(&mut user).await.unwrap(), 2);
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_memory_can_t_be_known() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.set_down(true);
    assert!(matches!(b.look(&mut user).await, Err(SessionError::HubLost(_))), "no empty session");
    hub.set_down(false);
    b.clock.advance(Duration::from_secs(6));
    assert_eq!(b.look(&mut user).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn on_hub_loss_fail() {
    let (hub, a, _) = pair(&config(|it| it.on_hub_loss = OnHubLoss::Fail));
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.set_down(true);
    assert!(matches!(a.count(&mut user).await, Err(SessionError::HubLost(_))));
    a.is_cut_off();
    assert!(matches!(a.look(&mut user).await, Err(SessionError::HubLost(_))));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_and_counts_once() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.lose_an_answer();
    assert_eq!(a.count(&mut user).await.unwrap(), 2);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(hub.record(user.cookie.as_deref().unwrap()).unwrap().version, 2);
    a.link_is_current();
    assert_eq!(a.count(&mut user).await.unwrap(), 3);
    assert_eq!(hub.saves(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_without_the_hub_gives_way_to_what_the_hub_acknowledged() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    b.look(&mut user).await.unwrap();
    hub.set_down(true);
    a.is_cut_off();
    for count in 2..=4 {
        assert_eq!(a.count(&mut user).await.unwrap(), count);
    }
    // b reaches the hub first.
    hub.set_down(false);
    let guard = b.begin(&user);
    write(&guard, "count", 2).await.unwrap();
    finish(&guard, &mut user).await.unwrap();
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
    assert_eq!(a.sessions.stats().superseded, 1);
    a.link_is_current();
    assert_eq!(a.look(&mut user).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_during_the_loss_does_not_rise_again() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.set_down(true);
    a.is_cut_off();
    a.count(&mut user).await.unwrap();
    hub.expire(user.cookie.as_deref().unwrap());
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!((hub.record(user.cookie.as_deref().unwrap()), a.sessions.stats().lost), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_save_refuses_the_answer() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    hub.set_refusing(true);
    assert_eq!(a.count(&mut user).await, Err(SessionError::Refused("too large".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_login_needs_the_hub() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    hub.set_down(true);
    let guard = a.begin(&user);
    let changed = guard.visit().change_id(guard.session_id()).await;
    assert!(matches!(changed, Err(SessionError::HubLost(_))), "the old id would live on: {changed:?}");
}

/// a's copy has count 1, b has answered up to 5, and a has been told.
async fn moved_away(a: &Server, b: &Server, user: &mut User) {
    a.count(user).await.unwrap();
    for count in 2..=5 {
        assert_eq!(b.count(user).await.unwrap(), count);
    }
    a.hears();
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_has_moved_away_is_not_served_during_the_loss() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    moved_away(&a, &b, &mut user).await;
    hub.set_down(true);
    assert!(matches!(a.count(&mut user).await, Err(SessionError::HubLost(_))));
    a.is_cut_off();
    assert!(matches!(a.look(&mut user).await, Err(SessionError::HubLost(_))));
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(5));
    a.link_is_current();
    assert_eq!(a.count(&mut user).await.unwrap(), 6);
    assert_eq!(a.sessions.stats().superseded, 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_copy_moves_away_during_the_loss_is_not_answered() {
    for mode in [SaveMode::BeforeResponse, SaveMode::AfterRequest] {
        let (hub, a, b) = pair(&config(|it| it.save_mode = mode));
        let mut user = User::default();
        a.count(&mut user).await.unwrap();
        assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
        let guard = a.begin(&user);
        write(&guard, "count", 2).await.unwrap();
        for count in 2..=5 {
            assert_eq!(b.count(&mut user).await.unwrap(), count);
        }
        assert_eq!(b.sessions.save_all(Duration::from_secs(60)).await, 0);
        a.hears();
        hub.set_down(true);
        assert!(matches!(guard.visit().finish().await, Err(SessionError::HubLost(_))), "{mode:?}");
        hub.set_down(false);
        assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(5), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_a_refused_save_has_rebased_is_not_served_during_the_loss() {
    let (hub, a, b) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(b.count(&mut user).await.unwrap(), 2);
    // The event comes first, the refused save brings what it was about.
    let guard = a.begin(&user);
    write(&guard, "count", 2).await.unwrap();
    a.hears();
    assert_eq!(guard.visit().finish().await, Err(SessionError::Stale));
    drop(guard);
    // It is b's still, who counts on, and nobody tells a.
    assert_eq!(b.count(&mut user).await.unwrap(), 3);
    hub.set_down(true);
    a.is_cut_off();
    assert!(matches!(a.count(&mut user).await, Err(SessionError::HubLost(_))));
    hub.set_down(false);
    a.link_is_current();
    assert_eq!(a.count(&mut user).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_not_used_since_events_were_missed_is_not_served_during_the_loss() {
    for used in [false, true] {
        let (hub, a, b) = pair(&session_config());
        let mut user = User::default();
        a.count(&mut user).await.unwrap();
        assert_eq!(b.count(&mut user).await.unwrap(), 2);
        // What a should have been told was among what it has missed.
        let _missed = hub.moved("a");
        a.snapshot();
        a.link_is_current();
        if used {
            assert_eq!(a.count(&mut user).await.unwrap(), 3);
        }
        hub.set_down(true);
        a.is_cut_off();
        let counted = a.count(&mut user).await;
        assert_eq!(counted.ok(), used.then_some(4), "used since: {used}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_on_alone_before_the_hub_could_have_been_found_again() {
    for back in [true, false] {
        let (hub, a, _) = pair(&session_config());
        let mut user = User::default();
        a.count(&mut user).await.unwrap();
        hub.set_down(true);
        a.clock.advance(Duration::from_millis(500));
        let later = async {
            // After the first call has failed, before anybody may go on.
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(a.sessions.stats().unsaved_answers, 0, "nobody has been answered yet");
            if back {
                hub.set_down(false);
            } else {
                a.is_cut_off();
            }
        };
        let (counted, ()) = tokio::join!(a.count(&mut user), later);
        let on_hub = hub.value(user.cookie.as_deref().unwrap(), "count");
        assert_eq!((counted.unwrap(), on_hub), (2, Some(if back { 2 } else { 1 })));
    }
}

#[tokio::test(start_paused = true)]
async fn one_slow_session_is_refused_while_the_hub_lives_and_does_not_make_others_unsafe() {
    let (hub, a, _) = pair(&session_config());
    let (mut slow, mut other) = (User::default(), User::default());
    a.count(&mut slow).await.unwrap();
    a.count(&mut other).await.unwrap();
    hub.stall(slow.cookie.as_deref().unwrap());
    assert!(
        matches!(a.count(&mut slow).await, Err(SessionError::HubLost(_))),
        "it lives: it has the last word"
    );
    assert_eq!(a.count(&mut other).await.unwrap(), 2);
    assert_eq!(
        hub.value(other.cookie.as_deref().unwrap(), "count"),
        Some(2),
        "on the hub before it was answered"
    );
    assert_eq!(a.sessions.stats().unsaved_answers, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_hub_that_lives_does_not_say_in_time_is_not_answered_from_memory() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    // Events were missed, so that the copy is to be asked for again; signs of life come, answers don't.
    a.snapshot();
    a.link_is_current();
    hub.set_down(true);
    assert!(matches!(a.look(&mut user).await, Err(SessionError::HubLost(_))));
    assert!(!a.link.is_lost(), "it lives");
}

#[tokio::test(start_paused = true)]
async fn what_is_unsaved_does_not_wait_for_its_next_try_when_the_hub_is_back() {
    let (hub, a, _) = pair(&session_config());
    let mut users = vec![User::default(); 3];
    for user in &mut users {
        a.count(user).await.unwrap();
    }
    hub.set_down(true);
    a.is_cut_off();
    for user in &mut users {
        assert_eq!(a.count(user).await, Ok(2));
    }
    // Long enough for the longest waits, and now each is in one.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let began = tokio::time::Instant::now();
    hub.set_down(false);
    a.link_is_current();
    a.link.returned().await;
    a.sessions.hub_has_returned().await;
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert!(began.elapsed().is_zero(), "{:?}", began.elapsed());
    for user in &users {
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn uses_that_the_hub_could_not_be_told_of_are_told_when_it_is_back() {
    let (hub, a, _) = pair(&config(|it| it.session_timeout = Duration::from_secs(60)));
    let (mut used, mut idle) = (User::default(), User::default());
    a.count(&mut used).await.unwrap();
    a.count(&mut idle).await.unwrap();
    a.clock.advance(Duration::from_secs(30));
    hub.set_down(true);
    // The first use tries in vain, the second does not try.
    for _ in 0..2 {
        assert_eq!(a.look(&mut used).await, Ok(1));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(hub.touches(), 0);
    hub.set_down(false);
    a.link_is_current();
    a.link.returned().await;
    a.sessions.hub_has_returned().await;
    assert_eq!(hub.touches(), 1, "not of the one that was idle");
    a.sessions.hub_has_returned().await;
    assert_eq!(hub.touches(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_next_change_is_saved_at_once() {
    let (hub, a, _) = pair(&session_config());
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    // One change is refused and dropped; another is kept, for an answer has told of it.
    for unsaved_before in [false, true] {
        if unsaved_before {
            hub.set_down(true);
            a.is_cut_off();
            a.count(&mut user).await.unwrap();
            hub.set_down(false);
            a.link_is_current();
        }
        hub.set_refusing(true);
        let refused = a.count(&mut user).await;
        // What an answer has told of stays to be saved, and the hub lives: nothing is served before it has it.
        let lost = unsaved_before && matches!(refused, Err(SessionError::HubLost(_)));
        assert!(lost || matches!(refused, Err(SessionError::Refused(_))), "{unsaved_before}: {refused:?}");
        hub.set_refusing(false);
        let began = tokio::time::Instant::now();
        let count = a.count(&mut user).await.unwrap();
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(count), "{unsaved_before}");
        assert!(began.elapsed() < Duration::from_millis(100), "{unsaved_before}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_hub_is_lost_one_request_tries_at_a_time() {
    let (hub, a, _) = pair(&session_config());
    let mut users = vec![User::default(); 4];
    for user in &mut users {
        a.count(user).await.unwrap();
    }
    hub.set_down(true);
    a.is_cut_off();
    a.look(&mut users[0]).await.unwrap();
    a.clock.advance(Duration::from_secs(6));
    let looks = users.iter_mut().map(async |user| {
        let began = tokio::time::Instant::now();
        a.look(user).await.unwrap();
        began.elapsed()
    });
    let waited = futures_util::future::join_all(looks).await;
    assert_eq!(waited.iter().filter(|it| !it.is_zero()).count(), 1, "{waited:?}");
}
