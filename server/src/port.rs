//! What is behind the cluster port: HTTP/1.1 goes to the app-tier, gRPC to the hub, the web-tier and who tells how this server is.

use app_tier::AppTier;
use cluster_port::{Acceptor, Authenticated, Peer, Protocol, Roster};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// The servers of the file, as it is now.
pub(crate) type CurrentRoster = watch::Receiver<Arc<Roster>>;

/// Serves authenticated connections until the task is aborted, and accepts no more once `retired` is cancelled. A connection to a role that this server does not play is
/// closed; so is one whose server loses or gains a right when the file is read again: it connects anew, with what it may do now.
pub(crate) async fn serve(
    mut acceptor: Acceptor,
    roster: CurrentRoster,
    app_tier: Option<Arc<AppTier>>,
    grpc: Routes,
    retired: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            next = acceptor.next() => next,
            () = retired.cancelled(), if !acceptor.is_closed() => {
                acceptor.close();
                continue;
            }
        };
        let Some(Authenticated { stream, peer }) = next else { return };
        match (peer.protocol, &app_tier) {
            (Protocol::Http1, Some(app_tier)) => {
                let app_tier = app_tier.clone();
                while_in_force(
                    roster.clone(),
                    peer.clone(),
                    async move { app_tier.serve(stream, peer).await },
                );
            }
            (Protocol::Grpc, _) => {
                let serving = triad::serve_grpc(stream, peer.clone(), grpc.clone());
                while_in_force(roster.clone(), peer, serving);
            }
            (protocol, None) => {
                tracing::warn!(peer = %peer.id, ?protocol, "closed: this server does not play that role; do the files agree?");
            }
        }
    }
}

/// Serves one connection for as long as its server has the rights that it came with.
fn while_in_force(mut roster: CurrentRoster, peer: Peer, serving: impl Future<Output = ()> + Send + 'static) {
    // In a task of its own, so that what is served is not woken through this.
    let serving = tokio::spawn(serving);
    let abort = serving.abort_handle();
    tokio::spawn(async move {
        let changed = async {
            let is_other = |now: &Arc<Roster>| now.rights(&peer.id) != Some(peer.rights);
            if roster.wait_for(is_other).await.is_err() {
                // This server stops: the file is not read any more.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ended = serving => {}
            () = changed => {
                tracing::info!(peer = %peer.id, "the file gives this server other rights now: its connection is closed");
                abort.abort();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_port::Rights;
    use tokio::sync::oneshot::{self, error::TryRecvError};

    fn roster(servers: &[(&str, Rights)]) -> Arc<Roster> {
        Arc::new(servers.iter().map(|(id, rights)| ((*id).into(), *rights)).collect())
    }

    #[tokio::test]
    async fn a_connection_ends_when_its_server_has_other_rights_and_not_before() {
        let web = Rights { listens: true, ..Rights::default() };
        let none = Rights::default();
        for after in [&[("web-a", none)][..], &[]] {
            let (file, current) = watch::channel(roster(&[("web-a", web)]));
            let (held, mut dropped) = oneshot::channel::<()>();
            let peer = Peer { id: "web-a".into(), protocol: Protocol::Http1, rights: web };
            while_in_force(current, peer, async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            file.send_replace(roster(&[("web-a", web), ("web-b", web)]));
            tokio::task::yield_now().await;
            assert_eq!(dropped.try_recv(), Err(TryRecvError::Empty), "that was another server's");
            file.send_replace(roster(after));
            assert!(dropped.await.is_err(), "what served it is gone");
        }
    }
}
