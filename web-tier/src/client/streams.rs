//! The streams of a connection that has many requests at a time.

use super::window::Window;
use crate::worker::{Worker, client::Client};
use std::{cell::Cell, rc::Rc, task::Waker};

/// The streams of a connection.
pub(super) struct Streams {
    /// How many there are.
    pub(super) open: Cell<usize>,
    pub(super) window: Window,
    /// The connection's task, which is told when the last one ends.
    pub(super) waker: Cell<Option<Waker>>,
}

impl Streams {
    pub(super) fn new(worker: &Worker) -> Rc<Self> {
        Rc::new(Self {
            open: Cell::default(),
            window: Window::new(&worker.body_room),
            waker: Cell::default(),
        })
    }
}

/// One of the streams.
pub(super) struct Open {
    streams: Rc<Streams>,
    client: Rc<Client>,
    /// It came with a body.
    uploads: bool,
}

impl Open {
    pub(super) fn new(streams: &Rc<Streams>, client: &Rc<Client>, uploads: bool) -> Self {
        streams.open.set(streams.open.get() + 1);
        if uploads {
            streams.window.begin();
        }
        client.progress.asked(client.worker.now(), false);
        Self { streams: streams.clone(), client: client.clone(), uploads }
    }

    /// It turns out that it comes with a body.
    pub(super) fn uploads(&mut self) {
        self.uploads = true;
        self.streams.window.begin();
    }

    /// The number of its connection: no other one has the same at a time.
    pub(super) fn connection(&self) -> usize {
        Rc::as_ptr(&self.streams).addr()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { streams, client, uploads, .. } = self;
        if *uploads {
            streams.window.end();
        }
        streams.open.set(streams.open.get() - 1);
        if streams.open.get() == 0 {
            client.progress.answered(client.worker.now());
            if let Some(waker) = streams.waker.take() {
                waker.wake();
            }
        }
    }
}
