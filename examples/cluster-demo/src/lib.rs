//! One app that uses all that a cluster has: a daemon sends a counter through a queue, a job counts on its own, all servers share the messages and one
//! cache, and each user has a count of his own. Kill any server: the counters go on where they were.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use sdk::{Cache, Copal, Environment, Message, Outcome, ServiceError, Session, SessionError};
use std::{env, io::Write, time::Duration};

/// The cache that all servers read, and what is in it.
const CACHE: &str = "counters";
const SENT: &str = "sent";
const RECEIVED: &str = "received";
const JOBS: &str = "jobs";

/// How often the daemon sends; tests are less patient.
const EVERY: &str = "CLUSTER_DEMO_EVERY_MS";

/// Serves the app where Copal says, until it says stop.
///
/// # Errors
/// See [`sdk::ServeError`].
pub async fn run() -> Result<(), sdk::ServeError> {
    let environment = Environment::read()?;
    let every = env::var(EVERY)
        .ok()
        .and_then(|it| it.parse().ok())
        .map_or(Duration::from_secs(5), Duration::from_millis);
    sdk::serve(router(&environment, every)).await
}

/// Pages, and what Copal calls; the daemon sends this often.
pub fn router(environment: &Environment, every: Duration) -> Router {
    let counters = Copal::of(environment).cache(CACHE);
    Router::new()
        .route("/", get(home))
        .route("/count", get(count))
        .with_state(counters)
        .merge(counter(environment, every))
        .merge(listener(environment))
        .merge(ajob(environment))
}

/// The daemon: on one server, it sends a cached number and adds one to it.
fn counter(environment: &Environment, every: Duration) -> Router {
    let copal = Copal::of(environment);
    sdk::daemon(environment, "counter", move |mut lease| {
        // What it does after its lease has gone to another counts for nothing.
        let (queue, counters) =
            (copal.queue("msg").fenced(lease.fence()), copal.cache(CACHE).fenced(lease.fence()));
        async move {
            while lease.sleep(every).await.is_ok() {
                let sent = async {
                    let number = counters.increment(SENT, 1).await?;
                    queue.publish(&number).await
                };
                if let Err(cause) = sent.await {
                    say(&format!("not sent: {cause}"));
                }
            }
        }
    })
}

/// Each message comes to one of the servers, which counts it.
fn listener(environment: &Environment) -> Router {
    let server = environment.server.clone();
    sdk::consume(environment, "msg", move |message: Message<i64>| {
        let server = server.clone();
        async move {
            say(&format!("{server} received {}", message.body));
            // Together with the message's end: one that comes twice counts once.
            Ok::<_, ServiceError>(Outcome::done().increment(CACHE, RECEIVED, 1))
        }
    })
}

/// The job: at its times, on one server.
fn ajob(environment: &Environment) -> Router {
    sdk::job(environment, "ajob", |_due| async {
        Ok::<_, ServiceError>(Outcome::done().increment(CACHE, JOBS, 1))
    })
}

async fn home(State(counters): State<Cache>) -> Result<String, (StatusCode, String)> {
    let failed = |cause: ServiceError| (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n"));
    // The one that follows is read first: it is never more than the one that it follows.
    let received = counters.get::<u64>(RECEIVED).await.map_err(failed)?.unwrap_or(0);
    let sent = counters.get::<u64>(SENT).await.map_err(failed)?.unwrap_or(0);
    let jobs = counters.get::<u64>(JOBS).await.map_err(failed)?.unwrap_or(0);
    Ok(format!("{sent} messages sent, {received} received, {jobs} jobs run\n"))
}

async fn count(session: Session) -> Result<String, SessionError> {
    let count = session.get::<u64>("count").await?.unwrap_or(0) + 1;
    session.set("count", &count).await?;
    Ok(format!("count {count}\n"))
}

/// A line of the server's log.
fn say(line: &str) {
    let _nobody_reads = writeln!(std::io::stdout(), "{line}");
}
