//! When things are due. All of it is pure; randomness and the time come in.

use std::time::Duration;

/// The longest wait that an authority may ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long things take. What is not for production, tests change.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From when an answer to a challenge is on the hub until the authority is told to ask for it: every web-tier has heard of it by then.
    pub propagation: Duration,
    /// Between questions how an order is, at first.
    pub poll: Duration,
    /// How long an order may take.
    pub order: Duration,
    /// Before an order that failed is tried again; four times as long each further time.
    pub first_retry: Duration,
    /// The longest such wait.
    pub retry_max: Duration,
    /// Between two tries of a certificate that operators ask for, all web-tiers together.
    pub by_hand: Duration,
    /// Between two orders of one server.
    pub spacing: Duration,
    /// The time of the lease by which one server orders.
    pub lease: Duration,
    /// Until a server that found the lease taken, or no hub, looks again.
    pub look_again: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            propagation: Duration::from_secs(2),
            poll: Duration::from_secs(1),
            order: Duration::from_secs(300),
            // Let's Encrypt takes five failures of a name an hour: at 0, 2, 10 and 42 minutes are four.
            first_retry: Duration::from_secs(120),
            retry_max: Duration::from_secs(12 * 3600),
            by_hand: Duration::from_secs(600),
            spacing: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            look_again: Duration::from_secs(15),
        }
    }
}

impl Times {
    /// The wait after so many failures in a row, at least what the authority has asked for. `chance` (0 to 1) makes it up to a quarter longer, so that
    /// clusters that failed together do not come back together.
    pub(crate) fn retry(&self, failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
        let doubled =
            self.first_retry.saturating_mul(4u32.saturating_pow(failures.saturating_sub(1).min(15)));
        let wait = doubled.min(self.retry_max).mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0);
        wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

/// When a certificate is to be renewed, in seconds since 1970: at two thirds of its life, and up to a thirtieth of it later by `spread`, which is any number
/// that is its own: all web-tiers find the same time.
pub(crate) fn renewal(not_before: i64, not_after: i64, spread: u32) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0);
    let jitter = (i128::from(life / 30) * i128::from(spread)) >> 32;
    not_before.saturating_add(life / 3 * 2).saturating_add(i64::try_from(jitter).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_fails_is_tried_ever_more_seldom() {
        let times = Times::default();
        let waits = [1, 2, 3, 4, 5, 6, 1000].map(|failures| times.retry(failures, None, 0.0).as_secs() / 60);
        assert_eq!(waits, [2, 8, 32, 128, 512, 720, 720]);
        assert_eq!(times.retry(1, None, 1.0).as_secs(), 150);
        assert_eq!(times.retry(1, Some(Duration::from_secs(3600)), 0.5).as_secs(), 3600);
        assert_eq!(times.retry(5, Some(Duration::from_secs(1)), 0.0).as_secs(), 512 * 60);
        assert_eq!(times.retry(1, Some(Duration::MAX), 0.0), RETRY_AFTER_MAX);
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
        const DAY: i64 = 86_400;
        assert_eq!(renewal(0, 90 * DAY, 0), 60 * DAY);
        assert!((60 * DAY..63 * DAY + 1).contains(&renewal(0, 90 * DAY, u32::MAX)));
        assert_eq!(renewal(0, 6 * DAY, 0), 4 * DAY);
        assert_eq!(renewal(100, 50, 7), 100, "one that never was valid");
        assert!(renewal(i64::MIN, i64::MAX, u32::MAX) < i64::MAX);
    }
}
