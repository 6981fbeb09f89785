//! Accepts clients' connections on one listener of one worker.

use crate::{client, tcp, transport::listener::Listener, worker::Worker};
use common::shortage::is_shortage;
use std::{io, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::spawn_local,
    time::sleep,
};

/// The wait after a failed accept: out of file descriptors, most often, and trying on at once would only burn the processor.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// At most one log line on failed accepts in this many of them.
const LOG_EVERY: u64 = 100;

/// The most connections that are taken out of a queue that ends: more than the kernel keeps in one.
const DRAIN_MAX: usize = 1 << 16;

/// How long a worker that is full waits before it looks again, and lets further idle connections end.
const ROOM_LOOK: Duration = Duration::from_millis(10);

/// The most that end at one look, and the part of those that there may be.
const SHED_MAX: u64 = 64;
const SHED_PART: u64 = 16;

/// Accepts until `halt` is told or dropped.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    socket: Rc<TcpListener>,
    halt: oneshot::Receiver<()>,
) {
    let mut held = None;
    tokio::select! {
        biased;
        _ = halt => {}
        () = accept_on(&worker, &listener, &socket, &mut held) => {}
    }
    if let Some((stream, peer)) = held {
        serve(&worker, &listener, stream, peer);
    }
}

/// `held` is the connection that waits for room.
async fn accept_on(
    worker: &Rc<Worker>,
    listener: &Rc<Listener>,
    socket: &TcpListener,
    held: &mut Option<(TcpStream, SocketAddr)>,
) {
    let mut failures = 0_u64;
    loop {
        match socket.accept().await {
            Ok(accepted) => {
                failures = 0;
                *held = Some(accepted);
                room(worker).await;
                if let Some((stream, peer)) = held.take() {
                    serve(worker, listener, stream, peer);
                }
            }
            // The client left before it was accepted: nothing is wrong here.
            Err(cause) if is_of_the_client(&cause) => {}
            Err(cause) => {
                if failures.is_multiple_of(LOG_EVERY) {
                    tracing::warn!(%cause, failures, "can't accept connections: retrying");
                }
                failures += 1;
                if is_shortage(&cause) {
                    worker.connections.shed(shed_at_once(worker));
                }
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Waits until the worker may have one more connection. Idle ones end for it; where all are in use, clients wait in the kernel's
/// queue until one ends. (They are not told 503: that would be one more connection, and most of them get their turn.)
async fn room(worker: &Rc<Worker>) {
    let is_full = || worker.counters.open() >= worker.clients_max;
    if !is_full() {
        return;
    }
    worker.counters.connections_held.up();
    if let Some(times) = worker.full.happened(worker.now()) {
        let max = worker.clients_max;
        tracing::warn!(
            max,
            times,
            "a worker has as many connections as the limit of open files allows: idle ones end"
        );
    }
    while is_full() {
        worker.connections.shed(shed_at_once(worker));
        sleep(ROOM_LOOK).await;
    }
    worker.connections.shed(0);
}

pub(super) fn shed_at_once(worker: &Worker) -> u32 {
    u32::try_from((worker.clients_max / SHED_PART).clamp(1, SHED_MAX)).unwrap_or(1)
}

fn serve(worker: &Rc<Worker>, listener: &Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    // Small answers must not wait for the client's acknowledgement of the last one.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    if listener.terms.tcp.is_some() {
        spawn_local(tcp::serve(worker.clone(), listener.clone(), stream, peer));
    } else {
        spawn_local(client::serve(worker.clone(), listener.clone(), stream, peer));
    }
}

/// Serves all connections that wait in the kernel: they came before the listener was closed, or got other terms. Never waits.
pub(crate) fn drain(worker: &Rc<Worker>, listener: &Rc<Listener>, socket: &std::net::TcpListener) {
    for _ in 0..DRAIN_MAX {
        match socket.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    serve(worker, listener, stream, peer);
                }
            }
            Err(cause) if is_of_the_client(&cause) => {}
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return,
            Err(cause) => {
                tracing::warn!(%cause, "connections that waited at a listener that ends are lost");
                return;
            }
        }
    }
}

fn is_of_the_client(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
