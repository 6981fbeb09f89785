//! Serves a router as Copal expects it of an app's process.

use crate::{
    environment::{Environment, Listen},
    error::ServeError,
    layer::SessionLayer,
};
use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use http::{Method, StatusCode};
use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
};

/// Time between two looks whether this app's server is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Looks without an answer after which it is gone.
const GONE: u64 = 4;

/// Serves `router` where the environment says, with a [`SessionLayer`] around it and, unless the router has its own, `/healthz`.
/// Returns after SIGTERM or SIGINT, when the requests in flight have been answered.
///
/// # Errors
/// [`ServeError`]; [`ServeError::ServerGone`] a few seconds after the server that started this process has died: end then, a new
/// server starts its own.
pub async fn serve(router: Router) -> Result<(), ServeError> {
    serve_in(&Environment::read()?, router, stop_signal()?).await
}

/// [`serve`] in this environment, until `stop`.
///
/// # Errors
/// As [`serve`].
pub async fn serve_in(
    environment: &Environment,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let router = router.layer(SessionLayer::new(environment)).layer(from_fn(health));
    let served = async {
        match &environment.listen {
            Listen::Port(port) => {
                let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await;
                let listener = bound.map_err(|cause| failed(format!("port {port}"), cause))?;
                let listener = listener.tap_io(|stream| {
                    // Without it answers are as right, only later.
                    let _ = stream.set_nodelay(true);
                });
                axum::serve(listener, router).with_graceful_shutdown(stop).await?;
            }
            Listen::Socket(path) => {
                let bound = UnixListener::bind(path);
                let listener = bound.map_err(|cause| failed(format!("socket {}", path.display()), cause))?;
                axum::serve(listener, router).with_graceful_shutdown(stop).await?;
            }
        }
        Ok(())
    };
    let hub = environment.hub.as_ref().map(|(hub, _)| hub.clone());
    tokio::select! {
        served = served => served,
        gone = server_gone(hub) => Err(gone),
    }
}

fn failed(place: String, cause: io::Error) -> ServeError {
    ServeError::Listen { place, cause }
}

/// `/healthz` for routers without one: they have answered 404.
async fn health(request: Request, next: Next) -> Response {
    let asked = request.uri().path() == "/healthz" && request.method() == Method::GET;
    let response = next.run(request).await;
    if asked && response.status() == StatusCode::NOT_FOUND { "ok\n".into_response() } else { response }
}

/// SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Waits until nobody answers on `hub` any more: the server was killed, and this process must not live on for ever.
async fn server_gone(hub: Option<PathBuf>) -> ServeError {
    let Some(hub) = hub else { return std::future::pending().await };
    let mut unanswered = 0;
    while unanswered < GONE {
        tokio::time::sleep(LOOK).await;
        unanswered = if is_there(&hub).await { 0 } else { unanswered + 1 };
    }
    ServeError::ServerGone { hub, seconds: (unanswered - 1) * LOOK.as_secs() }
}

/// A server that is stopped (SIGSTOP) or busy does not refuse: only one that is gone does.
async fn is_there(hub: &Path) -> bool {
    match tokio::time::timeout(LOOK, UnixStream::connect(hub)).await {
        Ok(Err(cause)) => !matches!(cause.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
        Ok(Ok(_)) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests;
