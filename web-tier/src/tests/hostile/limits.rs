//! How much a head may be.

use super::{Row, check, fields::get, refused, served};

pub(super) fn rows() -> Vec<Row> {
    vec![heads(), targets()]
}

fn heads() -> Row {
    let lines = |count: usize, size: usize| get(&format!("X: {}\r\n", "a".repeat(size)).repeat(count));
    let cases = vec![
        // With `Host` these are 101 and 100.
        refused(&[431], get(&"X: 1\r\n".repeat(100))),
        served(get(&"X: 1\r\n".repeat(99)), &[], &[]),
        refused(&[431], get(&"X: 1\r\n".repeat(5000))),
        refused(&[431], lines(1, 33_000)),
        refused(&[431], lines(4, 8_500)),
        refused(&[431], lines(1, 1_000_000)),
        served(lines(3, 8_000), &[], &[]),
        refused(&[431], get(&format!("{}: 1\r\n", "x".repeat(33_000)))),
        refused(&[431], get(&"X".repeat(100_000))),
        refused(&[431], get(&format!("Cookie: {}\r\n", "a=1; ".repeat(10_000)))),
    ];
    Row { title: "More than 100 headers, or 32 KiB", cases }
}

fn targets() -> Row {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let path = |length: usize| get(&format!("/{}", "a".repeat(length - 1)));
    let cases = vec![
        served(path(16 * 1024), &[], &[]),
        refused(&[414], path(16 * 1024 + 1)),
        refused(&[414], path(20_000)),
        refused(&[414], get(&format!("/?{}", "a".repeat(17_000)))),
        refused(&[414], get(&format!("http://h/{}", "a".repeat(17_000)))),
        // No end of the line in sight.
        refused(&[414, 431], path(1_000_000)),
        refused(&[501], "a".repeat(100_000)),
        refused(&[400, 414, 431], format!("GET {}", "/a".repeat(100_000))),
        refused(&[400, 414, 431], format!("GET / HTTP/1.1{}", " ".repeat(100_000))),
        refused(&[400, 414, 431], "\r\n".repeat(100_000)),
    ];
    Row { title: "A target over 16 KiB", cases }
}

#[tokio::test]
async fn heads_that_are_too_much() {
    check(heads()).await;
}

#[tokio::test]
async fn targets_that_are_too_long() {
    check(targets()).await;
}
