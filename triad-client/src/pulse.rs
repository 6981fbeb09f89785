//! When the hub's leader was last known to be alive: questions, and the signs of life that answer them. Pure; docs/witness.md has
//! the reasons.

use common::witness::Times;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Questions whose answer is awaited; an older one's is of no use to anybody.
const PENDING: usize = 16;

/// The signs of life that a watcher has had. What one was sent after is certain: the question that it answers. So it does not matter
/// how long it was under way, or waited in a buffer while this process was stopped.
#[derive(Debug, Clone)]
pub struct Pulse {
    times: &'static Times,
    /// The number of the last question.
    number: u64,
    /// When the last questions were asked, that one last.
    asked: VecDeque<Instant>,
    /// When the last question that was answered was asked.
    heard: Option<Instant>,
    /// Since when the present leader is followed, and when its last sign of life came: on a slow link, long after it was asked for.
    began: Instant,
    came: Option<Instant>,
    /// When the last sign of life came that answers no question.
    unasked: Option<Instant>,
}

impl Pulse {
    /// Nothing was asked yet.
    pub fn new(times: &'static Times, now: Instant) -> Self {
        Self { times, number: 0, asked: VecDeque::new(), heard: None, began: now, came: None, unasked: None }
    }

    /// Another leader is followed from now on, or the same one anew.
    pub fn follow(&mut self, now: Instant) {
        self.began = now;
        self.unasked = None;
    }

    /// A question is about to be sent: its number.
    pub fn ask(&mut self, now: Instant) -> u64 {
        if self.asked.len() == PENDING {
            self.asked.pop_front();
        }
        self.asked.push_back(now);
        self.number += 1;
        self.number
    }

    /// A sign of life has come that answers the question `number`, or none if that is 0. Returns when it was sent, at the earliest;
    /// `None` when nobody knows.
    pub fn hear(&mut self, number: u64, now: Instant) -> Option<Instant> {
        let sent = if number == 0 { self.hear_unasked(now)? } else { self.asked_at(number)? };
        self.heard = self.heard.max(Some(sent));
        self.came = Some(now);
        Some(sent)
    }

    /// When the last question that was answered was asked.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether it is time to look for another leader.
    pub fn is_silent(&self, now: Instant) -> bool {
        let since = self.came.map_or(self.began, |came| came.max(self.began));
        now.saturating_duration_since(since) > self.times.silence
    }

    fn asked_at(&self, number: u64) -> Option<Instant> {
        let back = usize::try_from(self.number.checked_sub(number)?).ok()?;
        self.asked.len().checked_sub(back + 1).and_then(|place| self.asked.get(place)).copied()
    }

    /// Of a leader of an older version, which says so every 100 ms: judged by how long ago the one before came. Those that come
    /// closer together waited in a buffer, and one that comes late may have been sent on time.
    fn hear_unasked(&mut self, now: Instant) -> Option<Instant> {
        const BURST: Duration = Duration::from_millis(50);
        let before = self.unasked.replace(now)?;
        let counts = (BURST..=self.times.believed).contains(&now.saturating_duration_since(before));
        counts.then(|| now.min(before + self.times.ask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::witness::TIMES;

    fn pulse() -> (Pulse, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Pulse::new(&TIMES, start), move |ms| start + Duration::from_millis(ms))
    }

    #[test]
    fn an_answer_was_sent_after_its_question_however_late_it_comes() {
        let (mut pulse, at) = pulse();
        assert_eq!((pulse.ask(at(0)), pulse.ask(at(100)), pulse.ask(at(200))), (1, 2, 3));
        assert_eq!(pulse.hear(2, at(5_000)), Some(at(100)));
        assert_eq!(pulse.heard(), Some(at(100)));
        assert_eq!(pulse.hear(3, at(6_000)), Some(at(200)));
        assert_eq!(pulse.hear(1, at(6_001)), Some(at(0)));
        assert_eq!(pulse.heard(), Some(at(200)), "what comes late is not news");
    }

    #[test]
    fn an_answer_to_what_was_not_asked_or_long_ago_says_nothing() {
        let (mut pulse, at) = pulse();
        assert_eq!(pulse.hear(1, at(0)), None);
        for number in 1..=20 {
            assert_eq!(pulse.ask(at(number * 100)), number);
        }
        assert_eq!((pulse.hear(4, at(2_000)), pulse.hear(21, at(2_000))), (None, None));
        assert_eq!(pulse.hear(u64::MAX, at(2_000)), None);
        assert_eq!(pulse.heard(), None);
        assert_eq!(pulse.hear(5, at(2_000)), Some(at(500)));
    }

    #[test]
    fn silence_is_counted_from_the_last_sign_of_life_or_from_when_the_leader_was_found() {
        let (mut pulse, at) = pulse();
        assert!(!pulse.is_silent(at(700)) && pulse.is_silent(at(701)));
        let number = pulse.ask(at(100));
        pulse.hear(number, at(600));
        assert!(!pulse.is_silent(at(1_300)) && pulse.is_silent(at(1_301)));
        pulse.follow(at(2_000));
        assert!(!pulse.is_silent(at(2_700)) && pulse.is_silent(at(2_701)));
        pulse.ask(at(2_650));
        assert!(pulse.is_silent(at(2_701)), "asking alone brings no life");
    }

    #[test]
    fn an_older_leader_is_judged_by_the_time_between_its_words() {
        let (mut pulse, at) = pulse();
        assert_eq!(pulse.hear(0, at(0)), None, "the first may have waited");
        assert_eq!(pulse.hear(0, at(100)), Some(at(100)));
        assert_eq!(pulse.hear(0, at(350)), Some(at(200)), "a stall: it may have been sent on time");
        assert_eq!(pulse.hear(0, at(60_000)), None, "a stop");
        assert_eq!(pulse.hear(0, at(60_010)), None, "and what waited");
        assert_eq!(pulse.hear(0, at(60_110)), Some(at(60_110)));
        pulse.follow(at(60_200));
        assert_eq!(pulse.hear(0, at(60_210)), None, "another stream");
    }
}
