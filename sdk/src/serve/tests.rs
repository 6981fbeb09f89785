//! The server, against a socket that stands for Copal's.

use super::*;
use crate::environment::Token;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn get_page(socket: &Path, path: &str) -> String {
    let mut stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(_not_yet) => tokio::task::yield_now().await,
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn environment(dir: &Path) -> Environment {
    Environment {
        listen: Listen::Socket(dir.join("app.sock")),
        hub: Some((dir.join("hub.sock"), Token("t".to_owned()))),
        server: "a".to_owned(),
        app: "default/".to_owned(),
        dev: crate::dev::Dev::default(),
    }
}

#[tokio::test]
async fn has_a_health_check_unless_the_app_has_one() {
    for (router, expected) in [
        (Router::new(), "ok\n"),
        (Router::new().route("/healthz", get(|| async { "mine" })), "mine"),
        (Router::new().route("/healthz", get(|| async { StatusCode::SERVICE_UNAVAILABLE })), ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let _hub = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
        let environment = environment(dir.path());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let socket = dir.path().join("app.sock");
        let serving = serve_in(&environment, router, async {
            let _ = stopped.await;
        });
        let asking = async {
            let answer = get_page(&socket, "/healthz").await;
            let other = get_page(&socket, "/other").await;
            stop.send(()).unwrap();
            (answer, other)
        };
        let (served, (answer, other)) = tokio::join!(serving, asking);
        served.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    }
}

#[tokio::test]
async fn a_handler_without_copal_gets_an_error_not_an_empty_session() {
    let dir = tempfile::tempdir().unwrap();
    let environment = environment(dir.path());
    let router = Router::new().route(
        "/",
        get(|session: crate::Session| async move {
            session.get::<u64>("count").await.map(|it| format!("{it:?}"))
        }),
    );
    let socket = dir.path().join("app.sock");
    tokio::select! {
        served = serve_in(&environment, router, std::future::pending()) => panic!("{served:?}"),
        answer = get_page(&socket, "/") => assert!(answer.starts_with("HTTP/1.1 500"), "{answer}"),
    }
}

#[tokio::test(start_paused = true)]
async fn ends_when_its_server_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = UnixListener::bind(dir.path().join("hub.sock")).unwrap();
    let environment = environment(dir.path());
    let began = tokio::time::Instant::now();
    let dying = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(hub);
        std::future::pending::<()>().await;
    };
    let gone = tokio::select! {
        served = serve_in(&environment, Router::new(), std::future::pending()) => served.unwrap_err(),
        () = dying => unreachable!("it is pending"),
    };
    assert!(matches!(gone, ServeError::ServerGone { .. }), "{gone}");
    let lived = began.elapsed();
    assert!(lived > Duration::from_secs(22) && lived < Duration::from_secs(26), "{lived:?}");
}
