//! Jobs and durable subscriptions that an app declares: told to the hub, which calls it with messages of queues of their own.

use super::{QueueError, Queues, READ_MAX, WRITE_MAX};
use crate::{content::millis, spec::DeployedAs};
use common::{
    backoff::Backoff,
    config::{DeclaredJob, MissedTimes},
    schedule::Times,
};
use proto::hub::v1::{
    DeclareJobs, Fence, Job, JobList, JobManaged, JobSpec, JobsDeclared, Missed, PutJob, RemoveJob, RunJob,
    job_put, queue_outcome::Outcome, queue_write::Write,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The hub is told again after this, and later and later.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The name of a job's queue begins so; no app can use such a name.
pub(super) const QUEUE: &str = "job:";

/// A job as the hub has it.
fn spec(app: &str, job: &DeclaredJob) -> JobSpec {
    let (cron, timezone, every_ms) = match &job.times {
        Times::Cron { expression, timezone } => (expression.clone(), timezone.clone(), 0),
        Times::Every(time) => (String::new(), String::new(), millis(*time)),
        Times::Once => Default::default(),
    };
    let missed = match job.missed {
        MissedTimes::Once => Missed::Once,
        MissedTimes::Skip => Missed::Skip,
        MissedTimes::All => Missed::All,
    };
    JobSpec {
        name: job.name.as_str().to_owned(),
        app: app.to_owned(),
        declared: true,
        cron,
        timezone,
        every_ms,
        at_ms: job.at_ms.unwrap_or(0),
        in_ms: job.after.map_or(0, millis),
        until_ms: job.until_ms.unwrap_or(0),
        repeat: job.repeat,
        missed: missed.into(),
        message: None,
    }
}

/// What an app declares.
#[derive(Debug)]
pub(super) struct Declared {
    /// The app's name on the hub.
    pub(super) app: String,
    pub(super) jobs: Vec<DeclaredJob>,
    /// Topics and their durable subscriptions.
    pub(super) durable: Vec<(String, String)>,
    pub(super) deployed_as: DeployedAs,
}

impl Declared {
    /// Tells the hub, until it knows.
    pub(super) async fn say(self, queues: Queues, stop: CancellationToken) {
        let app = &self.app;
        let DeployedAs { tag, commit } = self.deployed_as.clone();
        let jobs: Vec<JobSpec> = self.jobs.iter().map(|it| spec(app, it)).collect();
        let call = DeclareJobs { app: app.clone(), jobs, tag, commit: commit.into(), next_ms: Vec::new() };
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        while !stop.is_cancelled() {
            let declared = async {
                for (topic, name) in &self.durable {
                    queues.subscribe(topic, name, app).await?;
                }
                queues.declare_jobs(call.clone()).await
            };
            match declared.await {
                Ok(()) => return,
                Err(cause) => {
                    tracing::warn!(app, %cause, "the hub does not know the app's jobs and subscriptions yet");
                }
            }
            let wait = backoff.wait(rand::random());
            let _ = tokio::time::timeout(wait, stop.cancelled()).await;
        }
    }
}

impl Queues {
    /// Declares the jobs of an app, in place of those before.
    async fn declare_jobs(&self, call: DeclareJobs) -> Result<(), QueueError> {
        let JobsDeclared { full, outdated, full_bytes } = self.0.hub.declare_jobs(call, WRITE_MAX).await?;
        match (full, full_bytes) {
            // A newer version has spoken: its word counts.
            _ if outdated => Ok(()),
            (0, 0) => Ok(()),
            (0, max) => Err(QueueError::NoRoomForJobs(max)),
            (max, _) => Err(QueueError::TooManyJobs(max)),
        }
    }

    /// Makes a job, or changes it; whether it is new. `tag`: as which its app is deployed.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn put_job(
        &self,
        spec: JobSpec,
        tag: &str,
        fence: Option<Fence>,
    ) -> Result<(Job, bool), QueueError> {
        let put = PutJob { spec: Some(spec), tag: tag.to_owned(), ..PutJob::default() };
        let Outcome::JobPut(put) = self.write(Write::PutJob(put), fence, WRITE_MAX).await? else {
            return Err(QueueError::Refused("the hub answered another question".to_owned()));
        };
        match put.outcome {
            Some(job_put::Outcome::Job(job)) => Ok((job, put.created)),
            Some(job_put::Outcome::Full(max)) => Err(QueueError::TooManyJobs(max)),
            Some(job_put::Outcome::FullBytes(max)) => Err(QueueError::NoRoomForJobs(max)),
            Some(job_put::Outcome::OfApp(app)) => Err(QueueError::OthersJob(app)),
            Some(job_put::Outcome::Refused(why)) => Err(QueueError::BadJob(why)),
            None => Err(QueueError::Refused("the hub answered another question".to_owned())),
        }
    }

    /// Ends a job that the app has made; whether there was one.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn remove_job(
        &self,
        name: &str,
        app: &str,
        fence: Option<Fence>,
    ) -> Result<bool, QueueError> {
        let remove = RemoveJob { name: name.to_owned(), app: app.to_owned() };
        match self.write(Write::RemoveJob(remove), fence, WRITE_MAX).await? {
            Outcome::JobRemoved(removed) => Ok(removed.existed),
            _ => Err(QueueError::Refused("the hub answered another question".to_owned())),
        }
    }

    /// All jobs.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn jobs(&self) -> Result<JobList, QueueError> {
        Ok(self.0.hub.jobs(READ_MAX).await?)
    }

    /// Runs a job now.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn run_job(&self, name: &str, fence: Option<Fence>) -> Result<JobManaged, QueueError> {
        match self.write(Write::RunJob(RunJob { name: name.to_owned() }), fence, WRITE_MAX).await? {
            Outcome::JobManaged(managed) => Ok(managed),
            _ => Err(QueueError::Refused("the hub answered another question".to_owned())),
        }
    }
}
