//! The bounds of durations that keys of several mappings share.

use std::{ops::RangeInclusive, time::Duration};

/// The bounds of a time-out.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;

/// The bounds of a wait that may be nothing.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::ZERO..=DAY;

const DAY: Duration = Duration::from_secs(86_400);
