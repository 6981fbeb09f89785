//! What happens in the cache, counted over all workers where it is rare.

use std::sync::{Arc, atomic::AtomicU64};

/// Of what is written seldom enough that workers may share it.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    /// Answers that were stored.
    pub(crate) stored: AtomicU64,
    /// Answers that made room for others.
    pub(crate) evicted: Arc<AtomicU64>,
}
