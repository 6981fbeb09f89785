//! The app over its router, with sessions in memory.

use super::*;
use axum::{
    body::Body,
    http::{Request, header},
};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// A browser.
struct User {
    app: Router,
    cookie: String,
}

impl User {
    async fn ask(&mut self, line: &str) -> String {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path).header(header::COOKIE, &self.cookie);
        let answer = self.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status();
        if let Some(cookie) = answer.headers().get(header::SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        format!("{} {}", status.as_u16(), String::from_utf8_lossy(&body))
    }
}

fn user(app: &Router) -> User {
    User { app: app.clone(), cookie: String::new() }
}

#[tokio::test]
async fn each_user_has_a_count_of_his_own() {
    let app = router(&Environment::in_memory());
    let (mut anna, mut ben) = (user(&app), user(&app));
    assert_eq!(anna.ask("GET /count").await, "200 count 1 on local\n");
    assert_eq!(anna.ask("GET /count").await, "200 count 2 on local\n");
    assert_eq!(ben.ask("GET /count").await, "200 count 1 on local\n");
    assert!(anna.cookie.starts_with("axum-sessions=") && anna.cookie != ben.cookie);
}

#[tokio::test]
async fn a_login_changes_the_id_and_a_logout_ends_the_session() {
    let app = router(&Environment::in_memory());
    let (mut anna, mut stranger) = (user(&app), user(&app));
    anna.ask("GET /count").await;
    stranger.cookie.clone_from(&anna.cookie);
    assert_eq!(anna.ask("POST /login").await, "200 logged in\n");
    assert_ne!(anna.cookie, stranger.cookie);
    assert_eq!(anna.ask("GET /count").await, "200 count 2 on local\n");
    // The old id is nobody's, and becomes nobody's.
    let old = stranger.cookie.clone();
    assert_eq!(stranger.ask("GET /count").await, "200 count 1 on local\n");
    assert_ne!(stranger.cookie, old);
    let before = anna.cookie.clone();
    assert_eq!(anna.ask("POST /logout").await, "200 logged out\n");
    assert_eq!(anna.cookie, "axum-sessions=");
    anna.cookie = before;
    assert_eq!(anna.ask("GET /count").await, "200 count 1 on local\n");
}
