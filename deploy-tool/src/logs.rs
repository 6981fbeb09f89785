//! `logs`: the last log lines of all servers, as they have them in memory.

use crate::{cli::LogsArguments, client, complain, say, target::Target, tell};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::time::Duration;

/// Between two looks of `--follow`.
const PERIOD: Duration = Duration::from_secs(1);

/// `GET /api/v1/logs`.
#[derive(Debug, Deserialize)]
struct Logs {
    lines: Vec<Line>,
    next: String,
    silent: Vec<Silent>,
}

#[derive(Debug, Deserialize)]
struct Line {
    time: Option<String>,
    servers: Vec<String>,
    level: String,
    app: Option<String>,
    target: String,
    text: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Silent {
    server: String,
    why: String,
}

/// Prints them, the oldest first; with `--follow` for ever.
///
/// # Errors
/// The first look fails. Later ones that do are told, and it goes on.
pub(crate) async fn logs(target: &Target, arguments: &LogsArguments, json: bool) -> anyhow::Result<bool> {
    let mut path = path(arguments);
    let mut silent = Vec::new();
    let mut first = true;
    loop {
        match client::ask(target, Method::GET, &path, client::Body::none()).await {
            Ok(answer) => {
                let logs: Logs = answer.read()?;
                if json && (first || !logs.lines.is_empty()) {
                    say(answer.text().trim_end());
                } else if !json {
                    logs.lines.iter().for_each(|line| say(&shown(line)));
                }
                // Told when it changes.
                for it in logs.silent.iter().filter(|it| !silent.contains(*it)) {
                    tell(&format!("note: {} does not answer: {}", it.server, it.why));
                }
                silent = logs.silent;
                path = following(arguments, &logs.next);
            }
            Err(error) if first => return Err(error),
            Err(error) => complain(&error),
        }
        if !arguments.follow {
            return Ok(true);
        }
        first = false;
        tokio::time::sleep(PERIOD).await;
    }
}

fn path(arguments: &LogsArguments) -> String {
    let LogsArguments { server, app, level, text, lines, .. } = arguments;
    let mut path = format!("/api/v1/logs?limit={lines}");
    for (name, value) in [("server", server), ("app", app), ("level", level), ("text", text)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
    }
    path
}

/// What has come since. A burst is told whole, whatever number was asked for at first.
fn following(arguments: &LogsArguments, next: &str) -> String {
    let rest = path(arguments);
    let rest = rest.split_once('&').map_or(String::new(), |(_, rest)| format!("&{rest}"));
    format!("/api/v1/logs?limit=1000{rest}&after={}", utf8_percent_encode(next, NON_ALPHANUMERIC))
}

/// `2026-03-01T09:00:00.123Z app-a warn  the disk is full`. The servers have escaped control characters.
fn shown(line: &Line) -> String {
    let (servers, level) = (line.servers.join(","), &line.level);
    let what = match &line.app {
        Some(app) if line.target == "app" => format!("[{app}] {}", line.text),
        _ => format!("{}: {}", line.target, line.text),
    };
    let text = format!("{} {servers} {level:<5} {what}", line.time.as_deref().unwrap_or("-"));
    text.chars().filter(|it| !it.is_control() || *it == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_escaped_and_followed() {
        let arguments = LogsArguments {
            server: Some("app-a".into()),
            app: None,
            level: Some("warn".into()),
            text: Some("a&b c".into()),
            lines: 10,
            follow: true,
        };
        assert_eq!(path(&arguments), "/api/v1/logs?limit=10&server=app%2Da&level=warn&text=a%26b%20c");
        assert_eq!(
            following(&arguments, "app-a:7"),
            "/api/v1/logs?limit=1000&server=app%2Da&level=warn&text=a%26b%20c&after=app%2Da%3A7"
        );
    }

    #[test]
    fn a_line_says_when_where_and_what() {
        let line = |app: Option<&str>, target: &str| Line {
            time: Some("2026-03-01T09:00:00.123Z".into()),
            servers: vec!["app-a".into()],
            level: "warn".into(),
            app: app.map(str::to_owned),
            target: target.into(),
            text: "the disk\u{1b} is full".into(),
        };
        let own = shown(&line(None, "triad::log"));
        assert!(
            own.starts_with("2026-03-01T09:00:00.123Z app-a warn  triad::log: the disk")
                && !own.contains('\u{1b}')
        );
        assert!(shown(&line(Some("default/shop"), "app")).contains(" [default/shop] the disk"));
    }
}
