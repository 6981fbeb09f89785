//! When a job is due: by a cron expression in a time zone, every so often, or once. Pure; the time is the caller's.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};
use std::{fmt, time::Duration};

/// The shortest interval.
pub const EVERY_MIN: Duration = Duration::from_millis(100);

/// Times of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Times {
    /// `cron`: 5 fields, 6 with seconds in front, 7 with a year behind, as Vixie's cron has them; with `L`, `W` and `#`.
    Cron {
        /// The expression.
        expression: String,
        /// The name of a time zone, such as `Europe/Berlin`; empty: UTC.
        timezone: String,
    },
    /// `every`: so long after the last time.
    Every(Duration),
    /// Once.
    Once,
}

/// Why times are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTimes {
    /// The expression.
    #[error("{found:?} is no cron expression: expected 5 to 7 fields, such as \"*/5 * * * *\": {why}")]
    Cron {
        /// As it is.
        found: String,
        /// What its reader says.
        why: String,
    },
    /// The time zone.
    #[error("{0:?} is no time zone: expected a name such as Europe/Berlin")]
    TimeZone(String),
    /// The interval.
    #[error("{0:?} is too short: expected {EVERY_MIN:?} or more")]
    Every(Duration),
}

/// Times that are ready to be asked.
#[derive(Debug, Clone)]
pub struct Schedule(Kind);

#[derive(Clone)]
enum Kind {
    Cron(Box<Cron>, TimeZone),
    Every(u64),
    Once,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron, _) => write!(f, "Cron({:?})", cron.as_str()),
            Self::Every(ms) => write!(f, "Every({ms} ms)"),
            Self::Once => f.write_str("Once"),
        }
    }
}

impl Schedule {
    /// Reads times.
    ///
    /// # Errors
    /// [`BadTimes`].
    pub fn new(times: &Times) -> Result<Self, BadTimes> {
        Ok(Self(match times {
            Times::Cron { expression, timezone } => {
                let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
                let cron = parser.parse(expression);
                let bad = |why: croner::errors::CronError| BadTimes::Cron {
                    found: expression.clone(),
                    why: why.to_string(),
                };
                let zone = match timezone.as_str() {
                    "" => Ok(TimeZone::UTC),
                    name => TimeZone::get(name).map_err(|_| BadTimes::TimeZone(name.to_owned())),
                };
                Kind::Cron(Box::new(cron.map_err(bad)?), zone?)
            }
            Times::Every(time) if *time < EVERY_MIN => return Err(BadTimes::Every(*time)),
            Times::Every(time) => Kind::Every(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            Times::Once => Kind::Once,
        }))
    }

    /// The first time after this one, in milliseconds since 1970; `None`: never again. Where clocks are set back an expression with fixed hours comes once, and one whose
    /// time is left out as they are set forward comes right after.
    pub fn after(&self, after_ms: u64) -> Option<u64> {
        match &self.0 {
            Kind::Cron(cron, zone) => {
                let after = Timestamp::from_millisecond(i64::try_from(after_ms).ok()?).ok()?;
                let next = cron.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok()?;
                u64::try_from(next.timestamp().as_millisecond()).ok()
            }
            Kind::Every(ms) => after_ms.checked_add(*ms),
            Kind::Once => None,
        }
    }

    /// The first time after `now_ms` of those that follow `due_ms`.
    pub fn next(&self, due_ms: u64, now_ms: u64) -> Option<u64> {
        match &self.0 {
            // By its own beat.
            Kind::Every(ms) if due_ms <= now_ms => due_ms.checked_add(((now_ms - due_ms) / ms + 1) * ms),
            _ => self.after(due_ms.max(now_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(expression: &str, timezone: &str) -> Schedule {
        let (expression, timezone) = (expression.to_owned(), timezone.to_owned());
        Schedule::new(&Times::Cron { expression, timezone }).unwrap()
    }

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    fn times(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        let mut at = ms(after);
        let mut found = Vec::new();
        for _ in 0..count {
            let Some(next) = schedule.after(at) else { break };
            at = next;
            let next = Timestamp::from_millisecond(i64::try_from(next).unwrap()).unwrap();
            found.push(next.to_string());
        }
        found
    }

    #[test]
    fn expressions_of_five_six_and_seven_fields() {
        let after = "2026-03-01T00:00:00Z";
        assert_eq!(
            times(&cron("*/20 * * * *", ""), after, 2),
            ["2026-03-01T00:20:00Z", "2026-03-01T00:40:00Z"]
        );
        assert_eq!(
            times(&cron("*/20 * * * * *", ""), after, 2),
            ["2026-03-01T00:00:20Z", "2026-03-01T00:00:40Z"]
        );
        assert_eq!(times(&cron("0 0 12 1 1 * 2027", ""), after, 2), ["2027-01-01T12:00:00Z"]);
        assert_eq!(times(&cron("0 0 L * *", ""), after, 1), ["2026-03-31T00:00:00Z"]);
        assert_eq!(times(&cron("0 9 * * MON-FRI", ""), after, 1), ["2026-03-02T09:00:00Z"]);
    }

    #[test]
    fn clocks_are_set_forward_and_back() {
        // Europe/Berlin: on 29 March 2026 2:00 to 3:00 is left out, on 25 October 2:00 to 3:00 comes twice.
        let nightly = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            times(&nightly, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times(&nightly, "2026-10-24T00:00:00Z", 3),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // What comes each half hour goes on to do so.
        let often = cron("*/30 * * * *", "Europe/Berlin");
        assert_eq!(times(&often, "2026-10-24T23:45:00Z", 6).len(), 6);
        assert_eq!(times(&often, "2026-10-24T23:45:00Z", 6).last().unwrap(), "2026-10-25T02:30:00Z");
    }

    #[test]
    fn intervals_keep_their_beat() {
        let every = Schedule::new(&Times::Every(Duration::from_secs(20))).unwrap();
        assert_eq!((every.after(1_000), every.next(1_000, 1_000)), (Some(21_000), Some(21_000)));
        assert_eq!((every.next(1_000, 60_999), every.next(1_000, 61_000)), (Some(61_000), Some(81_000)));
        assert_eq!(Schedule::new(&Times::Once).unwrap().next(1, 2), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |times: Times| Schedule::new(&times).unwrap_err().to_string();
        let cron = |expression: &str, timezone: &str| {
            wrong(Times::Cron { expression: expression.to_owned(), timezone: timezone.to_owned() })
        };
        assert!(cron("* * *", "").starts_with("\"* * *\" is no cron expression: expected 5 to 7 fields"));
        assert!(cron("61 * * * *", "").contains("\"61 * * * *\" is no cron expression"));
        assert!(cron("* * * * *", "Mars/Base").contains("\"Mars/Base\" is no time zone"));
        assert!(wrong(Times::Every(Duration::from_millis(1))).contains("1ms is too short"));
    }
}
