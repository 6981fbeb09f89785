//! Accepts clients' connections over QUIC on one listener of one worker.

use super::accept::shed_at_once;
use crate::{
    client,
    transport::listener::Listener,
    worker::{
        Worker,
        opening::{Crowded, Opening},
    },
};
use quinn::{Endpoint, Incoming};
use std::rc::Rc;
use tokio::{sync::oneshot, task::spawn_local};

/// Accepts until `halt` is told or dropped.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    endpoint: Endpoint,
    mut halt: oneshot::Receiver<()>,
) {
    let mut sheds = false;
    loop {
        let incoming = tokio::select! {
            biased;
            _ = &mut halt => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if worker.counters.open() >= worker.clients_max {
            // Idle ones end for it; its client asks again in a moment.
            worker.counters.connections_held.up();
            worker.connections.shed(shed_at_once(&worker));
            sheds = true;
            incoming.ignore();
            continue;
        }
        if std::mem::take(&mut sheds) {
            worker.connections.shed(0);
        }
        take(&worker, &listener, incoming);
    }
}

fn take(worker: &Rc<Worker>, listener: &Rc<Listener>, incoming: Incoming) {
    if !incoming.remote_address_validated() && Opening::are_many(worker) {
        worker.counters.quic_retries.up();
        // The client proves its address with what it gets.
        let _ = incoming.retry();
        return;
    }
    let current = listener.terms.tls.as_ref().and_then(|tls| tls.current().quic.clone());
    let Some(config) = current else { return incoming.ignore() };
    let opening = match Opening::begin(worker, incoming.remote_address().ip()) {
        Ok(opening) => opening,
        Err(Crowded::ByOne) => {
            worker.counters.connections_refused.up();
            // It is told, and goes on in HTTP/2.
            return incoming.refuse();
        }
        // Its client asks again in a moment.
        Err(Crowded::ByAll) => return incoming.ignore(),
    };
    match incoming.accept_with(config) {
        Ok(connecting) => {
            spawn_local(client::serve_quic(worker.clone(), listener.clone(), connecting, opening));
        }
        Err(cause) => tracing::debug!(%cause, "a connection over QUIC is refused"),
    }
}
