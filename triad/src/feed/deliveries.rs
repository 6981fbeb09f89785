//! Wakes the streams on which servers are handed messages: what they are handed is in the state.

use crate::state::Change;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// Those who listen, by server.
#[derive(Debug, Default)]
pub(super) struct Deliveries(Mutex<HashMap<String, Arc<Notify>>>);

impl Deliveries {
    /// What wakes a server's stream. Servers are as many as the cluster's file has.
    pub(super) fn of(&self, server: &str) -> Arc<Notify> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(server.to_owned()).or_default().clone()
    }

    /// Wakes those for whom there is something; the other changes are left.
    pub(super) fn wake(&self, changes: &mut Vec<Change>) {
        if !changes.iter().any(|it| matches!(it, Change::Delivered(_))) {
            return;
        }
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Option<Arc<str>> = None;
        changes.retain(|change| {
            let Change::Delivered(server) = change else { return true };
            if last.as_ref() != Some(server) {
                all.get(&**server).into_iter().for_each(|it| it.notify_waiters());
                last = Some(server.clone());
            }
            false
        });
    }

    /// Wakes all: this server may lead no more.
    pub(super) fn wake_all(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|it| it.notify_waiters());
    }
}
