//! A web-tier hears the hub, this server does not: the requests go to another server before they see an outdated session.

use super::*;
use common::config::SaveMode;

/// What a web-tier says that hears the hub.
const HEARS: Option<Duration> = Some(Duration::from_millis(60));

/// a has counted to 1, then is cut off from the hub, which goes on without it.
async fn cut_off(session: &SessionConfig) -> (Arc<FakeHub>, Server, Server, User) {
    let (hub, a, b) = pair(session);
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    hub.set_down(true);
    a.is_cut_off();
    user.hub_age = HEARS;
    (hub, a, b, user)
}

fn is_lost<T: std::fmt::Debug>(done: &Result<T, SessionError>) -> bool {
    matches!(done, Err(SessionError::HubLost(_)))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_cut_off_refuses_before_the_app_sees_the_request() {
    let (_, a, _, user) = cut_off(&session_config()).await;
    let began = tokio::time::Instant::now();
    let guard = a.begin(&user);
    assert!(is_lost(&guard.visit().assure().await));
    assert!(began.elapsed() <= Duration::from_secs(3), "the first finds out");
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        let guard = a.begin(&user);
        assert!(is_lost(&guard.visit().assure().await));
    }
    assert!(began.elapsed().is_zero(), "the others need not wait");
}

#[tokio::test(start_paused = true)]
async fn while_the_web_tier_hears_no_more_the_session_is_served() {
    for age in [None, Some(Duration::from_secs(60)), Some(Duration::from_secs(3600))] {
        let (hub, a, _, mut user) = cut_off(&session_config()).await;
        user.hub_age = age;
        let guard = a.begin(&user);
        assert_eq!(guard.visit().assure().await, Ok(()));
        drop(guard);
        assert_eq!(a.count(&mut user).await, Ok(2), "{age:?}");
        hub.set_down(false);
        assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
        assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_hub_is_back_a_server_that_does_not_hear_it_yet_asks() {
    let (hub, a, b, mut user) = cut_off(&session_config()).await;
    // Lost for all, as far as a knows; then the web-tier hears it again first.
    user.hub_age = Some(Duration::from_secs(60));
    assert_eq!(a.count(&mut user).await, Ok(2));
    hub.set_down(false);
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    assert_eq!(b.count(&mut user).await, Ok(3));
    user.hub_age = HEARS;
    let guard = a.begin(&user);
    assert_eq!(guard.visit().assure().await, Ok(()));
    drop(guard);
    assert_eq!(a.count(&mut user).await, Ok(4));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_server_that_was_cut_off_within_the_request_is_not_given() {
    for mode in [SaveMode::BeforeResponse, SaveMode::AfterRequest] {
        let (hub, a, _) = pair(&config(|it| it.save_mode = mode));
        let mut user = User { hub_age: HEARS, ..User::default() };
        a.count(&mut user).await.unwrap();
        assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
        for changes in [true, false] {
            a.link_is_current();
            let guard = a.begin(&user);
            let count = read(&guard, "count").await.unwrap();
            if changes {
                write(&guard, "count", count + 1).await.unwrap();
            }
            hub.set_down(true);
            a.is_cut_off();
            // Another request tells that the hub lives.
            drop(a.begin(&user));
            assert!(is_lost(&guard.visit().finish().await), "{mode:?}, changes: {changes}");
            hub.set_down(false);
            drop(guard);
            assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_rests_on_memory_says_so() {
    // Whatever the web-tier knew when it sent the request: by now it may hear the hub.
    for age in [HEARS, Some(Duration::from_secs(60)), None] {
        for changes in [true, false] {
            let (hub, a, _) = pair(&session_config());
            let mut user = User::default();
            a.count(&mut user).await.unwrap();
            user.hub_age = age;
            let guard = a.begin(&user);
            let count = read(&guard, "count").await.unwrap();
            if changes {
                write(&guard, "count", count + 1).await.unwrap();
            }
            // Within the request, and no other request tells that the hub lives.
            hub.set_down(true);
            a.is_cut_off();
            let alone = guard.visit().finish().await.unwrap().alone;
            assert_eq!(alone, Some(Duration::from_secs(60)), "{age:?}, changes: {changes}");
        }
    }
    let (_, a, _) = pair(&session_config());
    let guard = a.begin(&User { hub_age: HEARS, ..User::default() });
    write(&guard, "count", 1).await.unwrap();
    assert_eq!(guard.visit().finish().await.unwrap().alone, None, "the hub has it");
}

#[tokio::test(start_paused = true)]
async fn a_new_session_is_not_made_on_a_server_that_is_cut_off() {
    let (_, a, _, _) = cut_off(&session_config()).await;
    let mut visitor = User { hub_age: HEARS, ..User::default() };
    let guard = a.begin(&visitor);
    assert_eq!(guard.visit().assure().await, Ok(()), "it may need no session");
    drop(guard);
    assert!(is_lost(&a.count(&mut visitor).await), "nobody else would know it");
    assert_eq!(visitor.cookie, None);
}
