//! Sockets to one server that is told, by a PROXY header, whose connection each is: for one worker. A header can't be taken back, so a
//! socket serves the requests of the client's connection that it was opened for, and no other's.

use super::{
    PoolLimits, TakeError,
    dialler::Dialler,
    places::{Place, Places},
    sockets::{Pooled, Socket},
};
use crate::transport::proxy_protocol::Endpoints;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

/// Whose a socket is; `None`: nobody's but ours.
pub(crate) type Whose = Option<Endpoints>;

/// A socket that waits for its client's next request, and since when.
type Idle = (Socket, Instant);

/// The sockets to one server.
pub(crate) struct ClientSockets {
    dialler: Dialler,
    places: Rc<Places>,
    idle_time: Duration,
    idle: RefCell<HashMap<Whose, Vec<Idle>>>,
    /// How many there are in `idle`.
    count: Cell<usize>,
    /// Sockets of former generations are not used again.
    generation: Cell<u64>,
    /// There has been a socket: the address is one that can be reached from here.
    reached: Cell<bool>,
}

impl ClientSockets {
    /// Has a `workers`th of the sockets that there may be, in use or idle.
    pub(crate) fn new(limits: PoolLimits, dialler: Dialler, workers: usize) -> Rc<Self> {
        Rc::new(Self {
            dialler,
            places: limits.places(workers),
            idle_time: limits.idle_time,
            idle: RefCell::default(),
            count: Cell::new(0),
            generation: Cell::new(0),
            reached: Cell::new(false),
        })
    }

    pub(super) fn places(&self) -> &Rc<Places> {
        &self.places
    }

    /// Sockets that wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.count.get()
    }

    /// Closes those that nobody has used for `idle-time`.
    pub(super) fn settle(&self) {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, sockets| {
            sockets.retain(|(socket, since)| {
                now.saturating_duration_since(*since) < self.idle_time && socket.is_open()
            });
            !sockets.is_empty()
        });
        self.count.set(idle.values().map(Vec::len).sum());
    }

    pub(super) fn clear(&self) {
        self.generation.set(self.generation.get() + 1);
        self.idle.take();
        self.count.set(0);
    }

    /// The newest idle socket of this client, unless a fresh one is asked for; else the place is handed back.
    pub(super) fn try_take(
        self: &Rc<Self>,
        place: Place,
        fresh: bool,
        whose: Whose,
    ) -> Result<Pooled, Place> {
        let found = if fresh { None } else { self.idle_socket(whose) };
        match found {
            Some(socket) => Ok(Pooled::of_client(socket, true, (self, whose), place)),
            None => Err(place),
        }
    }

    /// The same, or a new one.
    pub(super) async fn take(
        self: &Rc<Self>,
        place: Place,
        fresh: bool,
        whose: Whose,
    ) -> Result<Pooled, TakeError> {
        let place = match self.try_take(place, fresh, whose) {
            Ok(pooled) => return Ok(pooled),
            Err(place) => place,
        };
        let generation = self.generation.get();
        let socket = self.dialler.dial_for(whose).await;
        let mut socket =
            socket.map(Socket::new).map_err(|it| TakeError::not_dialled(it, self.reached.get()))?;
        socket.generation = generation;
        self.reached.set(true);
        // Others' idle ones are within the maximum too: one of them goes.
        if self.count.get() + self.places.in_use() > self.places.count() {
            self.drop_one();
        }
        Ok(Pooled::of_client(socket, false, (self, whose), place))
    }

    /// A request has ended, and left nothing on its socket.
    pub(super) fn give_back(&self, socket: Socket, whose: Whose) {
        if socket.generation != self.generation.get() {
            return;
        }
        self.idle.borrow_mut().entry(whose).or_default().push((socket, Instant::now()));
        self.count.set(self.count.get() + 1);
    }

    fn idle_socket(&self, whose: Whose) -> Option<Socket> {
        let mut idle = self.idle.borrow_mut();
        let sockets = idle.get_mut(&whose)?;
        let mut found = None;
        while let Some((socket, _)) = sockets.pop() {
            self.count.set(self.count.get() - 1);
            if socket.is_open() {
                found = Some(socket);
                break;
            }
        }
        if sockets.is_empty() {
            idle.remove(&whose);
        }
        found
    }

    /// Closes an idle socket, whosever it is.
    fn drop_one(&self) {
        let mut idle = self.idle.borrow_mut();
        let Some(whose) = idle.keys().next().copied() else { return };
        if let Some(sockets) = idle.get_mut(&whose) {
            sockets.swap_remove(0);
            self.count.set(self.count.get() - 1);
            if sockets.is_empty() {
                idle.remove(&whose);
            }
        }
    }
}

impl fmt::Debug for ClientSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSockets").field("idle", &self.count.get()).finish_non_exhaustive()
    }
}
