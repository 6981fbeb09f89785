//! Pipelines in memory: a run is a task that walks from step to step.

use super::{Dev, WAITING_MAX};
use crate::{
    ServiceError,
    pipeline::{DevStep, RunEnd, Steps},
    queue::{Handle, Outcome, Told},
};
use futures_util::future::join_all;
use serde_json::Value;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::watch;

/// What has come of a run, as soon as it has ended.
pub(super) type DevRun = watch::Receiver<Option<RunEnd<Value>>>;

/// How far a part of a run has come.
enum Went {
    End(Value),
    Halt(Value),
    /// To the step that joins it with the others.
    Joins(usize, Value),
}

type Walking = Pin<Box<dyn Future<Output = Result<Went, String>> + Send>>;

impl Dev {
    /// A pipeline has these steps from now on.
    pub(crate) fn put_pipeline(&self, name: &str, steps: Steps) {
        self.lock().pipelines.insert(name.to_owned(), Arc::new(steps));
    }

    /// Begins a run; its number.
    pub(crate) fn begin_run(
        &self,
        pipeline: &str,
        step: Option<&str>,
        body: Value,
    ) -> Result<String, ServiceError> {
        let refused = |code: &str, detail: String| ServiceError::Refused { code: code.to_owned(), detail };
        let mut memory = self.lock();
        let Some(steps) = memory.pipelines.get(pipeline).cloned() else {
            let detail = format!("no pipeline {pipeline} was made in this process");
            return Err(refused("bad-request", detail));
        };
        let place = match step {
            Some(step) => steps.place_of(step).map_err(|why| refused("bad-request", why))?,
            None => 0,
        };
        while memory.runs.len() >= WAITING_MAX {
            let ended = memory.runs.iter().find(|it| it.1.borrow().is_some()).map(|it| it.0.clone());
            let Some(ended) = ended else {
                return Err(refused("full", format!("{WAITING_MAX} runs have not ended")));
            };
            memory.runs.remove(&ended);
        }
        memory.version += 1;
        let id = format!("{:012}", memory.version);
        let (end, run) = watch::channel(None);
        memory.runs.insert((pipeline.to_owned(), id.clone()), run);
        drop(memory);
        let dev = self.clone();
        tokio::spawn(async move {
            let came = dev.walk(steps, place, body, false).await;
            let came = match came {
                Ok(Went::End(value) | Went::Joins(_, value)) => RunEnd::Done(value),
                Ok(Went::Halt(value)) => RunEnd::Halted(value),
                Err(why) => RunEnd::Failed(why),
            };
            end.send_replace(Some(came));
        });
        Ok(id)
    }

    /// What has come of a run, as soon as it has ended.
    pub(crate) fn run(&self, pipeline: &str, id: &str) -> Option<DevRun> {
        self.lock().runs.get(&(pipeline.to_owned(), id.to_owned())).cloned()
    }

    /// From a step on, which is called with `value` as it is; `is_part`: up to where the parts are joined.
    fn walk(&self, steps: Arc<Steps>, mut place: usize, mut value: Value, is_part: bool) -> Walking {
        let dev = self.clone();
        Box::pin(async move {
            loop {
                let Some(step) = steps.all.get(place) else { return Ok(Went::End(value)) };
                let (outcome, at) = dev.step(&steps, step, place, &value).await?;
                let body = outcome.json.get("body").cloned();
                let next = match outcome.json.get("next").and_then(Value::as_str) {
                    Some(name) => Some(steps.place_of(name)?),
                    None => at.map(|it| it + 1).filter(|it| *it < steps.all.len()),
                };
                if outcome.json.get("halt") == Some(&Value::Bool(true)) || at.is_none() && next.is_none() {
                    return Ok(Went::Halt(body.unwrap_or_default()));
                }
                let joins = |place: usize| steps.all.get(place).is_some_and(|it| it.joins);
                let parts = outcome.json.get("fan-out").and_then(Value::as_array).cloned();
                let went = match (parts, next) {
                    (Some(_), None) => return Err("there is no step after this one for its parts".to_owned()),
                    (Some(parts), Some(next)) if parts.is_empty() || joins(next) => {
                        let to = (next..steps.all.len()).find(|it| joins(*it));
                        to.map_or(Went::End(Value::Array(parts.clone())), |to| {
                            Went::Joins(to, Value::Array(parts))
                        })
                    }
                    (Some(parts), Some(next)) => dev.parts(&steps, next, parts).await?,
                    (None, next) => {
                        let has_next = outcome.json.contains_key("next");
                        value = body.unwrap_or(if has_next { value } else { Value::Null });
                        match next {
                            None => return Ok(Went::End(value)),
                            Some(next) if joins(next) && is_part => return Ok(Went::Joins(next, value)),
                            Some(next) if joins(next) => {
                                (place, value) = (next, Value::Array(vec![value]));
                            }
                            Some(next) => place = next,
                        }
                        continue;
                    }
                };
                match went {
                    Went::Joins(to, list) => (place, value) = (to, list),
                    other => return Ok(other),
                }
            }
        })
    }

    /// All parts of a fan-out, and what they come to together.
    async fn parts(&self, steps: &Arc<Steps>, place: usize, parts: Vec<Value>) -> Result<Went, String> {
        let all = join_all(parts.into_iter().map(|it| self.walk(steps.clone(), place, it, true))).await;
        let (mut list, mut to) = (Vec::new(), None);
        for went in all {
            match went? {
                Went::Halt(value) => return Ok(Went::Halt(value)),
                Went::End(value) => list.push(value),
                Went::Joins(place, value) => {
                    to = Some(place);
                    list.push(value);
                }
            }
        }
        let list = Value::Array(list);
        Ok(to.map_or_else(|| Went::End(list.clone()), |to| Went::Joins(to, list.clone())))
    }

    /// One step, and where it goes on from: `None`, the step for errors.
    async fn step(
        &self,
        steps: &Steps,
        step: &DevStep,
        place: usize,
        value: &Value,
    ) -> Result<(Outcome, Option<usize>), String> {
        let why = match self.attempts(&step.handle, value, Told::default()).await {
            Ok(outcome) => return Ok((outcome, Some(place))),
            Err(why) => why,
        };
        let Some(on_error) = &steps.on_error else { return Err(why) };
        Ok((self.mend(on_error, value, (&why, &step.name)).await?, None))
    }

    async fn mend(
        &self,
        on_error: &Arc<Handle>,
        value: &Value,
        error: (&str, &str),
    ) -> Result<Outcome, String> {
        let error = Some((error.0.to_owned(), error.1.to_owned()));
        self.attempts(on_error, value, Told { error, ..Told::default() }).await
    }
}

/// Waits for a run's end.
pub(crate) async fn ended(mut run: DevRun, wait: Duration) -> Option<RunEnd<Value>> {
    let ended = tokio::time::timeout(wait, run.wait_for(Option::is_some)).await;
    ended.ok()?.ok()?.clone()
}
