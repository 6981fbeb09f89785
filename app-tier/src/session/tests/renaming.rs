//! A session gets another id, as after a login, while others change it.

use super::*;
use common::config::{OnHubLoss, SaveMode};

/// a has counted to 1 and b to 2, of which a has not heard.
async fn outdated(a: &Server, b: &Server) -> User {
    let mut user = User::default();
    assert_eq!(a.count(&mut user).await, Ok(1));
    assert_eq!(b.count(&mut user).await, Ok(2));
    user
}

#[tokio::test(start_paused = true)]
async fn what_another_server_has_acknowledged_goes_along() {
    for old in [false, true] {
        let (hub, a, b) = pair(&session_config());
        hub.set_old(old);
        let mut user = outdated(&a, &b).await;
        let before = user.cookie.clone().unwrap();
        let login = a.begin(&user);
        login.visit().change_id(login.session_id()).await.unwrap();
        finish(&login, &mut user).await.unwrap();
        assert_ne!(user.cookie.as_deref(), Some(before.as_str()));
        assert_eq!(hub.record(&before), None);
        assert_eq!(a.count(&mut user).await, Ok(3), "an older hub: {old}");
        assert_eq!(b.count(&mut user).await, Ok(4));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_request_has_changed_is_put_on_top_of_it() {
    for old in [false, true] {
        let (hub, a, b) = pair(&session_config());
        hub.set_old(old);
        let mut user = outdated(&a, &b).await;
        let login = a.begin(&user);
        write(&login, "user", 7).await.unwrap();
        login.visit().change_id(login.session_id()).await.unwrap();
        finish(&login, &mut user).await.unwrap();
        let new = user.cookie.clone().unwrap();
        assert_eq!((hub.value(&new, "user"), hub.value(&new, "count")), (Some(7), Some(2)));
        // But what it had read is not written back.
        assert_eq!(write(&login, "count", 2).await, Err(SessionError::Stale));
        assert_eq!(b.count(&mut user).await, Ok(3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_read_what_is_no_longer_true_is_refused_and_the_id_stays() {
    let (hub, a, b) = pair(&session_config());
    let mut user = outdated(&a, &b).await;
    let login = a.begin(&user);
    assert_eq!(read(&login, "count").await, Ok(1));
    assert_eq!(login.visit().change_id(login.session_id()).await, Err(SessionError::Stale));
    assert_eq!(login.visit().finish().await, Err(SessionError::Stale));
    assert_eq!(login.visit().moved_cookie(), None);
    assert_eq!(hub.value(user.cookie.as_deref().unwrap(), "count"), Some(2));
    assert_eq!(a.count(&mut user).await, Ok(3), "sent again, it is right");
}

#[tokio::test(start_paused = true)]
async fn a_login_does_not_undo_a_logout() {
    for old in [false, true] {
        let (hub, a, b) = pair(&session_config());
        hub.set_old(old);
        let user = outdated(&a, &b).await;
        let login = a.begin(&user);
        write(&login, "user", 7).await.unwrap();
        assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
        let logout = b.begin(&user);
        logout.visit().invalidate(logout.session_id()).await.unwrap();
        let id = login.visit().change_id(login.session_id()).await;
        assert_eq!(id, Err(SessionError::Stale));
        assert_eq!(hub.ids(), [] as [String; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_request_changes_meanwhile_goes_along() {
    let (hub, a, _) = pair(&config(|it| it.save_mode = SaveMode::AfterRequest));
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    let (login, other) = (a.begin(&user), a.begin(&user));
    let renaming = login.visit().change_id(login.session_id());
    let changing = async {
        write(&other, "x", 1).await.unwrap();
        other.visit().finish().await.unwrap();
    };
    // The hub has been asked when the other request is answered.
    let (renamed, ()) = tokio::join!(biased; renaming, changing);
    renamed.unwrap();
    finish(&login, &mut user).await.unwrap();
    assert_eq!(a.sessions.save_all(Duration::from_secs(60)).await, 0);
    let new = user.cookie.as_deref().unwrap();
    assert_eq!((hub.value(new, "count"), hub.value(new, "x")), (Some(1), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_answered_the_browser_hears_of_the_new_id() {
    let (hub, a, _) = pair(&config(|it| it.on_hub_loss = OnHubLoss::Fail));
    let mut user = User::default();
    a.count(&mut user).await.unwrap();
    let login = a.begin(&user);
    let id = login.visit().change_id(login.session_id()).await.unwrap();
    write(&login, "user", 7).await.unwrap();
    hub.set_down(true);
    assert!(matches!(login.visit().finish().await, Err(SessionError::HubLost(_))));
    let cookie = login.visit().moved_cookie().unwrap();
    assert!(cookie.to_str().unwrap().starts_with(&format!("S={}", id.as_str())), "{cookie:?}");
    // Not of one that has ended.
    hub.set_down(false);
    let logout = a.begin(&User { cookie: Some(id.as_str().to_owned()), ..User::default() });
    logout.visit().change_id(logout.session_id()).await.unwrap();
    logout.visit().invalidate(logout.session_id()).await.unwrap();
    assert_eq!(logout.visit().moved_cookie(), None);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_knows_whether_it_was_done_the_old_id_is_not_believed() {
    for renames in [true, false] {
        let (hub, a, _) = pair(&session_config());
        let mut user = User::default();
        a.count(&mut user).await.unwrap();
        let guard = a.begin(&user);
        hub.lose_an_answer();
        let lost = if renames {
            guard.visit().change_id(guard.session_id()).await.map(drop)
        } else {
            guard.visit().invalidate(guard.session_id()).await
        };
        assert!(matches!(lost, Err(SessionError::HubLost(_))), "{lost:?}");
        drop(guard);
        hub.set_down(true);
        assert!(matches!(a.look(&mut user).await, Err(SessionError::HubLost(_))), "{renames}");
        hub.set_down(false);
        assert_eq!(a.look(&mut user).await, Ok(0), "{renames}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_under_a_brought_id_may_be_on_the_hub_by_now() {
    for renames in [true, false] {
        let (hub, a, b) = pair(&config(|it| it.reuse_session_id = true));
        let cookie = "ba3456789012345678901234";
        let mut user = User { cookie: Some(cookie.to_owned()), ..User::default() };
        let guard = a.begin(&user);
        write(&guard, "user", 7).await.unwrap();
        assert_eq!(b.count(&mut user).await, Ok(1));
        if renames {
            guard.visit().change_id(guard.session_id()).await.unwrap();
            finish(&guard, &mut user).await.unwrap();
            let new = user.cookie.as_deref().unwrap();
            assert_eq!((hub.value(new, "user"), hub.value(new, "count")), (Some(7), Some(1)));
        } else {
            guard.visit().invalidate(guard.session_id()).await.unwrap();
        }
        assert_eq!(hub.record(cookie), None, "{renames}");
    }
}
