//! URLs whose answers were not kept lately, and why: one of several, as an operator who wonders sees it again soon.

use proto::web::v1::NotKept;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// How many there are.
const MOST: usize = 50;

/// One in so many is written down.
const EVERY: u32 = 16;

/// The longest URL, in bytes.
const LENGTH_MAX: usize = 200;

/// The last ones.
#[derive(Debug, Default)]
pub(crate) struct NotKeptList {
    count: AtomicU32,
    list: Mutex<VecDeque<(String, &'static str)>>,
}

impl NotKeptList {
    /// The answer to a request for this was not kept.
    pub(crate) fn note(&self, url: impl FnOnce() -> String, why: &'static str) {
        if !self.count.fetch_add(1, Relaxed).is_multiple_of(EVERY) {
            return;
        }
        let mut url = url();
        if url.len() > LENGTH_MAX {
            let end = (0..=LENGTH_MAX).rev().find(|it| url.is_char_boundary(*it)).unwrap_or(0);
            url.truncate(end);
            url.push('…');
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|(known, _)| *known != url);
        list.push_front((url, why));
        list.truncate(MOST);
    }

    /// The newest first.
    pub(crate) fn list(&self) -> Vec<NotKept> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().map(|(url, why)| NotKept { url: url.clone(), why: (*why).to_owned() }).collect()
    }
}
