//! `job.proto`'s service.

use super::{audit, input, queue};
use crate::{
    hub::Hub,
    serve::Caller,
    state::{
        Reply,
        job::{queue_of, shown},
    },
};
use common::schedule::{BadTimes, Schedule, Times};
use prost::Message;
use proto::hub::v1::{
    Command, DeclareJobs, Job, JobList, JobManaged, JobSpec, JobsDeclared, ListJobs, ManageJob, PutJob,
    QueueMessage, command, jobs_server::Jobs, manage_job::Action,
};
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status};

/// The longest expression, and name of a time zone, in bytes.
const CRON_MAX: usize = 256;
const TIMEZONE_MAX: usize = 64;

/// The longest tag, and id of a commit, in bytes; and the jobs that an app may declare.
const TAG_MAX: usize = 512;
const COMMIT_MAX: usize = 64;
const DECLARED_MAX: usize = 1000;

/// The longest interval: a year; and the latest time: the year 10000.
const EVERY_MAX_MS: u64 = 366 * 24 * 3600 * 1000;
const TIME_MAX_MS: u64 = 253_402_300_800_000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct JobService(pub(crate) Arc<Hub>);

fn unexpected() -> Status {
    Status::internal("the hub's state answered another question")
}

/// The jobs that are asked for, and how many there are to be found.
fn found<'a>(jobs: impl Iterator<Item = &'a Job>, list: &ListJobs) -> (Vec<&'a Job>, u64) {
    let is_it = |it: &JobSpec| it.name.contains(&list.find) || it.app.contains(&list.find);
    let from = usize::try_from(list.skip).unwrap_or(usize::MAX);
    let most = match list.limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let (mut found, mut total) = (Vec::new(), 0);
    for job in jobs.filter(|it| it.spec.as_ref().is_some_and(is_it)) {
        if total >= from && found.len() < most {
            found.push(job);
        }
        total += 1;
    }
    (found, total as u64)
}

/// When a job is due after its first time.
///
/// # Errors
/// Its times are none.
pub(crate) fn schedule_of(spec: &JobSpec) -> Result<Schedule, BadTimes> {
    Schedule::new(&match (spec.cron.as_str(), spec.every_ms) {
        ("", 0) => Times::Once,
        ("", ms) => Times::Every(Duration::from_millis(ms)),
        (cron, _) => Times::Cron { expression: cron.to_owned(), timezone: spec.timezone.clone() },
    })
}

/// When a job is due first that is made at `now_ms`; 0: never.
fn first_ms(spec: &JobSpec, schedule: &Schedule, now_ms: u64) -> u64 {
    let begins = match (spec.at_ms, spec.in_ms) {
        (0, 0) => None,
        (0, ms) => now_ms.checked_add(ms),
        (at_ms, _) => Some(at_ms),
    };
    let first = match begins {
        // Of an expression, its first time from then on.
        Some(begins) if !spec.cron.is_empty() => schedule.after(begins.max(now_ms).saturating_sub(1)),
        Some(begins) => Some(begins),
        None => schedule.after(now_ms),
    };
    first.filter(|it| spec.until_ms == 0 || *it <= spec.until_ms).unwrap_or(0)
}

fn check(field: &str, spec: &JobSpec) -> Result<Schedule, Status> {
    let of = |name: &str| format!("{field}.{name}");
    let bad = |text: String| Status::invalid_argument(format!("{field}: {text}"));
    input::service_name(&of("name"), &spec.name)?;
    input::app(&of("app"), &spec.app)?;
    input::text(&of("cron"), &spec.cron, CRON_MAX)?;
    input::text(&of("timezone"), &spec.timezone, TIMEZONE_MAX)?;
    if !spec.cron.is_empty() && spec.every_ms != 0 {
        return Err(bad("expected cron or every, not both".to_owned()));
    }
    if spec.at_ms != 0 && spec.in_ms != 0 {
        return Err(bad("expected at or in, not both".to_owned()));
    }
    if spec.cron.is_empty() && spec.every_ms == 0 && spec.at_ms == 0 && spec.in_ms == 0 {
        return Err(bad("expected cron, every, at or in".to_owned()));
    }
    if spec.every_ms > EVERY_MAX_MS
        || spec.in_ms > EVERY_MAX_MS
        || spec.at_ms.max(spec.until_ms) > TIME_MAX_MS
    {
        return Err(bad("expected times of a year at most, and before the year 10000".to_owned()));
    }
    match &spec.message {
        Some(message) if !spec.declared => {
            let message = QueueMessage { app: spec.app.clone(), ..message.clone() };
            queue::message(&of("message"), &message)?;
        }
        None if !spec.declared => return Err(bad("expected a message".to_owned())),
        None => {}
        Some(_) => return Err(bad("a declared job has no message".to_owned())),
    }
    schedule_of(spec).map_err(|cause| bad(cause.to_string()))
}

impl JobService {
    async fn propose(&self, command: command::Command, bytes: usize) -> Result<Reply, Status> {
        let replies = self.0.propose(vec![Command { command: Some(command) }], bytes).await?;
        replies.into_iter().next().ok_or_else(unexpected)
    }

    /// When a job is due next if its times until now are left out; 0: as before. One that comes once is late.
    fn resumes_ms(&self, name: &str) -> u64 {
        let (now_ms, job) = (self.0.time_ms(), self.0.node().view().read().state.jobs().get(name).cloned());
        let late = job.filter(|it| it.next_ms != 0 && it.next_ms <= now_ms);
        let next = late.and_then(|it| schedule_of(it.spec.as_ref()?).ok()?.next(it.next_ms, now_ms));
        next.unwrap_or_default()
    }
}

/// What an app writes of a job, with the time at which it is due first, or why it makes no sense: others' writes come with it, and are not refused.
pub(super) fn complete_put(put: &mut PutJob, now_ms: u64) {
    put.refused.clear();
    match first_of_put(put, now_ms) {
        Ok(next_ms) => put.next_ms = next_ms,
        Err(status) => put.refused = status.message().to_owned(),
    }
}

fn first_of_put(put: &PutJob, now_ms: u64) -> Result<u64, Status> {
    let spec = put.spec.as_ref().ok_or_else(|| Status::invalid_argument("spec is missing"))?;
    let schedule = check("spec", spec)?;
    if spec.declared {
        return Err(Status::invalid_argument("spec: a declared job comes with those of its app"));
    }
    input::text("tag", &put.tag, TAG_MAX)?;
    match first_ms(spec, &schedule, now_ms) {
        0 => Err(Status::invalid_argument("none of the job's times is to come: expected one, before until")),
        next_ms => Ok(next_ms),
    }
}

#[tonic::async_trait]
impl Jobs for JobService {
    async fn declare(&self, request: Request<DeclareJobs>) -> Result<Response<JobsDeclared>, Status> {
        let mut call = request.into_inner();
        let DeclareJobs { app, jobs, tag, commit, .. } = &call;
        input::app("app", app)?;
        input::text("tag", tag, TAG_MAX)?;
        if commit.len() > COMMIT_MAX {
            return Err(Status::invalid_argument("commit: expected at most 64 bytes"));
        }
        if jobs.len() > DECLARED_MAX {
            let text = format!("jobs has {} entries: expected at most {DECLARED_MAX}", jobs.len());
            return Err(Status::invalid_argument(text));
        }
        let (now_ms, mut next_ms) = (self.0.time_ms(), Vec::new());
        for (place, spec) in jobs.iter().enumerate() {
            let schedule = check(&format!("jobs[{place}]"), spec)?;
            if !spec.declared || spec.app != *app {
                return Err(Status::invalid_argument(format!(
                    "jobs[{place}]: expected one that {app} declares"
                )));
            }
            next_ms.push(first_ms(spec, &schedule, now_ms));
        }
        // Every server of a cluster says the same: what is so already costs no entry of the log.
        self.0.must_be_confirmed()?;
        if self.0.node().view().read().state.jobs().is_declared(&call) {
            return Ok(Response::new(JobsDeclared::default()));
        }
        call.next_ms = next_ms;
        let bytes = call.encoded_len();
        match self.propose(command::Command::DeclareJobs(call), bytes).await? {
            Reply::JobsDeclared(declared) => Ok(Response::new(declared)),
            _ => Err(unexpected()),
        }
    }

    async fn list(&self, request: Request<ListJobs>) -> Result<Response<JobList>, Status> {
        let list = request.into_inner();
        self.0.confirm_read().await?;
        let now_ms = self.0.time_ms();
        let (jobs, queues) = {
            let applied = self.0.node().view().read();
            (applied.state.jobs().clone(), applied.state.queues().clone())
        };
        let (found, total) = found(jobs.iter(), &list);
        let took_ms = |job: &Job| {
            let spec = job.spec.as_ref().filter(|it| it.declared)?;
            let counts = queues.counts_of(&queue_of(spec))?;
            (counts.timed > 0).then_some(counts.last_took_ms)
        };
        let jobs = found.into_iter().map(|it| Job { took_ms: took_ms(it), ..shown(it) }).collect();
        Ok(Response::new(JobList { jobs, now_ms, total }))
    }

    async fn manage(&self, request: Request<ManageJob>) -> Result<Response<JobManaged>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut call = request.into_inner();
        input::service_name("name", &call.name)?;
        audit::check(call.author.as_ref())?;
        if call.action.is_none() {
            return Err(Status::invalid_argument("action is missing"));
        }
        call.author = audit::signed(&self.0, call.author, caller.as_ref());
        call.next_ms =
            if call.action == Some(Action::Pause(false)) { self.resumes_ms(&call.name) } else { 0 };
        call.max_bytes = self.0.queue_memory_max();
        match self.propose(command::Command::ManageJob(call), 512).await? {
            Reply::JobManaged(managed) => Ok(Response::new(managed)),
            _ => Err(unexpected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut JobSpec)) -> JobSpec {
        let mut spec = JobSpec { name: "a".into(), app: "shop".into(), declared: true, ..JobSpec::default() };
        change(&mut spec);
        spec
    }

    #[test]
    fn the_first_time_is_as_it_is_said() {
        let first = |spec: &JobSpec| first_ms(spec, &check("it", spec).unwrap(), 90_000);
        assert_eq!(first(&spec(|it| it.every_ms = 20_000)), 110_000);
        assert_eq!(first(&spec(|it| (it.every_ms, it.in_ms) = (20_000, 1))), 90_001);
        assert_eq!(first(&spec(|it| it.in_ms = 5)), 90_005);
        assert_eq!(first(&spec(|it| it.at_ms = 70_000)), 70_000, "at once");
        assert_eq!(first(&spec(|it| it.cron = "* * * * *".into())), 120_000);
        assert_eq!(first(&spec(|it| (it.cron, it.at_ms) = ("* * * * *".into(), 180_000))), 180_000);
        assert_eq!(first(&spec(|it| (it.every_ms, it.until_ms) = (20_000, 100_000))), 0);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let wrong = |change: fn(&mut JobSpec)| check("spec", &spec(change)).unwrap_err().message().to_owned();
        assert_eq!(wrong(|_| {}), "spec: expected cron, every, at or in");
        assert!(
            wrong(|it| (it.cron, it.every_ms) = ("* * * * *".into(), 1)).contains("cron or every, not both")
        );
        assert!(wrong(|it| (it.at_ms, it.in_ms) = (1, 1)).contains("at or in, not both"));
        assert!(wrong(|it| it.cron = "nightly".into()).contains("\"nightly\" is no cron expression"));
        assert!(wrong(|it| it.every_ms = 1).contains("too short"));
        assert!(wrong(|it| it.at_ms = u64::MAX).contains("before the year 10000"));
        assert!(wrong(|it| (it.in_ms, it.declared) = (1, false)).contains("expected a message"));
        assert!(wrong(|it| it.name = "A".into()).contains("spec.name is \"A\""));
    }

    #[test]
    fn jobs_are_found_by_name_and_app_a_part_at_a_time() {
        let job = |name: &str, app: &str| {
            let spec = Some(spec(|it| (it.name, it.app) = (name.to_owned(), app.to_owned())));
            Job { spec, ..Job::default() }
        };
        let jobs = [job("a", "shop"), job("b", "shop"), job("c", "blog")];
        let named = |find: &str, skip, limit| {
            let (found, total) = found(jobs.iter(), &ListJobs { find: find.to_owned(), skip, limit });
            let names = found.into_iter().map(|it| it.spec.as_ref().unwrap().name.as_str());
            (names.collect::<String>(), total)
        };
        assert_eq!(named("", 0, 0), ("abc".to_owned(), 3));
        assert_eq!(named("shop", 1, 9), ("b".to_owned(), 2));
        assert_eq!(named("", 1, 1), ("b".to_owned(), 3));
        assert_eq!(named("c", 0, 0), ("c".to_owned(), 1));
        assert_eq!(named("", u64::MAX, 1), (String::new(), 3));
    }
}
