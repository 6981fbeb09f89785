//! The retry budget: of all requests of the last ten seconds at most a fifth may be retries, so that a cluster that fails is
//! not given several times its load on top. One for each worker and cluster; the time comes in as an argument.

use std::time::{Duration, Instant};

/// The window, in slots of one second.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);

/// Retries for so many requests.
const REQUESTS_A_RETRY: u32 = 5;

/// Retries that are always there, for a whole window: three a second. A worker with fewer than 15 requests a second may try
/// each of them again; in a cluster of any size they are a few requests a second for each worker in front of it.
const FLOOR: u32 = 3 * SLOTS as u32;

/// Requests and retries of the last ten seconds.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    slots: [Counts; SLOTS],
    sum: Counts,
    /// The slot that is being filled, and when it began.
    present: usize,
    begun: Instant,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// An empty window.
    pub(crate) fn new(now: Instant) -> Self {
        Self { slots: [Counts::default(); SLOTS], sum: Counts::default(), present: 0, begun: now }
    }

    /// A request begins; its retries are not counted here.
    pub(crate) fn request(&mut self, now: Instant) {
        self.advance(now);
        let slot = &mut self.slots[self.present];
        // Beyond 4 billion a window the exact number is of no importance, but both must change alike.
        if let (Some(of_slot), Some(of_sum)) =
            (slot.requests.checked_add(1), self.sum.requests.checked_add(1))
        {
            slot.requests = of_slot;
            self.sum.requests = of_sum;
        }
    }

    /// Whether a request may be tried once more; counts it if so.
    pub(crate) fn try_retry(&mut self, now: Instant) -> bool {
        self.advance(now);
        let allowed = (self.sum.requests / REQUESTS_A_RETRY).max(FLOOR);
        if self.sum.retries >= allowed {
            return false;
        }
        self.slots[self.present].retries += 1;
        self.sum.retries += 1;
        true
    }

    /// Lets go of what is older than the window. A clock that is read less often than another may be behind it: that changes
    /// nothing.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.begun);
        if passed < SLOT {
            return;
        }
        let slots = passed.as_secs();
        for _ in 0..slots.min(SLOTS as u64) {
            self.present = (self.present + 1) % SLOTS;
            let old = std::mem::take(&mut self.slots[self.present]);
            self.sum.requests -= old.requests;
            self.sum.retries -= old.retries;
        }
        self.begun += Duration::from_secs(slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn retries(budget: &mut RetryBudget, now: Instant) -> u32 {
        (0..100_000).take_while(|_| budget.try_retry(now)).count() as u32
    }

    #[test]
    fn a_fifth_of_the_requests_of_ten_seconds() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        for second in 0..10 {
            (0..100).for_each(|_| budget.request(start + SLOT * second));
        }
        let end = start + SLOT * 9;
        assert_eq!(retries(&mut budget, end), 200);
        assert!(!budget.try_retry(end));
        (0..5).for_each(|_| budget.request(end));
        assert_eq!(retries(&mut budget, end), 1);
        // The requests of the first seconds go, the retries of the last one stay.
        assert!(!budget.try_retry(start + SLOT * 12));
        assert_eq!(retries(&mut budget, start + SLOT * 19), 30, "all are gone but for the floor");
    }

    #[test]
    fn a_small_cluster_fails_over_all_the_same() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        budget.request(start);
        assert_eq!(retries(&mut budget, start), FLOOR);
        assert!(!budget.try_retry(start + SLOT * 9));
        assert_eq!(retries(&mut budget, start + SLOT * 10), FLOOR);
    }

    #[test]
    fn a_long_pause_and_a_late_clock_do_no_harm() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start + SLOT);
        budget.request(start);
        assert!(budget.try_retry(start + Duration::from_secs(86_400 * 365)));
        assert!(budget.try_retry(start), "an old time counts as the present one");
        assert_eq!(budget.sum, Counts { requests: 0, retries: 2 });
    }

    proptest! {
        #[test]
        fn no_window_has_more_retries_than_a_fifth_and_the_floor(
            steps in prop::collection::vec((0_u64..3000, 0_u32..40, 0_u32..40), 1..60),
        ) {
            let mut now = Instant::now();
            let mut budget = RetryBudget::new(now);
            let mut done: Vec<(Instant, u32, u32)> = Vec::new();
            for (millis, requests, asked) in steps {
                now += Duration::from_millis(millis);
                (0..requests).for_each(|_| budget.request(now));
                let granted = (0..asked).filter(|_| budget.try_retry(now)).count() as u32;
                done.push((now, requests, granted));
                let within = |span| done.iter().filter(move |(at, ..)| now.duration_since(*at) < span);
                // Slots are whole seconds: nine of the window's ten are complete.
                let retries: u32 = within(SLOT * 9).map(|(_, _, retries)| retries).sum();
                let requests: u32 = within(SLOT * 20).map(|(_, requests, _)| requests).sum();
                prop_assert!(retries <= (requests / 5).max(FLOOR), "{retries} of {requests}");
                let sum = budget.slots.iter().fold((0, 0), |sum, it| (sum.0 + it.requests, sum.1 + it.retries));
                prop_assert_eq!(sum, (budget.sum.requests, budget.sum.retries));
            }
        }
    }
}
