//! Jobs whose time has come: the leader says so, and when they come next.

use super::Hub;
use crate::{service::schedule_of, state::job::queue_of};
use proto::hub::v1::{Command, FireJobs, Job, JobFire, JobSpec, Missed, command};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it is looked: a run is late by no more.
const TICK: Duration = Duration::from_millis(20);

/// A time that is so long ago was missed.
const MISSED_MS: u64 = 30_000;

/// Jobs of one command, and of one look.
const FIRES: usize = 500;
const DUE: usize = 5_000;

/// How often it is said that there is no room.
const WARN: Duration = Duration::from_secs(10);

/// A job that nobody can run is looked at again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What is to be done about a job that is due at `now_ms`; `None`: it waits. `is_taken`: whether somebody takes messages of its queue.
fn fire(job: &Job, is_taken: bool, now_ms: u64) -> Option<JobFire> {
    let spec: &JobSpec = job.spec.as_ref()?;
    let is_missed = now_ms.saturating_sub(job.next_ms) > MISSED_MS;
    let skip = is_missed && spec.missed() == Missed::Skip;
    // Nobody who could run it is there: as soon as one is, it is late.
    if spec.declared && !skip && !is_taken {
        return None;
    }
    // What could be read when it was made.
    let schedule = schedule_of(spec).ok()?;
    let next = match spec.missed() {
        Missed::All => schedule.after(job.next_ms),
        Missed::Once | Missed::Skip => schedule.next(job.next_ms, now_ms),
    };
    let is_last = spec.repeat != 0 && job.times + 1 >= spec.repeat;
    let next = next.filter(|it| !is_last && (spec.until_ms == 0 || *it <= spec.until_ms));
    Some(JobFire {
        name: spec.name.clone(),
        version: job.version,
        due_ms: job.next_ms,
        next_ms: next.unwrap_or(0),
        skip,
    })
}

impl Hub {
    /// Fires jobs that are due, while this server leads; until stopped.
    pub(crate) async fn fire_jobs(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut later, mut warned) = (HashMap::<String, Instant>::new(), None);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            if !self.vouches() {
                continue;
            }
            let (now, now_ms) = (self.now(), self.time_ms());
            later.retain(|_, until| *until > now);
            let mut due = Vec::new();
            for (job, is_taken) in self.due_jobs(now_ms, &later) {
                match fire(&job, is_taken, now_ms) {
                    Some(fire) => due.push(fire),
                    None => drop(later.insert(name(&job).to_owned(), now + AGAIN)),
                }
            }
            let mut no_room = 0;
            for fires in due.chunks(FIRES) {
                let (fires, max_bytes) = (fires.to_vec(), self.queue_memory_max());
                let call = command::Command::FireJobs(FireJobs { fires: fires.clone(), max_bytes });
                if !self.try_propose(vec![Command { command: Some(call) }]).await {
                    break;
                }
                let applied = self.node().view().read();
                let jobs = applied.state.jobs();
                let is_due = |it: &&JobFire| jobs.get(&it.name).is_some_and(|job| job.next_ms == it.due_ms);
                no_room += fires.iter().filter(is_due).count();
            }
            if no_room > 0 && warned.is_none_or(|it| now - it >= WARN) {
                warned = Some(now);
                tracing::warn!(
                    jobs = no_room,
                    "jobs are due, and there is no room for their messages: they are late (queue-memory-max)"
                );
            }
        }
    }

    /// The jobs that are due, but for those that are looked at later, and whether somebody takes their messages.
    fn due_jobs(&self, now_ms: u64, later: &HashMap<String, Instant>) -> Vec<(Arc<Job>, bool)> {
        let applied = self.node().view().read();
        let state = &applied.state;
        let due = state.jobs().due(now_ms).filter(|it| !later.contains_key(name(it))).take(DUE);
        let is_taken = |it: &Job| it.spec.as_ref().is_some_and(|it| state.queues().is_taken(&queue_of(it)));
        due.map(|it| (it.clone(), is_taken(it))).collect()
    }
}

fn name(job: &Job) -> &str {
    job.spec.as_ref().map_or("", |it| &it.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(next_ms: u64, missed: Missed, change: impl FnOnce(&mut JobSpec)) -> Job {
        let mut spec = JobSpec {
            name: "a".into(),
            app: "shop".into(),
            declared: true,
            every_ms: 10_000,
            missed: missed.into(),
            ..JobSpec::default()
        };
        change(&mut spec);
        Job { spec: Some(spec), next_ms, version: 1, ..Job::default() }
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_it_is_said() {
        let fired = |missed, now_ms| {
            let it = fire(&job(100_000, missed, |_| {}), true, now_ms).unwrap();
            (it.skip, it.next_ms)
        };
        for missed in [Missed::Once, Missed::Skip, Missed::All] {
            assert_eq!(fired(missed, 100_005), (false, 110_000));
        }
        assert_eq!(fired(Missed::Once, 155_000), (false, 160_000));
        assert_eq!(fired(Missed::Skip, 155_000), (true, 160_000));
        assert_eq!(fired(Missed::All, 155_000), (false, 110_000));
    }

    #[test]
    fn nobody_to_run_it_is_a_time_that_is_missed() {
        assert_eq!(fire(&job(100_000, Missed::Once, |_| {}), false, 155_000), None);
        assert_eq!(fire(&job(100_000, Missed::Skip, |_| {}), false, 100_000), None);
        assert!(fire(&job(100_000, Missed::Skip, |_| {}), false, 155_000).unwrap().skip);
    }

    #[test]
    fn it_ends_when_it_is_to() {
        let next = |job: &Job| fire(job, true, job.next_ms).unwrap().next_ms;
        assert_eq!(next(&job(100_000, Missed::Once, |it| it.until_ms = 110_000)), 110_000);
        assert_eq!(next(&job(100_000, Missed::Once, |it| it.until_ms = 109_999)), 0);
        assert_eq!(next(&job(100_000, Missed::Once, |it| it.repeat = 1)), 0);
        let second = Job { times: 1, ..job(100_000, Missed::Once, |it| it.repeat = 3) };
        assert_eq!(next(&second), 110_000);
        assert_eq!(next(&Job { times: 2, ..second }), 0);
        assert_eq!(next(&job(100_000, Missed::Once, |it| (it.every_ms, it.at_ms) = (0, 5))), 0);
    }
}
