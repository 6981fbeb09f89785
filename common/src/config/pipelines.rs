//! `pipelines` of an `app.yaml`: steps that messages go through, one after the other.

use super::{
    app_yaml::health_path,
    daemons::service_name,
    decode::{Context, Fields},
    keys,
    node::Node,
    queues::{Retry, TIMEOUT, retry},
    quoted::quoted,
};
use crate::service_name::ServiceName;
use std::{ops::RangeInclusive, time::Duration};

/// A pipeline of an app: each run begins with the first step; what a step answers is the next one's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPipeline {
    /// `name`: the whole cluster's.
    pub name: ServiceName,
    /// `steps`, those of pipelines among them spliced in. At least one.
    pub steps: Vec<DeclaredStep>,
    /// `on-error`: what is called with messages of which all attempts have failed.
    pub on_error: Option<DeclaredStep>,
    /// `result-ttl` (1 h): how long what has come of a run is kept.
    pub result_ttl: Duration,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredStep {
    /// `name` (`step-` and its place, from 1); of a pipeline that is spliced in that one's name before it, with a dot.
    pub name: ServiceName,
    /// `path`: each message is posted to it.
    pub path: String,
    /// `concurrency` (the pipeline's, or 1): messages that one process of the app has at once.
    pub concurrency: u32,
    /// `timeout` (the pipeline's, or 60 s): how long a message may take.
    pub timeout: Duration,
    /// `retry` (the pipeline's): what becomes of one that failed.
    pub retry: Retry,
    /// `join`: it waits for all parts of a run, and has them all in one message.
    pub join: bool,
}

impl DeclaredPipeline {
    /// What the step for errors is called, and what the queue of the first step is: no other may be called so.
    pub const ON_ERROR: &'static str = "on-error";
    /// See [`Self::ON_ERROR`].
    pub const FIRST: &'static str = "first";
}

/// The bounds of how long results are kept.
const RESULT_TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// The most of one app, and the most steps of all of them.
const PIPELINES_MAX: usize = 50;
const STEPS_MAX: usize = 500;

pub(super) fn decode(fields: &Fields<'_>) -> Vec<DeclaredPipeline> {
    let context = fields.context;
    let nodes = fields.items("pipelines");
    if nodes.len() > PIPELINES_MAX {
        let text = format!("{} pipelines: expected at most {PIPELINES_MAX}", nodes.len());
        context.error(fields.span("pipelines"), text);
        return Vec::new();
    }
    let mut pipelines: Vec<DeclaredPipeline> = Vec::new();
    for node in nodes {
        let Some(pipeline) = pipeline(context, node, &pipelines) else { continue };
        if pipelines.iter().any(|it| it.name == pipeline.name) {
            let name = quoted(pipeline.name.as_str());
            context.error(node.span, format!("a second pipeline {name}: expected another name"));
        } else {
            pipelines.push(pipeline);
        }
        // Each may have all those before it: so it does not double again and again.
        if steps_of(&pipelines) > STEPS_MAX {
            let text = format!("with this one there are more than {STEPS_MAX} steps of pipelines in all");
            context.error(node.span, text);
            return pipelines;
        }
    }
    pipelines
}

fn steps_of(pipelines: &[DeclaredPipeline]) -> usize {
    pipelines.iter().map(|it| it.steps.len()).sum()
}

/// How steps are handled that don't say.
#[derive(Clone, Copy)]
struct Defaults {
    concurrency: u32,
    timeout: Duration,
    retry: Retry,
}

impl Defaults {
    /// What `fields` say, or else these.
    fn or(self, context: Context<'_>, fields: &Fields<'_>) -> Self {
        let of_retry = fields.get("retry").filter(|node| !node.is_null());
        Self {
            concurrency: fields.integer("concurrency", 1..=1000).unwrap_or(self.concurrency),
            timeout: fields.duration("timeout", TIMEOUT).unwrap_or(self.timeout),
            retry: of_retry.and_then(|node| retry(context, node)).unwrap_or(self.retry),
        }
    }

    fn step(self, name: ServiceName, path: String, join: bool) -> DeclaredStep {
        let Self { concurrency, timeout, retry } = self;
        DeclaredStep { name, path, concurrency, timeout, retry, join }
    }
}

fn pipeline(context: Context<'_>, node: &Node, before: &[DeclaredPipeline]) -> Option<DeclaredPipeline> {
    let fields = Fields::open(context, node, &keys::PIPELINE)?;
    let name = fields.required("name", "such as `orders`").and_then(|node| service_name(context, node));
    let all = Defaults { concurrency: 1, timeout: Duration::from_secs(60), retry: Retry::default() };
    let all = all.or(context, &fields);
    let on_error = fields.get("on-error").filter(|node| !node.is_null()).and_then(|node| {
        let path = context.checked(node, health_path)?;
        let name = ServiceName::new(DeclaredPipeline::ON_ERROR).ok()?;
        Some(all.step(name, path, false))
    });
    let nodes = fields.required("steps", "such as `[{path: /check}, {path: /charge}]`");
    let nodes = nodes.map(|node| context.items(node)).unwrap_or_default();
    let mut steps: Vec<DeclaredStep> = Vec::new();
    for node in nodes {
        for step in step(context, node, (before, all), steps.len() + 1) {
            match fits(&steps, &step.name) {
                Ok(()) => steps.push(step),
                Err(why) => context.error(node.span, why),
            }
        }
        if steps.len() > STEPS_MAX {
            context.error(node.span, format!("more than {STEPS_MAX} steps with this one"));
            return None;
        }
    }
    if nodes.is_empty() && fields.entry("steps").is_some() {
        context.error(fields.span("steps"), "a pipeline has at least one step");
    }
    let result_ttl = fields.duration("result-ttl", RESULT_TTL).unwrap_or(Duration::from_secs(3600));
    (!steps.is_empty()).then_some(DeclaredPipeline { name: name?, steps, on_error, result_ttl })
}

/// A step, the `place`th, or those of a pipeline that is one.
fn step(
    context: Context<'_>,
    node: &Node,
    (before, all): (&[DeclaredPipeline], Defaults),
    place: usize,
) -> Vec<DeclaredStep> {
    let Some(fields) = Fields::open(context, node, &keys::STEP) else { return Vec::new() };
    if let Some(other) = fields.get("pipeline") {
        for key in ["name", "path", "concurrency", "timeout", "retry", "join"] {
            if let Some(entry) = fields.entry(key) {
                let text = format!("`{key}` is that pipeline's to say: expected `pipeline` alone");
                context.error(entry.key_span, text);
            }
        }
        return spliced(context, other, before);
    }
    let path = fields.required("path", "that messages are posted to, such as `/orders/check`");
    let path = path.and_then(|node| context.checked(node, health_path));
    let name = match fields.get("name") {
        Some(node) => service_name(context, node),
        None => ServiceName::new(&format!("step-{place}")).ok(),
    };
    let join = fields.boolean("join").unwrap_or(false);
    if join && place == 1 {
        context.error(fields.span("join"), "there is nothing to `join` before the first step");
    }
    let handled = all.or(context, &fields);
    name.zip(path).map(|(name, path)| handled.step(name, path, join)).into_iter().collect()
}

/// The steps of a pipeline that stands before.
fn spliced(context: Context<'_>, node: &Node, before: &[DeclaredPipeline]) -> Vec<DeclaredStep> {
    let Some(other) = service_name(context, node) else { return Vec::new() };
    let Some(found) = before.iter().find(|it| it.name == other) else {
        let known: Vec<_> = before.iter().map(|it| quoted(it.name.as_str())).collect();
        let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
        let text = format!("expected a pipeline of this file that stands before ({known}), found {other}");
        context.error(node.span, text);
        return Vec::new();
    };
    let named = found.steps.iter().map(|step| {
        let name = format!("{other}.{}", step.name);
        let name = ServiceName::new(&name).map_err(|_| {
            let text =
                format!("its step would be called {}: expected {}", quoted(&name), ServiceName::EXPECTED);
            context.error(node.span, text);
        });
        name.map(|name| DeclaredStep { name, ..step.clone() })
    });
    named.filter_map(Result::ok).collect()
}

fn fits(steps: &[DeclaredStep], name: &ServiceName) -> Result<(), String> {
    let text = name.as_str();
    if steps.iter().any(|it| it.name == *name) {
        return Err(format!("a second step {}: expected another name", quoted(text)));
    }
    if text == DeclaredPipeline::ON_ERROR {
        return Err("`on-error` is the pipeline's own step for errors: expected another name".to_owned());
    }
    if text == DeclaredPipeline::FIRST && !steps.is_empty() {
        return Err("no step but the first one is called `first`: expected another name".to_owned());
    }
    Ok(())
}
