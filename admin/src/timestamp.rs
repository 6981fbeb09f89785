//! Times as JSON has them: RFC 3339, in UTC, with milliseconds.

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// A time in milliseconds since 1970; nothing for 0, which stands for never.
pub(crate) fn format(unix_ms: u64) -> Option<String> {
    if unix_ms == 0 {
        return None;
    }
    let (year, month, day) = date(unix_ms / DAY);
    let ms = unix_ms % DAY;
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let ms = ms % 1000;
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"))
}

/// The date of a day since 1970, by Howard Hinnant's `civil_from_days`, for years from 1970 on.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        let at = |seconds: u64| format(seconds * 1000).unwrap();
        assert_eq!(format(0), None);
        assert_eq!(format(1).unwrap(), "1970-01-01T00:00:00.001Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_704_067_199), "2023-12-31T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert!(format(u64::MAX).is_some());
    }
}
