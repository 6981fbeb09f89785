//! The jobs of apps: when each is due, and what an operator does to it.

use crate::{HUB_WAIT, Inner, refusal::Refusal, sign_in::SignedIn, timestamp};
use proto::hub::v1::{Job, JobSpec, ManageJob, Missed, manage_job::Action};
use serde::Serialize;

/// `GET /api/v1/jobs`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct JobsRecord {
    /// By name.
    pub(crate) jobs: Vec<JobRecord>,
    /// Why the hub has not said; none when it has.
    pub(crate) unknown: Option<String>,
}

/// A job. Counts are since it was made, or changed.
#[derive(Debug, Serialize)]
pub(crate) struct JobRecord {
    pub(crate) name: String,
    /// Whose it is: an app's name on the hub.
    pub(crate) app: String,
    /// By an app.yaml; else an app has made it.
    pub(crate) declared: bool,
    /// Where its message goes, if an app has made it.
    pub(crate) queue: Option<String>,
    /// An expression with its time zone, `every …`, or `once`.
    pub(crate) times: String,
    pub(crate) missed: &'static str,
    pub(crate) paused: bool,
    /// None: never again.
    pub(crate) next: Option<String>,
    /// For which time it was run last.
    pub(crate) last: Option<String>,
    pub(crate) fired: u64,
    /// Times that were left out, as one was still running.
    pub(crate) overlapped: u64,
    pub(crate) missed_times: u64,
}

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobVerb {
    Pause,
    Resume,
    Run,
    Remove,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct JobDoneRecord {
    /// It ran already, so it was not begun anew.
    pub(crate) runs: bool,
}

impl JobVerb {
    /// By its word in the path.
    pub(crate) fn of(word: &str) -> Result<Self, Refusal> {
        match word {
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "run" => Ok(Self::Run),
            "remove" => Ok(Self::Remove),
            _ => Err(Refusal::NotFound),
        }
    }
}

impl JobRecord {
    fn of(job: Job) -> Self {
        let spec = job.spec.unwrap_or_default();
        let missed = match spec.missed() {
            Missed::Once => "once",
            Missed::Skip => "skip",
            Missed::All => "all",
        };
        Self {
            times: times(&spec),
            queue: spec.message.map(|it| it.queue),
            name: spec.name,
            app: spec.app,
            declared: spec.declared,
            missed,
            paused: job.paused,
            next: timestamp::format(job.next_ms),
            last: timestamp::format(job.last_ms),
            fired: job.fired,
            overlapped: job.overlapped,
            missed_times: job.missed,
        }
    }
}

fn times(spec: &JobSpec) -> String {
    match (spec.cron.as_str(), spec.every_ms) {
        ("", 0) => "once".to_owned(),
        ("", ms) if ms % 1000 == 0 => format!("every {} s", ms / 1000),
        ("", ms) => format!("every {ms} ms"),
        (cron, _) if spec.timezone.is_empty() => format!("{cron} UTC"),
        (cron, _) => format!("{cron} {}", spec.timezone),
    }
}

impl Inner {
    /// The jobs, as the hub has them.
    pub(crate) async fn jobs(&self) -> JobsRecord {
        let wait = HUB_WAIT / 5;
        match tokio::time::timeout(wait, self.hub.jobs(wait)).await {
            Ok(Ok(listed)) => {
                JobsRecord { jobs: listed.jobs.into_iter().map(JobRecord::of).collect(), unknown: None }
            }
            Ok(Err(why)) => JobsRecord { unknown: Some(why.to_string()), ..JobsRecord::default() },
            Err(_late) => {
                JobsRecord { unknown: Some("the hub does not answer".to_owned()), ..JobsRecord::default() }
            }
        }
    }

    /// Pauses a job, resumes it, runs it now, or removes it.
    ///
    /// # Errors
    /// The user may not, or there is no such job.
    pub(crate) async fn manage_job(
        &self,
        asker: &SignedIn,
        job: &str,
        verb: JobVerb,
    ) -> Result<JobDoneRecord, Refusal> {
        asker.must_operate()?;
        let action = Some(match verb {
            JobVerb::Pause => Action::Pause(true),
            JobVerb::Resume => Action::Pause(false),
            JobVerb::Run => Action::Run(true),
            JobVerb::Remove => Action::Remove(true),
        });
        let author = Some(asker.author(""));
        let manage = ManageJob { name: job.to_owned(), action, author, ..ManageJob::default() };
        let managed = match self.hub.manage_job(manage, HUB_WAIT).await {
            Err(triad_client::HubError::Refused(_)) => return Err(Refusal::NoJob(job.to_owned())),
            managed => managed?,
        };
        if managed.unknown {
            return Err(Refusal::NoJob(job.to_owned()));
        }
        if managed.full {
            return Err(Refusal::NoRoom);
        }
        tracing::info!(user = asker.user.name, job, ?verb, "an operator has changed a job");
        Ok(JobDoneRecord { runs: managed.runs })
    }
}
