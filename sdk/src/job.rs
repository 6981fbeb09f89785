//! What of an app is called at times (docs/jobs.md), on one server of the cluster, one run at a time.

use crate::{Environment, Outcome, environment::Token, queue::answered};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A run of a job.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Due {
    /// The time that it is for: the same at each attempt.
    pub at: SystemTime,
    /// From 1.
    pub attempt: u32,
}

type Running = Pin<Box<dyn Future<Output = Result<Outcome, String>> + Send>>;
type Run = dyn Fn(Due) -> Running + Send + Sync;

#[derive(Clone)]
struct Job {
    token: Option<Token>,
    run: Arc<Run>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

/// The path by which Copal runs a job: `/jobs/NAME`, as `app.yaml` has to have it:
/// `jobs: [{name: NAME, path: /jobs/NAME, every: 20s}]`.
///
/// `Err` is tried again, later and later. With `COPAL_DEV=1` nobody runs it: an app's own tests call what it calls.
///
/// ```
/// use axum::{body::Body, http::Request};
/// use sdk::{Environment, Outcome};
/// use tower::ServiceExt;
///
/// async fn hourly(due: sdk::Due) -> Result<Outcome, std::io::Error> {
///     // Together with the run's end: one that is tried again counts once.
///     Ok(Outcome::done().increment("counters", "hours", 1))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServeError> {
/// # let variables = [("PORT", "1"), ("COPAL_HUB", "/api.sock"), ("COPAL_TOKEN", "secret")];
/// # let lookup = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
/// # let environment = Environment::from_lookup(lookup)?;
/// let routes = sdk::job(&environment, "hourly", hourly);
///
/// // What Copal does when it is time: 200 and 204 are done.
/// let run = Request::post("/jobs/hourly").header("authorization", "Bearer secret");
/// let answer = routes.oneshot(run.body(Body::empty()).unwrap()).await.unwrap();
/// assert_eq!(answer.status(), 200);
/// # Ok(())
/// # }
/// ```
pub fn job<F, O, E>(
    environment: &Environment,
    name: &str,
    run: impl Fn(Due) -> F + Send + Sync + 'static,
) -> Router
where
    F: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Outcome>,
    E: fmt::Display,
{
    let run = move |due: Due| -> Running {
        let running = run(due);
        Box::pin(async move { running.await.map(Into::into).map_err(|cause| cause.to_string()) })
    };
    let token = environment.hub.as_ref().map(|(_, token)| token.clone());
    Router::new().route(&format!("/jobs/{name}"), post(call)).with_state(Job { token, run: Arc::new(run) })
}

async fn call(State(job): State<Job>, headers: HeaderMap) -> Response {
    if !job.token.as_ref().is_some_and(|it| it.is_of(&headers)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let at = UNIX_EPOCH + Duration::from_millis(number("x-copal-due").unwrap_or(0));
    let attempt = number("x-copal-attempt").and_then(|it| u32::try_from(it).ok()).unwrap_or(1);
    answered((job.run)(Due { at, attempt }).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    #[tokio::test]
    async fn only_copal_runs_it() {
        let variables = [("PORT", "1"), ("COPAL_HUB", "/api.sock"), ("COPAL_TOKEN", "secret")];
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::from_lookup(lookup).unwrap();
        let router = job(&environment, "a", |due| async move {
            let at = due.at.duration_since(UNIX_EPOCH).unwrap().as_millis();
            if (at, due.attempt) == (17, 2) { Ok(()) } else { Err("not this one") }
        });
        let call = async |token: &str, due: &str| {
            let request = Request::post("/jobs/a")
                .header("authorization", format!("Bearer {token}"))
                .header("x-copal-due", due)
                .header("x-copal-attempt", "2")
                .body(Body::empty())
                .unwrap();
            router.clone().oneshot(request).await.unwrap().status().as_u16()
        };
        assert_eq!(
            (call("secret", "17").await, call("secret", "18").await, call("other", "17").await),
            (204, 500, 403)
        );
    }
}
