//! Minutes by the five fields of cron (POSIX crontab): minute, hour, day of the month, month, day of the week. In UTC: all
//! servers agree, and no hour is missing or comes twice.

use super::quoted::quoted;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which minutes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    /// Bit n: minute n.
    minutes: u64,
    hours: u64,
    /// Bit n: day n, from 1.
    days: u64,
    /// Bit n: month n, from 1.
    months: u64,
    /// Bit n: day n of the week, 0 = Sunday.
    weekdays: u64,
    /// A day has to be right by both fields, because one of them is `*`; else one is enough, as in every cron.
    both_days: bool,
}

/// A field: its name, bounds and words.
struct Field {
    name: &'static str,
    first: u8,
    last: u8,
    /// Words for numbers from `first` on.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, words: &[] },
    Field { name: "hour", first: 0, last: 23, words: &[] },
    Field { name: "day of the month", first: 1, last: 31, words: &[] },
    Field {
        name: "month",
        first: 1,
        last: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field {
        name: "day of the week",
        first: 0,
        last: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// The most days that each month has.
const MONTH_DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// Reads five fields: `*`, numbers, words (`mon`, `jan`), ranges, steps and lists of those.
    ///
    /// # Errors
    /// What is wrong and in which field, and days that never come, such as the 31st of February.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!(
                "expected five fields (minute hour day month weekday), found {} in {}",
                parts.len(),
                quoted(text)
            ));
        };
        let read = |at: usize, part| FIELDS[at].read(part);
        let weekdays = read(4, weekday)?;
        let cron = Self {
            minutes: read(0, minute)?,
            hours: read(1, hour)?,
            days: read(2, day)?,
            months: read(3, month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
        };
        if cron.both_days && !cron.comes() {
            return Err(format!("no month of {} has such a day: it would never come", quoted(text)));
        }
        Ok(cron)
    }

    /// Whether one of the months has one of the days.
    fn comes(&self) -> bool {
        let mut lengths = (1_u8..).zip(MONTH_DAYS);
        lengths
            .any(|(month, length)| has(self.months, month.into()) && self.days & ((2_u64 << length) - 1) != 0)
    }

    /// Whether the minute of `now` is one of them.
    pub fn holds(&self, now: SystemTime) -> bool {
        let minutes = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60);
        let (minute, hour, days) = (minutes % 60, minutes / 60 % 24, minutes / 1440);
        if !has(self.minutes, minute) || !has(self.hours, hour) {
            return false;
        }
        let (month, day) = civil(days);
        // The first of January 1970 was a Thursday.
        let (by_day, by_weekday) = (has(self.days, day), has(self.weekdays, (days + 4) % 7));
        let day_fits = if self.both_days { by_day && by_weekday } else { by_day || by_weekday };
        has(self.months, month) && day_fits
    }
}

fn has(set: u64, number: u64) -> bool {
    set >> number & 1 == 1
}

/// Month and day of the month of a day since 1970, in the proleptic Gregorian calendar (after Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64) {
    let of_era = (days + 719_468) % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is the last.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, day)
}

impl Field {
    /// The numbers of a field as bits.
    fn read(&self, part: &str) -> Result<u64, String> {
        part.split(',').try_fold(0, |set, item| Ok(set | self.item(item)?))
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => {
                let step = step.parse::<u8>().ok().filter(|step| (1..=self.last).contains(step));
                (range, Some(step.ok_or_else(|| self.refuse(item))?))
            }
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((first, last)) => (self.number(first, item)?, self.number(last, item)?),
            None => {
                let first = self.number(range, item)?;
                // `5/10` is from 5 to the end.
                (first, if step.is_some() { self.last } else { first })
            }
        };
        if first > last {
            return Err(self.refuse(item));
        }
        let numbers = (first..=last).step_by(step.unwrap_or(1).into());
        Ok(numbers.fold(0, |set, number| set | 1 << number))
    }

    fn number(&self, text: &str, item: &str) -> Result<u8, String> {
        let word = self.words.iter().position(|word| text.eq_ignore_ascii_case(word));
        let number = match word {
            Some(at) => u8::try_from(at).ok().map(|at| at + self.first),
            None if text.bytes().all(|it| it.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        number.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| self.refuse(item))
    }

    fn refuse(&self, item: &str) -> String {
        let words = match self.words {
            [first, .., last] => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        let Self { name, first, last, .. } = self;
        format!(
            "expected for the {name} a number from {first} to {last}{words}, a range ({first}-{last}), a step (*/2), a list of \
             those, or `*`, found {}",
            quoted(item)
        )
    }
}

#[cfg(test)]
mod tests;
