//! Dates in the three forms of RFC 9110 §5.6.7. The day of the week says nothing that the date does not say, and is not looked at.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days of a year before each month, but for the leap day.
const DAYS_BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// What two digits of a year are of: RFC 9110 wants the past where they would be more than 50 years away.
const CENTURY_ENDS: u64 = 70;

/// Seconds since 1970 of a date; `None` if it is none, or before that.
pub fn date(value: &[u8]) -> Option<u64> {
    if let Ok(value) = value.try_into()
        && let Some(date) = by_places(value)
    {
        return Some(date);
    }
    let text = std::str::from_utf8(value).ok()?.trim();
    match text.split_once(',') {
        Some((_, rest)) if rest.contains('-') => rfc850(rest.strip_prefix(' ')?),
        Some((_, rest)) => fixed(rest.strip_prefix(' ')?),
        None => asctime(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, as nearly all have it; `None`: it may be another form.
fn by_places(value: &[u8; 29]) -> Option<u64> {
    let two = |at: usize| {
        let (tens, ones) = (value[at].wrapping_sub(b'0'), value[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| u64::from(tens) * 10 + u64::from(ones))
    };
    let is_it = value[..3].iter().all(u8::is_ascii_alphabetic)
        && value[3..5] == *b", "
        && [value[7], value[11], value[16]] == *b"   "
        && [value[19], value[22]] == *b"::"
        && value[25..] == *b" GMT";
    if !is_it {
        return None;
    }
    let month = std::str::from_utf8(&value[8..11]).ok()?;
    at(two(12)? * 100 + two(14)?, month, two(5)?, [two(17)?, two(20)?, two(23)?])
}

/// `06 Nov 1994 08:49:37 GMT`
fn fixed(text: &str) -> Option<u64> {
    let [day, month, year, time, "GMT"] = parts(text)? else { return None };
    at(number(year, 4)?, month, number(day, 2)?, clock(time)?)
}

/// `06-Nov-94 08:49:37 GMT`
fn rfc850(text: &str) -> Option<u64> {
    let mut words = text.split(' ');
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    let mut date = date.split('-');
    let (day, month, year) = (date.next()?, date.next()?, number(date.next()?, 2)?);
    let century = if year < CENTURY_ENDS { 2000 } else { 1900 };
    let is_all = zone == "GMT" && words.next().is_none() && date.next().is_none();
    if is_all { at(century + year, month, number(day, 2)?, clock(time)?) } else { None }
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let (month, day, time, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let day = number(day, day.len())?;
    if words.next().is_none() { at(number(year, 4)?, month, day, clock(time)?) } else { None }
}

fn parts(text: &str) -> Option<[&str; 5]> {
    let mut words = text.split(' ');
    let parts = [words.next()?, words.next()?, words.next()?, words.next()?, words.next()?];
    words.next().is_none().then_some(parts)
}

/// So many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|it| it.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `08:49:37`
fn clock(time: &str) -> Option<[u64; 3]> {
    let mut times = time.split(':').map(|it| number(it, 2));
    let clock = [times.next()??, times.next()??, times.next()??];
    times.next().is_none().then_some(clock)
}

fn at(year: u64, month: &str, day: u64, [hour, minute, second]: [u64; 3]) -> Option<u64> {
    let month = MONTHS.iter().position(|it| *it == month)? as u64;
    // A leap second counts as the one before it.
    let is_valid = hour < 24 && minute < 60 && second <= 60 && year >= 1970;
    if !is_valid || day == 0 || day > days_of(year, month) {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let leap_day = u64::from(month > 1 && is_leap(year));
    let days = days + DAYS_BEFORE[month as usize] + leap_day + day - 1;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second.min(59))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_have_three_forms() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(
            date(b"Thu, 18 Aug 2050 02:01:18 GMT"),
            Some(2_544_400_878),
            "whatever the day of the week"
        );
        for text in [
            "0",
            "",
            "-1",
            "tomorrow",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sun, 06 Nov 1994 08:49:3: GMT",
            "Sun, 06 Nov 1994 08-49-37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 199/ 08:49:37 GMT",
            "S,n, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0_u64..200_000_000_000) {
            let text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
            prop_assert_eq!(date(text.as_bytes()), Some(seconds));
            // By its parts too.
            prop_assert_eq!(date(format!(" {text}").as_bytes()), Some(seconds));
        }
    }
}
