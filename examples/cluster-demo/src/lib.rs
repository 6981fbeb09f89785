//! One app that uses all that a cluster has: a daemon sends a counter through a queue, a job counts on its own, all servers share the messages and one
//! cache, a pipeline squares numbers on all of them at once, and each user has a count of his own. Kill any server: all goes on where it was.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use sdk::{
    App, Cache, Copal, Environment, Lease, Message, Outcome, PipelineSteps, ServiceError, Session,
    SessionError,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, env, io::Write, time::Duration};

/// The cache that all servers read, and what is in it.
const CACHE: &str = "counters";
const SENT: &str = "sent";
const RECEIVED: &str = "received";
const JOBS: &str = "jobs";

/// A run of the pipeline is waited for so long.
const WAIT: Duration = Duration::from_secs(20);

/// Set by tests, which are less patient.
const HURRY: &str = "CLUSTER_DEMO_HURRY";

/// How long things take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Between two messages of the daemon, and two runs of the job.
    send: Duration,
    job: Duration,
    /// How long the daemon's server may be silent; and before a failed message is tried again.
    lease: Duration,
    retry: Duration,
}

impl Times {
    fn read() -> Self {
        let [seconds, millis] = [Duration::from_secs, Duration::from_millis];
        match env::var_os(HURRY) {
            None => Self { send: seconds(5), job: seconds(20), lease: seconds(5), retry: seconds(1) },
            Some(_) => Self { send: millis(100), job: millis(300), lease: seconds(2), retry: millis(50) },
        }
    }
}

/// Serves the app where Copal says, until it says stop.
///
/// # Errors
/// See [`sdk::ServeError`].
pub async fn run() -> Result<(), sdk::ServeError> {
    let environment = Environment::read()?;
    let copal = Copal::of(&environment);
    let mut app = App::new(&environment, pages(&copal));
    // What it takes is declared here, and not in its app.yaml: `declare-at-start`.
    let times = Times::read();
    counter(&mut app, &copal, times);
    listener(&mut app, &environment.server, times);
    app.job("ajob", |_due| async { Ok::<_, ServiceError>(Outcome::done().increment(CACHE, JOBS, 1)) })
        .every(times.job)
        .backoff(times.retry, Duration::from_secs(600));
    app.pipeline(steps(&environment)).concurrency(10);
    app.serve().await
}

fn pages(copal: &Copal) -> Router {
    let squares = Router::new().route("/squares", get(squares)).with_state(copal.clone());
    let pages = Router::new().route("/", get(home)).route("/count", get(count));
    pages.with_state(copal.cache(CACHE)).merge(squares)
}

/// The daemon: on one server, it sends a cached number and adds one to it.
fn counter(app: &mut App<'_>, copal: &Copal, times: Times) {
    let (copal, every) = (copal.clone(), times.send);
    let run = move |mut lease: Lease| {
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
    };
    app.daemon("counter", run).lease(times.lease);
}

/// Each message comes to one of the servers, which counts it.
fn listener(app: &mut App<'_>, server: &str, times: Times) {
    let server = server.to_owned();
    let count = move |message: Message<i64>| {
        let server = server.clone();
        async move {
            say(&format!("{server} received {}", message.body));
            // Together with the message's end: one that comes twice counts once.
            Ok::<_, ServiceError>(Outcome::done().increment(CACHE, RECEIVED, 1))
        }
    };
    app.consume("msg", count).concurrency(4).backoff(times.retry, Duration::from_secs(600));
}

/// A number, and who has squared it.
#[derive(Debug, Serialize, Deserialize)]
struct Square {
    square: u64,
    server: String,
}

/// The pipeline: a run goes on in parts, a number each, and the last step has them all.
fn steps(environment: &Environment) -> PipelineSteps<'_> {
    let server = environment.server.clone();
    let split =
        |numbers: Message<u64>| async move { Ok::<_, ServiceError>(Outcome::fan_out(1..=numbers.body)) };
    let square = move |number: Message<u64>| {
        let square = Square { square: number.body.saturating_mul(number.body), server: server.clone() };
        async move { Ok::<_, ServiceError>(Outcome::reply(&square)) }
    };
    let sum = |squares: Message<Vec<Square>>| async move {
        let sum: u64 = squares.body.iter().map(|it| it.square).sum();
        let mut by = BTreeMap::<&str, usize>::new();
        squares.body.iter().for_each(|it| *by.entry(&it.server).or_default() += 1);
        let by: Vec<_> = by.iter().map(|(server, count)| format!("{count} by {server}")).collect();
        Ok::<_, ServiceError>(Outcome::reply(&format!("their sum is {sum}, {}", by.join(", "))))
    };
    sdk::pipeline(environment, "squares").step("split", split).step("square", square).join("sum", sum)
}

async fn squares(State(copal): State<Copal>) -> Result<String, (StatusCode, String)> {
    let failed = |cause: ServiceError| (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n"));
    let said = copal.pipeline("squares").ask::<_, String>(&100, WAIT).await.map_err(failed)?;
    Ok(format!("squared 1 to 100: {said}\n"))
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
