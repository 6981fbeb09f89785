//! Which requests are written: with `sample` a share of those that went well and fast; of those that failed, so many a second.

use super::record::{End, Record};
use common::config::AccessLog as Settings;
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Lines of failed requests that a worker writes at once, and how many more at each tick: a hundred a second.
const ERRORS_MAX: u32 = 100;
const ERRORS_A_TICK: u32 = 10;

/// Whether a request's line is written. `random` is uniform below a million, and asked where it counts.
pub(super) fn is_chosen(
    settings: &Settings,
    record: &Record,
    now: Instant,
    random: impl FnOnce() -> u32,
) -> bool {
    !settings.samples()
        || went_wrong(record)
        || taken(record, now) >= settings.slow
        || random() < settings.sampled_ppm
}

/// By no fault of the client's.
fn went_wrong(record: &Record) -> bool {
    record.status.is_some_and(|it| it.is_server_error()) || matches!(record.end, End::ServerBroke | End::Cut)
}

fn taken(record: &Record, now: Instant) -> Duration {
    record.started.map_or(Duration::ZERO, |started| now.saturating_duration_since(started))
}

/// Holds the log of errors within bounds: a stranger can make them at any rate.
#[derive(Debug)]
pub(super) struct ErrorRate {
    left: Cell<u32>,
    left_out: Cell<u64>,
}

impl ErrorRate {
    pub(super) fn new() -> Self {
        Self { left: Cell::new(ERRORS_MAX), left_out: Cell::new(0) }
    }

    /// Whether a line may be written; if so, how many were left out before it.
    pub(super) fn take(&self) -> Option<u64> {
        let Some(left) = self.left.get().checked_sub(1) else {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        };
        self.left.set(left);
        Some(self.left_out.take())
    }

    /// To be called ten times a second.
    pub(super) fn tick(&self) {
        self.left.set((self.left.get() + ERRORS_A_TICK).min(ERRORS_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::AccessLogFormat;
    use http::StatusCode;

    #[test]
    fn what_failed_or_took_long_is_written_and_of_the_rest_a_share() {
        let mut settings = Settings::to_file("log".into(), AccessLogFormat::Json);
        let (mut record, start) = (Record::default(), Instant::now());
        record.begin(start);
        record.answered(StatusCode::NOT_FOUND);
        record.ended(End::Complete);
        let asked = |settings: &Settings, record: &Record, after: u64, random: u32| {
            is_chosen(settings, record, start + Duration::from_millis(after), || random)
        };
        assert!(is_chosen(&settings, &record, start, || panic!("without `sample` nothing is asked")));
        settings.sampled_ppm = 100_000;
        assert!(asked(&settings, &record, 5, 99_999));
        assert!(!asked(&settings, &record, 5, 100_000), "a 404 is a client's doing");
        assert!(asked(&settings, &record, 1000, 999_999), "it took long");
        record.ended(End::ServerBroke);
        assert!(asked(&settings, &record, 5, 999_999));
        record.ended(End::Complete);
        record.answered(StatusCode::BAD_GATEWAY);
        assert!(asked(&settings, &record, 5, 999_999));
    }

    #[test]
    fn a_flood_of_errors_is_cut_and_counted() {
        let rate = ErrorRate::new();
        assert_eq!((0..150).filter(|_| rate.take() == Some(0)).count(), 100);
        rate.tick();
        assert_eq!(rate.take(), Some(50));
        assert_eq!((0..9).filter(|_| rate.take() == Some(0)).count(), 9);
        assert_eq!(rate.take(), None);
        (0..1000).for_each(|_| rate.tick());
        assert_eq!((0..200).filter(|_| rate.take().is_some()).count(), 100, "nothing is saved up");
    }
}
