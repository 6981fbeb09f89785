//! Pipelines: `POST /v1/pipelines/{pipeline}` begins a run, `GET …/runs/{id}` tells what has come of it.

use super::{
    LocalApi,
    answer::{Problem, json_body},
    input::{self, Query},
    queues::{WAIT, content, described_queue, message_of, queues},
    route::not_allowed,
};
use crate::{
    queue::{Queues, first_queue_of, step_of},
    registry::Running,
};
use common::service_name::ServiceName;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use proto::hub::v1::{DeliveryDone, Fence, QueueMessage, RunPart, message_reply, run_end};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::body::Body;

/// A run that an answer is about.
const RUN: HeaderName = HeaderName::from_static("x-copal-run");

/// `GET` tells of its steps, `POST` begins a run.
pub(super) async fn of_name(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let name = input::name("pipeline", name)?;
    match *request.method() {
        Method::GET => {
            Query::of(request.uri().query(), &[])?;
            steps(queues(api)?, name.as_str()).await
        }
        Method::POST => {
            let query = Query::of(request.uri().query(), &["wait", "step"])?;
            let wait = query.duration("wait", &WAIT)?.filter(|it| !it.is_zero());
            let (step, fence) = (query.text("step"), input::fence(request.headers())?);
            let begin = Begin { step, message: message_of(request).await?, wait, fence };
            let begun = begun(api, caller, &name, begin).await?;
            match begun.end {
                Some(end) => ended(begun.run, end),
                None if wait.is_some() && begun.is_new => {
                    Err(late(queues(api)?, name.as_str(), begun.run).await)
                }
                // What was begun before has one reply, and it is asked for by its number.
                None => Ok(going_on(name.as_str(), begun.run, begun.is_new)),
            }
        }
        _ => Ok(not_allowed("GET, POST", request.method())),
    }
}

/// A run that is about to begin.
#[derive(Debug)]
pub(super) struct Begin<'a> {
    /// At the first step without.
    pub(super) step: Option<&'a str>,
    pub(super) message: QueueMessage,
    pub(super) wait: Option<Duration>,
    pub(super) fence: Option<Fence>,
}

/// One that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) run: u64,
    /// It was not begun before, by its key.
    pub(super) is_new: bool,
    /// If it was waited for, and has ended.
    pub(super) end: Option<run_end::End>,
}

/// Begins a run, and waits for its end if it is told to.
pub(super) async fn begun(
    api: &LocalApi,
    caller: &Running,
    name: &ServiceName,
    Begin { step, message, wait, fence }: Begin<'_>,
) -> Result<Begun, Problem> {
    let queues = queues(api)?;
    let queue = match step {
        Some(step) => queue_of(queues, name.as_str(), step)?,
        None => String::new(),
    };
    if message.ttl_ms > 0 || !message.group.is_empty() || !message.unique.is_empty() {
        let text = "a run has no ttl, group or unique key (X-Copal-Ttl, X-Copal-Group, X-Copal-Unique)";
        return Err(Problem::bad(text));
    }
    let message = QueueMessage { queue, app: caller.app.sessions.app().to_owned(), ..message };
    let (came, reply) = queues.begin_run(name.as_str(), message, fence, wait).await?;
    let (run, is_new) = (came.ids.first().copied().unwrap_or_default(), came.repeated.is_empty());
    Ok(Begun { run, is_new, end: reply.and_then(|it| it.outcome).map(of_reply) })
}

/// The queue of a step that is named: its pipeline has to be known here.
fn queue_of(queues: &Queues, pipeline: &str, step: &str) -> Result<String, Problem> {
    let Some(known) = queues.pipeline(pipeline) else {
        let text =
            format!("step: no app of this server declares the pipeline {pipeline:?}: expected no step");
        return Err(Problem::bad(text));
    };
    known.pipeline().queue_of_name(step).map_err(|why| Problem::bad(format!("step: {why}")))
}

/// What is there of a pipeline: the queues of its steps.
async fn steps(queues: &Queues, name: &str) -> Result<Response<Body>, Problem> {
    let described = queues.describe().await?;
    let steps = described.queues.iter().filter_map(|it| {
        let (_, step) = step_of(&it.name).filter(|(pipeline, _)| *pipeline == name)?;
        Some(json!({"step": step, "queue": described_queue(it)}))
    });
    let steps: Vec<Value> = steps.collect();
    Ok(json_body(StatusCode::OK, &json!({"name": name, "steps": steps})))
}

/// `GET …/runs/{id}`.
pub(super) async fn of_run(
    api: &LocalApi,
    (name, run): (&str, &str),
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let name = input::name("pipeline", name)?;
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let run: u64 = run.parse().map_err(|_| unknown())?;
    match found(api, &name, run).await? {
        Some(end) => ended(run, end),
        None => Ok(going_on(name.as_str(), run, true)),
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no such run of this pipeline, or what has come of it is kept no longer")
}

/// What has come of a run; `None`: it goes on.
pub(super) async fn found(
    api: &LocalApi,
    name: &ServiceName,
    run: u64,
) -> Result<Option<run_end::End>, Problem> {
    let described = queues(api)?.run(name.as_str(), run).await?;
    if described.unknown {
        return Err(unknown());
    }
    Ok(described.end.and_then(|it| it.end))
}

fn of_reply(outcome: message_reply::Outcome) -> run_end::End {
    let part = |DeliveryDone { body, content_type }| RunPart { body, content_type };
    match outcome {
        message_reply::Outcome::Done(done) => run_end::End::Done(part(done)),
        message_reply::Outcome::Halted(done) => run_end::End::Halted(part(done)),
        message_reply::Outcome::Failed(why) => run_end::End::Failed(why),
    }
}

/// What has come of a run.
fn ended(run: u64, end: run_end::End) -> Result<Response<Body>, Problem> {
    match end {
        run_end::End::Done(it) => Ok(of_run_with(run, content(StatusCode::OK, it.body, &it.content_type))),
        run_end::End::Halted(it) => {
            Ok(of_run_with(run, content(StatusCode::GONE, it.body, &it.content_type)))
        }
        run_end::End::Failed(why) => {
            let problem =
                Problem::new(StatusCode::BAD_GATEWAY, "failed", format!("the run has failed: {why}"));
            Err(problem.with("id", run.to_string()))
        }
    }
}

/// A run that has not ended while it was waited for; nobody may know its pipeline.
async fn late(queues: &Queues, name: &str, run: u64) -> Problem {
    let first = first_queue_of(name);
    let described = queues.describe().await.map(|it| it.queues).unwrap_or_default();
    let is_handled = described.iter().any(|it| it.name == first && !it.consumers.is_empty());
    let text = match is_handled || queues.pipeline(name).is_some() {
        true => "the run has not ended in this time: it goes on",
        false => "the run has not begun: no app that runs declares this pipeline, or all that do are away",
    };
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "late", text).with("id", run.to_string())
}

/// A run that goes on: where it can be looked at.
fn going_on(name: &str, run: u64, is_new: bool) -> Response<Body> {
    let mut told = json!({"id": run.to_string()});
    if !is_new && let Some(map) = told.as_object_mut() {
        map.insert("repeated".to_owned(), true.into());
    }
    let mut response = of_run_with(run, json_body(StatusCode::ACCEPTED, &told));
    if let Ok(place) = HeaderValue::try_from(format!("/v1/pipelines/{name}/runs/{run}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

fn of_run_with(run: u64, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(RUN, HeaderValue::from(run));
    response
}
