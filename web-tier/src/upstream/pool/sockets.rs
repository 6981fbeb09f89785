//! Sockets to one server that speaks HTTP/1.1, for one worker: bb8 keeps the idle ones (the newest is used first), `places` bounds
//! how many there are and how long a request waits.
//!
//! What a busy worker has just given back it takes again without bb8 (`recent`). bb8 alone would make a request wait out a time-out
//! when a connect fails, and serves waiters in no order. So it is only asked when it has an idle socket; else a socket is dialled
//! here, where the error is seen, and added to it.

use super::{
    PoolLimits, TakeError,
    client_sockets::{ClientSockets, Whose},
    dialler::Dialler,
    places::{Place, Places},
    recent::Recent,
};
use bb8::{ManageConnection, PooledConnection, QueueStrategy};
use cluster_port::Stream;
use futures_util::FutureExt;
use std::{cell::Cell, fmt, io, rc::Rc, time::Duration};

/// bb8 looks for sockets that were idle for too long this often.
const REAPER_RATE: Duration = Duration::from_secs(1);

/// A socket to a server.
pub(crate) struct Socket {
    stream: Stream,
    /// It is in the middle of an exchange that will not be completed.
    abandoned: bool,
    /// The pool's when it was dialled.
    pub(super) generation: u64,
}

impl Socket {
    /// One that has just been dialled.
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, abandoned: false, generation: 0 }
    }

    /// Whether it can take a request: the server has neither closed it nor said anything that nobody asked for.
    pub(super) fn is_open(&self) -> bool {
        !self.abandoned && self.stream.is_quiet()
    }
}

impl ManageConnection for Dialler {
    type Connection = Socket;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Socket> {
        self.dial().await.map(Socket::new)
    }

    async fn is_valid(&self, _socket: &mut Socket) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, socket: &mut Socket) -> bool {
        !socket.is_open()
    }
}

/// A socket that bb8 has lent out.
type Guard = PooledConnection<'static, Dialler>;

/// The sockets to one server.
pub(crate) struct SocketPool {
    idle: bb8::Pool<Dialler>,
    /// Idle ones too, in front of bb8's.
    recent: Recent<Guard>,
    /// The most there may be, in use or idle.
    max: u32,
    places: Rc<Places>,
    /// Sockets of former generations are not used again.
    generation: Cell<u64>,
    /// There has been a socket: the address is one that can be reached from here.
    reached: Cell<bool>,
}

impl SocketPool {
    /// Has a `workers`th of the sockets that there may be. To be called within a runtime.
    pub(crate) fn new(limits: PoolLimits, dialler: Dialler, workers: usize) -> Rc<Self> {
        let places = limits.places(workers);
        let max = u32::try_from(places.count()).unwrap_or(u32::MAX);
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
        Rc::new(Self { idle, recent: Recent::default(), max, places, generation, reached })
    }

    /// Hands what has not been used since the last call to bb8, where it grows old.
    pub(super) fn settle(&self) {
        drop(self.recent.take_unused());
    }

    pub(super) fn clear(&self) {
        self.generation.set(self.generation.get() + 1);
        for mut guard in self.recent.take_all() {
            guard.abandoned = true;
        }
    }

    pub(super) fn places(&self) -> &Rc<Places> {
        &self.places
    }

    /// The newest idle socket, unless a fresh one is asked for; else the place is handed back.
    pub(super) fn try_take(self: &Rc<Self>, place: Place, fresh: bool) -> Result<Pooled, Place> {
        match self.idle_socket(fresh) {
            Some(guard) => Ok(self.pooled(guard, true, place)),
            None => Err(place),
        }
    }

    /// Sockets that wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.recent.len() + self.idle.state().idle_connections as usize
    }

    /// The newest idle socket, or (`fresh`: in any case) a new one.
    pub(super) async fn take(self: &Rc<Self>, place: Place, fresh: bool) -> Result<Pooled, TakeError> {
        match self.try_take(place, fresh) {
            Ok(pooled) => Ok(pooled),
            Err(place) => {
                let guard =
                    self.dial().await.map_err(|cause| TakeError::not_dialled(cause, self.reached.get()))?;
                Ok(self.pooled(guard, false, place))
            }
        }
    }

    fn pooled(self: &Rc<Self>, guard: Guard, reused: bool, place: Place) -> Pooled {
        Pooled { held: Some(Held::Anybodys(guard, self.clone())), reused, _place: place }
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

impl fmt::Debug for SocketPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketPool")
            .field("idle", &self.idle.state().idle_connections)
            .field("recent", &self.recent.len())
            .finish_non_exhaustive()
    }
}

/// A socket that one request has. Dropped without [`give_back`](Self::give_back), it is closed.
pub(crate) struct Pooled {
    held: Option<Held>,
    reused: bool,
    // After the socket: the place becomes free when that is back.
    _place: Place,
}

/// A socket, and where it goes afterwards.
enum Held {
    /// The next request may be anybody's.
    Anybodys(Guard, Rc<SocketPool>),
    /// It is to be the same client's.
    Clients(Socket, Rc<ClientSockets>, Whose),
}

impl Pooled {
    /// One that serves one client alone.
    pub(super) fn of_client(
        socket: Socket,
        reused: bool,
        (pool, whose): (&Rc<ClientSockets>, Whose),
        place: Place,
    ) -> Self {
        Self { held: Some(Held::Clients(socket, pool.clone(), whose)), reused, _place: place }
    }

    /// Whether it has served a request before: then its server may have closed it a moment ago.
    pub(crate) fn reused(&self) -> bool {
        self.reused
    }

    /// The socket.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        match self.held.as_mut().expect("taken only at the end") {
            Held::Anybodys(guard, _) => &mut guard.stream,
            Held::Clients(socket, ..) => &mut socket.stream,
        }
    }

    /// The exchange is complete, and nothing of it is left on the socket: the next request may have it.
    pub(crate) fn give_back(mut self) {
        match self.held.take() {
            Some(Held::Anybodys(guard, pool)) => pool.recent.push(guard),
            Some(Held::Clients(socket, pool, whose)) => pool.give_back(socket, whose),
            None => {}
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(Held::Anybodys(guard, _)) = &mut self.held {
            guard.abandoned = true;
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("reused", &self.reused).finish_non_exhaustive()
    }
}
