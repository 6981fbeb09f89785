//! The last log lines of this process, in memory, for who looks at the status page. Bounded in lines and bytes; who writes the most
//! loses the oldest first, so that a talkative app leaves room for the others and for the server's own lines.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Write},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Lines that are kept, and bytes of their texts.
const LINES_MAX: usize = 8192;
const BYTES_MAX: usize = 2 << 20;

/// Bytes that one answer tells.
const TOLD_MAX: usize = 512 << 10;

/// A longer text is cut, in bytes.
const TEXT_MAX: usize = 2048;

/// The target of what apps print.
const APP: &str = "app";

/// What libraries say below this level is not kept: it may repeat what goes over connections.
const OF_LIBRARIES: LogLevel = LogLevel::Info;

/// The crates whose lines are kept at any level.
const OURS: [&str; 13] = [
    "admin",
    "app",
    "app_tier",
    "cluster_port",
    "common",
    "copal",
    "deployments",
    "import",
    "repository",
    "static_files",
    "triad",
    "triad_client",
    "web_tier",
];

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Each step.
    Trace,
    /// What a developer asks for.
    Debug,
    /// What happens.
    Info,
    /// What may need somebody.
    Warn,
    /// What needs somebody.
    Error,
}

impl LogLevel {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Of its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    fn of(level: Level) -> Self {
        match level {
            Level::TRACE => Self::Trace,
            Level::DEBUG => Self::Debug,
            Level::INFO => Self::Info,
            Level::WARN => Self::Warn,
            Level::ERROR => Self::Error,
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Grows from line to line, also over a restart of the process: it begins with the time of the start in microseconds.
    pub sequence: u64,
    /// When it was written, in milliseconds since 1970.
    pub time_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The part of the program; `app` is an app's own output.
    pub target: String,
    /// The app that it is about, or that printed it; empty for none.
    pub app: String,
    /// What it says, its control characters escaped.
    pub text: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Of this level or above it.
    pub least: Option<LogLevel>,
    /// Has this in its text or target, whatever the case; empty: any.
    pub text: String,
    /// Is about this app; empty: any.
    pub app: String,
    /// Came after the line of this number; 0: any.
    pub after: u64,
}

/// The lines that were asked for, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail {
    /// The lines.
    pub lines: Vec<Arc<LogLine>>,
    /// The number of this process's first line: servers in one process have the same.
    pub first: u64,
    /// Who asks for what is after this one misses nothing that is still kept.
    pub last: u64,
}

/// The lines of one writer.
#[derive(Debug, Default)]
struct Source {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    /// By app; the server's own lines have the empty name.
    sources: BTreeMap<String, Source>,
    lines: usize,
    bytes: usize,
    first: u64,
    next: u64,
}

/// The last lines.
#[derive(Debug)]
pub struct RecentLogs {
    kept: Mutex<Kept>,
    lines_max: usize,
    bytes_max: usize,
}

/// Those of this process.
static RECENT: LazyLock<RecentLogs> = LazyLock::new(|| RecentLogs::new(now_us(), LINES_MAX, BYTES_MAX));

/// The last lines that this process has logged.
pub fn recent_logs() -> &'static RecentLogs {
    &RECENT
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What a line takes beside its texts, about.
const OVERHEAD: usize = 128;

fn size(line: &LogLine) -> usize {
    OVERHEAD + line.text.len() + line.target.len() + line.app.len()
}

/// How many lines fit into an answer.
fn fitting<'a>(lines: impl Iterator<Item = &'a Arc<LogLine>>, max: usize) -> usize {
    let mut bytes = 0;
    let fits = |line: &&Arc<LogLine>| {
        bytes += size(line);
        bytes <= TOLD_MAX
    };
    lines.take(max).take_while(fits).count()
}

/// Whether an app, `HOST/NAME`, is meant by these words: the same, its name alone, or its tag.
fn is_app(app: &str, words: &str) -> bool {
    app == words
        || app.strip_suffix(words).is_some_and(|host| host.ends_with('/'))
        || words.strip_suffix(app).is_some_and(|stage| stage.ends_with("/webapp/"))
}

impl RecentLogs {
    fn new(first: u64, lines_max: usize, bytes_max: usize) -> Self {
        // 0 is no line's number.
        let first = first.max(1);
        let kept = Kept { sources: BTreeMap::new(), lines: 0, bytes: 0, first, next: first };
        Self { kept: Mutex::new(kept), lines_max, bytes_max }
    }

    fn push(&self, mut line: LogLine) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        line.sequence = kept.next;
        kept.next += 1;
        let name = if line.target == APP { line.app.clone() } else { String::new() };
        let bytes = size(&line);
        let source = kept.sources.entry(name).or_default();
        source.bytes += bytes;
        source.lines.push_back(Arc::new(line));
        kept.lines += 1;
        kept.bytes += bytes;
        while kept.lines > self.lines_max || kept.bytes > self.bytes_max {
            kept.drop_oldest_of_largest();
        }
    }

    /// The newest lines that `filter` lets through, `max` of them and 512 KiB at most; of those after a given one the oldest, so that
    /// who goes on from [`LogTail::last`] has them all.
    pub fn tail(&self, filter: &LogFilter, max: usize) -> LogTail {
        let (mut lines, first, mut last) = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_wanted = |line: &&Arc<LogLine>| {
                line.sequence > filter.after
                    && filter.least.is_none_or(|least| line.level >= least)
                    && (filter.app.is_empty() || is_app(&line.app, &filter.app))
            };
            let lines = kept.sources.values().flat_map(|it| &it.lines).filter(is_wanted).cloned();
            (lines.collect::<Vec<_>>(), kept.first, kept.next - 1)
        };
        lines.sort_unstable_by_key(|it| it.sequence);
        let needle = filter.text.to_lowercase();
        if !needle.is_empty() {
            let has = |text: &str| text.to_lowercase().contains(&needle);
            lines.retain(|line| has(&line.text) || has(&line.target));
        }
        if filter.after > 0 {
            let fitting = fitting(lines.iter(), max);
            if fitting < lines.len() {
                lines.truncate(fitting);
                last = lines.last().map_or(filter.after, |it| it.sequence);
            }
        } else {
            let surplus = lines.len() - fitting(lines.iter().rev(), max);
            lines.drain(..surplus);
        }
        LogTail { lines, first, last }
    }
}

impl Kept {
    fn drop_oldest_of_largest(&mut self) {
        let largest = self.sources.iter_mut().max_by_key(|(_, source)| source.bytes);
        let Some((name, source)) = largest else { return };
        if let Some(line) = source.lines.pop_front() {
            let bytes = size(&line);
            source.bytes -= bytes;
            self.bytes -= bytes;
            self.lines -= 1;
        }
        if source.lines.is_empty() {
            let name = name.clone();
            self.sources.remove(&name);
        }
    }
}

/// Keeps each line that is logged.
#[derive(Debug)]
pub(crate) struct Keeper(pub(crate) &'static RecentLogs);

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (target, level) = (event.metadata().target(), LogLevel::of(*event.metadata().level()));
        let of = target.split("::").next().unwrap_or_default();
        if level < OF_LIBRARIES && !OURS.contains(&of) {
            return;
        }
        let mut said = Said { is_output: target == APP, app: Text::default(), text: Text::default() };
        event.record(&mut said);
        self.0.push(LogLine {
            sequence: 0,
            time_ms: now_us() / 1000,
            level,
            target: target.to_owned(),
            app: said.app.text,
            text: said.text.text,
        });
    }
}

/// The fields of an event, as one text.
struct Said {
    /// Its text is an app's line, and nothing else.
    is_output: bool,
    app: Text,
    text: Text,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }
}

impl Said {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "app" {
            // Too much of it is left out.
            let _cut = self.app.write_fmt(value);
            if self.is_output {
                return;
            }
        }
        let space = if self.text.text.is_empty() { "" } else { " " };
        let _cut = match field.name() {
            "message" => self.text.write_fmt(format_args!("{space}{value}")),
            name => self.text.write_fmt(format_args!("{space}{name}={value}")),
        };
    }
}

/// A text of a bounded length without control characters.
#[derive(Debug, Default)]
struct Text {
    text: String,
    is_cut: bool,
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for it in more.chars() {
            if self.is_cut {
                return Err(fmt::Error);
            }
            if self.text.len() >= TEXT_MAX {
                self.text.push('…');
                self.is_cut = true;
            } else if is_harmless(it) {
                self.text.push(it);
            } else {
                self.text.extend(it.escape_unicode());
            }
        }
        Ok(())
    }
}

/// Whether a character shows itself alone: none that ends a line, drives a terminal, or turns the direction of what follows
/// (Unicode's bidirectional controls).
pub fn is_harmless(it: char) -> bool {
    let turns = matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends = matches!(it, '\u{2028}' | '\u{2029}');
    it == '\t' || !(it.is_control() || turns || ends)
}

#[cfg(test)]
mod tests;
