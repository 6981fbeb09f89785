//! The times of the witness protocol, by which a server finds out whether what it has in memory may still be believed
//! (docs/witness.md). Durations alone: who measures them is elsewhere.

use std::time::Duration;

/// The protocol's times. Every server goes by [`TIMES`]; others are for the protocol's model (`app-tier/src/session/link/model.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// A watcher asks the hub's leader for a sign of life at this interval.
    pub ask: Duration,
    /// The leader gives one while a majority of the hub has acknowledged it within this time, counted from when it asked them.
    pub confirmed: Duration,
    /// A watcher goes by a sign of life for so long, counted from when it asked for it.
    pub believed: Duration,
    /// Nobody else is elected for so long after a majority has acknowledged a leader.
    pub election: Duration,
    /// A watcher that has had no sign of life for so long looks for another leader.
    pub silence: Duration,
    /// Who has heard from the hub this much later than another server proves that it is the other that is cut off. When the hub is
    /// gone for all, their last signs of life lie an `ask` apart, the web-tier's clock ticks every 100 ms, and the request takes its
    /// time; the rest is for a busy machine.
    pub ahead: Duration,
    /// Who reaches a living hub is never longer without a sign of life: the hub elects another leader, and it is found. A leader
    /// that is heard and hears nobody takes longest (`triad/src/raft/silence.rs`).
    pub fail_over: Duration,
    /// What one request's web-tier has said counts for others for so long: not longer, for a request that waited in a buffer says
    /// that the hub was heard later than it was.
    pub fresh: Duration,
    /// A server that has had no sign of life for so long may go on from memory, unless a web-tier is ahead of it.
    pub decisive: Duration,
}

/// The times that all servers go by.
pub const TIMES: Times = Times {
    ask: Duration::from_millis(100),
    confirmed: Duration::from_millis(300),
    believed: Duration::from_millis(300),
    election: Duration::from_millis(650),
    silence: Duration::from_millis(700),
    ahead: Duration::from_millis(400),
    fail_over: Duration::from_millis(3000),
    fresh: Duration::from_millis(1000),
    decisive: Duration::from_millis(3500),
};

const _: () =
    assert!(TIMES.are_safe(), "with these times users would see older values than they were answered");

impl Times {
    /// Whether users never see an older value than they were answered, but for the gaps that docs/witness.md names.
    ///
    /// No word outlives its leader: before another leader takes a write, all have stopped believing the former. And whoever is
    /// tempted to go on alone waits until a web-tier that reaches the hub has had the time to hear of it again.
    pub const fn are_safe(&self) -> bool {
        let ms = Duration::as_millis;
        ms(&self.confirmed) + ms(&self.believed) < ms(&self.election)
            && ms(&self.fail_over) + ms(&self.ahead) < ms(&self.decisive)
            && ms(&self.silence) + ms(&self.election) <= ms(&self.fail_over)
    }

    /// Whether one who heard from the hub `own` ago proves that another, who heard from it `other` ago, is cut off.
    pub fn is_ahead(&self, own: Duration, other: Duration) -> bool {
        other > own.saturating_add(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_is_not_ahead() {
        let ahead = |own, other| TIMES.is_ahead(Duration::from_millis(own), Duration::from_millis(other));
        assert!(!ahead(0, 400) && ahead(0, 401) && !ahead(5_000, 5_400) && !ahead(5_000, 0));
        assert!(!TIMES.is_ahead(Duration::MAX, Duration::MAX));
    }

    #[test]
    fn each_time_that_is_too_short_or_too_long_is_unsafe() {
        for wrong in [
            Times { confirmed: Duration::from_millis(350), ..TIMES },
            Times { believed: Duration::from_millis(350), ..TIMES },
            Times { election: Duration::from_millis(600), ..TIMES },
            Times { ahead: Duration::from_millis(500), ..TIMES },
            Times { fail_over: Duration::from_millis(3100), ..TIMES },
            Times { decisive: Duration::from_millis(3400), ..TIMES },
            Times { silence: Duration::from_millis(2351), ..TIMES },
        ] {
            assert!(!wrong.are_safe(), "{wrong:?}");
        }
    }
}
