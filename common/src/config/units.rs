//! Durations and sizes as the file writes them: `250ms`, `15s`, `5m`, `2h`, `1D`, `1W`; `16K`, `64M`, `2G`.

use std::time::Duration;

/// Units of durations in milliseconds, the largest first.
const DURATIONS: [(&str, u64); 6] =
    [("W", 604_800_000), ("D", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number and unit.
    #[error("expected a duration such as 250ms, 15s, 5m, 2h, 1D or 1W, found `{0}`")]
    Duration(String),
    /// A duration without its unit.
    #[error("the duration `{0}` has no unit: write `{0}s` or `{0}ms`")]
    NoUnit(String),
    /// Not one of the units of durations.
    #[error("the duration `{0}` has the unknown unit `{1}`: expected ms, s, m, h, D (days) or W (weeks)")]
    Unit(String, String),
    /// More than 64 bits of milliseconds or bytes.
    #[error("`{0}` is too large")]
    Large(String),
    /// No number and unit.
    #[error("expected a size such as 4096, 16K, 64M or 2G, found `{0}`")]
    Size(String),
}

/// Reads a duration: digits and one of `ms`, `s`, `m`, `h`, `D`, `W`; `0` needs no unit.
///
/// # Errors
/// Anything else.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (digits, unit) = split(text);
    if digits.is_empty() {
        return Err(UnitError::Duration(text.to_owned()));
    }
    let number: u64 = digits.parse().map_err(|_| UnitError::Large(text.to_owned()))?;
    if unit.is_empty() {
        return if number == 0 { Ok(Duration::ZERO) } else { Err(UnitError::NoUnit(text.to_owned())) };
    }
    let scale = DURATIONS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.ok_or_else(|| {
        if unit.chars().all(char::is_alphabetic) {
            UnitError::Unit(text.to_owned(), unit.to_owned())
        } else {
            UnitError::Duration(text.to_owned())
        }
    })?;
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(|| UnitError::Large(text.to_owned()))
}

/// A duration as [`parse_duration`] reads it, in the largest unit that gives a whole number; below a millisecond it is cut.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = DURATIONS.iter().find(|(_, scale)| ms != 0 && ms.is_multiple_of(*scale));
    fits.map_or_else(|| "0".to_owned(), |(unit, scale)| format!("{}{unit}", ms / scale))
}

/// Reads a size in bytes: digits and nothing, `K`, `M` or `G` (powers of 1024, either case).
///
/// # Errors
/// Anything else.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (digits, unit) = split(text);
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return Err(UnitError::Size(text.to_owned())),
    };
    if digits.is_empty() {
        return Err(UnitError::Size(text.to_owned()));
    }
    let large = || UnitError::Large(text.to_owned());
    digits.parse::<u64>().map_err(|_| large())?.checked_mul(1 << shift).ok_or_else(large)
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let read = |text| parse_duration(text).map(|it| it.as_millis());
        assert_eq!(read("250ms"), Ok(250));
        assert_eq!(read("15s"), Ok(15_000));
        assert_eq!(read("5m"), Ok(300_000));
        assert_eq!(read("2h"), Ok(7_200_000));
        assert_eq!(read("1D"), Ok(86_400_000));
        assert_eq!(read("1W"), Ok(604_800_000));
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read("15"), Err(UnitError::NoUnit("15".to_owned())));
        assert_eq!(read("1d"), Err(UnitError::Unit("1d".to_owned(), "d".to_owned())));
        for wrong in
            ["", "s", "-1s", "1.5s", "1 s", "+1s", "1s ", "１s", "99999999999999999999s", "99999999999999W"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("16K"), Ok(16 << 10));
        assert_eq!(parse_size("64m"), Ok(64 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        for wrong in ["", "K", "16KB", "-1", "1.5M", "16 K", "99999999999G", "99999999999999999999"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_was_written(ms in any::<u64>()) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_has_an_answer(text in ".{0,40}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
