//! An app that says itself what it takes: no queue, job or daemon stands in its `app.yaml` then (docs/local-api.md).

use crate::{
    Copal, Due, Environment, Lease, Message, Outcome, PipelineSteps, ServeError, consume, daemon, job,
    serve::{serve_in, stop_signal},
};
use axum::Router;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::{fmt, future::Future, time::Duration};

/// An app with all that it takes, which it declares when it is served. Its `app.yaml` has `declare-at-start: true`, and none of this.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use sdk::{App, Copal, Environment, Message, Outcome, ServeError, ServiceError};
/// use std::time::Duration;
///
/// async fn mail(letter: Message<String>) -> Result<Outcome, ServiceError> {
///     Ok(Outcome::done().increment("sent", &letter.body, 1))
/// }
///
/// # async fn run() -> Result<(), ServeError> {
/// let environment = Environment::read()?;
/// let letters = Copal::of(&environment).queue("mail");
/// let mut app = App::new(&environment, Router::new().route("/", get("hello")));
/// app.consume("mail", mail).concurrency(8).attempts(5);
/// app.job("nightly", move |_due| {
///     let letters = letters.clone();
///     async move { letters.publish("report").await.map(|_id| Outcome::done()) }
/// })
/// .cron("30 2 * * *", "Europe/Berlin");
/// app.serve().await
/// # }
/// ```
#[derive(Debug)]
pub struct App<'a> {
    environment: &'a Environment,
    routes: Router,
    declared: Map<String, Value>,
}

/// One thing that an app takes, and how: what nothing is said of is as app.yaml's defaults have it (docs/configuration.md).
#[derive(Debug)]
pub struct Declared<'a>(&'a mut Map<String, Value>);

impl<'a> App<'a> {
    /// One that serves these pages.
    pub fn new(environment: &'a Environment, pages: Router) -> Self {
        Self { environment, routes: pages, declared: Map::new() }
    }

    /// It is called with the messages of a queue: see [`consume()`].
    pub fn consume<T, F, O, E>(
        &mut self,
        name: &str,
        handler: impl Fn(Message<T>) -> F + Send + Sync + 'static,
    ) -> Declared<'_>
    where
        T: DeserializeOwned + Send + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: fmt::Display,
    {
        let routes = consume(self.environment, name, handler);
        self.takes("queues", json!({"name": name, "path": format!("/queues/{name}")}), routes)
    }

    /// It is called at times, which have to be said: see [`job()`].
    pub fn job<F, O, E>(&mut self, name: &str, run: impl Fn(Due) -> F + Send + Sync + 'static) -> Declared<'_>
    where
        F: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: fmt::Display,
    {
        let routes = job(self.environment, name, run);
        self.takes("jobs", json!({"name": name, "path": format!("/jobs/{name}")}), routes)
    }

    /// It runs on one server of its cluster at a time: see [`daemon()`].
    pub fn daemon<F>(&mut self, name: &str, run: impl Fn(Lease) -> F + Send + Sync + 'static) -> Declared<'_>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let routes = daemon(self.environment, name, run);
        let [start, stop] = ["start", "stop"].map(|it| format!("/daemons/{name}/{it}"));
        self.takes("daemons", json!({"name": name, "start": start, "stop": stop}), routes)
    }

    /// It is called with the steps of a pipeline: see [`pipeline()`](crate::pipeline()).
    pub fn pipeline(&mut self, steps: PipelineSteps<'_>) -> Declared<'_> {
        let declared = steps.declared();
        self.takes("pipelines", declared, steps.routes())
    }

    /// A cache that is not as the defaults are.
    pub fn cache(&mut self, name: &str) -> Declared<'_> {
        self.takes("caches", json!({"name": name}), Router::new())
    }

    fn takes(&mut self, kind: &str, one: Value, routes: Router) -> Declared<'_> {
        self.routes = std::mem::take(&mut self.routes).merge(routes);
        let all = self.declared.entry(kind).or_insert_with(|| json!([]));
        let last = all.as_array_mut().and_then(|all| {
            all.push(one);
            all.last_mut()?.as_object_mut()
        });
        Declared(last.expect("a list of objects, with one more"))
    }

    /// What it takes, as JSON: the body of `PUT /v1/app`.
    pub fn declared(&self) -> Value {
        Value::Object(self.declared.clone())
    }

    /// Its pages, and the paths by which Copal calls it: for tests.
    pub fn into_router(self) -> Router {
        self.routes
    }

    /// Declares what it takes, and serves it as [`serve()`](crate::serve()) does.
    ///
    /// # Errors
    /// [`ServeError`]; [`ServeError::Declared`] where the server does not take it.
    pub async fn serve(self) -> Result<(), ServeError> {
        let copal = Copal::of(self.environment);
        let body = self.declared().to_string().into_bytes();
        copal.ask(Method::PUT, "/v1/app", body, &[], None).await?;
        serve_in(self.environment, self.routes, stop_signal()?).await
    }
}

impl Declared<'_> {
    /// Sets a key as `app.yaml` would have it, such as `"retry"`.
    pub fn set(self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// So many at once, in each process.
    pub fn concurrency(self, count: u32) -> Self {
        self.set("concurrency", count)
    }

    /// One is handled within this.
    pub fn timeout(self, time: Duration) -> Self {
        self.set("timeout", text(time))
    }

    /// So many attempts; 0: without an end.
    pub fn attempts(self, count: u32) -> Self {
        self.retry("attempts", count)
    }

    /// The wait before the second attempt, and the longest before a later one.
    pub fn backoff(self, first: Duration, longest: Duration) -> Self {
        self.retry("delay", text(first)).retry("max", text(longest))
    }

    fn retry(self, key: &str, value: impl Into<Value>) -> Self {
        let retry = self.0.entry("retry").or_insert_with(|| json!({}));
        if let Some(retry) = retry.as_object_mut() {
            retry.insert(key.to_owned(), value.into());
        }
        self
    }

    /// A job's times: each so long after the last one.
    pub fn every(self, time: Duration) -> Self {
        self.set("every", text(time))
    }

    /// A job's times: a cron expression, and in which time zone.
    pub fn cron(self, expression: &str, timezone: &str) -> Self {
        self.set("cron", expression).set("timezone", timezone)
    }

    /// How long a daemon's server may be silent before another takes it.
    pub fn lease(self, time: Duration) -> Self {
        self.set("lease", text(time))
    }

    /// A cache's mode: `distributed`, `replicated`, `invalidated` or `local`.
    pub fn mode(self, mode: &str) -> Self {
        self.set("mode", mode)
    }

    /// How long a cache's values are there.
    pub fn ttl(self, time: Duration) -> Self {
        self.set("ttl", text(time))
    }
}

fn text(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceError;

    #[tokio::test]
    async fn what_it_takes_is_declared_as_a_file_would() {
        let environment = Environment::in_memory();
        let done = |_: Message<u64>| async { Ok::<_, ServiceError>(Outcome::done()) };
        let mut app = App::new(&environment, Router::new());
        app.consume("a", done)
            .concurrency(4)
            .timeout(Duration::from_secs(20))
            .attempts(3)
            .backoff(Duration::from_secs(1), Duration::from_secs(60));
        app.consume("b", done);
        app.job("c", |_due| async { Ok::<_, ServiceError>(Outcome::done()) }).every(Duration::from_secs(5));
        app.daemon("d", |_lease| async {}).lease(Duration::from_secs(10));
        let steps = crate::pipeline(&environment, "e").step("one", done).join("two", done).on_error(done);
        app.pipeline(steps).concurrency(2);
        app.cache("f").mode("local").ttl(Duration::from_millis(1500));
        assert_eq!(
            app.declared(),
            json!({
                "queues": [
                    {"name": "a", "path": "/queues/a", "concurrency": 4, "timeout": "20000ms", "retry": {"attempts": 3, "delay": "1000ms", "max": "60000ms"}},
                    {"name": "b", "path": "/queues/b"},
                ],
                "jobs": [{"name": "c", "path": "/jobs/c", "every": "5000ms"}],
                "daemons": [{"name": "d", "start": "/daemons/d/start", "stop": "/daemons/d/stop", "lease": "10000ms"}],
                "pipelines": [{
                    "name": "e",
                    "steps": [
                        {"name": "one", "path": "/pipelines/e/one"},
                        {"name": "two", "path": "/pipelines/e/two", "join": true},
                    ],
                    "on-error": "/pipelines/e/on-error",
                    "concurrency": 2,
                }],
                "caches": [{"name": "f", "mode": "local", "ttl": "1500ms"}],
            })
        );
    }
}
