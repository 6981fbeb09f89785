//! Steps of pipelines: where a run goes from one (docs/pipelines.md). This server knows what its apps declare; the hub does what it is told.

use bytes::Bytes;
use common::config::{DeclaredPipeline, DeclaredStep};
use proto::hub::v1::{Advance, DeliveryDone, QueueMessage, RunPart, advance::To};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// The kinds of JSON in lists of parts, and of what is none.
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// The names of steps' queues begin so; no app can use such a name.
const QUEUE: &str = "pipe:";

/// The queue of a pipeline's step.
pub(crate) fn queue_of(pipeline: &str, step: &str) -> String {
    format!("{QUEUE}{pipeline}:{step}")
}

/// The queue at which runs of a pipeline begin: it is called alike whatever its first step is, so that any server may begin one.
pub(crate) fn first_queue_of(pipeline: &str) -> String {
    queue_of(pipeline, DeclaredPipeline::FIRST)
}

/// The pipeline and the step whose queue this is, if it is one's.
pub(crate) fn step_of(queue: &str) -> Option<(&str, &str)> {
    queue.strip_prefix(QUEUE)?.split_once(':')
}

/// A pipeline, as an app of this server has it.
#[derive(Debug)]
pub(crate) struct Pipeline(DeclaredPipeline);

impl Pipeline {
    /// How long what has come of its runs is kept.
    pub(super) fn result_ttl(&self) -> Duration {
        self.0.result_ttl
    }

    fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// The queue of the step at this place.
    fn queue_at(&self, place: usize) -> Option<String> {
        let step = self.0.steps.get(place)?;
        Some(if place == 0 { first_queue_of(self.name()) } else { queue_of(self.name(), step.name.as_str()) })
    }

    /// The queue of a step that is called so; why there is none.
    pub(crate) fn queue_of_name(&self, step: &str) -> Result<String, String> {
        self.place_of(step).and_then(|it| self.queue_at(it)).ok_or_else(|| {
            let known: Vec<_> = self.0.steps.iter().map(|it| it.name.as_str()).collect();
            format!("{step:?} is no step of {}: expected {}", self.name(), known.join(", "))
        })
    }

    fn place_of(&self, step: &str) -> Option<usize> {
        if step == DeclaredPipeline::FIRST {
            return Some(0);
        }
        self.0.steps.iter().position(|it| it.name.as_str() == step)
    }

    /// What the step is called whose queue this is.
    pub(super) fn name_of_queue(&self, queue: &str) -> String {
        match step_of(queue) {
            Some((_, DeclaredPipeline::FIRST)) => {
                self.0.steps.first().map(|it| it.name.to_string()).unwrap_or_default()
            }
            Some((_, step)) => step.to_owned(),
            None => String::new(),
        }
    }
}

/// A step of one.
#[derive(Debug)]
pub(crate) struct Step {
    pipeline: Arc<Pipeline>,
    /// `None`: the one for errors.
    place: Option<usize>,
}

/// Where a run goes, if the step's outcome says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Way {
    /// `next`: a step.
    pub(crate) next: Option<String>,
    /// `halt`.
    pub(crate) halt: bool,
    /// `fan-out`: a message each.
    pub(crate) fan_out: Option<Vec<Value>>,
    /// Its outcome has a `body`.
    pub(crate) has_body: bool,
}

impl Way {
    /// Whether it says anything that only a step may.
    pub(crate) fn is_of_step(&self) -> bool {
        self.next.is_some() || self.halt || self.fan_out.is_some()
    }
}

/// All steps of a pipeline, with what each has declared, and where what is dead in them goes.
pub(super) fn steps_of(declared: &DeclaredPipeline) -> Vec<(Arc<Step>, DeclaredStep)> {
    let pipeline = Arc::new(Pipeline(declared.clone()));
    let at = |place| Arc::new(Step { pipeline: pipeline.clone(), place });
    let steps = declared.steps.iter().enumerate().map(|(place, it)| (at(Some(place)), it.clone()));
    steps.chain(declared.on_error.iter().map(|it| (at(None), it.clone()))).collect()
}

impl Step {
    /// Its pipeline.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Its pipeline's name.
    pub(super) fn pipeline_name(&self) -> &str {
        self.pipeline.name()
    }

    /// It is the one for errors.
    pub(super) fn is_for_errors(&self) -> bool {
        self.place.is_none()
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        let step = self.place.and_then(|it| self.pipeline.0.steps.get(it));
        step.map_or(DeclaredPipeline::ON_ERROR, |it| it.name.as_str())
    }

    /// Its queue.
    pub(super) fn queue(&self) -> String {
        let queue = self.place.and_then(|it| self.pipeline.queue_at(it));
        queue.unwrap_or_else(|| queue_of(self.pipeline.name(), DeclaredPipeline::ON_ERROR))
    }

    /// Where a message goes of which all attempts have failed; empty: nowhere.
    pub(super) fn dead_to(&self) -> String {
        let goes = self.place.is_some() && self.pipeline.0.on_error.is_some();
        if goes { queue_of(self.pipeline.name(), DeclaredPipeline::ON_ERROR) } else { String::new() }
    }

    /// Where a run goes when this step is done with `message`; `done` is what it goes on with. `None`: it ends.
    ///
    /// # Errors
    /// There is no such way.
    pub(crate) fn advance(
        &self,
        way: Way,
        message: &QueueMessage,
        done: &mut DeliveryDone,
    ) -> Result<Option<Advance>, String> {
        let Way { next, halt, fan_out, has_body } = way;
        if halt && (next.is_some() || fan_out.is_some()) {
            return Err("outcome.halt: expected neither next nor fan-out beside it".to_owned());
        }
        if next.is_some() && !has_body && fan_out.is_none() {
            *done = DeliveryDone { body: message.body.clone(), content_type: message.content_type.clone() };
        }
        let next = match &next {
            Some(name) => {
                self.pipeline.queue_of_name(name).map_err(|why| format!("outcome.next: {why}"))?;
                self.pipeline.place_of(name)
            }
            None => self.place.map(|it| it + 1).filter(|it| *it < self.pipeline.0.steps.len()),
        };
        let halts = halt || self.place.is_none() && next.is_none();
        let (to, parts) = match fan_out {
            _ if halts => (Some(To::Halt(true)), Vec::new()),
            Some(values) => self.fan_out(next, values, done)?,
            None => (next.and_then(|it| self.to(it, true)), Vec::new()),
        };
        if message.join > 0 || matches!(to, Some(To::Join(_))) {
            done.content_type = kind_in_list(&done.content_type, &done.body).to_owned();
        }
        Ok(to.map(|to| Advance { to: Some(to), parts }))
    }

    /// To the step at this place; `waits`: for the other parts, if it joins them.
    fn to(&self, place: usize, waits: bool) -> Option<To> {
        let queue = self.pipeline.queue_at(place)?;
        let joins = waits && self.pipeline.0.steps.get(place).is_some_and(|it| it.join);
        Some(if joins { To::Join(queue) } else { To::Queue(queue) })
    }

    fn fan_out(
        &self,
        next: Option<usize>,
        values: Vec<Value>,
        done: &mut DeliveryDone,
    ) -> Result<(Option<To>, Vec<RunPart>), String> {
        let steps = &self.pipeline.0.steps;
        let Some(next) = next else {
            return Err("outcome.fan-out: there is no step after this one for its parts".to_owned());
        };
        // Nothing is between its parts and the step that joins them: it has them all at once.
        let joins = steps.get(next).is_some_and(|it| it.join);
        if values.is_empty() || joins {
            let joining = (next..steps.len()).find(|it| steps.get(*it).is_some_and(|it| it.join));
            let body = Bytes::from(Value::Array(values).to_string());
            *done = DeliveryDone { body, content_type: JSON.to_owned() };
            return Ok((joining.and_then(|it| self.to(it, false)), Vec::new()));
        }
        let parts = values
            .into_iter()
            .map(|it| RunPart { body: Bytes::from(it.to_string()), content_type: JSON.to_owned() });
        Ok((self.to(next, false), parts.collect()))
    }
}

/// As what a part stands in a list: the hub takes JSON at its word.
fn kind_in_list<'a>(content_type: &'a str, body: &[u8]) -> &'a str {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind == JSON || kind.ends_with("+json") {
        true if serde_json::from_slice::<IgnoredAny>(body).is_ok() => JSON,
        true => TEXT,
        false => content_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::{config::Retry, service_name::ServiceName};
    use serde_json::json;

    fn declared(name: &str, join: bool) -> DeclaredStep {
        DeclaredStep {
            name: ServiceName::new(name).unwrap(),
            path: format!("/{name}"),
            concurrency: 1,
            timeout: Duration::from_secs(1),
            retry: Retry::default(),
            join,
        }
    }

    fn pipeline(on_error: bool) -> Vec<Arc<Step>> {
        let steps = [("split", false), ("work", false), ("sum", true), ("tell", false)];
        let declared = DeclaredPipeline {
            name: ServiceName::new("p").unwrap(),
            steps: steps.map(|(name, join)| declared(name, join)).into(),
            on_error: on_error.then(|| declared("on-error", false)),
            result_ttl: Duration::from_secs(1),
        };
        steps_of(&declared).into_iter().map(|it| it.0).collect()
    }

    fn way(next: Option<&str>) -> Way {
        Way { next: next.map(str::to_owned), ..Way::default() }
    }

    /// Where it goes, and with what.
    fn goes(step: &Step, way: Way, join: u64) -> Result<(Option<To>, usize, String), String> {
        let message = QueueMessage { body: Bytes::from("before"), join, ..QueueMessage::default() };
        let mut done = DeliveryDone { body: Bytes::from("{}"), content_type: "application/json; a=b".into() };
        let advance = step.advance(way, &message, &mut done)?.unwrap_or_default();
        let body = String::from_utf8_lossy(&done.body).into_owned();
        Ok((advance.to, advance.parts.len(), body))
    }

    #[test]
    fn a_run_goes_on_or_where_it_is_sent() {
        let steps = pipeline(true);
        let [split, work, sum, tell, on_error] = &steps[..] else { panic!() };
        assert_eq!([split.queue(), work.queue()], ["pipe:p:first", "pipe:p:work"]);
        assert_eq!((work.dead_to(), on_error.dead_to()), ("pipe:p:on-error".into(), String::new()));
        assert_eq!(pipeline(false)[0].dead_to(), "");
        let queue = |name: &str| Some(To::Queue(format!("pipe:p:{name}")));
        assert_eq!(goes(split, way(None), 0).unwrap(), (queue("work"), 0, "{}".into()));
        assert_eq!(goes(work, way(None), 0).unwrap().0, Some(To::Join("pipe:p:sum".into())));
        assert_eq!(goes(sum, way(None), 0).unwrap().0, queue("tell"));
        assert_eq!(goes(tell, way(None), 0).unwrap().0, None);
        // Backwards, with the message that there was unless the outcome has another.
        assert_eq!(goes(tell, way(Some("split")), 0).unwrap(), (queue("first"), 0, "before".into()));
        let with_body = Way { has_body: true, ..way(Some("work")) };
        assert_eq!(goes(tell, with_body, 0).unwrap(), (queue("work"), 0, "{}".into()));
        let refused = goes(tell, way(Some("werk")), 0).unwrap_err();
        assert_eq!(refused, "outcome.next: \"werk\" is no step of p: expected split, work, sum, tell");
        let halt = Way { halt: true, ..Way::default() };
        assert_eq!(goes(split, halt, 0).unwrap().0, Some(To::Halt(true)));
        assert!(goes(split, Way { halt: true, ..way(Some("sum")) }, 0).is_err());
        // The step for errors ends a run, if it does not say where it goes.
        assert_eq!(goes(on_error, way(None), 0).unwrap().0, Some(To::Halt(true)));
        assert_eq!(goes(on_error, way(Some("work")), 0).unwrap(), (queue("work"), 0, "before".into()));
        let named = work.pipeline().name_of_queue("pipe:p:first");
        assert_eq!((named.as_str(), work.pipeline().name_of_queue("pipe:p:sum").as_str()), ("split", "sum"));
    }

    #[test]
    fn parts_go_to_a_step_each() {
        let steps = pipeline(false);
        let out = |values: Value| Way { fan_out: values.as_array().cloned(), ..Way::default() };
        let queue = |name: &str| Some(To::Queue(format!("pipe:p:{name}")));
        assert_eq!(goes(&steps[0], out(json!([1, "b"])), 0).unwrap(), (queue("work"), 2, "{}".into()));
        // None: whoever joins them has none.
        assert_eq!(goes(&steps[0], out(json!([])), 0).unwrap(), (queue("sum"), 0, "[]".into()));
        assert_eq!(goes(&steps[1], out(json!([1, 2])), 0).unwrap(), (queue("sum"), 0, "[1,2]".into()));
        let jump = Way { next: Some("tell".into()), ..out(json!([])) };
        assert_eq!(goes(&steps[1], jump, 0).unwrap(), (None, 0, "[]".into()));
        assert!(goes(&steps[3], out(json!([1])), 0).unwrap_err().contains("no step after this one"));
    }

    #[test]
    fn what_says_that_it_is_json_is_looked_at() {
        for (kind, body, expected) in [
            ("application/json; charset=utf-8", "{}", JSON),
            ("application/problem+json", "[1]", JSON),
            ("Application/JSON", "{", TEXT),
            ("application/json", "1],[2", TEXT),
            ("text/html", "{}", "text/html"),
            ("", "", ""),
        ] {
            assert_eq!(kind_in_list(kind, body.as_bytes()), expected, "{kind} {body}");
        }
    }
}
