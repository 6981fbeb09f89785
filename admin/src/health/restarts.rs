//! How often apps have been started anew lately: no app more often than the file allows. Pure.

use std::collections::{BTreeMap, VecDeque};

/// The time that is looked at, in milliseconds.
const HOUR_MS: u64 = 3600 * 1000;

/// When each app was started anew, by tag; as many tags as there are apps.
#[derive(Debug, Default)]
pub(super) struct Restarts(BTreeMap<String, VecDeque<u64>>);

impl Restarts {
    /// Whether an app may be started anew now; it counts then.
    pub(super) fn allow(&mut self, tag: &str, now_ms: u64, per_hour: u32) -> bool {
        self.0.retain(|_, times| {
            times.retain(|at| at.saturating_add(HOUR_MS) > now_ms);
            !times.is_empty()
        });
        let times = self.0.entry(tag.to_owned()).or_default();
        let allowed = times.len() < per_hour as usize;
        if allowed {
            times.push_back(now_ms);
        }
        allowed
    }

    /// One was started anew, by the server that led before.
    pub(super) fn restore(&mut self, tag: &str, at_ms: u64) {
        self.0.entry(tag.to_owned()).or_default().push_back(at_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_started_anew_so_often_in_an_hour_and_others_are_counted_apart() {
        let mut restarts = Restarts::default();
        restarts.restore("shop", 0);
        let minute = |it: u64| it * 60_000;
        let allowed: Vec<bool> =
            [1, 2, 3, 59, 60, 61, 62].map(|it| restarts.allow("shop", minute(it), 3)).to_vec();
        assert_eq!(allowed, [true, true, false, false, true, true, true]);
        assert!(restarts.allow("blog", minute(3), 1) && !restarts.allow("blog", minute(4), 1));
        assert!(restarts.allow("new", minute(600), 1));
        assert_eq!(restarts.0.len(), 1, "what is long ago is forgotten");
    }
}
