//! How old an answer is (RFC 9111 §4.2.3), and how long it is fresh (§4.2.1).

use crate::{Fields, date, directives::AnswerDirectives};

/// When something was asked and answered, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the request left.
    pub asked: u64,
    /// When the answer's head was there.
    pub answered: u64,
}

/// What an answer's fields say of its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dates {
    /// `Date`.
    pub date: Option<u64>,
    /// `Expires`; one that is no date, or of which there are several, is of the past.
    pub expires: Option<u64>,
    /// `Last-Modified`.
    pub last_modified: Option<u64>,
    /// `Age`; `None` inside: it is there, and no single number, so the answer is as old as can be.
    pub age: Option<Option<u32>>,
}

impl Dates {
    /// Those of an answer.
    pub fn of(fields: &(impl Fields + ?Sized)) -> Self {
        let mut found = Self::default();
        fields.each(&mut |name, value| match name.len() {
            3 if name.eq_ignore_ascii_case(b"age") => {
                let number = if found.age.is_some() { None } else { whole(value) };
                found.age = Some(number);
            }
            4 if name.eq_ignore_ascii_case(b"date") => found.date = found.date.or_else(|| date(value)),
            7 if name.eq_ignore_ascii_case(b"expires") => {
                let first = found.expires.is_none();
                found.expires = Some(date(value).filter(|_| first).unwrap_or(0));
            }
            13 if name.eq_ignore_ascii_case(b"last-modified") => found.last_modified = date(value),
            _ => {}
        });
        found
    }

    /// How old the answer was when it came, in seconds.
    pub fn initial_age(&self, times: Times) -> u64 {
        let apparent = self.date.map_or(0, |date| times.answered.saturating_sub(date));
        let delay = times.answered.saturating_sub(times.asked);
        let said = match self.age {
            None => 0,
            Some(Some(age)) => u64::from(age),
            Some(None) => u64::from(u32::MAX),
        };
        apparent.max(said + delay)
    }
}

/// Digits alone; a list is none (a cache should take its first member, but then a server that contradicts itself is believed).
fn whole(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// What is fresh though its server does not say so (RFC 9111 §4.2.2): this part of the time since it was modified, and no longer than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heuristic {
    /// In hundredths.
    pub percent: u32,
    /// In seconds.
    pub max: u32,
}

/// How long an answer is fresh, in seconds from when it was made; `None`: its server does not say, nor does the heuristic.
pub fn lifetime(
    directives: &AnswerDirectives,
    dates: &Dates,
    times: Times,
    heuristic: Option<Heuristic>,
) -> Option<u64> {
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Some(seconds.into());
    }
    let made = dates.date.unwrap_or(times.answered);
    if let Some(expires) = dates.expires.filter(|_| !directives.targeted) {
        return Some(expires.saturating_sub(made));
    }
    let (heuristic, modified) = (heuristic?, dates.last_modified?);
    Some((made.saturating_sub(modified) * u64::from(heuristic.percent) / 100).min(heuristic.max.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000;

    fn text(time: u64) -> String {
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time))
    }

    #[test]
    fn an_age_that_is_no_single_number_is_the_greatest() {
        let age =
            |fields: &[(&str, &str)]| Dates::of(fields).initial_age(Times { asked: NOW, answered: NOW });
        assert_eq!(age(&[("Age", " 7 ")]), 7);
        assert_eq!(age(&[]), 0);
        for odd in ["-1", "7.0", "7,0", "a", "7;a=b", ""] {
            assert!(age(&[("age", odd)]) >= u64::from(u32::MAX), "{odd}");
        }
        assert!(age(&[("age", "0"), ("age", "0")]) >= u64::from(u32::MAX));
        assert_eq!(age(&[("age", "99999999999")]), u64::from(u32::MAX));
    }

    #[test]
    fn what_says_more_comes_first() {
        let times = Times { asked: NOW, answered: NOW };
        let (date, expires, modified) = (text(NOW - 10), text(NOW + 20), text(NOW - 1010));
        let fields = [("Date", &*date), ("Expires", &*expires), ("Last-Modified", &*modified)];
        let dates = Dates::of(fields.as_slice());
        let heuristic = Some(Heuristic { percent: 10, max: 60 });
        let mut directives = AnswerDirectives::default();
        assert_eq!(lifetime(&directives, &dates, times, heuristic), Some(30));
        let only_modified = Dates { expires: None, ..dates };
        assert_eq!(lifetime(&directives, &only_modified, times, heuristic), Some(60), "no more than that");
        assert_eq!(lifetime(&directives, &only_modified, times, None), None);
        directives.max_age = Some(5);
        assert_eq!(lifetime(&directives, &dates, times, heuristic), Some(5));
        directives.s_maxage = Some(3);
        assert_eq!(lifetime(&directives, &dates, times, heuristic), Some(3));
        let targeted = AnswerDirectives { targeted: true, ..AnswerDirectives::default() };
        assert_eq!(lifetime(&targeted, &dates, times, None), None, "what is for all caches does not count");
        for wrong in ["0", "-1", "tomorrow"] {
            assert_eq!(
                lifetime(&AnswerDirectives::default(), &Dates::of(&[("Expires", wrong)]), times, heuristic),
                Some(0)
            );
        }
    }

    proptest! {
        /// RFC 9111 §4.2.3, by its own formulas.
        #[test]
        fn ages_are_those_of_the_standard(made in 0_u64..2000, said in proptest::option::of(0_u32..2000), asked in 0_u64..1000, delay in 0_u64..100) {
            let (asked, answered) = (NOW + asked, NOW + asked + delay);
            let (date, age) = (text(NOW - 1000 + made), said.map(|it| it.to_string()));
            let mut fields = vec![("date", date.as_str())];
            fields.extend(age.as_deref().map(|it| ("age", it)));
            let apparent_age = answered.saturating_sub(NOW - 1000 + made);
            let corrected_age_value = u64::from(said.unwrap_or(0)) + (answered - asked);
            let expected = apparent_age.max(corrected_age_value);
            prop_assert_eq!(Dates::of(fields.as_slice()).initial_age(Times { asked, answered }), expected);
        }
    }
}
