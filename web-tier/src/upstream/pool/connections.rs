//! Connections to one server for who uses each of them up, as those of a `tcp-proxy` are: none is ever idle. What the server says at
//! once is what its client waits for.

use super::{
    PoolLimits, TakeError,
    client_sockets::Whose,
    dialler::Dialler,
    places::{Place, Places},
};
use cluster_port::Stream;
use std::{cell::Cell, rc::Rc};

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Connections {
    dialler: Dialler,
    places: Rc<Places>,
    /// There has been one: the address is one that can be reached from here.
    reached: Cell<bool>,
}

/// One of them; dropped, it is closed, and its place is free.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    _place: Place,
}

impl Connections {
    /// Has a `workers`th of those that there may be.
    pub(crate) fn new(limits: PoolLimits, dialler: Dialler, workers: usize) -> Rc<Self> {
        Rc::new(Self { dialler, places: limits.places(workers), reached: Cell::new(false) })
    }

    pub(super) fn places(&self) -> &Rc<Places> {
        &self.places
    }

    pub(super) async fn connect(&self, place: Place, whose: Whose) -> Result<Connection, TakeError> {
        let stream = self.dialler.dial_for(whose).await;
        let stream = stream.map_err(|cause| TakeError::not_dialled(cause, self.reached.get()))?;
        self.reached.set(true);
        Ok(Connection { stream, _place: place })
    }
}
