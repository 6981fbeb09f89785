//! Memory that serves many requests, one after the other: nothing is allocated for one that an earlier one has left.

pub(crate) mod buffer;
pub(crate) mod pipes;
pub(crate) mod shelf;
