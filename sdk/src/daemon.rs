//! What of an app runs on one server of the cluster at a time (docs/daemons.md): a future that lives while the daemon's lease is held.

use crate::{Environment, environment::Token};
use axum::{Router, extract::State, routing::post};
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use std::{fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

/// A lease's name and token, `name=token`: to be sent with each write, so that one who has lost it writes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence(String);

impl Fence {
    /// As the header `X-Copal-Fence` has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The daemon is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon's lease is not this server's any more")]
pub struct Lost;

/// The lease by which a [`daemon()`] runs. Other leases are had over the local API (docs/leases.md).
#[derive(Debug)]
pub struct Lease {
    fence: Fence,
    stop: watch::Receiver<bool>,
}

impl Lease {
    /// What writes are to be sent with.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Lost`], as soon as the daemon is to end.
    pub async fn sleep(&mut self, time: Duration) -> Result<(), Lost> {
        tokio::select! {
            biased;
            // An error means that nobody could say so any more.
            _ = self.stop.wait_for(|it| *it) => Err(Lost),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

type Run = dyn Fn(Lease) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// What runs now, and how it is told to end.
type Running = (watch::Sender<bool>, JoinHandle<()>);

#[derive(Clone)]
struct Daemon {
    token: Option<Token>,
    run: Arc<Run>,
    running: Arc<Mutex<Option<Running>>>,
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Daemon")
    }
}

/// The two paths by which Copal starts and stops a daemon: `/daemons/NAME/start` and `/daemons/NAME/stop`, as `app.yaml` has to have them.
///
/// `run` ends when [`Lease::sleep`] says so, or when it is done, until the next start; it is dropped 10 seconds after it was told. If it panics, the process
/// ends, so that the daemon is started again, here or elsewhere.
///
/// ```
/// use axum::{body::Body, http::Request};
/// use sdk::{Copal, Environment, Lease};
/// use std::time::Duration;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServeError> {
/// # let variables = [("PORT", "1"), ("COPAL_HUB", "/api.sock"), ("COPAL_TOKEN", "secret")];
/// # let lookup = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
/// # let environment = Environment::from_lookup(lookup)?;
/// let counters = Copal::of(&environment).cache("counters");
/// let routes = sdk::daemon(&environment, "ticker", move |mut lease: Lease| {
///     // What it writes after its lease has gone to another counts for nothing.
///     let counters = counters.fenced(lease.fence());
///     async move {
///         while lease.sleep(Duration::from_secs(1)).await.is_ok() {
///             let _not_counted = counters.increment("seconds", 1).await;
///         }
///     }
/// });
///
/// // What Copal does on the server that holds the lease, and when that is over.
/// for path in ["/daemons/ticker/start", "/daemons/ticker/stop"] {
///     let call = Request::post(path).header("authorization", "Bearer secret").header("x-copal-fence", "ticker=42");
///     let answer = routes.clone().oneshot(call.body(Body::empty()).unwrap()).await.unwrap();
///     assert_eq!(answer.status(), 204);
/// }
/// # Ok(())
/// # }
/// ```
pub fn daemon<F>(
    environment: &Environment,
    name: &str,
    run: impl Fn(Lease) -> F + Send + Sync + 'static,
) -> Router
where
    F: Future<Output = ()> + Send + 'static,
{
    let daemon = Daemon {
        token: environment.hub.as_ref().map(|(_, token)| token.clone()),
        run: Arc::new(move |lease| Box::pin(run(lease))),
        running: Arc::default(),
    };
    Router::new()
        .route(&format!("/daemons/{name}/start"), post(start))
        .route(&format!("/daemons/{name}/stop"), post(stop))
        .with_state(daemon)
}

/// How long what was told to end may go on.
const END_MAX: Duration = Duration::from_secs(10);

impl Daemon {
    /// Whether it is Copal that calls: other processes of the machine can connect as well.
    fn is_copal(&self, headers: &HeaderMap) -> bool {
        self.token.as_ref().is_some_and(|it| it.is_of(headers))
    }

    /// Ends what runs, and runs another one if there is one; to its end, though its caller may go away meanwhile.
    async fn change(self, next: Option<Fence>) {
        let changing = tokio::spawn(async move {
            let mut running = self.running.lock().await;
            if let Some((stop, mut task)) = running.take() {
                stop.send_replace(true);
                if tokio::time::timeout(END_MAX, &mut task).await.is_err() {
                    task.abort();
                    // Until it is dropped.
                    let _ = task.await;
                }
            }
            if let Some(fence) = next {
                let (stop, told) = watch::channel(false);
                let daemon = (self.run)(Lease { fence, stop: told });
                let task = tokio::spawn(async move {
                    // One that has panicked runs nowhere, and its lease is renewed on and on: the server is to see that this process has ended.
                    if AssertUnwindSafe(daemon).catch_unwind().await.is_err() {
                        std::process::abort();
                    }
                });
                *running = Some((stop, task));
            }
        });
        // A panic is in the log.
        let _ = changing.await;
    }
}

async fn start(State(daemon): State<Daemon>, headers: HeaderMap) -> StatusCode {
    let fence = headers.get("x-copal-fence").and_then(|it| it.to_str().ok());
    let (true, Some(fence)) = (daemon.is_copal(&headers), fence) else { return StatusCode::FORBIDDEN };
    daemon.change(Some(Fence(fence.to_owned()))).await;
    StatusCode::NO_CONTENT
}

async fn stop(State(daemon): State<Daemon>, headers: HeaderMap) -> StatusCode {
    if !daemon.is_copal(&headers) {
        return StatusCode::FORBIDDEN;
    }
    daemon.change(None).await;
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listen;
    use axum::body::Body;
    use http::Request;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::ServiceExt;

    #[tokio::test]
    async fn it_runs_from_start_to_stop_and_only_copal_says_so() {
        let environment = Environment {
            listen: Listen::Port(1),
            hub: Some(("/api.sock".into(), Token("secret".into()))),
            server: "a".into(),
            app: "default/".into(),
            dev: crate::dev::Dev::default(),
        };
        let running = Arc::new(AtomicUsize::new(0));
        let seen = running.clone();
        let router = daemon(&environment, "ticker", move |mut lease| {
            let seen = seen.clone();
            async move {
                assert_eq!(lease.fence().as_str(), "ticker=7");
                seen.fetch_add(1, Ordering::SeqCst);
                while lease.sleep(Duration::from_secs(60)).await.is_ok() {}
                seen.fetch_sub(1, Ordering::SeqCst);
            }
        });
        let call = async |path: &str, token: &str| {
            let request = Request::post(path)
                .header("authorization", format!("Bearer {token}"))
                .header("x-copal-fence", "ticker=7")
                .body(Body::empty())
                .unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        for token in ["", "secre", "secrets", "Secret"] {
            assert_eq!(call("/daemons/ticker/start", token).await, StatusCode::FORBIDDEN);
            assert_eq!(call("/daemons/ticker/stop", token).await, StatusCode::FORBIDDEN);
        }
        for _ in 0..3 {
            assert_eq!(call("/daemons/ticker/start", "secret").await, StatusCode::NO_CONTENT);
        }
        while running.load(Ordering::SeqCst) != 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(call("/daemons/ticker/stop", "secret").await, StatusCode::NO_CONTENT);
        assert_eq!(running.load(Ordering::SeqCst), 0);
        assert_eq!(call("/daemons/ticker/stop", "secret").await, StatusCode::NO_CONTENT);
    }
}
