//! A hub that was away and is back: for a moment its leader answers no question for a session. Servers that went on from their
//! memory meanwhile (`on-hub-loss: serve`) bring what they have answered first, and whoever asks sees it. Pure.

use std::time::{Duration, Instant};

/// Nobody led for so long, as far as this server knows: the hub was away. An election takes less.
const AWAY: Duration = Duration::from_millis(2500);

/// The others have heard of the new leader by then, and have sent what they kept: their watches and savers try at least every half
/// second. An app server waits twice as long for an answer (`save-timeout`).
const SETTLES: Duration = Duration::from_secs(1);

/// When this server last knew of a hub.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    /// `None`: never, since it has started.
    seen: Option<Instant>,
    until: Option<Instant>,
}

impl Absence {
    /// Called several times a second, and for each question. `there`: this server leads with a majority, or hears who does; `empty`: it
    /// has no sessions of which others could know more. Returns how long a leader still keeps its answers back.
    pub(crate) fn look(&mut self, now: Instant, there: bool, leads: bool, empty: bool) -> Duration {
        if !there {
            return Duration::ZERO;
        }
        let before = self.seen.replace(now);
        let away = before.is_none_or(|it| now.saturating_duration_since(it) > AWAY);
        if away && !empty {
            self.until = Some(now + SETTLES);
        }
        let until = self.until.filter(|_| leads);
        until.map_or(Duration::ZERO, |it| it.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(200);

    #[test]
    fn a_leader_whose_hub_was_away_keeps_its_answers_back_for_a_while() {
        let start = Instant::now();
        let mut absence = Absence::default();
        assert_eq!(
            absence.look(start, true, true, false),
            SETTLES,
            "it has just started, and knows of nobody"
        );
        assert_eq!(absence.look(start + STEP, true, true, false), SETTLES.saturating_sub(STEP));
        assert_eq!(absence.look(start + SETTLES, true, true, false), Duration::ZERO);
        let lost = start + SETTLES;
        assert_eq!(
            absence.look(lost + AWAY, false, true, false),
            Duration::ZERO,
            "nothing is answered anyway"
        );
        let back = lost + AWAY + STEP;
        assert_eq!(absence.look(back, true, true, false), SETTLES);
        assert_eq!(absence.look(back + SETTLES, true, true, false), Duration::ZERO);
    }

    #[test]
    fn a_hub_that_begins_has_nothing_to_wait_for() {
        let start = Instant::now();
        let mut absence = Absence::default();
        assert_eq!(absence.look(start, true, true, true), Duration::ZERO);
        assert_eq!(absence.look(start + STEP, true, true, false), Duration::ZERO, "its first session");
    }

    #[test]
    fn an_election_is_no_absence() {
        let start = Instant::now();
        let mut absence = Absence::default();
        assert_eq!(absence.look(start, true, false, false), Duration::ZERO, "a follower answers nothing");
        let elected = start + SETTLES + AWAY;
        absence.look(start + SETTLES, true, false, false);
        assert_eq!(absence.look(elected - STEP, false, false, false), Duration::ZERO);
        assert_eq!(absence.look(elected, true, true, false), Duration::ZERO);
    }

    #[test]
    fn one_that_is_elected_just_after_the_return_keeps_them_back_as_well() {
        let start = Instant::now();
        let mut absence = Absence::default();
        absence.look(start, true, false, false);
        assert_eq!(absence.look(start + STEP, true, true, false), SETTLES.saturating_sub(STEP));
    }
}
