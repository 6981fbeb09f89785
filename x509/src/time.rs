//! The times of a certificate (RFC 5280 §4.1.2.5), and days as the Gregorian calendar has them.

use super::der::{Element, tag};

const DAY: i64 = 86_400;

/// `UTCTime` (`YYMMDDHHMMSSZ`, years 1950 to 2049) or `GeneralizedTime` (`YYYYMMDDHHMMSSZ`) in seconds since the Unix epoch.
pub(crate) fn read(element: &Element<'_>) -> Option<i64> {
    let (year, rest) = match element.tag {
        tag::UTC_TIME => {
            let (year, rest) = element.content.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        tag::GENERALIZED_TIME => {
            let (year, rest) = element.content.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let [digits @ .., b'Z'] = rest else { return None };
    let mut fields = [0; 5];
    if digits.len() != 10 {
        return None;
    }
    for (field, pair) in fields.iter_mut().zip(digits.chunks_exact(2)) {
        *field = number(pair)?;
    }
    let [month, day, hour, minute, second] = fields;
    let valid =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour <= 23 && minute <= 59 && second <= 60;
    valid.then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days from 1970-01-01 to a date, the year counted from March so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The date of a time, as `2026-01-31`.
pub fn date(unix_s: i64) -> String {
    let days = unix_s.div_euclid(DAY) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
