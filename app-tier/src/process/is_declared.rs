//! Whether an app has declared what it takes: before that none of its processes is healthy.

use crate::spec::Spec;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Of one version of an app. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct IsDeclared(Arc<AtomicBool>);

impl IsDeclared {
    /// At the start: it has, unless a process is to do so.
    pub(crate) fn new(spec: &Spec) -> Self {
        Self(Arc::new(AtomicBool::new(!spec.declare_at_start)))
    }

    /// It has.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
