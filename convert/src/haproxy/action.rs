//! `http-request`, `http-response` and `redirect`: what is done with a request before a backend gets it.

use super::{
    condition::Condition,
    format::translated,
    parse::{Line as Words, Section},
    reasons, tcp,
};
use crate::{
    backends,
    header::{self, Side},
    left::Remarks,
    output::{Entries, Line, Rule},
    yaml::Yaml,
};
use std::collections::HashSet;

/// Of `http-request`: what only watches, so that a request goes its way without it.
const WATCHES: [&str; 9] = [
    "track-sc0",
    "track-sc1",
    "track-sc2",
    "set-var",
    "unset-var",
    "capture",
    "set-log-level",
    "set-nice",
    "sc-inc-gpc0",
];

/// The rules of a section where `around` holds.
pub(super) fn rules(section: &Section, around: &Condition, remarks: &mut Remarks) -> Vec<Line> {
    let mut lines = Vec::new();
    let of = |word: &str| section.lines_of(&[word]);
    // Connections are looked at before requests, and headers of answers wherever they stand.
    let connections = connections(section);
    let ordered = of("http-response").into_iter().chain(connections);
    let ordered = ordered.chain(of("http-request")).chain(of("redirect"));
    for line in ordered {
        let action = action(line);
        let (condition, why) = match Condition::of(line, section) {
            Ok(condition) => (condition, None),
            Err((why, wider)) => (wider, Some(why)),
        };
        let whole = around.and(&condition);
        let why = why.or_else(|| {
            whole.is_none().then(|| "two expressions about the path would have to be found in it".to_owned())
        });
        let condition = whole.unwrap_or_else(|| around.clone());
        match (action, why) {
            (Ok(action), None) => {
                let written = condition.rules(action.kind, &action.further, action.whole);
                lines.extend(written.into_iter().map(Line::Rule));
            }
            (Ok(action), Some(why)) => {
                lines.push(Line::Remark(remarks.leave(
                    &line.place,
                    &line.name(),
                    format!("its condition can't be said: {why}"),
                )));
                if action.refuses {
                    refuse(&mut lines, &condition, &line.name());
                }
            }
            (Err(Left::Nothing), _) => {}
            (Err(Left::Why(why)), _) => {
                lines.push(Line::Remark(remarks.leave(&line.place, &line.name(), why)));
            }
            (Err(Left::Closed(why)), _) => {
                lines.push(Line::Remark(remarks.leave(&line.place, &line.name(), why)));
                refuse(&mut lines, &condition, &line.name());
            }
        }
    }
    lines
}

/// `tcp-request`. Where nobody is rejected, nobody has to be accepted.
fn connections(section: &Section) -> Vec<&Words> {
    let all = || section.all_of("tcp-request").filter(|it| it.word(1) != "inspect-delay");
    let refuses = |it: &&Words| it.word(2) != "accept" && !tcp::watches(it.word(2));
    let stages: HashSet<&str> = all().filter(refuses).map(|it| it.word(1)).collect();
    all().filter(|it| it.word(2) != "accept" || stages.contains(it.word(1))).collect()
}

/// What can't be translated and must not be open.
pub(super) fn refuse(lines: &mut Vec<Line>, condition: &Condition, what: &str) {
    let refusal = Rule::refusal(None, what);
    lines.extend(condition.rules(refusal.kind, &refusal.further, false).into_iter().map(Line::Rule));
}

struct Action {
    kind: &'static str,
    further: Entries,
    /// Whether its target takes the place of the whole path.
    whole: bool,
    /// Whether requests are let through without it that it would have stopped.
    refuses: bool,
}

/// Why there is no rule.
enum Left {
    /// It is done anyway.
    Nothing,
    Why(String),
    /// The same, and what it is about is closed.
    Closed(String),
}

fn plain(kind: &'static str, further: Entries, refuses: bool) -> Result<Action, Left> {
    Ok(Action { kind, further, whole: false, refuses })
}

fn action(line: &Words) -> Result<Action, Left> {
    match (line.word(0), line.word(1)) {
        ("redirect", _) | ("http-request", "redirect") => redirect(line),
        ("http-request", "deny") => {
            let code = line.after("deny_status").or(line.after("status"));
            deny(code)
        }
        ("http-request", "return") => match line.after("status").filter(|it| it.starts_with(['4', '5'])) {
            Some(code) => deny(Some(code)),
            None => Err(Left::Closed(
                "no rule answers with a text of its own: let a file or an app do it".to_owned(),
            )),
        },
        ("http-request", "set-header" | "add-header") => of_header(line, "set-request-header"),
        ("http-response", "set-header") => of_header(line, "set-header"),
        ("http-response", "add-header") => of_header(line, "add-header"),
        ("http-request", "del-header") => named(line.word(2), "set-request-header", String::new()),
        ("http-response", "del-header") => named(line.word(2), "set-header", String::new()),
        ("http-request", "auth") => {
            Err(Left::Closed("write `basic-auth` with the users' hashes, Argon2id or bcrypt".to_owned()))
        }
        (
            "http-request",
            "set-path" | "replace-path" | "set-uri" | "replace-uri" | "set-query" | "replace-pathq"
            | "set-pathq",
        ) => Err(Left::Closed(
            "the path is not changed for one backend: `forward` begins the rules again with another"
                .to_owned(),
        )),
        ("http-request", "tarpit" | "reject" | "silent-drop") => {
            Err(Left::Closed("`forbidden` answers instead of that".to_owned()))
        }
        ("http-request", "allow") => {
            Err(Left::Closed("no rule ends the refusals: write `if` with what they are not for".to_owned()))
        }
        ("http-request", other) if WATCHES.iter().any(|it| other.starts_with(it)) => Err(Left::Why(
            "there are no variables: `rate-limit` and `connection-limit` count requests by themselves"
                .to_owned(),
        )),
        ("http-request", _) => Err(Left::Closed("there is no such rule".to_owned())),
        // Each request is refused in place of the connection.
        ("tcp-request", _) => match line.word(2) {
            "reject" | "silent-drop" | "tarpit" => plain("forbidden", Vec::new(), true),
            "accept" => Err(Left::Closed(
                "no rule ends the refusals: write `if` with what they are not for".to_owned(),
            )),
            other if tcp::watches(other) => Err(Left::Why(
                "there are no variables: `rate-limit` and `connection-limit` count requests by themselves"
                    .to_owned(),
            )),
            _ => Err(Left::Closed("there is no such rule".to_owned())),
        },
        (_, _) => {
            Err(Left::Why(reasons::why("http-response action").unwrap_or("there is no such rule").to_owned()))
        }
    }
}

fn deny(code: Option<&str>) -> Result<Action, Left> {
    match code {
        None | Some("403") => plain("forbidden", Vec::new(), true),
        Some("404") => plain("not-found", Vec::new(), true),
        Some(code) if code.parse::<u16>().is_ok_and(|it| (400..=599).contains(&it)) => {
            plain("send-error", vec![("code", Yaml::plain(code))], true)
        }
        Some(_) => Err(Left::Closed("the status of a refusal is from 400 to 599".to_owned())),
    }
}

fn of_header(line: &Words, kind: &'static str) -> Result<Action, Left> {
    let (name, value) = (line.word(2), line.word(3));
    if kind == "set-request-header" && header::is_sent_anyway(name) {
        return Err(Left::Nothing);
    }
    let value = translated(value).map_err(|it| Left::Why(format!("`{it}` has no counterpart in headers")))?;
    named(name, kind, value)
}

fn named(name: &str, kind: &'static str, value: String) -> Result<Action, Left> {
    let side = if kind == "set-request-header" { Side::Request } else { Side::Answer };
    header::checked(side, name, &value).map_err(Left::Why)?;
    if value.is_empty() && kind == "add-header" {
        return Err(Left::Nothing);
    }
    plain(kind, vec![("name", Yaml::text(name)), ("value", Yaml::text(value))], false)
}

fn redirect(line: &Words) -> Result<Action, Left> {
    let code = line.after("code").unwrap_or("302");
    let Some(kind) = backends::redirect(code) else {
        return Err(Left::Closed("rules redirect with 301, 302, 307 and 308".to_owned()));
    };
    let drops = line.says("drop-query");
    let target = if let Some(scheme) = line.after("scheme") {
        format!("{scheme}://$host{}", if drops { "$path?" } else { "$request-uri" })
    } else if let Some(prefix) = line.after("prefix") {
        let prefix =
            translated(prefix).map_err(|it| Left::Closed(format!("`{it}` has no counterpart in targets")))?;
        format!("{}{}", prefix.trim_end_matches('/'), if drops { "$path?" } else { "$request-uri" })
    } else {
        let location = line.after("location").unwrap_or_default();
        let location = translated(location)
            .map_err(|it| Left::Closed(format!("`{it}` has no counterpart in targets")))?;
        if location.contains("$request-uri") || location.contains("$query") {
            location
        } else {
            format!("{location}?")
        }
    };
    let known = ["http://", "https://", "/", "$request-uri"].iter().any(|it| target.starts_with(it));
    if !known {
        return Err(Left::Closed("its target is no URL and no path".to_owned()));
    }
    Ok(Action { kind, further: vec![("target", Yaml::text(target))], whole: true, refuses: true })
}
