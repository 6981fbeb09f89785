//! Lines of the log that would come with every request or connection while something is wrong: one now and then, with a count.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// When a line was written last, and how many have not been since.
#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog {
    last: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl RateLimitedLog {
    /// It has happened once more. If a line is due, how often it has since the last one.
    pub(crate) fn happened(&self, now: Instant) -> Option<u64> {
        let times = self.unsaid.get() + 1;
        let due = self.last.get().is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        self.unsaid.set(if due { 0 } else { times });
        if due {
            self.last.set(Some(now));
        }
        due.then_some(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_many_were_left_out() {
        let (log, start) = (RateLimitedLog::default(), Instant::now());
        assert_eq!(log.happened(start), Some(1));
        assert_eq!(log.happened(start + INTERVAL / 4), None);
        assert_eq!(log.happened(start + INTERVAL / 2), None);
        assert_eq!(log.happened(start + INTERVAL), Some(3));
        assert_eq!(log.happened(start + INTERVAL), None);
    }
}
