//! Accepts clients' connections on one listener of one worker.

use crate::{connection, listener::Listener, worker::Worker};
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

/// Accepts until `halt` is told or dropped, and gives the socket back.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    socket: TcpListener,
    halt: oneshot::Receiver<()>,
) -> TcpListener {
    tokio::select! {
        biased;
        _ = halt => {}
        () = accept_on(&worker, &listener, &socket) => {}
    }
    socket
}

async fn accept_on(worker: &Rc<Worker>, listener: &Rc<Listener>, socket: &TcpListener) {
    let mut failures = 0_u64;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                failures = 0;
                serve(worker, listener, stream, peer);
            }
            // The client left before it was accepted: nothing is wrong here.
            Err(cause) if is_of_the_client(&cause) => {}
            Err(cause) => {
                if failures.is_multiple_of(LOG_EVERY) {
                    tracing::warn!(%cause, failures, "can't accept connections: retrying");
                }
                failures += 1;
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn serve(worker: &Rc<Worker>, listener: &Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    // Small answers must not wait for the client's acknowledgement of the last one.
    if stream.set_nodelay(true).is_ok() {
        spawn_local(connection::serve(worker.clone(), listener.clone(), stream, peer));
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
