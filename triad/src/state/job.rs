//! Jobs: what is published when its time has come. Which time is the next one is the leader's word; that of one time one message is published is
//! the state's. A job's calls are messages of a queue of its own, one at a time: so two runs never overlap, and a run that fails is tried again as any message is.

use super::{change::Change, queue::Queues};
use imbl::{OrdMap, OrdSet};
use proto::hub::v1::{
    DeclareJobs, FireJobs, Job, JobManaged, JobPut, JobRemoved, JobSpec, JobsDeclared, ManageJob,
    MessageMeta, Missed, PutJob, QueueMessage, RemoveJob, job_put::Outcome, manage_job::Action,
};
use std::sync::Arc;

/// Jobs that there may be, and those of one app.
pub(crate) const JOBS_MAX: usize = 50_000;
pub(crate) const APP_JOBS_MAX: usize = JOBS_MAX / 2;

/// The name of a declared job's queue: no app can use such a name.
const QUEUE: &str = "job:";

/// What says for which time a run is.
const DUE: &str = "due";

/// The jobs, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Jobs {
    all: OrdMap<String, Arc<Job>>,
    by_due: OrdSet<(u64, String)>,
    by_app: OrdMap<String, usize>,
    /// The greatest version.
    last: u64,
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

impl Jobs {
    fn insert(&mut self, job: Job) {
        let name = job.spec.as_ref().map(|it| it.name.clone()).unwrap_or_default();
        self.take(&name);
        if job.next_ms != 0 && !job.paused {
            self.by_due.insert((job.next_ms, name.clone()));
        }
        *self.by_app.entry(app(&job).to_owned()).or_default() += 1;
        self.all.insert(name, Arc::new(job));
    }

    fn take(&mut self, name: &str) -> Option<Arc<Job>> {
        let job = self.all.remove(name)?;
        self.by_due.remove(&(job.next_ms, name.to_owned()));
        match self.by_app.get_mut(app(&job)) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.by_app.remove(app(&job))),
        }
        Some(job)
    }

    /// A job as it is from now on; one that is as it was goes on.
    fn put_one(&mut self, spec: JobSpec, next_ms: u64) {
        let known = self.all.get(&spec.name);
        if known.is_some_and(|it| it.spec.as_ref() == Some(&spec)) {
            return;
        }
        // Who has paused it meant the job, whatever its times are.
        let paused = known.is_some_and(|it| it.paused);
        self.last += 1;
        self.insert(Job { spec: Some(spec), next_ms, paused, version: self.last, ..Job::default() });
    }

    /// Whether there is room for so many more.
    fn has_room(&self, app: &str, more: usize) -> bool {
        let own = self.by_app.get(app).copied().unwrap_or_default();
        self.all.len() + more <= JOBS_MAX && own + more <= APP_JOBS_MAX
    }

    pub(super) fn declare(&mut self, call: DeclareJobs) -> JobsDeclared {
        let DeclareJobs { app, jobs, next_ms } = call;
        let new = jobs.iter().filter(|it| !self.all.contains_key(&it.name)).count();
        if !self.has_room(&app, new) {
            return JobsDeclared { full: u32::try_from(APP_JOBS_MAX).unwrap_or(u32::MAX) };
        }
        let is_gone = |job: &&Arc<Job>| {
            job.spec.as_ref().is_some_and(|spec| {
                spec.declared && spec.app == app && !jobs.iter().any(|it| it.name == spec.name)
            })
        };
        let gone: Vec<String> =
            self.all.values().filter(is_gone).filter_map(|it| Some(it.spec.as_ref()?.name.clone())).collect();
        gone.iter().for_each(|name| drop(self.take(name)));
        for (spec, next_ms) in jobs.into_iter().zip(next_ms) {
            self.put_one(spec, next_ms);
        }
        JobsDeclared { full: 0 }
    }

    pub(super) fn put(&mut self, put: PutJob) -> JobPut {
        let PutJob { spec, next_ms } = put;
        let spec = spec.unwrap_or_default();
        let known = self.all.get(&spec.name).and_then(|it| it.spec.as_ref());
        if let Some(other) = known.filter(|it| it.app != spec.app || it.declared) {
            return JobPut { outcome: Some(Outcome::OfApp(other.app.clone())), created: false };
        }
        let created = known.is_none();
        if created && !self.has_room(&spec.app, 1) {
            let max = u32::try_from(APP_JOBS_MAX).unwrap_or(u32::MAX);
            return JobPut { outcome: Some(Outcome::Full(max)), created: false };
        }
        let name = spec.name.clone();
        self.put_one(spec, next_ms);
        let job = self.all.get(&name).map(|it| Job::clone(it)).unwrap_or_default();
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
                self.insert(Job { paused, ..Job::clone(&job) });
                JobManaged::default()
            }
            Some(Action::Run(_)) => {
                let spec = job.spec.clone().unwrap_or_default();
                match queues.publish_own(message(&spec, now_ms), call.max_bytes, now_ms, changes) {
                    Ok(true) => {
                        let (fired, last_ms) = (job.fired + 1, now_ms);
                        self.insert(Job { fired, last_ms, ..Job::clone(&job) });
                        JobManaged::default()
                    }
                    Ok(false) => JobManaged { runs: true, ..JobManaged::default() },
                    Err(_) => JobManaged { full: true, ..JobManaged::default() },
                }
            }
            None => JobManaged::default(),
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
            let mut next = Job { next_ms: fire.next_ms, times: job.times + 1, ..Job::clone(&job) };
            if fire.skip {
                next.missed += 1;
            } else {
                match queues.publish_own(message(&spec, fire.due_ms), call.max_bytes, now_ms, changes) {
                    Ok(true) => (next.fired, next.last_ms) = (job.fired + 1, fire.due_ms),
                    Ok(false) => next.overlapped += 1,
                    // There is no room: it is tried again, as late as it is then.
                    Err(_) => continue,
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

    /// The greatest version.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, job: Job) {
        self.last = self.last.max(job.version);
        self.insert(job);
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
mod tests {
    use super::*;
    use proto::hub::v1::{JobFire, QueueDescription};

    const MAX: u64 = 1 << 20;

    fn declared(name: &str) -> JobSpec {
        JobSpec {
            name: name.into(),
            app: "shop".into(),
            declared: true,
            every_ms: 1000,
            ..JobSpec::default()
        }
    }

    fn declare(jobs: &mut Jobs, specs: Vec<JobSpec>) {
        let next_ms = vec![1000; specs.len()];
        let call = DeclareJobs { app: "shop".into(), jobs: specs, next_ms };
        assert_eq!(jobs.declare(call).full, 0);
    }

    fn fire(name: &str, version: u64, due_ms: u64, next_ms: u64) -> FireJobs {
        let fire = JobFire { name: name.into(), version, due_ms, next_ms, skip: false };
        FireJobs { fires: vec![fire], max_bytes: MAX }
    }

    fn described(queues: &Queues, queue: &str) -> QueueDescription {
        queues.describe(0).find(|it| it.name == queue).unwrap_or_default()
    }

    #[test]
    fn of_each_time_one_message_is_published_and_runs_do_not_overlap() {
        let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
        declare(&mut jobs, vec![declared("a")]);
        assert_eq!(jobs.due(999).count(), 0);
        let job = jobs.due(1000).next().unwrap().clone();
        let run = |jobs: &mut Jobs, queues: &mut Queues, due_ms, next_ms| {
            jobs.fire(&fire("a", job.version, due_ms, next_ms), queues, due_ms, &mut Vec::new());
        };
        for _ in 0..2 {
            run(&mut jobs, &mut queues, 1000, 2000);
        }
        assert_eq!(described(&queues, "job:a").ready, 1, "the second word is of a time that is over");
        run(&mut jobs, &mut queues, 2000, 3000);
        let job = jobs.get("a").unwrap();
        assert_eq!((job.fired, job.overlapped, job.last_ms, job.next_ms), (1, 1, 1000, 3000));
        assert_eq!(described(&queues, "job:a").ready, 1, "the first one is not done");
    }

    #[test]
    fn each_that_was_missed_waits_for_the_one_before_it() {
        let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
        declare(&mut jobs, vec![JobSpec { missed: Missed::All.into(), ..declared("a") }]);
        let version = jobs.get("a").unwrap().version;
        for due_ms in [1000, 2000, 3000] {
            jobs.fire(&fire("a", version, due_ms, due_ms + 1000), &mut queues, 5000, &mut Vec::new());
        }
        let queue = described(&queues, "job:a");
        assert_eq!((queue.ready, queue.waiting), (1, 2));
    }

    #[test]
    fn what_is_declared_as_it_was_goes_on_and_what_is_not_ends() {
        let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
        declare(&mut jobs, vec![declared("a"), declared("b")]);
        let version = jobs.get("a").unwrap().version;
        jobs.fire(&fire("a", version, 1000, 2000), &mut queues, 1000, &mut Vec::new());
        declare(&mut jobs, vec![declared("a")]);
        assert_eq!((jobs.get("a").unwrap().next_ms, jobs.all.len()), (2000, 1));
        let pause = |paused| ManageJob {
            name: "a".into(),
            action: Some(Action::Pause(paused)),
            ..ManageJob::default()
        };
        jobs.manage(&pause(true), &mut queues, 1, &mut Vec::new());
        declare(&mut jobs, vec![JobSpec { every_ms: 5, ..declared("a") }]);
        assert_eq!((jobs.get("a").unwrap().paused, jobs.due(u64::MAX).count()), (true, 0));
        jobs.fire(&fire("a", version, 2000, 3000), &mut queues, 2000, &mut Vec::new());
        assert_eq!(jobs.get("a").unwrap().fired, 0, "it is another one");
        jobs.manage(&pause(false), &mut queues, 1, &mut Vec::new());
        assert_eq!(jobs.due(1000).count(), 1);
        let put = |app: &str| {
            let spec = JobSpec { app: app.into(), declared: false, ..declared("a") };
            Jobs::clone(&jobs).put(PutJob { spec: Some(spec), next_ms: 1 })
        };
        for app in ["shop", "other"] {
            assert_eq!(put(app).outcome, Some(Outcome::OfApp("shop".into())));
        }
    }

    #[test]
    fn one_that_was_made_publishes_and_ends() {
        let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
        let message = QueueMessage { queue: "q".into(), body: "x".into(), ..QueueMessage::default() };
        let spec =
            JobSpec { name: "once".into(), app: "shop".into(), message: Some(message), ..JobSpec::default() };
        let put = jobs.put(PutJob { spec: Some(spec.clone()), next_ms: 7 });
        let Some(Outcome::Job(job)) = put.outcome.filter(|_| put.created) else { panic!() };
        let run =
            ManageJob { name: "once".into(), action: Some(Action::Run(true)), max_bytes: MAX, author: None };
        assert_eq!(jobs.manage(&run, &mut queues, 1, &mut Vec::new()), JobManaged::default());
        let small = FireJobs { max_bytes: 10, ..fire("once", job.version, 7, 0) };
        jobs.fire(&small, &mut queues, 7, &mut Vec::new());
        assert_eq!(jobs.all.len(), 1, "there was no room");
        let mut again = Jobs::default();
        jobs.iter().for_each(|it| again.restore(it.clone()));
        again.restore_last(jobs.last());
        assert_eq!(again, jobs);
        jobs.fire(&fire("once", job.version, 7, 0), &mut queues, 7, &mut Vec::new());
        assert_eq!((jobs.all.len(), described(&queues, "q").ready), (0, 2));
        assert!(!jobs.remove(&RemoveJob { name: "once".into(), app: "shop".into() }).existed);
        jobs.put(PutJob { spec: Some(spec), next_ms: 7 });
        assert!(!jobs.remove(&RemoveJob { name: "once".into(), app: "other".into() }).existed);
        assert!(jobs.remove(&RemoveJob { name: "once".into(), app: "shop".into() }).existed);
        assert!(jobs.by_app.is_empty() && jobs.by_due.is_empty());
    }
}
