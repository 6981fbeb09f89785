//! Serves gRPC on an authenticated connection of the cluster port.

use crate::rights::may_call;
use cluster_port::Peer;
use common::id::ServerId;
use hyper::{Request, body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Status, service::Routes};
use tower::ServiceExt;

/// The server at the other end, as it proved in the handshake: in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub ServerId);

/// Serves `routes`, as far as its rights go, to `peer` until it closes the connection, the connection breaks, or the future is dropped.
pub async fn serve_grpc(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    routes: Routes,
) {
    let (caller, rights, told) = (Caller(peer.id), peer.rights, Arc::new(AtomicBool::new(false)));
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        let refused = (!may_call(rights, request.uri().path())).then(|| refusal(&caller, &request, &told));
        request.extensions_mut().insert(caller.clone());
        request.extensions_mut().insert(rights);
        let routes = routes.clone();
        async move {
            match refused {
                Some(status) => Ok(status.into_http()),
                None => routes.oneshot(request).await,
            }
        }
    });
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(4096)
        // A client's time-outs come in crowds.
        .max_pending_accept_reset_streams(4096)
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    let served = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
    if let Err(cause) = served {
        tracing::debug!(%cause, "a gRPC connection of the cluster port broke");
    }
}

/// A call that is not the caller's; told once a connection.
fn refusal(Caller(caller): &Caller, request: &Request<Incoming>, told: &AtomicBool) -> Status {
    let call = request.uri().path();
    if !told.swap(true, Ordering::Relaxed) {
        tracing::warn!(%caller, ?call, "refused: by this server's file that is none of the caller's business; do the files agree?");
    }
    Status::permission_denied(format!(
        "the server {caller} may not call {call}: its roles in the file do not include that"
    ))
}
