//! The pipelines of apps: how many runs each has, the runs themselves, and ending one.

use crate::{HUB_WAIT, Inner, queues::QueuesRecord, refusal::Refusal, sign_in::SignedIn, timestamp};
use percent_encoding::percent_decode_str;
use proto::hub::v1::{ListRuns, ListedRun, ManageRun, PipelineTotals, RunState, RunsListed};
use serde::Serialize;
use std::collections::BTreeMap;
use triad_client::HubError;

/// Runs of one answer.
const RUNS_MAX: u32 = 200;

/// How often the hub is asked for one answer: of each time it looks at a part of all runs.
const ASKED_MAX: usize = 20;

/// `GET /api/v1/pipelines`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct PipelinesRecord {
    /// By name: those that have runs, or queues of steps.
    pub(crate) pipelines: Vec<PipelineRecord>,
    /// Why the hub has not said; none when it has.
    pub(crate) unknown: Option<String>,
}

/// A pipeline. Its runs are those that go on, and those of which is kept what has come of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct PipelineRecord {
    pub(crate) name: String,
    pub(crate) going_on: u64,
    pub(crate) done: u64,
    pub(crate) halted: u64,
    pub(crate) failed: u64,
    /// By name.
    pub(crate) steps: Vec<StepRecord>,
}

/// The queue of a step, in numbers.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StepRecord {
    pub(crate) step: String,
    /// Its name.
    pub(crate) queue: String,
    pub(crate) paused: bool,
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) assigned: u64,
    pub(crate) waiting: u64,
    pub(crate) dead: u64,
}

/// `GET /api/v1/pipelines/{pipeline}/runs`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RunsRecord {
    /// By number.
    pub(crate) runs: Vec<RunRecord>,
    /// There may be more after this number; none: there are not.
    pub(crate) next: Option<String>,
}

/// A run. Its id is a text: it has more digits than JavaScript's numbers.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RunRecord {
    pub(crate) id: String,
    /// Who has begun it: an app's name on the hub.
    pub(crate) app: String,
    /// `going-on`, `done`, `halted` or `failed`.
    pub(crate) state: &'static str,
    pub(crate) begun: Option<String>,
    /// None: it has not.
    pub(crate) ended: Option<String>,
    /// From its begin to its end, in milliseconds; none: it goes on.
    pub(crate) took_ms: Option<u64>,
    /// It has failed.
    pub(crate) why: String,
    /// That it was fanned out into so far.
    pub(crate) parts: u32,
    /// Messages that are dead, or lost.
    pub(crate) dead: u32,
}

/// What came of ending a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunDoneRecord {
    /// It was over before.
    pub(crate) over: bool,
}

/// What has come of a run, by the word for it.
pub(crate) const WHICH: [(&str, RunState); 5] = [
    ("all", RunState::Any),
    ("going-on", RunState::GoingOn),
    ("done", RunState::Done),
    ("halted", RunState::Halted),
    ("failed", RunState::Failed),
];

/// Which runs are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunsQuery {
    pub(crate) which: RunState,
    pub(crate) after: u64,
    pub(crate) limit: u32,
}

impl RunsQuery {
    /// Of a query: `which`, `after`, `limit`.
    ///
    /// # Errors
    /// It has something else.
    pub(crate) fn of(query: &str) -> Result<Self, Refusal> {
        let mut read = Self { which: RunState::Any, after: 0, limit: 50 };
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            let refused = |expected: &str| {
                Refusal::Body(format!(
                    "{name} is {:?}: expected {expected}",
                    value.chars().take(40).collect::<String>()
                ))
            };
            match name {
                "which" => {
                    let known = WHICH.iter().find(|(word, _)| *word == value);
                    read.which = known.ok_or_else(|| refused("all, going-on, done, halted or failed"))?.1;
                }
                "after" => read.after = value.parse().map_err(|_| refused("a run's number"))?,
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=RUNS_MAX).contains(it));
                    read.limit = limit.ok_or_else(|| refused("a number from 1 to 200"))?;
                }
                _ => return Err(Refusal::Body(format!("{name:?}: expected which, after or limit"))),
            }
        }
        Ok(read)
    }
}

impl PipelinesRecord {
    /// Of the hub's totals, and its queues.
    fn of(listed: Result<RunsListed, String>, queues: &QueuesRecord) -> Self {
        let listed = match (listed, &queues.unknown) {
            (Ok(listed), None) => listed,
            (Err(why), _) => return Self { unknown: Some(why), ..Self::default() },
            (_, Some(why)) => return Self { unknown: Some(why.clone()), ..Self::default() },
        };
        let totals = listed.pipelines.into_iter().map(|it| (it.pipeline.clone(), PipelineRecord::of(it)));
        let mut all: BTreeMap<String, PipelineRecord> = totals.collect();
        for queue in &queues.queues {
            let Some((name, step)) = step_of(&queue.name) else { continue };
            let pipeline = all.entry(name.to_owned()).or_default();
            name.clone_into(&mut pipeline.name);
            pipeline.steps.push(StepRecord {
                step: step.to_owned(),
                queue: queue.name.clone(),
                paused: queue.paused,
                ready: queue.ready,
                delayed: queue.delayed,
                assigned: queue.assigned,
                waiting: queue.waiting,
                dead: queue.dead,
            });
        }
        Self { pipelines: all.into_values().collect(), unknown: None }
    }
}

/// The pipeline and the step whose queue this is, if it is one's.
pub(crate) fn step_of(queue: &str) -> Option<(&str, &str)> {
    queue.strip_prefix("pipe:")?.split_once(':')
}

impl PipelineRecord {
    fn of(it: PipelineTotals) -> Self {
        let PipelineTotals { pipeline: name, going_on, done, halted, failed } = it;
        Self { name, going_on, done, halted, failed, steps: Vec::new() }
    }
}

impl RunRecord {
    fn of(it: ListedRun) -> Self {
        let state = match it.state() {
            RunState::Any | RunState::GoingOn => "going-on",
            RunState::Done => "done",
            RunState::Halted => "halted",
            RunState::Failed => "failed",
        };
        Self {
            id: it.id.to_string(),
            state,
            begun: timestamp::format(it.begun_ms),
            ended: timestamp::format(it.ended_ms),
            took_ms: (it.ended_ms > 0).then(|| it.ended_ms.saturating_sub(it.begun_ms)),
            app: it.app,
            why: it.why,
            parts: it.parts,
            dead: it.dead,
        }
    }
}

impl Inner {
    /// The pipelines, as the hub has them.
    pub(crate) async fn pipelines(&self) -> PipelinesRecord {
        let wait = HUB_WAIT / 5;
        let totals = tokio::time::timeout(wait, self.hub.list_runs(ListRuns::default(), wait));
        let (totals, queues) = tokio::join!(totals, self.queues());
        let totals = match totals {
            Ok(listed) => listed.map_err(|why| why.to_string()),
            Err(_late) => Err("the hub does not answer".to_owned()),
        };
        PipelinesRecord::of(totals, &queues)
    }

    /// Runs of a pipeline. Why one has failed may be what an app has said of somebody.
    ///
    /// # Errors
    /// The user may not, or there is no such pipeline.
    pub(crate) async fn pipeline_runs(
        &self,
        asker: &SignedIn,
        pipeline: &str,
        query: &RunsQuery,
    ) -> Result<RunsRecord, Refusal> {
        asker.must_operate()?;
        let RunsQuery { which, mut after, limit } = *query;
        let mut found = RunsRecord::default();
        for _ in 0..ASKED_MAX {
            let left = limit.saturating_sub(u32::try_from(found.runs.len()).unwrap_or(u32::MAX));
            let list = ListRuns { pipeline: pipeline.to_owned(), state: which.into(), after, limit: left };
            let listed = match self.hub.list_runs(list, HUB_WAIT).await {
                Err(HubError::Refused(_)) => return Err(Refusal::NoPipeline(pipeline.to_owned())),
                listed => listed?,
            };
            if listed.unknown {
                return Err(Refusal::NoPipeline(pipeline.to_owned()));
            }
            found.runs.extend(listed.runs.into_iter().map(RunRecord::of));
            found.next = (listed.next > 0).then(|| listed.next.to_string());
            after = listed.next;
            if after == 0 || found.runs.len() >= limit as usize {
                break;
            }
        }
        Ok(found)
    }

    /// Ends a run: it halts with nothing.
    ///
    /// # Errors
    /// The user may not, or there is no such run.
    pub(crate) async fn end_run(
        &self,
        asker: &SignedIn,
        pipeline: &str,
        run: &str,
    ) -> Result<RunDoneRecord, Refusal> {
        asker.must_operate()?;
        let unknown = || Refusal::NoRun { pipeline: pipeline.to_owned(), run: run.to_owned() };
        let manage = ManageRun {
            pipeline: pipeline.to_owned(),
            run: run.parse().map_err(|_| unknown())?,
            author: Some(asker.author("")),
        };
        let managed = match self.hub.end_run(manage, HUB_WAIT).await {
            Err(HubError::Refused(_)) => return Err(unknown()),
            managed => managed?,
        };
        if managed.unknown {
            return Err(unknown());
        }
        if !managed.over {
            tracing::info!(user = asker.user.name, pipeline, run, "an operator has ended a run");
        }
        Ok(RunDoneRecord { over: managed.over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queues::QueueRecord;

    #[test]
    fn what_is_asked_is_read_or_named() {
        let query = |text: &str| RunsQuery::of(text).map_err(|it| it.to_string());
        assert_eq!(query(""), Ok(RunsQuery { which: RunState::Any, after: 0, limit: 50 }));
        let read = RunsQuery { which: RunState::GoingOn, after: 7, limit: 3 };
        assert_eq!(query("which=going%2Don&after=7&limit=3"), Ok(read));
        for (wrong, named) in [
            ("which=some", "which is \"some\": expected all, going-on"),
            ("limit=201", "limit is \"201\""),
            ("after=x", "after is"),
            ("x=1", "\"x\""),
        ] {
            assert!(query(wrong).unwrap_err().contains(named), "{wrong}");
        }
    }

    #[test]
    fn a_pipeline_is_there_by_its_runs_or_its_steps() {
        let queue = |name: &str| QueueRecord { name: name.to_owned(), ready: 2, ..QueueRecord::default() };
        let queues = QueuesRecord {
            queues: ["job:a", "pipe:b:first", "pipe:b:last", "pipe:c:first", "work"].map(queue).into(),
            ..QueuesRecord::default()
        };
        let totals = |name: &str| PipelineTotals {
            pipeline: name.to_owned(),
            going_on: 3,
            failed: 1,
            ..PipelineTotals::default()
        };
        let listed = RunsListed { pipelines: vec![totals("a"), totals("b")], ..RunsListed::default() };
        let told = PipelinesRecord::of(Ok(listed), &queues);
        let told = told.pipelines.iter().map(|it| {
            let steps = it.steps.iter().map(|it| format!(" {} {}", it.step, it.ready)).collect::<String>();
            format!("{} {} {}{steps}", it.name, it.going_on, it.failed)
        });
        assert_eq!(told.collect::<Vec<_>>(), ["a 3 1", "b 3 1 first 2 last 2", "c 0 0 first 2"]);
        assert_eq!(PipelinesRecord::of(Err("away".into()), &queues).unknown.as_deref(), Some("away"));
        let silent = QueuesRecord { unknown: Some("late".into()), ..QueuesRecord::default() };
        assert_eq!(PipelinesRecord::of(Ok(RunsListed::default()), &silent).unknown.as_deref(), Some("late"));
    }
}
