//! Jobs: `PUT /v1/jobs/{job}` has a message published at times; those that an app.yaml declares are seen here, too.

use super::{
    LocalApi,
    answer::{Problem, json_body, no_content},
    input::{self, Query},
    queues::queues,
    route::not_allowed,
};
use crate::{
    content::{BadJson, ObjectAt, millis},
    queue::of_json,
    registry::Running,
};
use common::{
    schedule::{EVERY_MIN, Schedule, Times},
    service_name::ServiceName,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use proto::hub::v1::{Fence, Job, JobSpec, Missed, QueueMessage};
use serde_json::{Value, json};
use std::{ops::RangeInclusive, time::Duration};
use tonic::body::Body;

/// The longest body of a job, in bytes: its message's, and more.
const BODY_MAX: usize = 300 << 10;
pub(super) const MESSAGE_MAX: usize = 256 << 10;

/// The bounds of intervals.
pub(super) const EVERY: RangeInclusive<Duration> = EVERY_MIN..=Duration::from_secs(366 * 24 * 3600);

/// The most times.
pub(super) const REPEAT: RangeInclusive<i64> = 1..=1_000_000_000;

/// All of them.
pub(super) async fn all(api: &LocalApi, request: &Request<Incoming>) -> Result<Response<Body>, Problem> {
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::GET {
        return Ok(not_allowed("GET", request.method()));
    }
    let listed = queues(api)?.jobs().await?;
    let list: Vec<Value> = listed.jobs.iter().map(told).collect();
    Ok(json_body(StatusCode::OK, &json!({"jobs": list})))
}

/// What is told of a job.
fn told(job: &Job) -> Value {
    let spec = job.spec.clone().unwrap_or_default();
    let time = |ms: u64| if ms == 0 { Value::Null } else { instant(ms).into() };
    let queue = spec.message.as_ref().map(|it| it.queue.clone());
    let missed = match spec.missed() {
        Missed::Once => "once",
        Missed::Skip => "skip",
        Missed::All => "all",
    };
    json!({
        "name": spec.name,
        "app": spec.app,
        "declared": spec.declared,
        "queue": queue,
        "cron": if spec.cron.is_empty() { Value::Null } else { spec.cron.into() },
        "timezone": if spec.timezone.is_empty() { Value::Null } else { spec.timezone.into() },
        "every-ms": if spec.every_ms == 0 { Value::Null } else { spec.every_ms.into() },
        "until": time(spec.until_ms),
        "missed": missed,
        "paused": job.paused,
        "next": time(job.next_ms),
        "last": time(job.last_ms),
        "fired": job.fired,
        "overlapped": job.overlapped,
        "missed-times": job.missed,
    })
}

/// A time as people read it (RFC 3339, UTC).
fn instant(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|it| Timestamp::from_millisecond(it).ok());
    time.map_or_else(|| ms.to_string(), |it| it.to_string())
}

/// One of them.
pub(super) async fn of_name(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let name = input::name("job", name)?;
    Query::of(request.uri().query(), &[])?;
    match *request.method() {
        Method::GET => Ok(json_body(StatusCode::OK, &told(&found(api, &name).await?))),
        Method::PUT => {
            let fence = input::fence(request.headers())?;
            let bytes = input::bytes(request.into_body(), BODY_MAX).await?;
            let value = serde_json::from_slice(&bytes);
            let value = value.map_err(|cause| Problem::bad(format!("the body is no JSON: {cause}")))?;
            let (job, is_new) = put(api, caller, &name, spec(&value)?, fence).await?;
            Ok(json_body(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &told(&job)))
        }
        Method::DELETE => {
            let fence = input::fence(request.headers())?;
            removed(api, caller, &name, fence).await?;
            Ok(no_content())
        }
        _ => Ok(not_allowed("GET, PUT, DELETE", request.method())),
    }
}

/// One of them.
pub(super) async fn found(api: &LocalApi, name: &ServiceName) -> Result<Job, Problem> {
    let listed = queues(api)?.jobs().await?;
    let is_it = |it: &Job| it.spec.as_ref().is_some_and(|it| it.name == name.as_str());
    listed.jobs.into_iter().find(is_it).ok_or_else(|| missing(name))
}

/// Makes one of the app that calls, or changes it; whether it is new.
pub(super) async fn put(
    api: &LocalApi,
    caller: &Running,
    name: &ServiceName,
    spec: JobSpec,
    fence: Option<Fence>,
) -> Result<(Job, bool), Problem> {
    let (name, app) = (name.as_str().to_owned(), caller.app.sessions.app().to_owned());
    let tag = &caller.app.duties.deployed_as().tag;
    Ok(queues(api)?.put_job(JobSpec { name, app, ..spec }, tag, fence).await?)
}

/// Ends one of the app that calls.
pub(super) async fn removed(
    api: &LocalApi,
    caller: &Running,
    name: &ServiceName,
    fence: Option<Fence>,
) -> Result<(), Problem> {
    let existed = queues(api)?.remove_job(name.as_str(), caller.app.sessions.app(), fence).await?;
    existed.then_some(()).ok_or_else(|| missing(name))
}

fn missing(name: &ServiceName) -> Problem {
    Problem::not_found(format!("there is no job {name} of this app"))
}

/// What a body says of a job.
fn spec(value: &Value) -> Result<JobSpec, BadJson> {
    const KEYS: [&str; 10] =
        ["cron", "timezone", "every", "at", "in", "until", "repeat", "missed", "queue", "message"];
    let object = ObjectAt::new("job", value, &KEYS)?;
    let text = |key: &str| object.text(key).map(|it| it.unwrap_or_default().to_owned());
    let bad = |text: String| BadJson::Bad(text);
    let time = |key: &str| -> Result<u64, BadJson> {
        let Some(text) = object.text(key)? else { return Ok(0) };
        let read = text.parse::<Timestamp>().ok().and_then(|it| u64::try_from(it.as_millisecond()).ok());
        read.ok_or_else(|| {
            let field = object.field(key);
            bad(format!("{field} is {text:?}: expected a time such as 2026-12-01T09:00:00+01:00"))
        })
    };
    let missed = match object.text("missed")? {
        None | Some("once") => Missed::Once,
        Some("skip") => Missed::Skip,
        Some("all") => Missed::All,
        Some(other) => return Err(bad(format!("job.missed is {other:?}: expected once, skip or all"))),
    };
    let queue = object
        .text("queue")?
        .ok_or_else(|| bad("job.queue is missing: what is published where".to_owned()))?;
    let queue = crate::queue::queue_name("job.queue", queue)?;
    let message = match object.get("message") {
        Some(message) => of_json("job.message", message, &[], MESSAGE_MAX)?,
        None => QueueMessage::default(),
    };
    let repeat = object.integer("repeat", &REPEAT)?.and_then(|it| u64::try_from(it).ok());
    checked(JobSpec {
        cron: text("cron")?,
        timezone: text("timezone")?,
        every_ms: object.duration("every", &EVERY)?.map_or(0, millis),
        at_ms: time("at")?,
        in_ms: object.duration("in", &EVERY)?.map_or(0, millis),
        until_ms: time("until")?,
        repeat: repeat.unwrap_or(0),
        missed: missed.into(),
        message: Some(QueueMessage { queue, ..message }),
        ..JobSpec::default()
    })
}

/// A job whose times make sense.
pub(super) fn checked(spec: JobSpec) -> Result<JobSpec, BadJson> {
    let JobSpec { cron, timezone, every_ms, at_ms, in_ms, .. } = &spec;
    let bad = |text: String| Err(BadJson::Bad(text));
    let times = match (cron.as_str(), *every_ms) {
        ("", 0) => Times::Once,
        ("", ms) => Times::Every(Duration::from_millis(ms)),
        (_, 0) => Times::Cron { expression: cron.clone(), timezone: timezone.clone() },
        _ => return bad("job has a cron and an every: expected one of them".to_owned()),
    };
    if let Err(cause) = Schedule::new(&times) {
        return bad(format!("job: {cause}"));
    }
    match (times, *at_ms, *in_ms) {
        (_, 1.., 1..) => bad("job has an at and an in: expected one of them".to_owned()),
        (Times::Once, 0, 0) => bad("job has none of cron, every, at and in".to_owned()),
        _ => Ok(spec),
    }
}

/// `POST …/run`: now, besides its times.
pub(super) async fn run(
    api: &LocalApi,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let name = input::name("job", name)?;
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let runs_already = run_now(api, &name, input::fence(request.headers())?).await?;
    Ok(json_body(StatusCode::ACCEPTED, &json!({"runs-already": runs_already})))
}

/// The same; whether it runs already.
pub(super) async fn run_now(
    api: &LocalApi,
    name: &ServiceName,
    fence: Option<Fence>,
) -> Result<bool, Problem> {
    let managed = queues(api)?.run_job(name.as_str(), fence).await?;
    if managed.unknown {
        return Err(Problem::not_found(format!("there is no job {name}")));
    }
    if managed.full {
        let text = "there is no room for its message";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", text).again(1));
    }
    Ok(managed.runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_when_and_what() {
        let read = spec(&json!({
            "cron": "30 2 * * *", "timezone": "Europe/Berlin", "until": "2026-12-01T09:00:00+01:00", "repeat": 3,
            "missed": "skip", "queue": "reports", "message": {"json": {"n": 1}, "priority": 9},
        }))
        .unwrap();
        assert_eq!((read.until_ms, read.repeat, read.missed()), (1_796_112_000_000, 3, Missed::Skip));
        let message = read.message.unwrap();
        assert_eq!(
            (message.queue.as_str(), message.priority, &message.body[..]),
            ("reports", Some(9), &b"{\"n\":1}"[..])
        );
        assert_eq!(spec(&json!({"in": "5s", "queue": "q"})).unwrap().in_ms, 5000);
        for (wrong, text) in [
            (json!({"queue": "q"}), "none of cron, every, at and in"),
            (json!({"every": "1s"}), "job.queue is missing"),
            (json!({"every": "1s", "cron": "* * * * *", "queue": "q"}), "expected one of them"),
            (json!({"every": "1ms", "queue": "q"}), "job.every is \"1ms\""),
            (json!({"cron": "x", "queue": "q"}), "\"x\" is no cron expression"),
            (json!({"cron": "* * * * *", "timezone": "Mars", "queue": "q"}), "\"Mars\" is no time zone"),
            (json!({"at": "soon", "queue": "q"}), "job.at is \"soon\""),
            (json!({"at": "2026-12-01T09:00:00Z", "in": "1s", "queue": "q"}), "an at and an in"),
            (json!({"in": "1s", "queue": "Q"}), "job.queue is \"Q\""),
            (json!({"in": "1s", "queue": "q", "message": {}}), "job.message has to have a value"),
            (json!({"in": "1s", "queue": "q", "missed": "no"}), "job.missed is \"no\""),
            (json!({"in": "1s", "queue": "q", "repeat": 0}), "job.repeat is 0"),
        ] {
            let found = spec(&wrong).unwrap_err().to_string();
            assert!(found.contains(text), "{wrong}: {found}");
        }
    }
}
