//! Sockets to one server, for one worker: bb8 keeps the idle ones (the newest is used first), a queue of ours bounds how many
//! there are and how long a request waits.
//!
//! What a busy worker has just given back it takes again without bb8 (`recent`). bb8 alone would make a request wait out a time-out when a connect fails, and serves waiters in no order. So it is only
//! asked when it has an idle socket; else a socket is dialled here, where the error is seen, and added to it.

mod places;
mod recent;

use crate::foreign::{self, ForeignBackend};
use bb8::{ManageConnection, PooledConnection, QueueStrategy};
use common::{
    cluster_port::{self, ClusterKey, Protocol},
    config::{HttpProxy, Server},
    id::ServerId,
    shortage::is_shortage,
};
use futures_util::FutureExt;
use places::{Place, Places};
use recent::Recent;
use std::{cell::Cell, fmt, io, rc::Rc, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// bb8 looks for sockets that were idle for too long this often.
const REAPER_RATE: Duration = Duration::from_secs(1);

/// Connects to one server: what bb8 calls a manager.
#[derive(Debug)]
pub(crate) enum Dialler {
    /// A server of ours, which wants to know who comes.
    Cluster { address: String, key: ClusterKey, from: ServerId, to: ServerId, timeout: Duration },
    /// One that speaks HTTP at once.
    Foreign { backend: Arc<ForeignBackend>, timeout: Duration },
}

impl Dialler {
    /// To a server of a cluster.
    pub(crate) fn new(server: &Server, me: &ServerId, key: &ClusterKey) -> Self {
        Self::Cluster {
            address: server.cluster_address(),
            key: key.clone(),
            from: me.clone(),
            to: server.id.clone(),
            timeout: server.connect_timeout,
        }
    }
}

/// How many sockets there may be to a server from this one, and how long they and their requests wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    /// `load-balance-connection-max`.
    connection_max: usize,
    /// `load-balance-idle-time`.
    idle_time: Duration,
    /// `load-balance-queue-timeout`.
    queue_timeout: Duration,
}

impl From<&Server> for PoolLimits {
    fn from(server: &Server) -> Self {
        Self {
            connection_max: server.connection_max,
            idle_time: server.balance_idle_time,
            queue_timeout: server.queue_timeout,
        }
    }
}

impl From<&HttpProxy> for PoolLimits {
    fn from(rule: &HttpProxy) -> Self {
        Self {
            connection_max: rule.connection_max,
            idle_time: rule.idle_time,
            queue_timeout: rule.queue_timeout,
        }
    }
}

/// A socket to a server.
pub(crate) struct Socket {
    stream: TcpStream,
    /// It is in the middle of an exchange that will not be completed.
    abandoned: bool,
    /// The pool's when it was dialled.
    generation: u64,
}

impl Socket {
    /// Whether it can take a request: the server has neither closed it nor said anything that nobody asked for. As long as the
    /// runtime knows of nothing to read, this is no system call.
    fn is_open(&self) -> bool {
        let looked = self.stream.try_read(&mut [0]);
        !self.abandoned && looked.is_err_and(|cause| cause.kind() == io::ErrorKind::WouldBlock)
    }
}

impl ManageConnection for Dialler {
    type Connection = Socket;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Socket> {
        let stream = match self {
            Self::Cluster { address, key, from, to, timeout } => {
                cluster_port::dial(address, key, from, to, Protocol::Http1, *timeout).await?
            }
            Self::Foreign { backend, timeout } => foreign::dial(backend, *timeout).await?,
        };
        Ok(Socket { stream, abandoned: false, generation: 0 })
    }

    async fn is_valid(&self, _socket: &mut Socket) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, socket: &mut Socket) -> bool {
        !socket.is_open()
    }
}

/// Why there is no socket for a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// As many requests wait already as there may be sockets.
    #[error("the queue for a socket is full")]
    QueueFull,
    /// `load-balance-queue-timeout` is over.
    #[error("no socket came free within {0:?}")]
    QueueTimeout(Duration),
    /// It can't be reached.
    #[error(transparent)]
    Connect(io::Error),
    /// This machine is out of file descriptors, ports, buffers or memory: nothing was learned of the server.
    #[error("this machine is short of something: {0}")]
    Short(io::Error),
}

/// A socket that bb8 has lent out.
type Guard = PooledConnection<'static, Dialler>;

/// The sockets to one server.
pub(crate) struct ServerPool {
    idle: bb8::Pool<Dialler>,
    /// Idle ones too, in front of bb8's.
    recent: Recent<Guard>,
    /// The most there may be, in use or idle.
    max: u32,
    places: Rc<Places>,
    queue_timeout: Duration,
    /// Sockets of former generations are not used again.
    generation: Cell<u64>,
    /// There has been a socket: the address is one that can be reached from here.
    reached: Cell<bool>,
}

impl ServerPool {
    /// Has a `workers`th of the sockets that there may be. To be called within a runtime.
    pub(crate) fn new(limits: PoolLimits, dialler: Dialler, workers: usize) -> Rc<Self> {
        let share = limits.connection_max.div_ceil(workers.max(1)).max(1);
        let max = u32::try_from(share).unwrap_or(u32::MAX);
        let idle = bb8::Pool::builder()
            .max_size(max)
            .idle_timeout(limits.idle_time)
            .reaper_rate(REAPER_RATE)
            .max_lifetime(None)
            .test_on_check_out(false)
            .retry_connection(false)
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(dialler);
        let (generation, reached) = (Cell::new(0), Cell::new(false));
        let (recent, places) = (Recent::default(), Places::new(share));
        Rc::new(Self { idle, recent, max, places, queue_timeout: limits.queue_timeout, generation, reached })
    }

    /// Hands what has not been used since the last call to bb8, where it grows old. To be called a few times a second.
    pub(crate) fn settle(&self) {
        drop(self.recent.take_unused());
    }

    /// Lets no request use the sockets that are there now: their server has failed, left or been replaced.
    pub(crate) fn clear(&self) {
        self.generation.set(self.generation.get() + 1);
        for mut guard in self.recent.take_all() {
            guard.abandoned = true;
        }
    }

    /// Whether a request that asks now need not queue.
    pub(crate) fn has_place(&self) -> bool {
        self.places.has_free()
    }

    /// A socket for one request: the newest idle one, or (`fresh`: in any case) a new one. `queued` is true while it waits for
    /// others to give one back.
    pub(crate) async fn take(self: &Rc<Self>, fresh: bool, queued: &Cell<bool>) -> Result<Pooled, TakeError> {
        // Boxed where it waits: the state of a connect would make every request's future larger.
        let Some(place) = self.places.try_take() else {
            return Box::pin(self.take_slowly(None, fresh, queued)).await;
        };
        match self.idle_socket(fresh) {
            Some(guard) => Ok(self.pooled(guard, true, place)),
            None => Box::pin(self.take_slowly(Some(place), fresh, queued)).await,
        }
    }

    async fn take_slowly(
        self: &Rc<Self>,
        place: Option<Place>,
        fresh: bool,
        queued: &Cell<bool>,
    ) -> Result<Pooled, TakeError> {
        let place = match place {
            Some(place) => place,
            None => {
                queued.set(true);
                self.wait().await?
            }
        };
        queued.set(false);
        if let Some(guard) = self.idle_socket(fresh) {
            return Ok(self.pooled(guard, true, place));
        }
        let guard = self.dial().await.map_err(|cause| self.not_dialled(cause))?;
        Ok(self.pooled(guard, false, place))
    }

    fn pooled(self: &Rc<Self>, guard: Guard, reused: bool, place: Place) -> Pooled {
        Pooled { guard: Some(guard), reused, pool: self.clone(), _place: place }
    }

    async fn wait(&self) -> Result<Place, TakeError> {
        let waiting = self.places.wait().ok_or(TakeError::QueueFull)?;
        let place = timeout(self.queue_timeout, waiting).await;
        place.ok().flatten().ok_or(TakeError::QueueTimeout(self.queue_timeout))
    }

    /// The newest idle socket that is still open, unless a fresh one is asked for.
    fn idle_socket(&self, fresh: bool) -> Option<Guard> {
        if fresh {
            return None;
        }
        loop {
            let mut guard = self.recent.pop().or_else(|| self.older_socket())?;
            if guard.is_open() && guard.generation == self.generation.get() {
                return Some(guard);
            }
            // Closed by the server while it was idle, or of a former generation; bb8 drops it.
            guard.abandoned = true;
        }
    }

    fn older_socket(&self) -> Option<Guard> {
        // Without an idle one, `get` would dial behind our back.
        if self.idle.state().idle_connections == 0 {
            return None;
        }
        self.idle.get_owned().now_or_never()?.ok()
    }

    /// Sorts out whose fault it is. Out of ports the system says what it says of an address that can't be reached from here at all.
    fn not_dialled(&self, cause: io::Error) -> TakeError {
        let no_port = cause.kind() == io::ErrorKind::AddrNotAvailable && self.reached.get();
        if no_port || is_shortage(&cause) { TakeError::Short(cause) } else { TakeError::Connect(cause) }
    }

    async fn dial(&self) -> io::Result<Guard> {
        let generation = self.generation.get();
        let socket = self.idle.dedicated_connection().await?;
        self.reached.set(true);
        // A fresh one was asked for though there are idle ones, as many as there may be: one of them goes.
        if self.idle.state().connections >= self.max
            && let Some(mut idle) = self.recent.pop().or_else(|| self.older_socket())
        {
            idle.abandoned = true;
        }
        if self.idle.add(socket).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "closed at once, or over the maximum",
            ));
        }
        // The newest comes first, and nothing ran between.
        let taken = self.idle.get_owned().now_or_never().and_then(Result::ok);
        let mut guard = taken.ok_or_else(|| io::Error::other("the pool lost a socket that it was given"))?;
        guard.generation = generation;
        Ok(guard)
    }
}

impl fmt::Debug for ServerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPool")
            .field("idle", &self.idle.state().idle_connections)
            .field("recent", &self.recent.len())
            .finish_non_exhaustive()
    }
}

/// A socket that one request has. Dropped without [`give_back`](Self::give_back), it is closed.
pub(crate) struct Pooled {
    guard: Option<Guard>,
    reused: bool,
    pool: Rc<ServerPool>,
    // After the guard: the place becomes free when the socket is back.
    _place: Place,
}

impl Pooled {
    /// Whether it has served a request before: then its server may have closed it a moment ago.
    pub(crate) fn reused(&self) -> bool {
        self.reused
    }

    /// The socket.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.guard.as_mut().expect("taken only at the end").stream
    }

    /// The exchange is complete, and nothing of it is left on the socket: the next request may have it.
    pub(crate) fn give_back(mut self) {
        if let Some(guard) = self.guard.take() {
            self.pool.recent.push(guard);
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.abandoned = true;
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("reused", &self.reused).finish_non_exhaustive()
    }
}
