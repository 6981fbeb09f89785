//! `queue …`: the queues of apps.

use crate::{
    cli::QueueCommand,
    client,
    progress::size,
    say,
    table::{self, millis, or_dash, shown},
    target::Target,
    tell,
};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

/// `GET /api/v1/queues`, as far as tables need it.
#[derive(Debug, Deserialize)]
struct Queues {
    bytes: Option<u64>,
    capacity_bytes: Option<u64>,
    queues: Vec<Queue>,
    unknown: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    paused: bool,
    ready: u64,
    delayed: u64,
    assigned: u64,
    waiting: u64,
    dead: u64,
    bytes: u64,
    oldest_ms: Option<u64>,
    settled: u64,
    published_per_s: Option<f64>,
    settled_per_s: Option<f64>,
    took_ms: Option<f64>,
    consumers: Vec<Consumer>,
}

#[derive(Debug, Deserialize)]
struct Consumer {
    server: String,
    window: u32,
}

#[derive(Debug, Deserialize)]
struct Messages {
    messages: Vec<Message>,
}

#[derive(Debug, Deserialize)]
struct Message {
    id: String,
    attempts: u32,
    group: String,
    bytes: u64,
    text: Option<String>,
    server: String,
    why: String,
}

#[derive(Debug, Deserialize)]
struct Done {
    count: u64,
}

/// Does what is asked; false if the hub has not said what it has.
///
/// # Errors
/// It could not be had, or was refused.
pub(crate) async fn run(target: &Target, command: &QueueCommand, json: bool) -> anyhow::Result<bool> {
    let none = client::Body::none;
    match command {
        QueueCommand::List => list(target, json).await,
        QueueCommand::Messages { queue, which, limit, after } => {
            let which = utf8_percent_encode(which, NON_ALPHANUMERIC);
            let query = format!("messages?which={which}&limit={limit}&after={after}");
            messages(target, &path(queue, &query), json).await
        }
        QueueCommand::Pause { queue } => act(target, queue, "pause", none(), json).await,
        QueueCommand::Resume { queue } => act(target, queue, "resume", none(), json).await,
        QueueCommand::Purge { queue, dead } => {
            act(target, queue, "purge", client::Body::json(&json!({"dead": dead}))?, json).await
        }
        QueueCommand::Replay { queue, ids } => {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            act(target, queue, "replay", client::Body::json(&json!({"ids": ids}))?, json).await
        }
    }
}

fn path(queue: &str, rest: &str) -> String {
    format!(
        "/api/v1/queues/{}/{rest}",
        utf8_percent_encode(queue, NON_ALPHANUMERIC).to_string().replace("%2D", "-")
    )
}

async fn list(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/queues", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let queues: Queues = answer.read()?;
    if let Some(why) = &queues.unknown {
        tell(&format!("note: what the hub has is unknown: {why}"));
        return Ok(false);
    }
    let heading = [
        "QUEUE",
        "READY",
        "DELAYED",
        "ASSIGNED",
        "WAITING",
        "DEAD",
        "SETTLED",
        "IN/S",
        "OUT/S",
        "TOOK",
        "OLDEST",
        "MEMORY",
        "CONSUMERS",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(queues.queues.iter().map(|it| {
        let counts =
            [it.ready, it.delayed, it.assigned, it.waiting, it.dead, it.settled].map(|it| it.to_string());
        let oldest = it.oldest_ms.map_or_else(|| "-".to_owned(), |ms| age(ms / 1000));
        let consumers = it.consumers.iter().filter(|it| it.window > 0);
        let consumers: Vec<String> = consumers.map(|it| format!("{} ({})", it.server, it.window)).collect();
        let consumers = match (it.paused, consumers.is_empty()) {
            (true, _) => "paused".to_owned(),
            (false, true) => "-".to_owned(),
            (false, false) => consumers.join(", "),
        };
        let [published, settled] = [it.published_per_s, it.settled_per_s].map(per_second);
        let took = millis(it.took_ms);
        let rest = vec![published, settled, took, oldest, size(it.bytes), consumers];
        [vec![it.name.clone()], counts.to_vec(), rest].concat()
    }));
    if let (Some(bytes), Some(capacity)) = (queues.bytes, queues.capacity_bytes) {
        let mut all = vec![String::new(); rows[0].len()];
        all[0] = "(all)".to_owned();
        all[11] = format!("{} of {}", size(bytes), size(capacity));
        rows.push(all);
    }
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

/// A rate, or that it is not known.
fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"))
}

/// An age in words, of one unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

async fn messages(target: &Target, path: &str, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, path, client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let mut rows = vec![["ID", "ATTEMPTS", "GROUP", "SIZE", "AT", "BODY", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(answer.read::<Messages>()?.messages.iter().map(|it| {
        let body = it.text.as_deref().map_or_else(|| "(no text)".to_owned(), shown);
        vec![
            it.id.clone(),
            it.attempts.to_string(),
            or_dash(shown(&it.group)),
            size(it.bytes),
            or_dash(it.server.clone()),
            or_dash(body),
            or_dash(shown(&it.why)),
        ]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

async fn act(
    target: &Target,
    queue: &str,
    verb: &str,
    body: client::Body,
    json: bool,
) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::POST, &path(queue, verb), body).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let Done { count } = answer.read()?;
    let messages = if count == 1 { "message" } else { "messages" };
    say(&match verb {
        "pause" => format!("{queue} is paused: what someone has goes on"),
        "resume" => format!("{queue} hands out messages"),
        "purge" => format!("{count} {messages} of {queue} dropped"),
        _ => format!("{count} {messages} of {queue} ready again"),
    });
    Ok(true)
}
