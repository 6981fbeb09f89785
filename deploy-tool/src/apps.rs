//! The verbs for apps that are deployed.

use crate::{
    clean,
    cli::RolloutArguments,
    client::{self, Body},
    rollout::{self, App, Began},
    say, table,
    target::Target,
    tell,
};
use anyhow::Context;
use base64ct::{Base64, Encoding};
use common::app_tag::{AppTag, DEFAULT_HOST, PRODUCTION};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{io::Write, time::Duration};

#[derive(Debug, Deserialize)]
struct List {
    apps: Vec<App>,
}

#[derive(Debug, Deserialize)]
struct Gone {
    commit: String,
}

#[derive(Debug, Deserialize)]
struct Log {
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    commit: String,
    user: String,
    time: Option<String>,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Diff {
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    path: String,
    change: String,
}

#[derive(Debug, Deserialize)]
struct Listing {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    mode: String,
    size: Option<u64>,
}

/// What begins a rollout of what the hub has already.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct How {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rolling: Option<bool>,
    pub(crate) timeout_s: u64,
}

impl How {
    /// As the command line says.
    pub(crate) fn of(arguments: &RolloutArguments) -> Self {
        Self {
            to: None,
            message: arguments.message.clone().unwrap_or_default(),
            // Otherwise as the verb has it: a restart is rolling.
            rolling: arguments.rolling.then_some(true),
            timeout_s: arguments.timeout.as_secs().max(1),
        }
    }
}

/// A whole tag, or `name[-version]` of the default host in production.
pub(crate) fn tag(text: &str) -> anyhow::Result<AppTag> {
    let whole = if text.contains('/') {
        text.to_owned()
    } else {
        format!("{PRODUCTION}/webapp/{DEFAULT_HOST}/{text}")
    };
    Ok(AppTag::parse(&whole)?)
}

/// The apps, and what each server has of them.
pub(crate) async fn list(target: &Target, regexp: Option<&str>, json: bool) -> anyhow::Result<bool> {
    let regexp = regexp.map(Regex::new).transpose().context("the regular expression")?;
    let answer = client::ask(target, Method::GET, "/api/v1/apps", Body::none()).await?;
    let meant = |tag: &str| regexp.as_ref().is_none_or(|regexp| regexp.is_match(tag));
    if json {
        let mut list: Value = answer.read()?;
        if let Some(apps) = list.get_mut("apps").and_then(Value::as_array_mut) {
            apps.retain(|app| app["tag"].as_str().is_some_and(meant));
        }
        say(&list.to_string());
        return Ok(true);
    }
    let list: List = answer.read()?;
    let apps = list.apps.iter().filter(|it| meant(&it.tag));
    let heading = ["APP", "VERSION", "SINCE", "BY", "SERVERS"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    let mut notes = Vec::new();
    for app in apps {
        let servers: Vec<_> = app
            .servers
            .iter()
            .map(|it| format!("{} {}", if it.same { '✓' } else { '✗' }, it.server))
            .collect();
        let since = app.since.as_deref().map_or("-", |it| it);
        let version =
            if app.stopped { format!("{} (stopped)", app.commit()) } else { app.commit().to_owned() };
        rows.push(vec![app.tag.clone(), version, table::seconds(since), app.user.clone(), servers.join(" ")]);
        let wrong = app.servers.iter().filter(|it| !it.same && it.state != "down" && !app.stopped);
        notes.extend(wrong.map(|it| {
            let text = it.text.lines().next().unwrap_or_default();
            format!(
                "note: {} on {} is {}{}{text}",
                app.tag,
                it.server,
                it.state,
                if text.is_empty() { "" } else { ": " }
            )
        }));
    }
    table::lines(&rows).iter().for_each(|line| say(line));
    notes.iter().for_each(|note| tell(note));
    Ok(true)
}

/// `restart`, `rollback` and `copy`, which begin a rollout.
pub(crate) async fn begin(
    target: &Target,
    app: &AppTag,
    verb: &str,
    how: How,
    json: bool,
) -> anyhow::Result<bool> {
    let path = format!("{}/{verb}", rollout::path(app));
    let timeout = Duration::from_secs(how.timeout_s);
    let answer = client::ask(target, Method::POST, &path, Body::json(&how)?).await?;
    let began: Began = answer.read()?;
    let tag = tag(&began.app.tag)?;
    let done =
        if began.changed { rollout::follow(target, &tag, began.app, timeout).await? } else { began.app };
    if json {
        say(&serde_json::to_string(&done.all)?);
        return Ok(true);
    }
    let (commit, url) = (done.commit(), done.url(target));
    say(&match (began.changed, verb) {
        (false, _) => done.unchanged(target),
        (true, "restart") => format!("Restarted {tag} ({commit}) at {url}"),
        (true, "rollback") => format!("Rolled back {tag} to {commit} at {url}"),
        (true, _) => format!("Copied {app} to {tag} ({commit}) at {url}"),
    });
    Ok(true)
}

/// `start` and `stop`.
pub(crate) async fn set_stopped(
    target: &Target,
    app: &AppTag,
    stopped: bool,
    json: bool,
) -> anyhow::Result<bool> {
    let path = format!("{}/{}", rollout::path(app), if stopped { "stop" } else { "start" });
    let answer = client::ask(target, Method::POST, &path, Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let word = if stopped { "stopped" } else { "started" };
    let before = if answer.read::<Began>()?.changed { "" } else { " already" };
    say(&format!("{app} is {word}{before}"));
    Ok(true)
}

pub(crate) async fn undeploy(target: &Target, app: &AppTag, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::DELETE, &rollout::path(app), Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let commit = answer.read::<Gone>()?.commit;
    say(&format!("Undeployed {app}; for two weeks this brings it back: deploy-tool rollback {app} {commit}"));
    Ok(true)
}

pub(crate) async fn log(target: &Target, app: &AppTag, json: bool) -> anyhow::Result<bool> {
    let answer =
        client::ask(target, Method::GET, &format!("{}/log", rollout::path(app)), Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let mut rows = vec![["COMMIT", "TIME", "AUTHOR", "MESSAGE"].map(str::to_owned).to_vec()];
    rows.extend(answer.read::<Log>()?.versions.into_iter().map(|it| {
        let message = it.message.lines().next().unwrap_or_default().to_owned();
        vec![
            it.commit.chars().take(10).collect(),
            table::seconds(it.time.as_deref().unwrap_or("-")),
            it.user,
            message,
        ]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

pub(crate) async fn diff(
    target: &Target,
    app: &AppTag,
    from: &str,
    to: &str,
    json: bool,
) -> anyhow::Result<bool> {
    let path = format!("{}/diff?from={}&to={}", rollout::path(app), encoded(from), encoded(to));
    let answer = client::ask(target, Method::GET, &path, Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    for it in answer.read::<Diff>()?.changes {
        let sign = match it.change.as_str() {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        say(&format!("{sign} {}", clean(&it.path)));
    }
    Ok(true)
}

pub(crate) async fn ls(target: &Target, app: &AppTag, path: &str, json: bool) -> anyhow::Result<bool> {
    let question = format!("{}/ls?path={}", rollout::path(app), encoded(path));
    let answer = client::ask(target, Method::GET, &question, Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let row = |it: Entry| {
        let size = it.size.map_or("-".to_owned(), |size| size.to_string());
        let folder = if it.mode.ends_with("40000") { "/" } else { "" };
        vec![it.mode, size, format!("{}{folder}", it.name)]
    };
    let rows: Vec<_> = answer.read::<Listing>()?.entries.into_iter().map(row).collect();
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

/// The file as it is, on standard output; as JSON its content is `text`, or `base64` if it is none.
pub(crate) async fn cat(target: &Target, app: &AppTag, path: &str, json: bool) -> anyhow::Result<bool> {
    let question = format!("{}/cat?path={}", rollout::path(app), encoded(path));
    let content = client::bytes(target, &question).await?;
    if json {
        let (field, shown) = match str::from_utf8(&content) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => ("base64", Base64::encode_string(&content)),
        };
        say(&serde_json::json!({ "path": path, "size": content.len(), field: shown }).to_string());
        return Ok(true);
    }
    std::io::stdout().write_all(&content).context("standard output")?;
    Ok(true)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
