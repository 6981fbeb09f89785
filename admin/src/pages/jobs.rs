//! The jobs of apps: when each is due, what became of its runs, and what an operator does to it.

use super::{
    Figure, Frame,
    actions::Done,
    format::{NONE, ago, count, millis, path_part},
    list::{List, ListQuery},
};
use crate::{
    Inner,
    jobs::{JobRecord, JobVerb, JobsQuery, JobsRecord},
    queues::{QueueRecord, QueuesRecord},
    refusal::Refusal,
    sign_in::SignedIn,
    status::record::ClusterRecord,
};
use askama::Template;
use std::collections::HashMap;

/// Jobs on a page.
const JOBS: usize = 100;

#[derive(Debug, Template)]
#[template(path = "jobs.html")]
pub(super) struct Jobs {
    frame: Frame,
    figures: Vec<Figure>,
    list: List,
    /// That lead back to the same rows.
    fields: String,
    unknown: Option<String>,
    none: bool,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    path: String,
    app: String,
    paused: bool,
    times: String,
    missed: &'static str,
    next: String,
    next_at: String,
    last: String,
    last_at: String,
    took: String,
    /// Where its runs, or its messages, are: its name, and as a part of a path.
    queue: String,
    queue_path: String,
    declared: bool,
    runs: Runs,
    /// In the order of the table's head.
    numbers: Vec<String>,
}

/// What becomes of its runs, by the queue that they are in.
#[derive(Debug, Default)]
struct Runs {
    class: &'static str,
    state: &'static str,
    /// Runs that no attempt has brought to an end.
    dead: String,
    settled: String,
    failed: String,
}

impl Inner {
    /// The jobs of a part of the list; beyond its end the last ones.
    pub(super) async fn jobs_of_page(&self, query: &ListQuery) -> JobsRecord {
        let ask = |skip: usize| JobsQuery { find: query.find.clone(), skip: skip as u64, limit: JOBS as u64 };
        let jobs = self.jobs(&ask(query.first(JOBS))).await;
        if !jobs.jobs.is_empty() || jobs.total == 0 {
            return jobs;
        }
        let total = usize::try_from(jobs.total).unwrap_or(usize::MAX);
        self.jobs(&ask(query.range(total, JOBS).start)).await
    }

    /// Does what a form asks for.
    pub(super) async fn job_form(&self, asker: &SignedIn, job: &str, verb: JobVerb) -> Result<Done, Refusal> {
        let done = self.manage_job(asker, job, verb).await?;
        Ok(match verb {
            JobVerb::Pause => "job-paused",
            JobVerb::Resume => "job-resumed",
            JobVerb::Run if done.runs => "job-ran",
            JobVerb::Run => "job-runs",
            JobVerb::Remove => "job-removed",
        })
    }
}

impl Jobs {
    pub(super) fn new(
        frame: Frame,
        cluster: &ClusterRecord,
        (jobs, queues): (&JobsRecord, &QueuesRecord),
        query: &ListQuery,
    ) -> Self {
        let queues: HashMap<_, _> = queues.queues.iter().map(|it| (it.name.as_str(), it)).collect();
        let total = usize::try_from(jobs.total).unwrap_or(usize::MAX);
        let of = |queue: String| queues.get(queue.as_str()).copied();
        let mut figures = vec![Figure::new("Jobs", count(jobs.total), "")];
        if !query.find.is_empty() {
            figures[0].unit = "of such a name".to_owned();
        }
        Self {
            frame,
            figures,
            list: query.above(("/jobs", "Which jobs"), &[], (total, JOBS)),
            fields: query.fields(),
            unknown: jobs.unknown.clone(),
            none: jobs.total == 0 && query.find.is_empty() && jobs.unknown.is_none(),
            rows: jobs.jobs.iter().map(|it| Row::of(it, of(queue(it)), cluster.taken.as_deref())).collect(),
        }
    }
}

/// Where the runs of a job, or what it publishes, are.
fn queue(job: &JobRecord) -> String {
    job.queue.clone().filter(|_| !job.declared).unwrap_or_else(|| format!("job:{}", job.name))
}

impl Row {
    fn of(job: &JobRecord, runs: Option<&QueueRecord>, now: Option<&str>) -> Self {
        let next = ago(now, job.next.as_deref());
        let last = ago(job.last.as_deref(), now);
        let queue = queue(job);
        Self {
            name: job.name.clone(),
            path: path_part(&job.name),
            app: job.app.clone(),
            paused: job.paused,
            times: job.times.clone(),
            missed: job.missed,
            next: if next.is_empty() { "never again".to_owned() } else { format!("in {next}") },
            next_at: second(job.next.as_ref()),
            last: if last.is_empty() { NONE.to_owned() } else { format!("{last} ago") },
            last_at: second(job.last.as_ref()),
            took: millis(job.took_ms.map(|it| it as f64)),
            queue_path: path_part(&queue),
            queue,
            declared: job.declared,
            runs: runs.filter(|_| job.declared).map(Runs::of).unwrap_or_default(),
            numbers: [job.fired, job.overlapped, job.missed_times].map(count).into(),
        }
    }
}

/// A time, of which seconds are enough.
fn second(at: Option<&String>) -> String {
    at.and_then(|it| it.split('.').next()).unwrap_or_default().replace('T', " ").replace('Z', "")
}

impl Runs {
    fn of(queue: &QueueRecord) -> Self {
        let (class, state) = match queue {
            it if it.assigned > 0 => ("ok", "running"),
            it if it.delayed > 0 => ("warn", "tried again later"),
            it if it.ready > 0 => ("warn", "nobody to run it"),
            _ => ("", ""),
        };
        Self {
            class,
            state,
            dead: if queue.dead > 0 { count(queue.dead) } else { String::new() },
            settled: count(queue.settled),
            failed: count(queue.failed),
        }
    }
}
