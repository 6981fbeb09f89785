//! The accept loop of a cluster port: handshakes run beside each other, each within a bound, and what failed is counted
//! and told once in a while.

use crate::{Credentials, HandshakeError, Peer, Roster, Stream};
use common::{config::Encryption, id::ServerId};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::AbortHandle,
};

/// A stranger is closed after this long. One of ours needs three round trips, of which one or two may have to be said twice.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Handshakes under way at once; a further one ends the oldest.
const HANDSHAKES_MAX: usize = 1024;

/// At most one log line on failed handshakes in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Whose port it is, and who may come in.
#[derive(Debug, Clone)]
pub struct Port {
    /// This server.
    pub me: ServerId,
    /// Its address as the file has it, with the port or without: it decides whether connections are encrypted.
    pub address: String,
    /// What it shows.
    pub credentials: Credentials,
    /// The servers of the file, as it is now.
    pub roster: watch::Receiver<Arc<Roster>>,
}

/// A connection whose other side has proved the cluster key.
#[derive(Debug)]
pub struct Authenticated {
    /// The connection, after the handshake.
    pub stream: Stream,
    /// Who is there, and what it will speak.
    pub peer: Peer,
}

/// Accepts on a bound cluster port.
#[derive(Debug)]
pub struct Acceptor {
    accepted: mpsc::Receiver<Authenticated>,
    refused: Arc<Refusals>,
    accepting: AbortHandle,
    closed: bool,
}

impl Acceptor {
    /// Starts to accept on `listener`; stops when dropped.
    pub fn start(listener: TcpListener, port: Port) -> Self {
        let (sender, accepted) = mpsc::channel(64);
        let refused = Arc::new(Refusals::default());
        let accepting = tokio::spawn(accept_all(listener, port, sender, refused.clone())).abort_handle();
        Self { accepted, refused, accepting, closed: false }
    }

    /// Listens no more, as another process does on the same socket: what has come until now is given yet.
    pub fn close(&mut self) {
        self.closed = true;
        self.accepting.abort();
    }

    /// Whether it listens no more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next authenticated connection. Never returns `None` before [`Self::close`].
    pub async fn next(&mut self) -> Option<Authenticated> {
        self.accepted.recv().await
    }

    /// Handshakes refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.count.load(Ordering::Relaxed)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept_all(
    listener: TcpListener,
    port: Port,
    sender: mpsc::Sender<Authenticated>,
    refused: Arc<Refusals>,
) {
    let mut under_way = VecDeque::new();
    let port = Arc::new(port);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                make_room(&mut under_way, &refused);
                let (port, sender, refused) = (port.clone(), sender.clone(), refused.clone());
                let shaking = tokio::spawn(async move {
                    if let Some(done) = shake(stream, from, &port, &refused).await {
                        let _ = sender.send(done).await;
                    }
                });
                under_way.push_back((from, shaking.abort_handle()));
            }
            Err(cause) => {
                tracing::warn!(%cause, "the cluster port can't accept: retrying");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Forgets the handshakes that are over and, when too many are not, ends the oldest: one of ours takes milliseconds, so that is
/// a stranger's, and no crowd of them keeps a server out.
fn make_room(under_way: &mut VecDeque<(SocketAddr, AbortHandle)>, refused: &Refusals) {
    while let Some((from, oldest)) = under_way.front() {
        let over = oldest.is_finished();
        if !over && under_way.len() < HANDSHAKES_MAX {
            return;
        }
        if !over {
            oldest.abort();
            refused.note(*from, &format!("{HANDSHAKES_MAX} younger handshakes are under way"));
        }
        under_way.pop_front();
    }
}

async fn shake(
    socket: TcpStream,
    from: SocketAddr,
    port: &Port,
    refused: &Refusals,
) -> Option<Authenticated> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, port.accept(socket)).await {
        Ok(Ok((stream, peer))) => Some(Authenticated { stream, peer }),
        // Nobody was refused, and nobody need look for the reason.
        Ok(Err(cause @ HandshakeError::Silent)) => {
            tracing::debug!(%from, %cause, "cluster port: somebody has looked");
            None
        }
        Ok(Err(cause)) => {
            refused.note(from, &cause);
            None
        }
        Err(_) => {
            refused.note(from, &format!("no handshake within {HANDSHAKE_TIMEOUT:?}"));
            None
        }
    }
}

impl Port {
    /// Whether it wants connections encrypted.
    pub fn encryption(&self) -> Encryption {
        self.credentials.encryption(&self.address)
    }

    async fn accept(&self, socket: TcpStream) -> Result<(Stream, Peer), HandshakeError> {
        socket.set_nodelay(true)?;
        let roster = self.roster.borrow().clone();
        self.credentials.accept(socket, &self.me, self.encryption(), &roster).await
    }
}

/// Counts what was refused and tells of it, rate-limited.
#[derive(Debug, Default)]
struct Refusals {
    count: AtomicU64,
    told: Mutex<Option<(Instant, u64)>>,
}

impl Refusals {
    fn note(&self, from: SocketAddr, cause: &dyn std::fmt::Display) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let Ok(mut told) = self.told.lock() else { return };
        let now = Instant::now();
        let (last, last_count) = told.unwrap_or((now, 0));
        if told.is_none() || now - last >= LOG_INTERVAL {
            let since = count - last_count;
            tracing::warn!(%from, %cause, since, total = count, "cluster port: handshake refused");
            *told = Some((now, count));
        }
    }
}
