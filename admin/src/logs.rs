//! The log lines of all servers, as they have them in memory, merged by time.

use crate::{
    Inner,
    ask::{Answers, SilentServer, ask_all},
    pages::form::Form,
    refusal::Refusal,
    timestamp,
};
use common::{config::Config, recent_logs::LogLevel};
use proto::logs::v1::{self as wire, LogTail, TailLogs, logs_client::LogsClient};
use serde::Serialize;
use std::{collections::BTreeMap, rc::Rc};

/// Lines that are told unless it is said how many, and at most.
const LIMIT: u32 = 200;
const LIMIT_MAX: u32 = 1000;

/// Of a server that is asked for what is new, at least.
const LIMIT_MIN: u32 = 20;

/// The longest words that are looked for, in characters.
const WORDS_MAX: usize = 100;

/// The most servers that `after` names.
const PLACES_MAX: usize = 4096;

/// Which lines are wanted. All that is empty lets any through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) level: Option<LogLevel>,
    pub(crate) server: String,
    pub(crate) app: String,
    pub(crate) text: String,
    /// By server: the last line that is known.
    after: BTreeMap<String, u64>,
    limit: u32,
}

/// `GET /api/v1/logs`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LogsRecord {
    /// The oldest first.
    pub(crate) lines: Vec<LineRecord>,
    /// What to ask for next, as `after`: what has come since.
    pub(crate) next: String,
    pub(crate) silent: Vec<SilentServer>,
}

/// A line.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LineRecord {
    pub(crate) time: Option<String>,
    /// Whose; several, where they are one process.
    pub(crate) servers: Vec<String>,
    pub(crate) level: &'static str,
    /// The app that it is about, or that printed it.
    pub(crate) app: Option<String>,
    /// The part of the program; `app` for an app's own output.
    pub(crate) target: String,
    pub(crate) text: String,
}

impl Default for LogQuery {
    fn default() -> Self {
        let (server, app, text) = Default::default();
        Self { level: None, server, app, text, after: BTreeMap::new(), limit: LIMIT }
    }
}

impl LogQuery {
    /// Reads the query of a URL.
    ///
    /// # Errors
    /// A value makes no sense.
    pub(crate) fn read(query: &str) -> Result<Self, Refusal> {
        let form = Form::read(query);
        let level = match form.field("level") {
            "" => None,
            name => Some(LogLevel::named(name).ok_or_else(|| {
                let expected = LogLevel::ALL.map(LogLevel::name).join(", ");
                Refusal::Body(format!("level is {}: expected one of {expected}", shown(name)))
            })?),
        };
        let limit = match form.field("limit") {
            "" => LIMIT,
            number => number.parse().ok().filter(|it| (1..=LIMIT_MAX).contains(it)).ok_or_else(|| {
                Refusal::Body(format!("limit is {}: expected 1 to {LIMIT_MAX}", shown(number)))
            })?,
        };
        let words = |field: &str| form.field(field).trim().chars().take(WORDS_MAX).collect();
        let after = places(form.field("after"))?;
        Ok(Self { level, server: words("server"), app: words("app"), text: words("text"), after, limit })
    }

    /// The question to one server, of `count` that are asked.
    fn question(&self, server: &str, count: usize) -> TailLogs {
        let lines_max = if self.after.is_empty() {
            self.limit
        } else {
            (self.limit / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).max(LIMIT_MIN)
        };
        TailLogs {
            least: self.level.map_or(wire::LogLevel::Unspecified, level).into(),
            text: self.text.clone(),
            app: self.app.clone(),
            after: self.after.get(server).copied().unwrap_or_default(),
            lines_max,
        }
    }
}

fn shown(value: &str) -> String {
    format!("{:?}", value.chars().take(40).collect::<String>())
}

/// `app-a:17,app-b:4`.
fn places(text: &str) -> Result<BTreeMap<String, u64>, Refusal> {
    let wrong =
        |it: &str| Refusal::Body(format!("after is {}: expected `next` of an earlier answer", shown(it)));
    let place = |it: &str| {
        let (server, number) = it.rsplit_once(':').ok_or_else(|| wrong(it))?;
        Ok((server.to_owned(), number.parse().map_err(|_| wrong(it))?))
    };
    text.split(',').filter(|it| !it.is_empty()).take(PLACES_MAX).map(place).collect()
}

fn level(level: LogLevel) -> wire::LogLevel {
    match level {
        LogLevel::Trace => wire::LogLevel::Trace,
        LogLevel::Debug => wire::LogLevel::Debug,
        LogLevel::Info => wire::LogLevel::Info,
        LogLevel::Warn => wire::LogLevel::Warn,
        LogLevel::Error => wire::LogLevel::Error,
    }
}

fn level_name(level: wire::LogLevel) -> &'static str {
    match level {
        wire::LogLevel::Trace => "trace",
        wire::LogLevel::Debug => "debug",
        wire::LogLevel::Info | wire::LogLevel::Unspecified => "info",
        wire::LogLevel::Warn => "warn",
        wire::LogLevel::Error => "error",
    }
}

impl LogsRecord {
    /// Of what servers said.
    pub(crate) fn of(answers: Answers<LogTail>, query: &LogQuery) -> Self {
        let Answers { said, silent, .. } = answers;
        let mut next = query.after.clone();
        next.extend(said.iter().map(|(server, tail)| (server.clone(), tail.last)));
        let mut lines = Vec::new();
        for (place, (_, tail)) in said.iter().enumerate() {
            let same = |(_, it): &&(String, LogTail)| it.first == tail.first;
            if said[..place].iter().any(|it| same(&it)) {
                continue;
            }
            let servers: Vec<String> = said.iter().filter(same).map(|(server, _)| server.clone()).collect();
            let servers: Rc<[String]> = servers.into();
            lines.extend(tail.lines.iter().map(|line| (line.time_ms, line.sequence, servers.clone(), line)));
        }
        lines.sort_by_key(|(time_ms, sequence, ..)| (*time_ms, *sequence));
        if query.after.is_empty() {
            lines.drain(..lines.len().saturating_sub(query.limit as usize));
        }
        let lines = lines.into_iter().map(|(.., servers, line)| LineRecord {
            time: timestamp::format(line.time_ms),
            servers: servers.to_vec(),
            level: level_name(line.level()),
            app: Some(line.app.clone()).filter(|it| !it.is_empty()),
            target: line.target.clone(),
            text: line.text.clone(),
        });
        let next: Vec<_> = next.iter().map(|(server, number)| format!("{server}:{number}")).collect();
        Self { lines: lines.collect(), next: next.join(","), silent }
    }
}

impl Inner {
    /// The lines that are asked for, of all servers.
    pub(crate) async fn logs(&self, config: &Config, query: &LogQuery) -> LogsRecord {
        let mut servers = self.collector.channels(config).await;
        servers.retain(|(id, _)| query.server.is_empty() || *id == query.server);
        let count = servers.len();
        let answers = ask_all(servers, |server, channel| {
            let question = query.question(&server, count);
            async move { LogsClient::new(channel).tail(question).await }
        });
        LogsRecord::of(answers.await, query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::logs::v1::LogLine;

    fn tail(first: u64, lines: &[(u64, u64, &str)]) -> LogTail {
        let line = |&(sequence, time_ms, text): &(u64, u64, &str)| LogLine {
            sequence,
            time_ms,
            level: wire::LogLevel::Warn.into(),
            target: "triad".into(),
            app: String::new(),
            text: text.into(),
        };
        LogTail { lines: lines.iter().map(line).collect(), first, last: first + 9 }
    }

    fn merged(said: Vec<(&str, LogTail)>, query: &str) -> LogsRecord {
        let said = said.into_iter().map(|(server, tail)| (server.to_owned(), tail)).collect();
        LogsRecord::of(Answers { said, silent: Vec::new(), invalid: None }, &LogQuery::read(query).unwrap())
    }

    #[test]
    fn lines_of_servers_are_merged_by_time_and_those_of_one_process_are_told_once() {
        let a = tail(10, &[(10, 1000, "one"), (11, 3000, "three"), (12, 3000, "four")]);
        let b = tail(20, &[(20, 2000, "two")]);
        let record = merged(vec![("app-a", a.clone()), ("app-b", b), ("app-c", a)], "");
        let texts: Vec<_> = record.lines.iter().map(|it| (it.text.as_str(), it.servers.join(" "))).collect();
        let both = "app-a app-c".to_owned();
        assert_eq!(
            texts,
            [("one", both.clone()), ("two", "app-b".into()), ("three", both.clone()), ("four", both)]
        );
        assert_eq!(record.next, "app-a:19,app-b:29,app-c:19");
        assert_eq!(record.lines[0].time.as_deref(), Some("1970-01-01T00:00:01.000Z"));
    }

    #[test]
    fn who_goes_on_asks_each_server_for_what_is_after_its_last_line() {
        let query = LogQuery::read("after=app-a%3A19,app-b:29&limit=100&level=warn&text=+disk+").unwrap();
        let question = query.question("app-b", 3);
        assert_eq!((question.after, question.lines_max, question.text.as_str()), (29, 33, "disk"));
        assert_eq!(question.least(), wire::LogLevel::Warn);
        assert_eq!(query.question("app-c", 3).after, 0);
        // One that is silent now is asked for the same again.
        let record = merged(vec![("app-a", tail(50, &[]))], "after=app-a:19,app-b:29");
        assert_eq!(record.next, "app-a:59,app-b:29");
        let many = tail(1, &[(1, 1, "a"), (2, 2, "b"), (3, 3, "c")]);
        assert_eq!(merged(vec![("a", many)], "limit=2").lines.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_was_expected() {
        for (query, words) in [
            ("level=loud", "level is \"loud\": expected one of trace, debug, info, warn, error"),
            ("limit=0", "limit is \"0\": expected 1 to 1000"),
            ("limit=many", "limit is \"many\": expected 1 to 1000"),
            ("after=x", "after is \"x\": expected `next` of an earlier answer"),
            ("after=a:b", "after is \"a:b\": expected `next` of an earlier answer"),
        ] {
            assert_eq!(LogQuery::read(query).unwrap_err().to_string(), words);
        }
        let long = LogQuery::read(&format!("text={}", "x".repeat(10_000))).unwrap();
        assert_eq!(long.text.len(), WORDS_MAX);
    }
}
