//! One of all servers counts seconds: a daemon, and a cache that all of them read.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use sdk::{Copal, Environment, ServiceError};
use std::{io::Write, time::Duration};

/// The cache, and what is in it.
const CACHE: &str = "ticker";
const SECONDS: &str = "seconds";
const SERVER: &str = "server";

/// `/ticks`, and how Copal starts and stops the daemon.
pub(crate) fn router(environment: &Environment) -> Router {
    let (copal, server) = (Copal::of(environment), environment.server.clone());
    let cache = copal.cache(CACHE);
    let daemon = sdk::daemon(environment, "ticker", move |mut lease| {
        // What it writes after its lease has gone to another counts for nothing.
        let (cache, server) = (cache.fenced(lease.fence()), server.clone());
        async move {
            while lease.sleep(Duration::from_secs(1)).await.is_ok() {
                let counted = cache.increment(SECONDS, 1).await.map(drop);
                if let Err(cause) = counted.and(cache.put(SERVER, &server).await) {
                    // A line of the server's log.
                    let _ = writeln!(std::io::stdout(), "the second was not counted: {cause}");
                }
            }
        }
    });
    Router::new().route("/ticks", get(ticks)).with_state(copal).merge(daemon)
}

async fn ticks(State(copal): State<Copal>) -> Result<String, (StatusCode, String)> {
    let failed = |cause: ServiceError| (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n"));
    let cache = copal.cache(CACHE);
    let seconds = cache.get::<u64>(SECONDS).await.map_err(failed)?.unwrap_or(0);
    let server = cache.get::<String>(SERVER).await.map_err(failed)?.unwrap_or_else(|| "nobody".to_owned());
    Ok(format!("{seconds} seconds, counted on {server}\n"))
}
