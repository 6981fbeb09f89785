//! Which members are being dialed: each once at a time, and not too many.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Members that are dialed at once; the others' turn comes with the next heartbeat interval.
const PENDING: usize = 256;

/// Members that are being dialed, each once at a time.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<HashSet<String>>);

impl Probes {
    /// Begins with a member, until what is returned is dropped; `None` while it is being dialed, or too many are.
    pub(crate) fn begin(self: &Arc<Self>, id: &str) -> Option<Probe> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = pending.len() < PENDING && pending.insert(id.to_owned());
        new.then(|| Probe { probes: self.clone(), id: id.to_owned() })
    }
}

/// One member that is being dialed.
#[derive(Debug)]
pub(crate) struct Probe {
    probes: Arc<Probes>,
    /// The member.
    pub(crate) id: String,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.probes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_looked_at_once_at_a_time_and_not_too_many() {
        let probes = Arc::new(Probes::default());
        let first = probes.begin("a");
        assert!(first.is_some() && probes.begin("a").is_none());
        drop(first);
        assert!(probes.begin("a").is_some());
        let held: Vec<_> = (0..PENDING).map(|n| probes.begin(&format!("{n}"))).collect();
        assert!(held.iter().all(Option::is_some) && probes.begin("b").is_none());
    }
}
