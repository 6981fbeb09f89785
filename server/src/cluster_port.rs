//! What is behind the cluster port: HTTP/1.1 goes to the app-tier, gRPC to the hub and the web-tier.

use app_tier::AppTier;
use common::cluster_port::{Acceptor, Authenticated, Protocol};
use std::sync::Arc;
use tonic::service::Routes;

/// Serves authenticated connections until the task is aborted. A connection to a role that this server does not play is
/// closed.
pub(crate) async fn serve(mut acceptor: Acceptor, app_tier: Option<Arc<AppTier>>, grpc: Option<Routes>) {
    while let Some(Authenticated { stream, peer }) = acceptor.next().await {
        match (peer.protocol, &app_tier, &grpc) {
            (Protocol::Http1, Some(app_tier), _) => {
                let app_tier = app_tier.clone();
                tokio::spawn(async move { app_tier.serve(stream, peer).await });
            }
            (Protocol::Grpc, _, Some(routes)) => {
                let routes = routes.clone();
                tokio::spawn(async move { triad::serve_grpc(stream, peer, routes).await });
            }
            (protocol, _, _) => {
                tracing::warn!(peer = %peer.id, ?protocol, "closed: this server does not play that role; do the files agree?");
            }
        }
    }
}
