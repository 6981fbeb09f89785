//! What the decoder asks of a value, noted while it reads.

use super::super::{keys::Keys, source::Span};
use std::{cell::RefCell, ops::RangeInclusive, time::Duration};

/// What a value is to be.
#[derive(Debug, Clone)]
pub(in super::super) enum Ask {
    /// A mapping with these keys.
    Mapping(&'static Keys),
    /// A list.
    List,
    /// A scalar; what is asked beside it says which.
    Text,
    /// One of these words.
    Choice(Vec<String>),
    /// A whole number.
    Integer(RangeInclusive<u64>),
    /// A duration.
    Duration(RangeInclusive<Duration>),
    /// A size in bytes.
    Size(RangeInclusive<u64>),
}

/// Notes what is asked, if anyone wants to know.
#[derive(Debug, Default)]
pub(in super::super) struct Asked(Option<RefCell<Vec<(Span, Ask)>>>);

impl Asked {
    /// Notes everything.
    pub(in super::super) fn listening() -> Self {
        Self(Some(RefCell::default()))
    }

    /// Notes that the value at `span` is to be what `ask` says.
    pub(in super::super) fn note(&self, span: Span, ask: impl FnOnce() -> Ask) {
        if let Some(noted) = &self.0 {
            noted.borrow_mut().push((span, ask()));
        }
    }

    /// What was asked of the value at `span`.
    pub(super) fn at(&self, span: Span) -> Vec<Ask> {
        let Some(noted) = &self.0 else { return Vec::new() };
        noted.borrow().iter().filter(|(at, _)| *at == span).map(|(_, ask)| ask.clone()).collect()
    }
}
