//! The app over its router, with sessions in memory.

use super::router;
use axum::{
    Router,
    body::Body,
    http::{Request, Response, header, request::Builder},
};
use http_body_util::BodyExt;
use sdk::SessionLayer;
use tower::ServiceExt;

fn app() -> Router {
    router("app-<a>", false).layer(SessionLayer::in_memory())
}

async fn ask(app: &Router, request: Builder, body: impl Into<Body>) -> Response<Body> {
    app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn cookie(response: &Response<Body>) -> String {
    let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn counts_a_user() {
    let app = app();
    let first = ask(&app, Request::get("/count"), Body::empty()).await;
    let cookie = cookie(&first);
    assert_eq!(text(first).await, "count 1 on app-<a>\n");
    let again = ask(&app, Request::post("/count").header(header::COOKIE, &cookie), Body::empty()).await;
    assert_eq!(text(again).await, "count 2 on app-<a>\n");
    let stranger = ask(&app, Request::get("/count"), Body::empty()).await;
    assert_eq!(text(stranger).await, "count 1 on app-<a>\n");
}

#[tokio::test]
async fn a_login_keeps_the_count_and_forgetting_ends_it() {
    let app = app();
    let count = |cookie: String| Request::get("/count").header(header::COOKIE, cookie);
    let before = cookie(&ask(&app, Request::get("/count"), Body::empty()).await);
    let after =
        cookie(&ask(&app, Request::post("/login").header(header::COOKIE, &before), Body::empty()).await);
    assert_ne!(before, after);
    assert_eq!(text(ask(&app, count(after.clone()), Body::empty()).await).await, "count 2 on app-<a>\n");
    assert_eq!(text(ask(&app, count(before), Body::empty()).await).await, "count 1 on app-<a>\n");
    ask(&app, Request::post("/forget").header(header::COOKIE, &after), Body::empty()).await;
    assert_eq!(text(ask(&app, count(after), Body::empty()).await).await, "count 1 on app-<a>\n");
}

#[tokio::test]
async fn browsers_get_pages() {
    let app = app();
    let page = text(ask(&app, Request::get("/"), Body::empty()).await).await;
    assert!(page.contains("Answered by <b>app-&lt;a&gt;</b>"), "{page}");
    let html = Request::get("/count").header(header::ACCEPT, "text/html,*/*;q=0.8");
    assert!(text(ask(&app, html, Body::empty()).await).await.contains("<h1>1</h1>"));
}

#[tokio::test]
async fn bodies_are_streamed() {
    let app = app();
    let bytes = ask(&app, Request::get("/bytes?n=200000"), Body::empty()).await;
    assert_eq!(bytes.headers()[header::CONTENT_LENGTH], "200000");
    assert_eq!(text(bytes).await.len(), 200_000);
    let refused = ask(&app, Request::get("/bytes"), Body::empty()).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(text(ask(&app, Request::post("/echo"), "hello").await).await, "hello");
    assert_eq!(
        text(ask(&app, Request::put("/upload"), vec![0; 70_000]).await).await,
        "uploaded 70000 bytes\n"
    );
}

#[tokio::test]
async fn exit_is_for_tests_alone() {
    assert_eq!(ask(&app(), Request::get("/exit"), Body::empty()).await.status(), 404);
}
