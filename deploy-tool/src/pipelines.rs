//! `pipeline …`: the pipelines of apps, and their runs.

use crate::{
    cli::PipelineCommand,
    client, say,
    table::{self, millis, or_dash, shown},
    target::Target,
    tell,
};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// `GET /api/v1/pipelines`, as far as a table needs it.
#[derive(Debug, Deserialize)]
struct Pipelines {
    pipelines: Vec<Pipeline>,
    unknown: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pipeline {
    name: String,
    going_on: u64,
    done: u64,
    halted: u64,
    failed: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    paused: bool,
    ready: u64,
    delayed: u64,
    assigned: u64,
    dead: u64,
}

/// `GET /api/v1/pipelines/{pipeline}/runs`.
#[derive(Debug, Deserialize)]
struct Runs {
    runs: Vec<Run>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Run {
    id: String,
    app: String,
    state: String,
    begun: Option<String>,
    ended: Option<String>,
    took_ms: Option<u64>,
    why: String,
    parts: u32,
    dead: u32,
}

#[derive(Debug, Deserialize)]
struct Done {
    over: bool,
}

/// Does what is asked; false if the hub has not said what it has.
///
/// # Errors
/// It could not be had, or was refused.
pub(crate) async fn run(target: &Target, command: &PipelineCommand, json: bool) -> anyhow::Result<bool> {
    match command {
        PipelineCommand::List => list(target, json).await,
        PipelineCommand::Runs { pipeline, which, limit, after } => {
            let which = utf8_percent_encode(which, NON_ALPHANUMERIC);
            let query = format!("?which={which}&limit={limit}&after={after}");
            runs(target, &path(pipeline, &query), json).await
        }
        PipelineCommand::End { pipeline, run } => end(target, pipeline, *run, json).await,
    }
}

fn path(pipeline: &str, rest: &str) -> String {
    let name = utf8_percent_encode(pipeline, NON_ALPHANUMERIC).to_string().replace("%2D", "-");
    format!("/api/v1/pipelines/{name}/runs{rest}")
}

async fn list(target: &Target, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, "/api/v1/pipelines", client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let told: Pipelines = answer.read()?;
    if let Some(why) = &told.unknown {
        tell(&format!("note: what the hub has is unknown: {why}"));
        return Ok(false);
    }
    let heading = ["PIPELINE", "GOING ON", "DONE", "HALTED", "FAILED", "STEPS: READY/DELAYED/ASSIGNED/DEAD"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(told.pipelines.iter().map(|it| {
        let steps = it.steps.iter().map(|it| {
            let Step { step, ready, delayed, assigned, dead, paused } = it;
            let paused = if *paused { " paused" } else { "" };
            format!("{step} {ready}/{delayed}/{assigned}/{dead}{paused}")
        });
        let [going_on, done, halted, failed] =
            [it.going_on, it.done, it.halted, it.failed].map(|it| it.to_string());
        let steps = or_dash(steps.collect::<Vec<_>>().join(", "));
        vec![it.name.clone(), going_on, done, halted, failed, steps]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    Ok(true)
}

async fn runs(target: &Target, path: &str, json: bool) -> anyhow::Result<bool> {
    let answer = client::ask(target, Method::GET, path, client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let told: Runs = answer.read()?;
    let heading = ["RUN", "STATE", "BEGUN", "ENDED", "TOOK", "PARTS", "DEAD", "APP", "WHY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let time = |it: Option<&String>| it.map_or_else(|| "-".to_owned(), |it| table::seconds(it));
    rows.extend(told.runs.iter().map(|it| {
        let [parts, dead] = [it.parts, it.dead].map(|it| it.to_string());
        let (begun, ended) = (time(it.begun.as_ref()), time(it.ended.as_ref()));
        let why = or_dash(shown(&it.why));
        let took = millis(it.took_ms.map(|it| it as f64));
        vec![it.id.clone(), it.state.clone(), begun, ended, took, parts, dead, it.app.clone(), why]
    }));
    table::lines(&rows).iter().for_each(|line| say(line));
    if let Some(next) = &told.next {
        tell(&format!("note: there may be more: --after {next}"));
    }
    Ok(true)
}

async fn end(target: &Target, pipeline: &str, run: u64, json: bool) -> anyhow::Result<bool> {
    let path = path(pipeline, &format!("/{run}/end"));
    let answer = client::ask(target, Method::POST, &path, client::Body::none()).await?;
    if json {
        say(answer.text());
        return Ok(true);
    }
    let Done { over } = answer.read()?;
    say(&if over {
        format!("run {run} of {pipeline} was over before")
    } else {
        format!("run {run} of {pipeline} has ended: what is left of it is dropped")
    });
    Ok(true)
}
