//! The jobs of apps: when each is due, and what an operator does to it.

use crate::{HUB_WAIT, Inner, refusal::Refusal, sign_in::SignedIn, timestamp};
use percent_encoding::percent_decode_str;
use proto::hub::v1::{Job, JobSpec, ListJobs, ManageJob, Missed, manage_job::Action};
use serde::Serialize;

/// The longest part of a name that is looked for, in characters.
const FIND_MAX: usize = 100;

/// `GET /api/v1/jobs`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct JobsRecord {
    /// By name: those that were asked for.
    pub(crate) jobs: Vec<JobRecord>,
    /// How many there are to be found, whatever `skip` and `limit` leave out.
    pub(crate) total: u64,
    /// Why the hub has not said; none when it has.
    pub(crate) unknown: Option<String>,
}

/// A job. Counts are since it was made, or changed.
#[derive(Debug, Default, Serialize)]
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
    /// How long its last run that succeeded took, in milliseconds; none: not known, or it publishes to a queue.
    pub(crate) took_ms: Option<u64>,
    pub(crate) fired: u64,
    /// Times that were left out, as one was still running.
    pub(crate) overlapped: u64,
    pub(crate) missed_times: u64,
}

/// Which jobs are asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct JobsQuery {
    /// Is in the name, or in the app's; empty: any.
    pub(crate) find: String,
    pub(crate) skip: u64,
    /// 0: all.
    pub(crate) limit: u64,
}

impl JobsQuery {
    /// Of a query: `find`, `skip`, `limit`.
    ///
    /// # Errors
    /// It has something else.
    pub(crate) fn of(query: &str) -> Result<Self, Refusal> {
        let mut read = Self::default();
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            let number = || value.parse().map_err(|_| Refusal::Body(format!("{name}: expected a number")));
            match name {
                "find" if value.chars().count() <= FIND_MAX => read.find = value.into_owned(),
                "find" => return Err(Refusal::Body("find: expected at most 100 characters".to_owned())),
                "skip" => read.skip = number()?,
                "limit" => read.limit = number()?,
                _ => return Err(Refusal::Body(format!("{name:?}: expected find, skip or limit"))),
            }
        }
        Ok(read)
    }
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
            took_ms: job.took_ms,
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
    /// The jobs that are asked for, as the hub has them.
    pub(crate) async fn jobs(&self, query: &JobsQuery) -> JobsRecord {
        let JobsQuery { find, skip, limit } = query.clone();
        let (list, wait) = (ListJobs { find, skip, limit }, HUB_WAIT / 5);
        let unknown = |why: String| JobsRecord { unknown: Some(why), ..JobsRecord::default() };
        match tokio::time::timeout(wait, self.hub.find_jobs(list, wait)).await {
            Ok(Ok(listed)) => JobsRecord {
                total: listed.total,
                jobs: listed.jobs.into_iter().map(JobRecord::of).collect(),
                unknown: None,
            },
            Ok(Err(why)) => unknown(why.to_string()),
            Err(_late) => unknown("the hub does not answer".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_or_named() {
        let query = |text: &str| JobsQuery::of(text).map_err(|it| it.to_string());
        assert_eq!(query(""), Ok(JobsQuery::default()));
        let read = JobsQuery { find: "a b".to_owned(), skip: 7, limit: 3 };
        assert_eq!(query("find=a%20b&skip=7&limit=3"), Ok(read));
        for (wrong, named) in [("skip=-1", "skip"), ("limit=x", "limit"), ("x=1", "\"x\"")] {
            assert!(query(wrong).unwrap_err().contains(named), "{wrong}");
        }
        assert!(query(&format!("find={}", "x".repeat(101))).is_err());
    }
}
