//! How long a server takes for an answer's head: an average that rises fast, falls slowly, and fades while nothing is heard.

use std::time::{Duration, Instant};

/// In seconds: after a pause of this length the next sample weighs half, and a penalty has faded to a third.
const FADE: f32 = 10.0;

/// Added to both sides of a comparison, in seconds: below it differences are noise.
const NOISE: f32 = 0.001;

/// Up to this multiple of the others' latency a server counts as being as good as they are.
const USUAL: f32 = 1.5;

/// A slow server's requests weigh at most so many times as much: it is never starved.
const PENALTY_MAX: f32 = 4.0;

/// An average.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    seconds: f32,
    at: Option<Instant>,
    samples: u16,
    /// The least weight of a sample above the average, and of one below it.
    rise: f32,
    fall: f32,
}

impl Latency {
    /// One server's: a slow answer weighs at least an eighth, a fast one at least a 32nd.
    pub(super) fn of_server() -> Self {
        Self { seconds: 0.0, at: None, samples: 0, rise: 1.0 / 8.0, fall: 1.0 / 32.0 }
    }

    /// All servers' together: what one is compared with.
    pub(super) fn of_all() -> Self {
        Self { rise: 1.0 / 512.0, fall: 1.0 / 512.0, ..Self::of_server() }
    }

    /// An answer's head has come after `taken`.
    pub(super) fn note(&mut self, now: Instant, taken: Duration) {
        let taken = taken.as_secs_f32();
        let age = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f32());
        let least = if taken > self.seconds { self.rise } else { self.fall };
        // The first samples count alike, later ones by the time since the last.
        let weight = (1.0 / (f32::from(self.samples) + 1.0)).max(age / (age + FADE)).max(least);
        self.seconds += (taken - self.seconds) * weight;
        self.samples = self.samples.saturating_add(1);
        self.at = Some(now);
    }

    /// Forgets all: another process.
    pub(super) fn clear(&mut self) {
        *self = Self { seconds: 0.0, at: None, samples: 0, ..*self };
    }

    /// How many times as much a request weighs here, for the time that it takes, from 1 to 4. What was seen fades: a server
    /// without requests becomes one like all others, and is tried again.
    pub(super) fn penalty(&self, now: Instant, all: &Self) -> f32 {
        let Some(at) = self.at else { return 1.0 };
        let (mine, usual) = (self.seconds + NOISE, all.seconds + NOISE);
        // Almost always; without a division.
        if mine <= usual * USUAL {
            return 1.0;
        }
        let ratio = mine / usual;
        let age = now.saturating_duration_since(at).as_secs_f32();
        let faded = 1.0 + (ratio.min(USUAL * PENALTY_MAX) - 1.0) * (-age / FADE).exp();
        (faded / USUAL).max(1.0)
    }

    /// The average; `None` before the first answer.
    pub(super) fn seconds(&self) -> Option<f32> {
        self.at.map(|_| self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn fed(samples: &[u32]) -> (Latency, Latency, Instant) {
        let (mut server, mut all, mut now) = (Latency::of_server(), Latency::of_all(), Instant::now());
        for taken in samples {
            now += MS * *taken;
            server.note(now, MS * *taken);
            all.note(now, MS * 10);
        }
        (server, all, now)
    }

    #[test]
    fn it_rises_faster_than_it_falls() {
        let (usual, _, _) = fed(&[10; 100]);
        assert!((usual.seconds().unwrap() - 0.010).abs() < 0.0001);
        let (mut slower, _, now) = fed(&[10; 100]);
        slower.note(now + MS, MS * 90);
        let risen = slower.seconds().unwrap();
        assert!(risen > 0.019, "{risen}");
        slower.note(now + MS * 2, MS * 10);
        assert!(slower.seconds().unwrap() > risen - 0.001);
    }

    #[test]
    fn a_slow_server_pays_until_it_was_not_heard_of_for_a_while() {
        let (server, all, now) = fed(&[50; 20]);
        let penalty = server.penalty(now, &all);
        assert!((2.5..4.0).contains(&penalty), "{penalty}");
        assert!(server.penalty(now + MS * 10_000, &all) < penalty / 1.5);
        let (slowest, all, now) = fed(&[5000; 20]);
        assert!((slowest.penalty(now, &all) - PENALTY_MAX).abs() < f32::EPSILON);
        assert!(slowest.penalty(now + MS * 20_000, &all) > 1.0);
        assert!((slowest.penalty(now + MS * 24_000, &all) - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn who_is_about_as_fast_as_all_or_faster_pays_nothing() {
        for taken in [1, 8, 10, 13] {
            let (server, all, now) = fed(&[taken; 20]);
            assert!((server.penalty(now, &all) - 1.0).abs() < f32::EPSILON, "{taken}");
        }
        let (_, all, now) = fed(&[10]);
        assert!((Latency::of_server().penalty(now, &all) - 1.0).abs() < f32::EPSILON, "nothing is known");
    }

    proptest! {
        #[test]
        fn a_penalty_is_always_a_number_from_1_to_4(samples in prop::collection::vec(0_u32..1_000_000, 0..50), later in 0_u32..1_000_000) {
            let (server, all, now) = fed(&samples);
            let penalty = server.penalty(now + MS * later, &all);
            prop_assert!((1.0..=PENALTY_MAX).contains(&penalty), "{penalty}");
            if let Some(seconds) = server.seconds() {
                let (least, most) = (samples.iter().min().unwrap(), samples.iter().max().unwrap());
                prop_assert!(seconds >= *least as f32 / 1000.0 * 0.99 && seconds <= *most as f32 / 1000.0 * 1.01 + 0.001);
            }
        }
    }
}
