//! Connections to one server that speaks HTTP/2, for one worker. A request takes a stream of one that has room; where none has, one
//! more is made, by all who need it together.

use super::{
    PoolLimits, TakeError,
    dialler::Dialler,
    places::{Place, Places},
};
use crate::upstream::h2c::{self, STREAMS_MAX};
use bytes::Bytes;
use common::shortage::is_shortage;
use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, Shared},
};
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{
    Request,
    uri::{Authority, Scheme},
};
use std::{
    cell::{Cell, RefCell},
    fmt, io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{task::spawn_local, time::timeout};

/// What a dial came to, for all who wait for it.
type Dialled = Result<Rc<Connection>, Rc<io::Error>>;
type Dialling = Shared<LocalBoxFuture<'static, Dialled>>;

/// The connections to one server.
pub(crate) struct StreamPool {
    dialler: Rc<Dialler>,
    places: Rc<Places>,
    idle_time: Duration,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// The connection that is being made.
    dialling: RefCell<Option<Dialling>>,
    /// Its number.
    dials: Cell<u64>,
}

/// One of them.
struct Connection {
    /// Requests are made by its clones: it is always ready, or the connection has ended.
    requests: RefCell<SendRequest<Bytes>>,
    /// Of the server.
    authority: Authority,
    scheme: Scheme,
    /// Requests that are under way.
    open: Cell<usize>,
    /// It has taken a request.
    used: Cell<bool>,
    idle_since: Cell<Instant>,
}

impl StreamPool {
    /// Has a `workers`th of the requests that there may be.
    pub(crate) fn new(limits: PoolLimits, dialler: Dialler, workers: usize) -> Rc<Self> {
        Rc::new(Self {
            dialler: Rc::new(dialler),
            places: limits.places(workers),
            idle_time: limits.idle_time,
            connections: RefCell::default(),
            dialling: RefCell::default(),
            dials: Cell::new(0),
        })
    }

    /// Lets go of connections that nobody has used for `idle-time`, and of those that have ended.
    pub(super) fn settle(&self) {
        let now = Instant::now();
        let idle = |it: &Connection| {
            it.open.get() == 0 && now.saturating_duration_since(it.idle_since.get()) >= self.idle_time
        };
        self.connections.borrow_mut().retain(|it| it.is_alive() && !idle(it));
    }

    /// Streams that are open go on; no new one begins on the connections that there are now.
    pub(super) fn clear(&self) {
        self.connections.take();
        self.dialling.take();
        self.dials.set(self.dials.get() + 1);
    }

    pub(super) fn places(&self) -> &Rc<Places> {
        &self.places
    }

    /// Connections without a request.
    pub(super) fn idle(&self) -> usize {
        self.connections.borrow().iter().filter(|it| it.open.get() == 0 && it.is_alive()).count()
    }

    /// A stream of a connection that is there; else the place is handed back.
    pub(super) fn try_take(&self, place: Place) -> Result<OpenStream, Place> {
        match self.with_room() {
            Some(connection) => Ok(OpenStream::new(connection, place)),
            None => Err(place),
        }
    }

    /// A stream for one request.
    pub(super) async fn take(self: &Rc<Self>, mut place: Place) -> Result<OpenStream, TakeError> {
        loop {
            place = match self.try_take(place) {
                Ok(stream) => return Ok(stream),
                Err(place) => place,
            };
            // Others who wait for it may be faster: then the next one is made for those who are left.
            let connection = self.dial().await.map_err(|cause| not_dialled(&cause))?;
            if !(connection.used.get() || (connection.has_room() && connection.is_alive())) {
                let cause =
                    io::Error::new(io::ErrorKind::ConnectionAborted, "a new connection takes no requests");
                return Err(TakeError::Connect(cause));
            }
        }
    }

    /// The oldest connection that can take one more request: where fewer are enough, the others grow old.
    fn with_room(&self) -> Option<Rc<Connection>> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|it| it.is_alive());
        connections.iter().find(|it| it.has_room()).cloned()
    }

    /// A new connection. Who asks while one is made waits for that.
    async fn dial(self: &Rc<Self>) -> Dialled {
        let dialling = self.dialling.borrow().clone();
        let dialling = dialling.unwrap_or_else(|| self.begin_dial());
        dialling.await
    }

    /// In a task of its own: whoever began it may give up, the others still wait.
    fn begin_dial(self: &Rc<Self>) -> Dialling {
        let number = self.dials.get() + 1;
        self.dials.set(number);
        let (pool, dialler) = (Rc::downgrade(self), self.dialler.clone());
        let task = spawn_local(async move {
            let dialled = Connection::dial(&dialler).await.map(Rc::new).map_err(Rc::new);
            if let Some(pool) = pool.upgrade() {
                pool.dialled(number, &dialled);
            }
            dialled
        });
        let dialled = async { task.await.unwrap_or_else(|cause| Err(Rc::new(io::Error::other(cause)))) };
        let dialling = dialled.boxed_local().shared();
        self.dialling.replace(Some(dialling.clone()));
        dialling
    }

    /// Takes note of what a dial has come to, unless nobody wants it any more.
    fn dialled(&self, number: u64, dialled: &Dialled) {
        if self.dials.get() == number {
            self.dialling.take();
            self.connections.borrow_mut().extend(dialled.clone());
        }
    }
}

fn not_dialled(cause: &io::Error) -> TakeError {
    // The others who waited have it too.
    let same = match cause.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(cause.kind(), cause.to_string()),
    };
    if is_shortage(&same) { TakeError::Short(same) } else { TakeError::Connect(same) }
}

impl Connection {
    async fn dial(dialler: &Dialler) -> io::Result<Self> {
        let within = dialler.timeout();
        let begun = timeout(within, async { h2c::begin(dialler.dial().await?).await }).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no HTTP/2 within {within:?}"));
        let (requests, connection) = begun.map_err(late)??;
        spawn_local(async move {
            if let Err(cause) = connection.await {
                tracing::debug!(%cause, "an HTTP/2 connection to a server broke");
            }
        });
        let authority = Authority::try_from(dialler.authority()).map_err(io::Error::other)?;
        Ok(Self {
            requests: RefCell::new(requests),
            authority,
            scheme: dialler.scheme(),
            open: Cell::new(0),
            used: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
        })
    }

    /// Whether the server still takes requests on it, as far as is known.
    fn is_alive(&self) -> bool {
        let ready = self.requests.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(ready, Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        self.open.get() < self.requests.borrow().current_max_send_streams().min(STREAMS_MAX)
    }
}

impl fmt::Debug for StreamPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<_> = self.connections.borrow().iter().map(|it| it.open.get()).collect();
        f.debug_struct("StreamPool").field("open", &open).finish_non_exhaustive()
    }
}

/// A stream that one request has.
pub(crate) struct OpenStream {
    connection: Rc<Connection>,
    reused: bool,
    _place: Place,
}

impl OpenStream {
    fn new(connection: Rc<Connection>, place: Place) -> Self {
        connection.open.set(connection.open.get() + 1);
        let reused = connection.used.replace(true);
        Self { connection, reused, _place: place }
    }

    /// Whether its connection has served before.
    pub(crate) fn reused(&self) -> bool {
        self.reused
    }

    /// What requests say that they come by, and the server's own name for one that has none.
    pub(crate) fn origin(&self) -> (Scheme, &Authority) {
        (self.connection.scheme.clone(), &self.connection.authority)
    }

    /// Sends the head of the request, the end of it if there is no body.
    pub(crate) fn send(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.connection.requests.borrow().clone().send_request(request, ends)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.open.set(connection.open.get() - 1);
        connection.idle_since.set(Instant::now());
    }
}

impl fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStream").field("reused", &self.reused).finish_non_exhaustive()
    }
}
