//! Jobs: what is published when its time has come. Which time is the next one is the leader's word; that of one time one message is published is
//! the state's. A job's calls are messages of a queue of its own, one at a time: so two runs never overlap, and a run that fails is tried again as any message is.

use super::{app::Apps, change::Change, queue::Queues};
use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use prost::Message;
use proto::hub::v1::{
    DeclareJobs, FireJobs, Job, JobManaged, JobPut, JobRemoved, JobSpec, JobsDeclared, ManageJob,
    MessageMeta, Missed, PutJob, QueueMessage, RemoveJob, SnapshotJobsDeclared, job_put::Outcome,
    manage_job::Action,
};
use std::sync::Arc;

/// Jobs that there may be, and those of one app.
pub(crate) const JOBS_MAX: usize = 50_000;
pub(crate) const APP_JOBS_MAX: usize = JOBS_MAX / 2;

/// What they may take with their messages, and those of one app, in bytes.
const BYTES_MAX: u64 = 128 << 20;
const APP_BYTES_MAX: u64 = BYTES_MAX / 2;

/// What a job takes beside what it is made of.
const JOB: u64 = 500;

/// A job whose message found no room is tried again after this.
const RETRY_MS: u64 = 1000;

/// The name of a declared job's queue: no app can use such a name.
const QUEUE: &str = "job:";

/// What says for which time a run is.
const DUE: &str = "due";

/// The jobs, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Jobs {
    all: OrdMap<String, Arc<Job>>,
    by_due: OrdSet<(u64, String)>,
    by_app: OrdMap<String, Share>,
    bytes: u64,
    /// Who has declared the jobs of an app: as which it is deployed, and of which commit.
    declared: OrdMap<String, (String, Bytes)>,
    /// The greatest version.
    last: u64,
}

/// An app's part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Share {
    jobs: usize,
    bytes: u64,
}

/// Why there is no room.
enum Full {
    Jobs(u32),
    Bytes(u64),
}

fn bytes_of(spec: &JobSpec) -> u64 {
    JOB + spec.encoded_len() as u64
}

/// The queue of a job.
pub(crate) fn queue_of(spec: &JobSpec) -> String {
    match spec.declared {
        true => format!("{QUEUE}{}", spec.name),
        false => spec.message.as_ref().map(|it| it.queue.clone()).unwrap_or_default(),
    }
}

/// The job whose queue this is, if it is one's.
pub(crate) fn job_of(queue: &str) -> Option<&str> {
    queue.strip_prefix(QUEUE)
}

/// The message of one run.
fn message(spec: &JobSpec, due_ms: u64) -> QueueMessage {
    let mut message = spec.message.clone().unwrap_or_default();
    message.queue = queue_of(spec);
    message.app.clone_from(&spec.app);
    message.meta.push(MessageMeta { name: DUE.to_owned(), value: due_ms.to_string() });
    if spec.declared {
        message.body = format!("{{\"job\":\"{}\",\"due-ms\":{due_ms}}}", spec.name).into();
        message.content_type = "application/json".to_owned();
        // One run at a time; and unless each is wanted, none that waits for it.
        match spec.missed() {
            Missed::All => message.group = "run".to_owned(),
            Missed::Once | Missed::Skip => message.unique = "run".to_owned(),
        }
    }
    message
}

/// A copy of its own: a part of the log's entry would keep all of it.
fn own(mut spec: JobSpec) -> JobSpec {
    if let Some(message) = &mut spec.message {
        message.body = Bytes::copy_from_slice(&message.body);
    }
    spec
}

/// Without what it publishes.
pub(crate) fn shown(job: &Job) -> Job {
    let mut job = job.clone();
    if let Some(message) = job.spec.as_mut().and_then(|it| it.message.as_mut()) {
        *message = QueueMessage { queue: std::mem::take(&mut message.queue), ..QueueMessage::default() };
    }
    job
}

impl Jobs {
    fn insert(&mut self, job: Job) {
        let spec = job.spec.clone().unwrap_or_default();
        self.take(&spec.name);
        if job.next_ms != 0 && !job.paused {
            self.by_due.insert((job.next_ms.max(job.retry_ms), spec.name.clone()));
        }
        let share = self.by_app.entry(spec.app.clone()).or_default();
        let bytes = bytes_of(&spec);
        (share.jobs, share.bytes) = (share.jobs + 1, share.bytes + bytes);
        self.bytes += bytes;
        self.all.insert(spec.name, Arc::new(job));
    }

    fn take(&mut self, name: &str) -> Option<Arc<Job>> {
        let job = self.all.remove(name)?;
        self.by_due.remove(&(job.next_ms.max(job.retry_ms), name.to_owned()));
        let bytes = job.spec.as_ref().map_or(0, bytes_of);
        self.bytes -= bytes;
        if let Some(share) = self.by_app.get_mut(app(&job)) {
            (share.jobs, share.bytes) = (share.jobs - 1, share.bytes - bytes);
            if share.jobs == 0 {
                self.by_app.remove(app(&job));
            }
        }
        Some(job)
    }

    /// A job as it is from now on; one that is as it was goes on.
    fn put_one(&mut self, spec: JobSpec, next_ms: u64, tag: &str) {
        let known = self.all.get(&spec.name).cloned();
        if let Some(known) = known.as_ref().filter(|it| it.spec.as_ref() == Some(&spec)) {
            if known.tag != tag {
                self.insert(Job { tag: tag.to_owned(), ..Job::clone(known) });
            }
            return;
        }
        // Who has paused it meant the job, whatever its times are.
        let paused = known.is_some_and(|it| it.paused);
        self.last += 1;
        let (spec, version, tag) = (Some(own(spec)), self.last, tag.to_owned());
        self.insert(Job { spec, next_ms, paused, version, tag, ..Job::default() });
    }

    /// Whether there is room for these in place of what has their names.
    fn room_for(&self, app: &str, specs: &[JobSpec]) -> Result<(), Full> {
        let own = self.by_app.get(app).copied().unwrap_or_default();
        let (mut new, mut more, mut less) = (0, 0, 0);
        for spec in specs {
            more += bytes_of(spec);
            match self.all.get(&spec.name).and_then(|it| it.spec.as_ref()) {
                Some(known) if known.app == app => less += bytes_of(known),
                Some(_) => {}
                None => new += 1,
            }
        }
        let max = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        if self.all.len() + new > JOBS_MAX || own.jobs + new > APP_JOBS_MAX {
            Err(Full::Jobs(max(APP_JOBS_MAX)))
        } else if self.bytes + more > BYTES_MAX + less || own.bytes + more > APP_BYTES_MAX + less {
            Err(Full::Bytes(APP_BYTES_MAX))
        } else {
            Ok(())
        }
    }

    /// Whether another version of the app has a word that counts more.
    fn is_outdated(&self, call: &DeclareJobs, apps: &Apps) -> bool {
        let Some((tag, commit)) = self.declared.get(&call.app) else { return false };
        if *tag == call.tag {
            return *commit != call.commit && !apps.is_current(tag, &call.commit);
        }
        apps.get(tag).is_some() && common::app_tag::is_newer(tag, &call.tag)
    }

    pub(super) fn declare(
        &mut self,
        call: DeclareJobs,
        apps: &Apps,
        queues: &mut Queues,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> JobsDeclared {
        if self.is_outdated(&call, apps) {
            return JobsDeclared { outdated: true, ..JobsDeclared::default() };
        }
        match self.room_for(&call.app, &call.jobs) {
            Ok(()) => {}
            Err(Full::Jobs(full)) => return JobsDeclared { full, ..JobsDeclared::default() },
            Err(Full::Bytes(full_bytes)) => return JobsDeclared { full_bytes, ..JobsDeclared::default() },
        }
        let DeclareJobs { app, jobs, next_ms, tag, commit } = call;
        let is_gone = |job: &&Arc<Job>| {
            job.spec.as_ref().is_some_and(|spec| {
                spec.declared && spec.app == app && !jobs.iter().any(|it| it.name == spec.name)
            })
        };
        let gone: Vec<String> =
            self.all.values().filter(is_gone).filter_map(|it| Some(it.spec.as_ref()?.name.clone())).collect();
        gone.iter().for_each(|name| self.end(name, queues));
        for (spec, next_ms) in jobs.into_iter().zip(next_ms) {
            queues.only_for(&queue_of(&spec), &app, now_ms, changes);
            self.put_one(spec, next_ms, &tag);
        }
        self.declared.insert(app, (tag, Bytes::copy_from_slice(&commit)));
        JobsDeclared::default()
    }

    /// Whether a declaration says what is so.
    pub(crate) fn is_declared(&self, call: &DeclareJobs) -> bool {
        let known: Vec<&JobSpec> = self
            .iter()
            .filter(|it| it.tag == call.tag)
            .filter_map(|it| it.spec.as_ref())
            .filter(|it| it.declared && it.app == call.app)
            .collect();
        let by = self.declared.get(&call.app);
        let is_same = by.is_some_and(|(tag, commit)| *tag == call.tag && *commit == call.commit);
        is_same && known.len() == call.jobs.len() && call.jobs.iter().all(|it| known.contains(&it))
    }

    /// A job is no more, and nothing of it runs any more.
    fn end(&mut self, name: &str, queues: &mut Queues) {
        let Some(job) = self.take(name) else { return };
        if let Some(spec) = job.spec.as_ref().filter(|it| it.declared) {
            queues.end_queue(&queue_of(spec));
        }
    }

    /// What is deployed as `tag` is no more, and so its jobs.
    pub(super) fn undeployed(&mut self, tag: &str, queues: &mut Queues) {
        let of_tag = self.all.values().filter(|it| it.tag == tag);
        let gone: Vec<String> = of_tag.filter_map(|it| Some(it.spec.as_ref()?.name.clone())).collect();
        gone.iter().for_each(|name| self.end(name, queues));
        let apps: Vec<String> =
            self.declared.iter().filter(|(_, by)| by.0 == tag).map(|(app, _)| app.clone()).collect();
        apps.iter().for_each(|app| drop(self.declared.remove(app)));
    }

    pub(super) fn put(&mut self, put: PutJob) -> JobPut {
        let PutJob { spec, next_ms, tag, refused } = put;
        if !refused.is_empty() {
            return JobPut { outcome: Some(Outcome::Refused(refused)), created: false };
        }
        let spec = spec.unwrap_or_default();
        let known = self.all.get(&spec.name).and_then(|it| it.spec.as_ref());
        if let Some(other) = known.filter(|it| it.app != spec.app || it.declared) {
            return JobPut { outcome: Some(Outcome::OfApp(other.app.clone())), created: false };
        }
        let created = known.is_none();
        match self.room_for(&spec.app, std::slice::from_ref(&spec)) {
            Ok(()) => {}
            Err(Full::Jobs(max)) => return JobPut { outcome: Some(Outcome::Full(max)), created: false },
            Err(Full::Bytes(max)) => {
                return JobPut { outcome: Some(Outcome::FullBytes(max)), created: false };
            }
        }
        let name = spec.name.clone();
        self.put_one(spec, next_ms, &tag);
        let job = self.all.get(&name).map(|it| shown(it)).unwrap_or_default();
        JobPut { outcome: Some(Outcome::Job(job)), created }
    }

    pub(super) fn remove(&mut self, remove: &RemoveJob) -> JobRemoved {
        let spec = self.all.get(&remove.name).and_then(|it| it.spec.as_ref());
        let existed = spec.is_some_and(|it| it.app == remove.app && !it.declared);
        if existed {
            self.take(&remove.name);
        }
        JobRemoved { existed }
    }

    pub(super) fn manage(
        &mut self,
        call: &ManageJob,
        queues: &mut Queues,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> JobManaged {
        let Some(job) = self.all.get(&call.name).cloned() else {
            return JobManaged { unknown: true, ..JobManaged::default() };
        };
        match call.action {
            Some(Action::Pause(paused)) => {
                let next_ms = if call.next_ms == 0 { job.next_ms } else { call.next_ms };
                self.insert(Job { paused, next_ms, ..Job::clone(&job) });
                JobManaged::default()
            }
            Some(Action::Remove(_)) => {
                self.end(&call.name, queues);
                JobManaged::default()
            }
            Some(Action::Run(_)) => self.run(&call.name, queues, call.max_bytes, now_ms, changes),
            None => JobManaged::default(),
        }
    }

    /// Publishes one's message now, besides its times.
    pub(super) fn run(
        &mut self,
        name: &str,
        queues: &mut Queues,
        max_bytes: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> JobManaged {
        let Some(job) = self.all.get(name).cloned() else {
            return JobManaged { unknown: true, ..JobManaged::default() };
        };
        let spec = job.spec.clone().unwrap_or_default();
        match queues.publish_own(message(&spec, now_ms), max_bytes, now_ms, changes) {
            Some(true) => {
                let (fired, last_ms) = (job.fired + 1, now_ms);
                self.insert(Job { fired, last_ms, ..Job::clone(&job) });
                JobManaged::default()
            }
            Some(false) => JobManaged { runs: true, ..JobManaged::default() },
            None => JobManaged { full: true, ..JobManaged::default() },
        }
    }

    /// Publishes what is due; of each time once.
    pub(super) fn fire(
        &mut self,
        call: &FireJobs,
        queues: &mut Queues,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) {
        for fire in &call.fires {
            let is_due = |it: &&Arc<Job>| {
                it.version == fire.version && it.next_ms == fire.due_ms && !it.paused && fire.due_ms != 0
            };
            let Some(job) = self.all.get(&fire.name).filter(is_due).cloned() else { continue };
            let spec = job.spec.clone().unwrap_or_default();
            let (next_ms, times) = (fire.next_ms, job.times + 1);
            let mut next = Job { next_ms, times, retry_ms: 0, ..Job::clone(&job) };
            if fire.skip {
                next.missed += 1;
            } else {
                match queues.publish_own(message(&spec, fire.due_ms), call.max_bytes, now_ms, changes) {
                    Some(true) => (next.fired, next.last_ms) = (job.fired + 1, fire.due_ms),
                    Some(false) => next.overlapped += 1,
                    // There is no room: it is tried again, as late as it is then.
                    None => {
                        self.insert(Job { retry_ms: now_ms.saturating_add(RETRY_MS), ..Job::clone(&job) });
                        continue;
                    }
                }
            }
            // One that was made, and is over, is no more.
            if next.next_ms == 0 && !spec.declared {
                self.take(&fire.name);
            } else {
                self.insert(next);
            }
        }
    }

    /// Those that are due by `now_ms`, the earliest first.
    pub(crate) fn due(&self, now_ms: u64) -> impl Iterator<Item = &Arc<Job>> {
        let due = self.by_due.iter().take_while(move |(at_ms, _)| *at_ms <= now_ms);
        due.filter_map(|(_, name)| self.all.get(name))
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Job>> {
        self.all.get(name)
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.all.values().map(|it| &**it)
    }

    /// Who has declared the jobs of apps, for a snapshot.
    pub(super) fn export_declared(&self) -> impl Iterator<Item = SnapshotJobsDeclared> {
        self.declared.iter().map(|(app, (tag, commit))| SnapshotJobsDeclared {
            app: app.clone(),
            tag: tag.clone(),
            commit: commit.clone(),
        })
    }

    /// Puts that back.
    pub(super) fn restore_declared(&mut self, saved: SnapshotJobsDeclared) {
        let SnapshotJobsDeclared { app, tag, commit } = saved;
        self.declared.insert(app, (tag, Bytes::copy_from_slice(&commit)));
    }

    /// The greatest version.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, job: Job) {
        self.last = self.last.max(job.version);
        let spec = job.spec.map(own);
        self.insert(Job { spec, ..job });
    }

    /// The same of the greatest version.
    pub(super) fn restore_last(&mut self, last: u64) {
        self.last = self.last.max(last);
    }
}

fn app(job: &Job) -> &str {
    job.spec.as_ref().map_or("", |it| &it.app)
}

#[cfg(test)]
mod tests;
