//! The time as lines have it, in UTC: formatted once a tick, copied into each line.

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time, written out.
#[derive(Debug)]
pub(super) struct Stamp {
    /// `22/Nov/2026:23:14:50 +0000`, Apache's `%t`.
    pub(super) common: String,
    /// `2026-11-22T23:14:50.123Z` (RFC 3339).
    pub(super) iso: String,
}

impl Stamp {
    pub(super) fn new(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        let name = MONTHS[month - 1];
        Self {
            common: format!("{day:02}/{name}/{year}:{clock} +0000"),
            iso: format!("{year:04}-{month:02}-{day:02}T{clock}.{:03}Z", since.subsec_millis()),
        }
    }
}

/// The year, month (1 to 12) and day of a number of days since 1970, in the Gregorian calendar (Hinnant's `civil_from_days`: years
/// begin in March, so that the leap day is a year's last).
fn date(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), usize::try_from(month).unwrap_or(1), day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples() {
        for (seconds, expected) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (951_782_399, "28/Feb/2000:23:59:59 +0000"),
            (951_782_400, "29/Feb/2000:00:00:00 +0000"),
            (4_107_542_400, "01/Mar/2100:00:00:00 +0000"),
        ] {
            assert_eq!(Stamp::new(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).common, expected);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_389_290_007);
        assert_eq!(Stamp::new(time).iso, "2026-11-22T23:14:50.007Z");
    }

    proptest! {
        #[test]
        fn days_are_those_of_http_dates(seconds in 0_u64..253_402_300_800) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            // `Sun, 06 Nov 1994 08:49:37 GMT`
            let date = httpdate::fmt_http_date(time);
            let parts: Vec<_> = date.split([' ', ',']).collect();
            let expected = format!("{}/{}/{}:{} +0000", parts[2], parts[3], parts[4], parts[5]);
            prop_assert_eq!(Stamp::new(time).common, expected);
        }
    }
}
