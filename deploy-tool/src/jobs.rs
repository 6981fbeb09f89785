//! `job …`: the jobs of apps.

use crate::{
    cli::JobCommand,
    client, say,
    table::{self, millis},
    target::Target,
    tell,
};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// `GET /api/v1/jobs`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct Jobs {
    jobs: Vec<Job>,
    unknown: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Job {
    name: String,
    app: String,
    queue: Option<String>,
    times: String,
    paused: bool,
    next: Option<String>,
    last: Option<String>,
    took_ms: Option<u64>,
    fired: u64,
    overlapped: u64,
    missed_times: u64,
}

#[derive(Debug, Deserialize)]
struct Done {
    runs: bool,
}

/// Does what is asked; false if the hub has not said what it has.
///
/// # Errors
/// It could not be had, or was refused.
pub(crate) async fn run(target: &Target, command: &JobCommand, json: bool) -> anyhow::Result<bool> {
    match command {
        JobCommand::List => list(target, json).await,
        JobCommand::Run { job } => act(target, job, "run", json).await,
        JobCommand::Pause { job } => act(target, job, "pause", json).await,
        JobCommand::Resume { job } => act(target, job, "resume", json).await,
        JobCommand::Remove { job } => act(target, job, "remove", json).await,
    }
}

async fn list(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/jobs", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let jobs: Jobs = answer.read()?;
    if let Some(why) = &jobs.unknown {
        tell(&format!("note: what the hub has is unknown: {why}"));
        return Ok(false);
    }
    let heading = ["JOB", "TIMES", "NEXT", "LAST", "TOOK", "RUN", "OVERLAPPED", "MISSED", "CALLS", "APP"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let time = |it: Option<&String>| it.map_or_else(|| "-".to_owned(), |it| table::seconds(it));
    rows.extend(jobs.jobs.iter().map(|it| {
        let next = if it.paused { "paused".to_owned() } else { time(it.next.as_ref()) };
        let [fired, overlapped, missed] = [it.fired, it.overlapped, it.missed_times].map(|it| it.to_string());
        let calls = it.queue.as_ref().map_or_else(|| "its app".to_owned(), |queue| format!("queue {queue}"));
        let last = time(it.last.as_ref());
        let took = millis(it.took_ms.map(|it| it as f64));
        let numbers = [fired, overlapped, missed];
        [
            vec![it.name.clone(), it.times.clone(), next, last, took],
            numbers.to_vec(),
            vec![calls, it.app.clone()],
        ]
        .concat()
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

async fn act(target: &Target, job: &str, verb: &str, json: bool) -> anyhow::Result<bool> {
    let name = utf8_percent_encode(job, NON_ALPHANUMERIC).to_string().replace("%2D", "-");
    let path = format!("/api/v1/jobs/{name}/{verb}");
    let answer = client::ask(target, Method::POST, &path, client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let Done { runs } = answer.read()?;
    say(&match (verb, runs) {
        ("run", true) => format!("{job} runs already"),
        ("run", false) => format!("{job} runs"),
        ("pause", _) => format!("{job} is paused"),
        ("remove", _) => format!("{job} is removed"),
        _ => format!("{job} is due as it says"),
    });
    Ok(true)
}
