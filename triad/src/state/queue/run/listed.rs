//! Runs as operators see and end them.

use super::{QUEUE, Queues, Run, step_of};
use crate::state::change::Change;
use proto::hub::v1::{
    ListRuns, ListedRun, ManageRun, PipelineTotals, RunManaged, RunPart, RunState, RunsListed, run_end::End,
};
use std::ops::Bound;

/// Runs that are looked at for one answer.
const LOOKED_MAX: usize = 10_000;

/// Runs of a pipeline that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::state::queue) struct Totals {
    going_on: u64,
    done: u64,
    halted: u64,
    failed: u64,
}

impl Totals {
    fn of(&mut self, state: RunState) -> &mut u64 {
        match state {
            RunState::Any | RunState::GoingOn => &mut self.going_on,
            RunState::Done => &mut self.done,
            RunState::Halted => &mut self.halted,
            RunState::Failed => &mut self.failed,
        }
    }

    fn told(self, pipeline: &str) -> PipelineTotals {
        let Self { going_on, done, halted, failed } = self;
        PipelineTotals { pipeline: pipeline.to_owned(), going_on, done, halted, failed }
    }
}

impl Run {
    fn state(&self) -> RunState {
        match self.end.as_ref().and_then(|it| it.0.end.as_ref()) {
            None => RunState::GoingOn,
            Some(End::Done(_)) => RunState::Done,
            Some(End::Halted(_)) => RunState::Halted,
            Some(End::Failed(_)) => RunState::Failed,
        }
    }

    fn listed(&self, id: u64) -> ListedRun {
        let why = match self.end.as_ref().and_then(|it| it.0.end.as_ref()) {
            Some(End::Failed(why)) => why.clone(),
            _ => String::new(),
        };
        ListedRun {
            id,
            pipeline: self.pipeline.to_string(),
            app: self.app.to_string(),
            state: self.state().into(),
            begun_ms: self.begun_ms,
            ended_ms: self.end.as_ref().map_or(0, |it| it.1),
            why,
            parts: self.parts,
            dead: self.dead,
        }
    }
}

impl Queues {
    /// Changes how many runs there are like this one.
    pub(super) fn total(&mut self, run: &Run, change: impl FnOnce(u64) -> u64) {
        let mut totals = self.pipelines.get(&run.pipeline).copied().unwrap_or_default();
        let count = totals.of(run.state());
        *count = change(*count);
        if totals == Totals::default() {
            self.pipelines.remove(&run.pipeline);
        } else {
            self.pipelines.insert(run.pipeline.clone(), totals);
        }
    }

    /// How many runs each pipeline has that has any, by name.
    pub(crate) fn pipelines(&self) -> impl Iterator<Item = PipelineTotals> {
        self.pipelines.iter().map(|(name, it)| it.told(name))
    }

    /// Some runs of a pipeline, and how many there are. One answer looks at a bounded number.
    pub(crate) fn list_runs(&self, call: &ListRuns) -> RunsListed {
        let totals = self.pipelines.get(&*call.pipeline);
        let mut listed = RunsListed {
            unknown: totals.is_none() && !self.has_steps(&call.pipeline),
            pipelines: totals.map(|it| it.told(&call.pipeline)).into_iter().collect(),
            ..RunsListed::default()
        };
        let limit = usize::try_from(call.limit).unwrap_or(usize::MAX);
        let from = (Bound::Excluded(call.after), Bound::Unbounded);
        let (mut looked, mut last) = (0, 0);
        if totals.is_none() {
            return listed;
        }
        for (id, run) in self.runs.range(from) {
            if looked == LOOKED_MAX || listed.runs.len() == limit {
                listed.next = last;
                break;
            }
            (looked, last) = (looked + 1, *id);
            let is_meant = call.state() == RunState::Any || call.state() == run.state();
            if is_meant && *run.pipeline == *call.pipeline {
                listed.runs.push(run.listed(*id));
            }
        }
        listed
    }

    /// Whether a pipeline has the queue of a step.
    fn has_steps(&self, pipeline: &str) -> bool {
        let first = format!("{QUEUE}{pipeline}:");
        let from = (Bound::Included(first.as_str()), Bound::Unbounded);
        let next = self.all.range::<_, str>(from).next();
        next.and_then(|(queue, _)| step_of(queue)).is_some_and(|it| it.0 == pipeline)
    }

    /// An operator ends a run: it halts with nothing.
    pub(crate) fn end_run(&mut self, call: &ManageRun, now_ms: u64, changes: &mut Vec<Change>) -> RunManaged {
        let Some(run) = self.runs.get(&call.run).filter(|it| *it.pipeline == *call.pipeline) else {
            return RunManaged { unknown: true, over: false };
        };
        let over = run.is_over();
        if !over {
            self.run_ends(call.run, End::Halted(RunPart::default()), (now_ms, changes));
        }
        RunManaged { unknown: false, over }
    }
}
