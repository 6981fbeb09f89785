//! Sessions that are named by URLs.

use super::*;

/// A user without cookies: what the app's links bring.
async fn count(server: &Server, link: &mut String) -> u64 {
    let guard = server.begin_with_url(&User::default(), link).await;
    assert!(!guard.came_by_cookie());
    let count = read(&guard, "count").await.unwrap() + 1;
    write(&guard, "count", count).await.unwrap();
    guard.visit().finish().await.unwrap();
    *link = guard.session_id().to_owned();
    count
}

#[tokio::test(start_paused = true)]
async fn a_user_without_cookies_has_a_session_on_every_server() {
    let (hub, a, b) = pair(&session_config());
    let mut link = String::new();
    assert_eq!(count(&a, &mut link).await, 1);
    let first = link.clone();
    assert!(first.starts_with("aa") && hub.record(&first).is_some());
    assert_eq!(count(&a, &mut link).await, 2);
    assert_eq!(count(&b, &mut link).await, 3);
    a.hears();
    assert_eq!(count(&a, &mut link).await, 4);
    assert_eq!(link, first);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_nobodys_whatever_its_form() {
    for id in ["ba3456789012345678901234", "bXXX", "not an id", "", "ä"] {
        let (hub, a, _) = pair(&config(|it| it.reuse_session_id = true));
        let guard = a.begin_with_url(&User::default(), id).await;
        assert_ne!(guard.session_id(), id, "the app is told another one, for its links");
        write(&guard, "count", 1).await.unwrap();
        guard.visit().finish().await.unwrap();
        assert_eq!(hub.value(guard.session_id(), "count"), Some(1));
        assert!(hub.record(id).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_while_its_request_runs_is_not_made_again() {
    let (hub, a, b) = pair(&session_config());
    let mut link = String::new();
    count(&a, &mut link).await;
    let slow = b.begin_with_url(&User::default(), &link).await;
    assert_eq!(slow.session_id(), link);
    let logout = a.begin_with_url(&User::default(), &link).await;
    logout.visit().invalidate(&link).await.unwrap();
    assert_eq!(logout.visit().finish().await.unwrap().cookie, None, "there is no cookie to take away");
    b.hears();
    let _ = write(&slow, "count", 9).await;
    let _ = slow.visit().finish().await;
    assert!(hub.record(&link).is_none());
    assert_ne!(a.begin_with_url(&User::default(), &link).await.session_id(), link);
}

#[tokio::test(start_paused = true)]
async fn a_cookie_wins() {
    let (_hub, a, _) = pair(&session_config());
    let (mut link, mut user) = (String::new(), User::default());
    count(&a, &mut link).await;
    a.count(&mut user).await.unwrap();
    for cookie in [user.cookie.clone().unwrap(), "ba3456789012345678901234".to_owned()] {
        let user = User { cookie: Some(cookie.clone()), ..User::default() };
        let guard = a.begin_with_url(&user, &link).await;
        assert!(guard.came_by_cookie());
        assert_eq!(guard.session_id(), cookie);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_login_the_old_link_is_nobodys() {
    let (_hub, a, b) = pair(&session_config());
    let mut link = String::new();
    count(&a, &mut link).await;
    let login = a.begin_with_url(&User::default(), &link).await;
    let mut new = login.visit().change_id(&link).await.unwrap().as_str().to_owned();
    login.visit().finish().await.unwrap();
    b.hears();
    assert_ne!(b.begin_with_url(&User::default(), &link).await.session_id(), link);
    assert_eq!(count(&b, &mut new).await, 2, "it goes on under the id that the app was told");
}
