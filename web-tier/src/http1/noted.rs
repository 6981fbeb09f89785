//! What of a request is known besides its head, and travels with it.

use std::rc::Rc;

/// The names under which a request is told of.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// `X-Request-Id`; empty before it has one.
    pub(crate) id: Vec<u8>,
    /// Where it was sent last.
    pub(crate) server: Option<Rc<str>>,
}

impl Noted {
    /// Nothing is known yet.
    pub(crate) fn clear(&mut self) {
        self.id.clear();
        self.server = None;
    }
}
