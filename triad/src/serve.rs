//! Serves gRPC on an authenticated connection of the cluster port.

use common::{cluster_port::Peer, id::ServerId};
use hyper::{Request, body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::service::Routes;
use tower::ServiceExt;

/// The server at the other end, as it proved in the handshake: in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub ServerId);

/// Serves `routes` to `peer` until it closes the connection, the connection breaks, or the future is dropped.
pub async fn serve_grpc(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    routes: Routes,
) {
    let caller = Caller(peer.id);
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        routes.clone().oneshot(request)
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
