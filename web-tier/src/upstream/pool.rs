//! Connections to one server, for one worker: `sockets` where the server speaks HTTP/1.1, one request at a time on each;
//! `client_sockets` where it does and wants to know of each whose it is; `streams` where it speaks HTTP/2, many on each. A queue of ours bounds how many requests are with the server, and how long one waits; while
//! some wait, no client holds more than its share by being slow.

mod client_sockets;
mod connections;
mod dialler;
mod owner;
mod places;
mod queue;
mod recent;
mod share;
mod sockets;
mod streams;

pub(crate) use client_sockets::{ClientSockets, Whose};
use common::{
    config::{HttpProxy, Server},
    shortage::is_shortage,
};
pub(crate) use connections::{Connection, Connections};
pub(crate) use dialler::Dialler;
pub(crate) use owner::{Asker, Holder, Owner};
pub(crate) use places::Place;
use places::Places;
pub(crate) use sockets::{Pooled, SocketPool};
use std::{cell::Cell, io, rc::Rc, time::Duration};
pub(crate) use streams::{OpenStream, StreamPool};

/// How many requests may be with a server from this one, and how long connections and requests wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    /// `load-balance-connection-max`.
    connection_max: usize,
    /// `load-balance-idle-time`.
    idle_time: Duration,
    /// `load-balance-queue-timeout`.
    queue_timeout: Duration,
}

impl PoolLimits {
    /// A `workers`th of the places.
    fn places(&self, workers: usize) -> Rc<Places> {
        Places::new(self.connection_max.div_ceil(workers.max(1)).max(1), self.queue_timeout)
    }
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

/// Why there is no socket for a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// As many requests wait already as there may be sockets, none of them of a client that has more of them than this one.
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

impl TakeError {
    /// Sorts out whose fault it is. Out of ports the system says what it says of an address that can't be reached from here at all;
    /// `reached`: it could be.
    fn not_dialled(cause: io::Error, reached: bool) -> Self {
        let no_port = cause.kind() == io::ErrorKind::AddrNotAvailable && reached;
        if no_port || is_shortage(&cause) { Self::Short(cause) } else { Self::Connect(cause) }
    }

    fn of_another_kind() -> Self {
        Self::Connect(io::ErrorKind::Unsupported.into())
    }
}

/// The connections to one server.
#[derive(Debug, Clone)]
pub(crate) enum ServerPool {
    /// In HTTP/1.1.
    Sockets(Rc<SocketPool>),
    /// The same, with a PROXY header first.
    ClientSockets(Rc<ClientSockets>),
    /// In HTTP/2.
    Streams(Rc<StreamPool>),
    /// In whatever clients speak.
    Connections(Rc<Connections>),
}

/// What one request has of a pool.
#[derive(Debug)]
pub(crate) enum Taken {
    Socket(Pooled),
    Stream(OpenStream),
}

impl ServerPool {
    /// Lets go of connections that are not used any more. To be called a few times a second.
    pub(crate) fn settle(&self) {
        self.places().settle();
        match self {
            Self::Sockets(pool) => pool.settle(),
            Self::ClientSockets(pool) => pool.settle(),
            Self::Streams(pool) => pool.settle(),
            Self::Connections(_) => {}
        }
    }

    /// Lets no request use the connections that are there now: their server has failed, left or been replaced.
    pub(crate) fn clear(&self) {
        match self {
            Self::Sockets(pool) => pool.clear(),
            Self::ClientSockets(pool) => pool.clear(),
            Self::Streams(pool) => pool.clear(),
            Self::Connections(_) => {}
        }
    }

    fn places(&self) -> &Rc<Places> {
        match self {
            Self::Sockets(pool) => pool.places(),
            Self::ClientSockets(pool) => pool.places(),
            Self::Streams(pool) => pool.places(),
            Self::Connections(pool) => pool.places(),
        }
    }

    /// How many connections wait for a request, and how many requests for a connection.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let idle = match self {
            Self::Sockets(pool) => pool.idle(),
            Self::ClientSockets(pool) => pool.idle(),
            Self::Streams(pool) => pool.idle(),
            Self::Connections(_) => 0,
        };
        (idle, self.places().waiting())
    }

    /// Whether the server is to hear whose its connections are.
    pub(crate) fn tells_whose(&self) -> bool {
        matches!(self, Self::ClientSockets(_))
    }

    /// Whether a request that asks now need not queue.
    pub(crate) fn has_place(&self) -> bool {
        self.places().has_free()
    }

    /// A way to the server for one request, if there is one at once: on a connection that has served before, and not if a `fresh` one
    /// is asked for. Else the place among the requests that it has by now, if any. `whose` counts where the pool
    /// [tells it](Self::tells_whose).
    pub(crate) fn try_take(&self, fresh: bool, whose: Whose, asker: &Asker) -> Result<Taken, Option<Place>> {
        let place = self.places().try_take(asker).ok_or(None)?;
        match self {
            Self::Sockets(pool) => pool.try_take(place, fresh).map(Taken::Socket).map_err(Some),
            Self::ClientSockets(pool) => pool.try_take(place, fresh, whose).map(Taken::Socket).map_err(Some),
            Self::Streams(pool) => pool.try_take(place).map(Taken::Stream).map_err(Some),
            Self::Connections(_) => Err(Some(place)),
        }
    }

    /// A connection of its own for who uses it up, as soon as there is a place; the server may want to hear `whose` it is.
    ///
    /// # Errors
    /// As [`Self::take`]; a pool for requests has none.
    pub(crate) async fn connect(&self, asker: &Asker, whose: Whose) -> Result<Connection, TakeError> {
        let Self::Connections(pool) = self else { return Err(TakeError::of_another_kind()) };
        let place = match self.places().try_take(asker) {
            Some(place) => place,
            None => self.places().wait(asker, &Cell::new(false)).await?,
        };
        pool.connect(place, whose).await
    }

    /// The same for a request that can wait, for a place if it has none, and for a connection. `queued` is true while it waits for
    /// others to end.
    pub(crate) async fn take(
        &self,
        place: Option<Place>,
        (fresh, whose): (bool, Whose),
        asker: &Asker,
        queued: &Cell<bool>,
    ) -> Result<Taken, TakeError> {
        let place = match place.or_else(|| self.places().try_take(asker)) {
            Some(place) => place,
            None => self.places().wait(asker, queued).await?,
        };
        match self {
            Self::Sockets(pool) => pool.take(place, fresh).await.map(Taken::Socket),
            Self::ClientSockets(pool) => pool.take(place, fresh, whose).await.map(Taken::Socket),
            Self::Streams(pool) => pool.take(place).await.map(Taken::Stream),
            Self::Connections(_) => Err(TakeError::of_another_kind()),
        }
    }
}

#[cfg(test)]
impl ServerPool {
    /// Whether it is the same one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sockets(one), Self::Sockets(two)) => Rc::ptr_eq(one, two),
            (Self::ClientSockets(one), Self::ClientSockets(two)) => Rc::ptr_eq(one, two),
            (Self::Streams(one), Self::Streams(two)) => Rc::ptr_eq(one, two),
            (Self::Connections(one), Self::Connections(two)) => Rc::ptr_eq(one, two),
            _ => false,
        }
    }
}

#[cfg(test)]
impl Taken {
    /// What it is behind a server of HTTP/1.1.
    pub(crate) fn socket(self) -> Pooled {
        let Self::Socket(socket) = self else { panic!("a stream") };
        socket
    }
}
