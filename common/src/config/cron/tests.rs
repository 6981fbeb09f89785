//! Tests of minutes and their calendar.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn holds(cron: &str, seconds: u64) -> bool {
    Cron::parse(cron).unwrap().holds(at(seconds))
}

/// Wednesday, the 29th of February 2012, 13:45:30 UTC.
const LEAP_DAY: u64 = 1_330_523_130;

/// Sunday, the 31st of December 2023, 23:59:59 UTC.
const LAST_SECOND: u64 = 1_704_067_199;

#[test]
fn a_minute_is_found_by_all_its_fields() {
    for (cron, expected) in [
        ("* * * * *", true),
        ("45 13 29 2 *", true),
        ("45 13 29 2 3", true),
        ("45 13 * feb WED", true),
        ("44 * * * *", false),
        ("* 14 * * *", false),
        ("* * 28 * *", false),
        ("* * * 3 *", false),
        ("* * * * 4", false),
        ("*/15 9-17 * * 1-5", true),
        ("*/7 * * * *", false),
        ("5/20 * * * *", true),
        ("0,30,40-50/5 * * * *", true),
    ] {
        assert_eq!(holds(cron, LEAP_DAY), expected, "{cron}");
    }
}

#[test]
fn sunday_is_0_and_7_and_the_year_ends_at_midnight() {
    for cron in ["59 23 31 12 *", "* * * * 0", "* * * * 7", "* * * * sun", "* * * * 5-7"] {
        assert!(holds(cron, LAST_SECOND), "{cron}");
        assert!(!holds(cron, LAST_SECOND + 1), "{cron}");
    }
    assert!(holds("0 0 1 1 1", LAST_SECOND + 1));
    assert!(holds("0 0 1 jan thu", 0));
}

#[test]
fn of_two_days_one_is_enough() {
    assert!(holds("* * 13 * 3", LEAP_DAY) && holds("* * 29 * 5", LEAP_DAY));
    assert!(!holds("* * 13 * 5", LEAP_DAY));
    assert!(!holds("* * */2 * 5", LEAP_DAY) && holds("* * */2 * 3", LEAP_DAY));
}

#[test]
fn what_is_wrong_is_told_by_field() {
    let told = |text: &str| Cron::parse(text).unwrap_err();
    assert_eq!(told("0 9 * *"), "expected five fields (minute hour day month weekday), found 4 in `0 9 * *`");
    for (text, field, item) in [
        ("60 * * * *", "minute a number from 0 to 59", "60"),
        ("* 24 * * *", "hour a number from 0 to 23", "24"),
        ("* * 0 * *", "day of the month a number from 1 to 31", "0"),
        ("* * * 13 *", "month a number from 1 to 12 or jan to dec", "13"),
        ("* * * * funday", "day of the week a number from 0 to 7 or sun to sat", "funday"),
        ("5-1 * * * *", "minute a number from", "5-1"),
        ("*/0 * * * *", "minute a number from", "*/0"),
        ("1,,2 * * * *", "minute a number from", ""),
        ("+1 * * * *", "minute a number from", "+1"),
        ("99999999999 * * * *", "minute a number from", "99999999999"),
    ] {
        let told = told(text);
        assert!(told.contains(field) && told.ends_with(&format!("found `{item}`")), "{told}");
    }
    assert_eq!(told("0 0 31 2,4 *"), "no month of `0 0 31 2,4 *` has such a day: it would never come");
    assert!(Cron::parse("0 0 29 2 *").is_ok() && Cron::parse("0 0 31 2 1").is_ok());
}

/// A calendar that counts day by day.
fn counted(days: u64) -> (u64, u64) {
    let (mut year, mut left) = (1970, days);
    loop {
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        for (month, length) in (1..).zip(MONTH_DAYS) {
            let length = u64::from(length) - u64::from(month == 2 && !leap);
            if left < length {
                return (month, left + 1);
            }
            left -= length;
        }
        year += 1;
    }
}

#[test]
fn the_calendar_is_right_for_centuries() {
    for days in (0..160_000).step_by(13).chain(10_900..11_100) {
        assert_eq!(civil(days), counted(days), "{days}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[0-9a-z*/,\\- ]{0,30}") {
        let _ = Cron::parse(&text).map(|it| it.holds(at(LEAP_DAY)));
    }

    #[test]
    fn a_minute_named_outright_holds_in_it_alone(minutes in 0_u64..100_000_000) {
        let (month, day) = civil(minutes / 1440);
        let text = format!("{} {} {day} {month} *", minutes % 60, minutes / 60 % 24);
        let cron = Cron::parse(&text).unwrap();
        prop_assert!(cron.holds(at(minutes * 60)) && cron.holds(at(minutes * 60 + 59)));
        prop_assert!(!cron.holds(at((minutes + 1) * 60)));
    }
}
