//! The tables, as bench/README.md has them.

use crate::say;

/// A line of the table of CPU times, in microseconds a request and requests a second.
#[derive(Debug)]
pub(super) struct CpuLine {
    pub(super) row: &'static str,
    pub(super) proxy: &'static str,
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) rate: f64,
}

impl CpuLine {
    fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// Copal's value as a ratio of another's, or nothing where Copal has none.
fn ratio(copal: Option<f64>, other: f64) -> String {
    copal.map_or_else(|| "–".to_owned(), |copal| format!("{:.2}", copal / other))
}

/// CPU time.
pub(super) fn cpu(lines: &[CpuLine]) {
    if lines.is_empty() {
        return;
    }
    say("| row | proxy | user µs | system µs | CPU µs a request | copal's, as a ratio | requests/s |");
    say("|---|---|---|---|---|---|---|");
    for line in lines {
        let copal = lines.iter().find(|it| it.row == line.row && it.proxy == "copal").map(CpuLine::total);
        let (user, system, total) = (line.user, line.system, line.total());
        let ratio = ratio(copal, total);
        let (row, proxy, rate) = (line.row, line.proxy, line.rate);
        say(&format!("| {row} | {proxy} | {user:.2} | {system:.2} | {total:.2} | {ratio} | {rate:.0} |"));
    }
}

/// Memory.
pub(super) fn memory(count: usize, lines: &[(&str, f64)]) {
    let copal = lines.iter().find(|(proxy, _)| *proxy == "copal").map(|(_, bytes)| *bytes);
    say("");
    say(&format!("| proxy | bytes an idle connection, of {count} | copal's, as a ratio |"));
    say("|---|---|---|");
    for (proxy, bytes) in lines {
        say(&format!("| {proxy} | {bytes:.0} | {} |", ratio(copal, *bytes)));
    }
}

/// Latency: of the backend alone, and of each proxy.
pub(super) fn latency(direct: [f64; 2], lines: &[(&str, [f64; 2])]) {
    let [direct50, direct99] = direct;
    say("");
    say("| proxy | p50 µs | p99 µs | added p50 µs | added p99 µs |");
    say("|---|---|---|---|---|");
    say(&format!("| none | {direct50:.0} | {direct99:.0} | | |"));
    for (proxy, [p50, p99]) in lines {
        let (added50, added99) = (p50 - direct50, p99 - direct99);
        say(&format!("| {proxy} | {p50:.0} | {p99:.0} | {added50:.0} | {added99:.0} |"));
    }
}
