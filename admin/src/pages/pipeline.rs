//! A pipeline: what waits at its steps, its runs, and ending one.

use super::{
    Frame, Page,
    form::Form,
    format::{NONE, ago, beginning, count, millis, path_part},
    html, text,
};
use crate::{
    AnswerBody, Inner,
    browser::Visitor,
    pipelines::{PipelineRecord, RunRecord, RunsQuery, RunsRecord, StepRecord, WHICH},
    refusal::Refusal,
    sign_in::SignedIn,
    status::record::ClusterRecord,
};
use askama::Template;
use common::config::Config;
use http::{HeaderMap, Response, StatusCode};
use proto::hub::v1::RunState;

/// Runs on a page, and how much of why each has failed.
const RUNS: u32 = 40;
const WHY: usize = 300;
const LINES: usize = 8;

/// Steps that are shown; the JSON has all.
const STEPS: usize = 100;

#[derive(Debug, Template)]
#[template(path = "pipeline.html")]
struct PipelinePage {
    frame: Frame,
    name: String,
    path: String,
    steps: Vec<Step>,
    more_steps: usize,
    /// Which runs are shown, as a word.
    which: &'static str,
    choices: Vec<Choice>,
    runs: Vec<Run>,
    /// Why they are not shown.
    why: String,
    /// The number after which the next ones come, if there may be more.
    later: Option<String>,
    is_first: bool,
}

/// Runs that can be looked at.
#[derive(Debug)]
struct Choice {
    word: &'static str,
    words: String,
    number: String,
    chosen: bool,
}

#[derive(Debug)]
struct Step {
    name: String,
    queue_path: String,
    paused: bool,
    /// In the order of the table's head, before the dead.
    waits: Vec<String>,
    dead: String,
    has_dead: bool,
}

#[derive(Debug)]
struct Run {
    id: String,
    app: String,
    class: &'static str,
    state: &'static str,
    begun: String,
    ended: String,
    took: String,
    parts: String,
    dead: String,
    why: String,
}

/// What of a pipeline is looked at.
#[derive(Debug)]
pub(super) struct Looked<'a> {
    pub(super) pipeline: &'a PipelineRecord,
    pub(super) query: RunsQuery,
    /// The runs, or why they are not shown.
    pub(super) runs: Result<RunsRecord, String>,
}

/// Which runs an address asks for. What makes no sense says nothing.
pub(super) fn runs_query(form: &Form) -> RunsQuery {
    let which = WHICH.iter().find(|(word, _)| *word == form.field("which"));
    RunsQuery {
        which: which.map_or(RunState::Any, |(_, which)| *which),
        after: form.field("after").parse().unwrap_or_default(),
        limit: RUNS,
    }
}

/// The way back to a pipeline's page, from a form on it.
pub(super) fn way_back(pipeline: &str, form: &Form) -> String {
    let which = WHICH.iter().find(|(word, _)| *word == form.field("which")).map_or("all", |(word, _)| word);
    format!("/pipelines/{}?which={which}", path_part(pipeline))
}

impl Inner {
    /// The page of a pipeline, or that there is no such pipeline.
    pub(super) async fn pipeline_page(
        &self,
        config: &Config,
        prefix: &str,
        name: &str,
        (visitor, headers, form): (&Visitor, &HeaderMap, &Form),
    ) -> Response<AnswerBody> {
        let query = runs_query(form);
        let asker = SignedIn::new(visitor.user.clone(), None, headers);
        let (all, runs, cluster) =
            tokio::join!(self.pipelines(), self.pipeline_runs(&asker, name, &query), self.cluster(config));
        let Some(pipeline) = all.pipelines.iter().find(|it| it.name == name) else {
            let refusal = Refusal::NoPipeline(beginning(name, 100, 1));
            let why = match all.unknown {
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
                None => (refusal.status(), refusal.to_string()),
            };
            return self.refused_page(config, prefix, (Page::Pipelines, visitor), why).await;
        };
        let looked = Looked { pipeline, query, runs: runs.map_err(|refusal| refusal.to_string()) };
        let frame = Frame::new(prefix, Page::Pipelines, visitor, &cluster);
        html(StatusCode::OK, render(frame, &cluster, &looked))
    }
}

/// The page as HTML.
pub(super) fn render(frame: Frame, cluster: &ClusterRecord, looked: &Looked<'_>) -> String {
    text(&PipelinePage::new(frame, cluster, looked))
}

impl PipelinePage {
    fn new(frame: Frame, cluster: &ClusterRecord, looked: &Looked<'_>) -> Self {
        let Looked { pipeline, query, runs } = looked;
        let ended = [pipeline.going_on, pipeline.done, pipeline.halted, pipeline.failed];
        let all = ended.iter().copied().fold(0, u64::saturating_add);
        let choice = |((word, which), number): (&(&'static str, RunState), u64)| Choice {
            word,
            words: word.replace('-', " "),
            number: count(number),
            chosen: *which == query.which,
        };
        let choices: Vec<_> = WHICH.iter().zip([all].into_iter().chain(ended)).map(choice).collect();
        let which = choices.iter().find(|it| it.chosen).map_or("all", |it| it.word);
        let (shown, later, why) = match runs {
            Ok(it) => (&it.runs[..], it.next.clone(), String::new()),
            Err(why) => (&[][..], None, why.clone()),
        };
        let now = cluster.taken.as_deref();
        Self {
            frame,
            name: pipeline.name.clone(),
            path: path_part(&pipeline.name),
            steps: pipeline.steps.iter().take(STEPS).map(Step::of).collect(),
            more_steps: pipeline.steps.len().saturating_sub(STEPS),
            which,
            choices,
            runs: shown.iter().map(|it| Run::of(it, now)).collect(),
            why,
            later,
            is_first: query.after == 0,
        }
    }
}

impl Step {
    fn of(it: &StepRecord) -> Self {
        Self {
            name: it.step.clone(),
            queue_path: path_part(&it.queue),
            paused: it.paused,
            waits: [it.ready, it.delayed, it.assigned].map(count).into(),
            dead: count(it.dead),
            has_dead: it.dead > 0,
        }
    }
}

impl Run {
    fn of(run: &RunRecord, now: Option<&str>) -> Self {
        let past = |at: Option<&String>| match ago(at.map(String::as_str), now) {
            none if none.is_empty() => NONE.to_owned(),
            ago => format!("{ago} ago"),
        };
        let (class, state) = match run.state {
            "going-on" => ("ok", "going on"),
            "halted" => ("warn", "halted"),
            "failed" => ("bad", "failed"),
            state => ("off", state),
        };
        Self {
            id: run.id.clone(),
            app: beginning(&run.app, 100, 1),
            class,
            state,
            begun: past(run.begun.as_ref()),
            ended: past(run.ended.as_ref()),
            took: millis(run.took_ms.map(|it| it as f64)),
            parts: count(run.parts.into()),
            dead: count(run.dead.into()),
            why: beginning(&run.why, WHY, LINES),
        }
    }
}
