//! Accepts clients' connections on one listener of one worker.

use crate::{connection, listener::Listener, worker::Worker};
use std::{io, rc::Rc, time::Duration};
use tokio::{net::TcpListener, task::spawn_local, time::sleep};

/// The wait after a failed accept: out of file descriptors, most often, and trying on at once would only burn the processor.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// At most one log line on failed accepts in this many of them.
const LOG_EVERY: u64 = 100;

/// Accepts until it is aborted.
pub(crate) async fn accept(worker: Rc<Worker>, listener: Rc<Listener>, socket: TcpListener) {
    let mut failures = 0_u64;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                failures = 0;
                // Small answers must not wait for the client's acknowledgement of the last one.
                if stream.set_nodelay(true).is_ok() {
                    spawn_local(connection::serve(worker.clone(), listener.clone(), stream, peer));
                }
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

fn is_of_the_client(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
