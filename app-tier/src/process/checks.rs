//! What the health checks of a process that has been healthy say, one after the other.

use crate::health::CheckError;
use std::{io, time::Duration};
use tokio::time::Instant;

/// Checks that fail one after the other before a process takes no more requests.
const FALL: u32 = 3;

/// What has been heard.
#[derive(Debug)]
pub(super) struct Checks {
    /// How long an unhealthy process is waited for.
    patience: Duration,
    /// How many failed one after the other.
    failed: u32,
    /// When it was healthy last, as far as one could look.
    since: Instant,
    /// The last one could not ask.
    short: bool,
}

/// What a check has changed.
#[derive(Debug)]
pub(super) enum News {
    /// Nothing.
    None,
    /// This server is short of something, and says so once: the process is what it was.
    Short(io::Error),
    /// It takes requests again.
    Healthy,
    /// It takes none any more, and why.
    Unhealthy(String),
    /// It is not waited for any longer, and why.
    Hopeless(String),
}

impl Checks {
    /// Of a process that is healthy `now`, and is waited for `patience` when it is not any more.
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, failed: 0, since: now, short: false }
    }

    /// A check has ended. One that could not ask has learned nothing: neither does it count, nor the time until then.
    pub(super) fn heard(&mut self, checked: Result<(), CheckError>, now: Instant) -> News {
        let was_short = std::mem::take(&mut self.short);
        match checked {
            Ok(()) => {
                let was_down = self.failed >= FALL;
                (self.failed, self.since) = (0, now);
                if was_down { News::Healthy } else { News::None }
            }
            Err(CheckError::Short(cause)) => {
                (self.short, self.since) = (true, now);
                if was_short { News::None } else { News::Short(cause) }
            }
            Err(CheckError::Failed(why)) => {
                self.failed += 1;
                let passed = now.saturating_duration_since(self.since);
                if self.failed == FALL {
                    News::Unhealthy(format!("{FALL} health checks failed: {why}"))
                } else if self.failed > FALL && passed > self.patience {
                    News::Hopeless(format!("unhealthy for {passed:.0?}: {why}"))
                } else {
                    News::None
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn failed() -> Result<(), CheckError> {
        Err(CheckError::Failed("no".to_owned()))
    }

    fn short() -> Result<(), CheckError> {
        Err(CheckError::Short(io::ErrorKind::Other.into()))
    }

    #[test]
    fn three_failures_close_a_process_and_patience_has_an_end() {
        let start = Instant::now();
        let mut checks = Checks::new(PATIENCE, start);
        for _ in 0..2 {
            assert!(matches!(checks.heard(failed(), start), News::None));
            assert!(matches!(checks.heard(failed(), start), News::None));
            assert!(matches!(checks.heard(failed(), start), News::Unhealthy(_)));
            assert!(matches!(checks.heard(failed(), start + PATIENCE), News::None));
            assert!(matches!(checks.heard(Ok(()), start), News::Healthy));
        }
        (0..3).for_each(|_| drop(checks.heard(failed(), start)));
        assert!(matches!(checks.heard(failed(), start + 2 * PATIENCE), News::Hopeless(_)));
    }

    #[test]
    fn a_check_that_can_t_ask_changes_nothing() {
        let start = Instant::now();
        let mut checks = Checks::new(PATIENCE, start);
        assert!(matches!(checks.heard(short(), start), News::Short(_)));
        for _ in 0..1000 {
            assert!(matches!(checks.heard(short(), start + PATIENCE), News::None));
        }
        assert!(matches!(checks.heard(Ok(()), start), News::None), "it never took no requests");
        (0..3).for_each(|_| drop(checks.heard(failed(), start)));
        assert!(matches!(checks.heard(short(), start + 2 * PATIENCE), News::Short(_)));
        assert!(matches!(checks.heard(failed(), start + 3 * PATIENCE), News::None), "time begins anew");
        assert!(matches!(checks.heard(Ok(()), start), News::Healthy));
    }
}
