//! Jobs whose time has come: the leader says so, and when they come next.

use super::Hub;
use crate::{
    service::schedule_of,
    state::{job::queue_of, queue::Queues},
};
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

/// A job whose message found no room is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be done about a job that is due at `now_ms`; `None`: it waits.
fn fire(job: &Job, queues: &Queues, now_ms: u64) -> Option<JobFire> {
    let spec: &JobSpec = job.spec.as_ref()?;
    let is_missed = now_ms.saturating_sub(job.next_ms) > MISSED_MS;
    let skip = is_missed && spec.missed() == Missed::Skip;
    // Nobody who could run it is there: as soon as one is, it is late.
    if spec.declared && !skip && !queues.is_taken(&queue_of(spec)) {
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
        let mut later = HashMap::<String, Instant>::new();
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
            let due = {
                let applied = self.node().view().read();
                let state = &applied.state;
                let due = state.jobs().due(now_ms).take(DUE);
                let due = due.filter(|it| it.spec.as_ref().is_none_or(|it| !later.contains_key(&it.name)));
                due.filter_map(|it| fire(it, state.queues(), now_ms)).collect::<Vec<_>>()
            };
            for fires in due.chunks(FIRES) {
                let (fires, max_bytes) = (fires.to_vec(), self.queue_memory_max());
                let call = command::Command::FireJobs(FireJobs { fires: fires.clone(), max_bytes });
                if !self.try_propose(vec![Command { command: Some(call) }]).await {
                    break;
                }
                let applied = self.node().view().read();
                let jobs = applied.state.jobs();
                let is_due = |it: &&JobFire| jobs.get(&it.name).is_some_and(|job| job.next_ms == it.due_ms);
                for it in fires.iter().filter(is_due) {
                    tracing::warn!(job = it.name, "the job is due, and there is no room for its message");
                    later.insert(it.name.clone(), now + AGAIN);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::{ConsumeQueues, QueueWindow};

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

    fn taken() -> Queues {
        let mut queues = Queues::default();
        let window =
            QueueWindow { queue: "job:a".into(), app: "shop".into(), window: 1, ..QueueWindow::default() };
        let call = ConsumeQueues { server: "x".into(), started_ms: 1, number: 1, windows: vec![window] };
        queues.consume(call, 1, &mut Vec::new());
        queues
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_it_is_said() {
        let queues = taken();
        let fired = |missed, now_ms| {
            let it = fire(&job(100_000, missed, |_| {}), &queues, now_ms).unwrap();
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
        let nobody = Queues::default();
        assert_eq!(fire(&job(100_000, Missed::Once, |_| {}), &nobody, 155_000), None);
        assert_eq!(fire(&job(100_000, Missed::Skip, |_| {}), &nobody, 100_000), None);
        assert!(fire(&job(100_000, Missed::Skip, |_| {}), &nobody, 155_000).unwrap().skip);
    }

    #[test]
    fn it_ends_when_it_is_to() {
        let queues = taken();
        let next = |job: &Job| fire(job, &queues, job.next_ms).unwrap().next_ms;
        assert_eq!(next(&job(100_000, Missed::Once, |it| it.until_ms = 110_000)), 110_000);
        assert_eq!(next(&job(100_000, Missed::Once, |it| it.until_ms = 109_999)), 0);
        assert_eq!(next(&job(100_000, Missed::Once, |it| it.repeat = 1)), 0);
        let second = Job { times: 1, ..job(100_000, Missed::Once, |it| it.repeat = 3) };
        assert_eq!(next(&second), 110_000);
        assert_eq!(next(&Job { times: 2, ..second }), 0);
        assert_eq!(next(&job(100_000, Missed::Once, |it| (it.every_ms, it.at_ms) = (0, 5))), 0);
    }
}
