//! Log lines of what a stranger can cause as often as he likes: one in a while, with the number of those that were kept back.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lets one line through in each interval.
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    count: u64,
}

impl LogLimit {
    /// One line in `interval`, the first at once.
    pub fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// It has happened `times` more. `Some`: say so now, with how often it has happened since the line before.
    pub fn note(&self, now: Instant, times: u64) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += times;
        let due = state.told.is_none_or(|told| now.saturating_duration_since(told) >= self.interval);
        if !due || state.count == 0 {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_is_counted_in_the_next_line() {
        let (limit, now) = (LogLimit::new(Duration::from_secs(10)), Instant::now());
        assert_eq!(limit.note(now, 0), None);
        assert_eq!(limit.note(now, 1), Some(1));
        assert_eq!(limit.note(now + Duration::from_secs(9), 4), None);
        assert_eq!(limit.note(now + Duration::from_secs(10), 2), Some(6));
        assert_eq!(limit.note(now + Duration::from_secs(20), 0), None);
        assert_eq!(limit.note(now + Duration::from_secs(21), 1), Some(1));
    }
}
