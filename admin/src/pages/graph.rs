//! Graphs of the past: drawn here as lines for whoever runs no script, with the values in a table below each. The script draws them
//! anew from the JSON, and adds points as they come.

use super::format::{self, NONE};
use crate::{
    Inner,
    history::{self, PastRecord, Question, Range},
    refusal::Refusal,
};
use common::config::Config;
use proto::history::v1::Series;
use std::fmt::Write;

/// Where the lines are in the drawing, which is 6000 wide and 1700 high in its own units.
const LEFT: f64 = 640.0;
const RIGHT: f64 = 5980.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 1460.0;

/// A value that is so many steps old is still that of now: a hub server may not have written the last one yet.
const NOW_STEPS: usize = 3;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Number,
    PerSecond,
    Millis,
    Bytes,
    BytesPerSecond,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Number if value.fract() == 0.0 => format::count(value.max(0.0) as u64),
            Self::Number => format::short(value),
            Self::PerSecond => format!("{} /s", format::short(value)),
            Self::Millis => format::millis(Some(value)),
            Self::Bytes => format::bytes(value.max(0.0) as u64),
            Self::BytesPerSecond => format!("{}/s", format::bytes(value.max(0.0) as u64)),
        }
    }

    /// For the script.
    fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::PerSecond => "per-second",
            Self::Millis => "millis",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes-per-second",
        }
    }

    /// A round number that is not below `most`.
    fn top(self, most: f64) -> f64 {
        let mut unit = 1.0;
        if matches!(self, Self::Bytes | Self::BytesPerSecond) {
            while most / unit > 1024.0 {
                unit *= 1024.0;
            }
        }
        let digits = most / unit;
        if !(digits > 0.0 && digits.is_finite()) {
            return 1.0;
        }
        let power = 10_f64.powf(digits.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power);
        steps.filter(|it| *it >= digits * 0.9999).reduce(f64::min).unwrap_or(digits) * unit
    }
}

/// A graph that there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    id: &'static str,
    name: &'static str,
    unit: Unit,
    lines: &'static [(Series, &'static str)],
}

const REQUESTS: Kind = Kind {
    id: "requests",
    name: "Requests a second",
    unit: Unit::PerSecond,
    lines: &[(Series::RequestsPerS, "all"), (Series::Errors4xxPerS, "4xx"), (Series::Errors5xxPerS, "5xx")],
};
const LATENCY: Kind = Kind {
    id: "latency",
    name: "Latency",
    unit: Unit::Millis,
    lines: &[(Series::P50Ms, "p50"), (Series::P99Ms, "p99")],
};
const CONNECTIONS: Kind = Kind {
    id: "connections",
    name: "Clients",
    unit: Unit::Number,
    lines: &[(Series::ConnectionsOpen, "connections open"), (Series::RequestsActive, "requests under way")],
};
const SESSIONS: Kind = Kind {
    id: "sessions",
    name: "Sessions",
    unit: Unit::Number,
    lines: &[(Series::Sessions, "on the hub"), (Series::AppSessions, "in app servers' memory")],
};

/// On the first page.
pub(super) const OVERVIEW: &[Kind] = &[REQUESTS, LATENCY, CONNECTIONS, SESSIONS];

/// Of a web-tier server, of any, of one that runs apps, of one of the hub.
pub(super) const WEB_TIER: &[Kind] = &[REQUESTS, LATENCY, CONNECTIONS, SENT];
pub(super) const ANY: &[Kind] = &[CPU, MEMORY, FILES, DISK];
pub(super) const APP_TIER: &[Kind] = &[APP_SESSIONS];
pub(super) const HUB: &[Kind] = &[APPLIED, HUB_SESSIONS, SESSION_BYTES];

const SENT: Kind = of_one("sent", "Bytes sent", Unit::BytesPerSecond, &[(Series::SentBytesPerS, "answers")]);
const CPU: Kind = of_one(
    "cpu",
    "CPU",
    Unit::Number,
    &[(Series::CpuCores, "cores kept busy"), (Series::Load, "load of the machine")],
);
const MEMORY: Kind = of_one("memory", "Memory", Unit::Bytes, &[(Series::ResidentBytes, "resident")]);
const FILES: Kind = of_one("files", "Open files", Unit::Number, &[(Series::OpenFiles, "open")]);
const DISK: Kind = of_one("disk", "Disk", Unit::Bytes, &[(Series::DiskFreeBytes, "free")]);
const APP_SESSIONS: Kind =
    of_one("app-sessions", "Sessions in memory", Unit::Number, &[(Series::AppSessions, "of all apps")]);
const APPLIED: Kind =
    of_one("applied", "Log entries applied", Unit::PerSecond, &[(Series::AppliedPerS, "entries")]);
const HUB_SESSIONS: Kind =
    of_one("hub-sessions", "Sessions on the hub", Unit::Number, &[(Series::Sessions, "sessions")]);
const SESSION_BYTES: Kind =
    of_one("session-bytes", "Their size", Unit::Bytes, &[(Series::SessionBytes, "attributes")]);

const fn of_one(
    id: &'static str,
    name: &'static str,
    unit: Unit,
    lines: &'static [(Series, &'static str)],
) -> Kind {
    Kind { id, name, unit, lines }
}

/// The graphs of a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graphs {
    /// Where the script gets the same numbers.
    pub(super) source: String,
    pub(super) heading: String,
    pub(super) ranges: Vec<Link>,
    /// Why there are none.
    pub(super) note: String,
    pub(super) graphs: Vec<Graph>,
}

#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(super) name: &'static str,
    pub(super) words: &'static str,
    pub(super) current: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) lines: Vec<Line>,
    /// Labels of the left edge and of the lower one.
    pub(super) levels: Vec<Label>,
    pub(super) times: Vec<Label>,
}

#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) class: String,
    pub(super) series: String,
    pub(super) name: &'static str,
    pub(super) now: String,
    pub(super) least: String,
    pub(super) most: String,
    pub(super) path: String,
}

#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) at: u32,
    pub(super) text: String,
}

/// What the graphs of these kinds need to know.
pub(super) fn question(range: Range, server: Option<&str>, kinds: &[&[Kind]]) -> Question {
    let lines = kinds.iter().copied().flatten().flat_map(|it| it.lines);
    let mut series: Vec<Series> = lines.map(|(series, _)| *series).collect();
    series.sort_unstable();
    series.dedup();
    Question { range, server: server.map(str::to_owned), series, ..Question::default() }
}

impl Inner {
    /// Graphs of a server, or of all together. The page's script has its own way to new points: what shows itself anew (no `range`)
    /// needs none.
    pub(super) async fn graphs(
        &self,
        config: &Config,
        prefix: &str,
        server: Option<&str>,
        (range, kinds): (Option<Range>, &[&[Kind]]),
    ) -> Graphs {
        let Some(range) = range else { return Graphs::default() };
        let question = question(range, server, kinds);
        let past = self.past(config, &question).await;
        Graphs::new(prefix, &question, kinds, past.as_ref())
    }
}

impl Graphs {
    /// Of what was answered; without an answer they are empty, and it is told why.
    pub(super) fn new(
        prefix: &str,
        question: &Question,
        kinds: &[&[Kind]],
        past: Result<&PastRecord, &Refusal>,
    ) -> Self {
        let range = question.range;
        let series: Vec<String> = question.series.iter().map(|it| history::name(*it)).collect();
        let server = question.server.as_ref().map(|it| format!("&server={it}")).unwrap_or_default();
        let link = |it: Range| Link { name: it.name(), words: it.words(), current: it == range };
        let note = match past {
            Err(refusal) => refusal.to_string(),
            Ok(past) if past.samples.iter().all(|it| *it == 0) => {
                "Nothing has been kept of this time yet. A point comes every 10 seconds.".to_owned()
            }
            Ok(_) => String::new(),
        };
        let past = past.ok();
        Self {
            source: format!(
                "{prefix}/api/v1/history?range={}{server}&series={}",
                range.name(),
                series.join(",")
            ),
            heading: format!("The last {}", range.words()),
            ranges: Range::ALL.into_iter().map(link).collect(),
            note,
            graphs: kinds.iter().copied().flatten().map(|it| Graph::of(*it, range, past)).collect(),
        }
    }
}

impl Graph {
    fn of(kind: Kind, range: Range, past: Option<&PastRecord>) -> Self {
        let values = |series| past.map_or(&[][..], |it| it.line(series));
        let known = kind.lines.iter().flat_map(|(series, _)| values(*series).iter().flatten());
        let top = kind.unit.top(known.copied().fold(0.0, f64::max));
        let line = |(number, (series, name)): (usize, &(Series, &'static str))| {
            let values = values(*series);
            let text = |it: Option<f64>| it.map_or(NONE.to_owned(), |it| kind.unit.text(it));
            Line {
                class: format!("s{}", number + 1),
                series: history::name(*series),
                name,
                now: text(values.iter().rev().take(NOW_STEPS).find_map(|it| *it)),
                least: text(values.iter().flatten().copied().reduce(f64::min)),
                most: text(values.iter().flatten().copied().reduce(f64::max)),
                path: path(values, top),
            }
        };
        let level = |part: f64| Label { at: height(part) as u32, text: kind.unit.text(top * part) };
        Self {
            id: kind.id,
            name: kind.name,
            unit: kind.unit.name(),
            lines: kind.lines.iter().enumerate().map(line).collect(),
            levels: [1.0, 0.5, 0.0].map(level).into(),
            times: past.map(|past| times(past, range)).unwrap_or_default(),
        }
    }
}

/// How high a part of the greatest value is in the drawing.
fn height(part: f64) -> f64 {
    (BOTTOM - (BOTTOM - TOP) * part.clamp(0.0, 1.0)).round()
}

/// A line through what is known; it is interrupted where nothing is. In whole units from one point to the next, which is short.
fn path(values: &[Option<f64>], top: f64) -> String {
    let width = (RIGHT - LEFT) / values.len().max(1) as f64;
    let mut path = String::new();
    let mut last: Option<(i32, i32)> = None;
    for (step, value) in values.iter().enumerate() {
        let Some(value) = value else {
            last = None;
            continue;
        };
        let (x, y) = ((LEFT + width * (step as f64 + 0.5)).round() as i32, height(value / top) as i32);
        let written = match last {
            // Of no length, but with round ends: a point that stands alone is seen.
            None => write!(path, "M{x} {y}h0"),
            Some((before_x, before_y)) if before_y == y => write!(path, "h{}", x - before_x),
            Some((before_x, before_y)) => write!(path, "l{} {}", x - before_x, y - before_y),
        };
        written.expect("written to memory");
        last = Some((x, y));
    }
    path
}

/// The beginning, the middle and the end.
fn times(past: &PastRecord, range: Range) -> Vec<Label> {
    let span = u64::from(past.step_s) * past.samples.len() as u64;
    let label = |part: u64| {
        let at = crate::timestamp::format((past.from_s + span * part / 2) * 1000).unwrap_or_default();
        let text = match range {
            Range::Hour | Range::SixHours | Range::Day => at.get(11..16),
            Range::Week | Range::Month => at.get(5..10),
        };
        let x = LEFT + (RIGHT - LEFT) * part as f64 / 2.0;
        Label { at: x as u32, text: text.unwrap_or_default().to_owned() }
    };
    [0, 1, 2].map(label).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_interrupted_where_nothing_is_known() {
        assert_eq!(
            path(&[Some(0.0), Some(0.0), Some(10.0), None, Some(5.0)], 10.0),
            "M1174 1460h0h1068l1068 -1380M5446 770h0"
        );
        assert_eq!(path(&[None; 5], 10.0), "");
        assert_eq!(path(&[], 10.0), "");
    }

    #[test]
    fn the_top_is_a_round_number() {
        let numbers = [0.0, 0.03, 1.0, 1.1, 3.0, 70.0, 1001.0].map(|it| Unit::Number.top(it));
        assert_eq!(
            numbers.map(|it| Unit::Number.text(it)),
            ["1", "0.05", "1", "2", "5", "100", "2\u{202f}000"]
        );
        let sizes = [1.0, 1500.0, 64e6, 3e9].map(|it| Unit::Bytes.text(Unit::Bytes.top(it)));
        assert_eq!(sizes, ["1 B", "2.00 KiB", "100 MiB", "5.00 GiB"]);
        assert_eq!(Unit::Bytes.top(f64::NAN), 1.0);
        for most in [f64::INFINITY, f64::MAX] {
            assert!(Unit::Bytes.top(most) > 0.0);
        }
    }

    #[test]
    fn a_page_asks_for_what_it_draws_once() {
        let question = question(Range::Day, Some("app-a"), &[WEB_TIER, ANY, WEB_TIER]);
        assert_eq!(question.series.len(), 13);
        let graphs = Graphs::new("/admin", &question, &[WEB_TIER], Err(&Refusal::NotFound));
        assert!(
            graphs.source.starts_with("/admin/api/v1/history?range=24h&server=app-a&series=requests_per_s,")
        );
        assert_eq!((graphs.graphs.len(), graphs.note.as_str()), (4, "there is nothing at this path"));
    }
}
