//! Pipelines (docs/pipelines.md): steps that this app is called with, one after the other, and runs that go through them.

use crate::{
    Copal, Environment, Fence, Message, Outcome, ServiceError,
    dev::ended,
    queue::{Handle, handle_of, route_of},
    services::{Place, refused},
};
use axum::Router;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fmt, future::Future, sync::Arc, time::Duration};

/// How long one question after a run takes in memory.
const AT_ONCE: Duration = Duration::ZERO;

/// What the step for errors is called.
const ON_ERROR: &str = "on-error";

/// The steps of a pipeline, as an app makes them: [`pipeline()`].
#[derive(Debug)]
pub struct PipelineSteps<'a> {
    environment: &'a Environment,
    name: String,
    routes: Router,
    steps: Steps,
}

/// Those that there are in memory.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) all: Vec<DevStep>,
    pub(crate) on_error: Option<Arc<Handle>>,
}

/// One of them.
pub(crate) struct DevStep {
    pub(crate) name: String,
    pub(crate) handle: Arc<Handle>,
    pub(crate) joins: bool,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|it| &it.name)).finish()
    }
}

impl Steps {
    /// The place of a step; why there is none.
    pub(crate) fn place_of(&self, step: &str) -> Result<usize, String> {
        let known = || self.all.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
        let place = self.all.iter().position(|it| it.name == step);
        place.ok_or_else(|| format!("{step:?} is no step: expected {}", known()))
    }
}

/// The paths by which Copal calls this app with the steps of a pipeline: `/pipelines/NAME/STEP`, as `app.yaml` has to have them, in the same order.
///
/// A step is handled as a [queue's message](crate::consume()); what it [replies](Outcome::reply) is the next one's message, and what the last one replies is the
/// run's result.
///
/// ```
/// use sdk::{Copal, Environment, Message, Outcome};
/// use std::{io::Error, time::Duration};
///
/// async fn split(album: Message<Vec<String>>) -> Result<Outcome, Error> {
///     Ok(Outcome::fan_out(album.body))
/// }
///
/// async fn thumbnail(photo: Message<String>) -> Result<Outcome, Error> {
///     Ok(Outcome::reply(&format!("small-{}", photo.body)))
/// }
///
/// async fn index(thumbnails: Message<Vec<String>>) -> Result<Outcome, Error> {
///     Ok(Outcome::reply(&thumbnails.body.join(" ")))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServiceError> {
/// let environment = Environment::in_memory();
/// // pipelines: [{name: album, steps: [{name: split, path: /pipelines/album/split}, {name: thumbnail, path: /pipelines/album/thumbnail},
/// //     {name: index, path: /pipelines/album/index, join: true}]}]
/// let steps = sdk::pipeline(&environment, "album");
/// let routes = steps.step("split", split).step("thumbnail", thumbnail).join("index", index).routes();
///
/// let album = Copal::of(&environment).pipeline("album");
/// let photos = ["a.jpg", "b.jpg"];
/// assert_eq!(album.ask::<_, String>(&photos, Duration::from_secs(10)).await?, "small-a.jpg small-b.jpg");
/// # Ok(())
/// # }
/// ```
pub fn pipeline<'a>(environment: &'a Environment, name: &str) -> PipelineSteps<'a> {
    PipelineSteps { environment, name: name.to_owned(), routes: Router::new(), steps: Steps::default() }
}

impl PipelineSteps<'_> {
    /// The next step.
    pub fn step<T, F, O, E>(
        self,
        name: &str,
        handler: impl Fn(Message<T>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: fmt::Display,
    {
        self.with(name, handle_of(handler), false)
    }

    /// The same with `join: true`: it is called with a list of what all parts have come to.
    pub fn join<T, F, O, E>(
        self,
        name: &str,
        handler: impl Fn(Message<T>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: fmt::Display,
    {
        self.with(name, handle_of(handler), true)
    }

    /// What is called with a message whose last attempt has failed, `/pipelines/NAME/on-error`: [`Message::error`] says why and where. Without
    /// [`Outcome::next`] it ends the run.
    #[must_use]
    pub fn on_error<T, F, O, E>(mut self, handler: impl Fn(Message<T>) -> F + Send + Sync + 'static) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: fmt::Display,
    {
        let handle = handle_of(handler);
        self.steps.on_error = Some(handle.clone());
        self.route(ON_ERROR, handle)
    }

    fn with(mut self, name: &str, handle: Arc<Handle>, joins: bool) -> Self {
        self.steps.all.push(DevStep { name: name.to_owned(), handle: handle.clone(), joins });
        self.route(name, handle)
    }

    fn route(mut self, step: &str, handle: Arc<Handle>) -> Self {
        let path = format!("/pipelines/{}/{step}", self.name);
        self.routes = self.routes.merge(route_of(self.environment, &path, handle));
        self
    }

    /// As `app.yaml` would have it.
    pub(crate) fn declared(&self) -> Value {
        let path = |step: &str| format!("/pipelines/{}/{step}", self.name);
        let steps = self.steps.all.iter().map(|it| {
            let mut step = json!({"name": it.name, "path": path(&it.name)});
            if it.joins {
                step["join"] = true.into();
            }
            step
        });
        let mut declared = json!({"name": self.name, "steps": steps.collect::<Vec<_>>()});
        if self.steps.on_error.is_some() {
            declared["on-error"] = path(ON_ERROR).into();
        }
        declared
    }

    /// The paths, for the app's router.
    pub fn routes(self) -> Router {
        let Self { environment, name, routes, steps } = self;
        if environment.hub.is_none() {
            environment.dev.put_pipeline(&name, steps);
        }
        routes
    }
}

/// A pipeline of the cluster, of this app or another one. Messages and results are JSON.
#[derive(Debug, Clone)]
pub struct Pipeline {
    copal: Copal,
    name: String,
    fence: Option<Fence>,
    step: Option<String>,
}

/// What has come of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd<T> {
    /// What its last step has replied.
    Done(T),
    /// A step has halted it, with this.
    Halted(Value),
    /// A message of it is dead: why.
    Failed(String),
}

impl Copal {
    /// A pipeline of the cluster.
    pub fn pipeline(&self, name: &str) -> Pipeline {
        Pipeline { copal: self.clone(), name: name.to_owned(), fence: None, step: None }
    }
}

impl Pipeline {
    /// The same, whose runs begin only while this daemon's lease is held.
    pub fn fenced(&self, fence: &Fence) -> Self {
        Self { fence: Some(fence.clone()), ..self.clone() }
    }

    /// The same, whose runs begin at this step.
    pub fn at(&self, step: &str) -> Self {
        Self { step: Some(step.to_owned()), ..self.clone() }
    }

    /// Begins a run: it is on disk on a majority of the hub when this returns. Its id.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn begin<T: Serialize + ?Sized>(&self, body: &T) -> Result<String, ServiceError> {
        let body = serde_json::to_value(body).map_err(|cause| ServiceError::Value(cause.to_string()))?;
        if let Place::Memory(dev) = &*self.copal.0 {
            return dev.begin_run(&self.name, self.step.as_deref(), body);
        }
        let (_, answer) = self.post(&body, Duration::ZERO).await?;
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|cause| ServiceError::Value(cause.to_string()))?;
        Ok(answer["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Begins a run and waits for its result.
    ///
    /// # Errors
    /// [`ServiceError`]; refused with `late` when it has not ended in time, with `failed`, and with `halted` and what the step has said.
    pub async fn ask<T: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        body: &T,
        wait: Duration,
    ) -> Result<R, ServiceError> {
        let end = match &*self.copal.0 {
            Place::Memory(dev) => {
                let id = self.begin(body).await?;
                match dev.run(&self.name, &id) {
                    Some(run) => ended(run, wait).await,
                    None => None,
                }
            }
            Place::Server(..) => {
                let body =
                    serde_json::to_value(body).map_err(|cause| ServiceError::Value(cause.to_string()))?;
                let (status, answer) = self.post(&body, wait).await?;
                Some(if status == StatusCode::GONE {
                    RunEnd::Halted(value(&answer)?)
                } else {
                    RunEnd::Done(value(&answer)?)
                })
            }
        };
        let refused =
            |code: &str, detail: String| Err(ServiceError::Refused { code: code.to_owned(), detail });
        match end {
            Some(RunEnd::Done(value)) => {
                serde_json::from_value(value).map_err(|cause| ServiceError::Value(cause.to_string()))
            }
            Some(RunEnd::Halted(value)) => refused("halted", value.to_string()),
            Some(RunEnd::Failed(why)) => refused("failed", why),
            None => refused("late", format!("the run has not ended within {wait:?}")),
        }
    }

    /// What has come of a run; `None`: it goes on.
    ///
    /// # Errors
    /// [`ServiceError`]; refused with `not-found` when there is none, or it is forgotten.
    pub async fn run<R: DeserializeOwned>(&self, id: &str) -> Result<Option<RunEnd<R>>, ServiceError> {
        let end = match &*self.copal.0 {
            Place::Memory(dev) => {
                let Some(run) = dev.run(&self.name, id) else {
                    let detail = format!("there is no run {id} of {}", self.name);
                    return Err(ServiceError::Refused { code: "not-found".into(), detail });
                };
                ended(run, AT_ONCE).await
            }
            Place::Server(..) => {
                let path = format!("/v1/pipelines/{}/runs/{id}", self.name);
                let answer = self.copal.answer(Method::GET, &path, Vec::new(), &[], None).await?;
                match answer.status() {
                    StatusCode::ACCEPTED => None,
                    StatusCode::OK => Some(RunEnd::Done(value(answer.body())?)),
                    StatusCode::GONE => Some(RunEnd::Halted(value(answer.body())?)),
                    _ => match refused(&answer) {
                        ServiceError::Refused { code, detail } if code == "failed" => {
                            Some(RunEnd::Failed(detail))
                        }
                        other => return Err(other),
                    },
                }
            }
        };
        let Some(end) = end else { return Ok(None) };
        Ok(Some(match end {
            RunEnd::Done(value) => RunEnd::Done(
                serde_json::from_value(value).map_err(|cause| ServiceError::Value(cause.to_string()))?,
            ),
            RunEnd::Halted(value) => RunEnd::Halted(value),
            RunEnd::Failed(why) => RunEnd::Failed(why),
        }))
    }

    /// Begins a run on the server; what it is answered with, unless it is refused.
    async fn post(&self, body: &Value, wait: Duration) -> Result<(StatusCode, Bytes), ServiceError> {
        let step = self.step.as_ref().map(|it| format!("&step={it}")).unwrap_or_default();
        let path = format!("/v1/pipelines/{}?wait={}ms{step}", self.name, wait.as_millis());
        let (body, fence) = (body.to_string().into(), self.fence.as_ref());
        let answer = self.copal.answer(Method::POST, &path, body, &[], fence).await?;
        match answer.status() {
            status if status.is_success() || status == StatusCode::GONE => Ok((status, answer.into_body())),
            _ => Err(refused(&answer)),
        }
    }
}

/// A body; a step may reply with nothing.
fn value(body: &Bytes) -> Result<Value, ServiceError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|cause| ServiceError::Value(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn square(message: Message<i64>) -> Result<Outcome, String> {
        match message.body {
            it if it < 0 => Err(format!("{it} is negative")),
            it => Ok(Outcome::reply(&(it * it))),
        }
    }

    async fn sum(message: Message<Vec<i64>>) -> Result<Outcome, String> {
        Ok(Outcome::reply(&message.body.iter().sum::<i64>()))
    }

    fn squares(environment: &Environment) -> Router {
        let split = async |it: Message<Vec<i64>>| Ok::<_, String>(Outcome::fan_out(it.body));
        let split = move |it: Message<Vec<i64>>| split(it);
        let mend = |message: Message<i64>| async move {
            let (why, step) = message.error.clone().unwrap();
            assert_eq!((why, step), (format!("{} is negative", message.body), "square".to_owned()));
            match message.body {
                -100 => Ok(Outcome::reply("too small")),
                it => Ok::<_, String>(Outcome::reply(&-it).next("square")),
            }
        };
        pipeline(environment, "squares")
            .step("split", split)
            .step("square", square)
            .join("sum", sum)
            .on_error(mend)
            .routes()
    }

    #[tokio::test(start_paused = true)]
    async fn in_memory_it_does_the_same() {
        let environment = Environment::in_memory();
        let _routes = squares(&environment);
        let squares = Copal::of(&environment).pipeline("squares");
        let wait = Duration::from_secs(60);
        assert_eq!(squares.ask::<_, i64>(&[1, -2, 3], wait).await.unwrap(), 14);
        assert_eq!(squares.ask::<_, i64>(&[0; 0], wait).await.unwrap(), 0);
        assert_eq!(squares.at("square").ask::<_, i64>(&3, wait).await.unwrap(), 9);
        assert_eq!(squares.at("sum").ask::<_, i64>(&[3, 4], wait).await.unwrap(), 7);
        let code = |it: ServiceError| match it {
            ServiceError::Refused { code, .. } => code,
            other => panic!("{other}"),
        };
        assert_eq!(code(squares.ask::<_, i64>(&[1, -100], wait).await.unwrap_err()), "halted");
        assert_eq!(code(squares.at("x").begin(&1).await.unwrap_err()), "bad-request");
        assert_eq!(code(squares.run::<i64>("7").await.unwrap_err()), "not-found");
        let id = squares.begin(&[5]).await.unwrap();
        let end = loop {
            if let Some(end) = squares.run::<i64>(&id).await.unwrap() {
                break end;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(end, RunEnd::Done(25));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_step_for_errors_a_run_fails() {
        let environment = Environment::in_memory();
        let _routes = pipeline(&environment, "p").step("square", square).routes();
        let end = Copal::of(&environment).pipeline("p").ask::<_, i64>(&-1, Duration::from_secs(60)).await;
        assert!(
            matches!(end, Err(ServiceError::Refused { code, detail }) if code == "failed" && detail == "-1 is negative")
        );
    }
}
