//! The service `Jobs`.

use super::{Services, caller};
use crate::{
    local_api::{
        LocalApi,
        answer::Problem,
        input::{self, millis},
        jobs::{self, EVERY, MESSAGE_MAX, REPEAT},
        queues,
    },
    queue::of_grpc,
    registry::Running,
};
use proto::{
    app::v1::{
        Job, JobDeleteReply, JobDeleteRequest, JobGetRequest, JobListReply, JobListRequest, JobMissed,
        JobPutReply, JobPutRequest, JobRunNowReply, JobRunNowRequest, JobTimes, jobs_server::Jobs,
    },
    hub::v1::{self as hub, JobSpec, Missed, QueueMessage},
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Jobs for Services {
    async fn put(&self, request: Request<JobPutRequest>) -> Result<Response<JobPutReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(put(&self.0, &caller, request.into_inner()).await?))
    }

    async fn get(&self, request: Request<JobGetRequest>) -> Result<Response<Job>, Status> {
        let name = input::name("job", &request.into_inner().name)?;
        Ok(Response::new(told(jobs::found(&self.0, &name).await?)))
    }

    async fn list(&self, _: Request<JobListRequest>) -> Result<Response<JobListReply>, Status> {
        let listed = queues::queues(&self.0)?.jobs().await.map_err(Problem::from)?;
        Ok(Response::new(JobListReply { jobs: listed.jobs.into_iter().map(told).collect() }))
    }

    async fn delete(&self, request: Request<JobDeleteRequest>) -> Result<Response<JobDeleteReply>, Status> {
        let caller = caller(&request)?;
        let JobDeleteRequest { name, fence } = request.into_inner();
        let (name, fence) = (input::name("job", &name)?, input::told_fence(fence)?);
        jobs::removed(&self.0, &caller, &name, fence).await?;
        Ok(Response::new(JobDeleteReply {}))
    }

    async fn run_now(&self, request: Request<JobRunNowRequest>) -> Result<Response<JobRunNowReply>, Status> {
        let JobRunNowRequest { name, fence } = request.into_inner();
        let (name, fence) = (input::name("job", &name)?, input::told_fence(fence)?);
        let runs_already = jobs::run_now(&self.0, &name, fence).await?;
        Ok(Response::new(JobRunNowReply { runs_already }))
    }
}

async fn put(api: &LocalApi, caller: &Running, request: JobPutRequest) -> Result<JobPutReply, Problem> {
    let JobPutRequest { name, times, queue, message, fence } = request;
    let (name, fence) = (input::name("job", &name)?, input::told_fence(fence)?);
    let queue = input::name("queue", &queue)?.as_str().to_owned();
    let message = match message {
        Some(message) => of_grpc("message", message, MESSAGE_MAX)?,
        None => QueueMessage::default(),
    };
    let message = Some(QueueMessage { queue, ..message });
    let spec = JobSpec { message, ..spec(times.unwrap_or_default())? };
    let (job, created) = jobs::put(api, caller, &name, jobs::checked(spec)?, fence).await?;
    Ok(JobPutReply { job: Some(told(job)), created })
}

/// What is said of a job's times.
fn spec(times: JobTimes) -> Result<JobSpec, Problem> {
    let missed = match JobMissed::try_from(times.missed) {
        Ok(JobMissed::Once) => Missed::Once,
        Ok(JobMissed::Skip) => Missed::Skip,
        Ok(JobMissed::All) => Missed::All,
        Err(_) => {
            return Err(Problem::bad(format!("missed is {}: expected one of JobMissed", times.missed)));
        }
    };
    millis("every_ms", times.every_ms, &EVERY)?;
    millis("in_ms", times.in_ms, &EVERY)?;
    let JobTimes { cron, timezone, every_ms, at_ms, in_ms, until_ms, repeat, .. } = times;
    if repeat != 0 && !i64::try_from(repeat).is_ok_and(|it| REPEAT.contains(&it)) {
        return Err(Problem::bad(format!("repeat is {repeat}: expected at most {}", REPEAT.end())));
    }
    let missed = missed.into();
    Ok(JobSpec { cron, timezone, every_ms, at_ms, in_ms, until_ms, repeat, missed, ..JobSpec::default() })
}

fn told(job: hub::Job) -> Job {
    let spec = job.spec.unwrap_or_default();
    let missed = match spec.missed() {
        Missed::Once => JobMissed::Once,
        Missed::Skip => JobMissed::Skip,
        Missed::All => JobMissed::All,
    };
    let JobSpec { name, app, declared, cron, timezone, every_ms, until_ms, message, .. } = spec;
    Job {
        name,
        app,
        declared,
        queue: message.map_or_else(String::new, |it| it.queue),
        cron,
        timezone,
        every_ms,
        until_ms,
        missed: missed.into(),
        paused: job.paused,
        next_ms: job.next_ms,
        last_ms: job.last_ms,
        fired: job.fired,
        overlapped: job.overlapped,
        missed_times: job.missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named() {
        let times = JobTimes { every_ms: 1000, ..JobTimes::default() };
        assert_eq!(spec(times.clone()).unwrap().every_ms, 1000);
        for (times, text) in [
            (JobTimes { every_ms: 99, ..times.clone() }, "every_ms is 99"),
            (JobTimes { in_ms: u64::MAX, ..times.clone() }, "in_ms is"),
            (JobTimes { repeat: 1_000_000_001, ..times.clone() }, "repeat is 1000000001"),
            (JobTimes { repeat: u64::MAX, ..times.clone() }, "repeat is"),
            (JobTimes { missed: 7, ..times }, "missed is 7"),
        ] {
            let found = format!("{:?}", spec(times).unwrap_err());
            assert!(found.contains(text), "{found}");
        }
    }
}
