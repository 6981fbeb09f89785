//! URLs whose answers were not kept lately, and why: a few a second, as an operator who wonders sees it again soon.

use proto::web::v1::NotKept;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How many there are.
const MOST: usize = 50;

/// No more than one in this time is written down.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest URL, in bytes.
const LENGTH_MAX: usize = 200;

/// The last ones.
#[derive(Debug)]
pub(crate) struct NotKeptList {
    since: Instant,
    /// When the next one is written down: milliseconds from `since`.
    next: AtomicU64,
    list: Mutex<VecDeque<(String, &'static str)>>,
}

impl Default for NotKeptList {
    fn default() -> Self {
        Self { since: Instant::now(), next: AtomicU64::new(0), list: Mutex::default() }
    }
}

impl NotKeptList {
    /// The answer to a request for this was not kept.
    pub(crate) fn note(&self, now: Instant, url: impl FnOnce() -> String, why: &'static str) {
        let millis = |time: Duration| time.as_secs() * 1000 + u64::from(time.subsec_millis());
        let at = millis(now.saturating_duration_since(self.since));
        if at < self.next.load(Relaxed) {
            return;
        }
        self.next.store(at + millis(PAUSE), Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_a_second_are_written_down_the_newest_first_and_each_once() {
        let (list, start) = (NotKeptList::default(), Instant::now());
        for (millis, url) in
            [(0, "a/1"), (10, "a/2"), (100, "a/3"), (200, "a/1"), (250, "a/4"), (10_000, "a/5")]
        {
            list.note(start + Duration::from_millis(millis), || url.to_owned(), "no-store");
        }
        let urls: Vec<String> = list.list().into_iter().map(|it| it.url).collect();
        assert_eq!(urls, ["a/5", "a/1", "a/3"]);
        for number in 0..200 {
            list.note(start + Duration::from_secs(20 + number), || "é".repeat(150), "no-store");
            list.note(start + Duration::from_secs(20 + number), || unreachable!("too soon"), "no-store");
            list.note(
                start + Duration::from_millis(20_500 + 1000 * number),
                || number.to_string(),
                "private",
            );
        }
        let all = list.list();
        assert_eq!((all.len(), all[0].url.as_str(), all[0].why.as_str()), (MOST, "199", "private"));
        assert!(all[1].url.ends_with("é…") && all[1].url.len() <= LENGTH_MAX + 3);
    }
}
