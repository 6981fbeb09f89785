//! The demo app: counts in the user's session, and has a few pages that are good for trying a load balancer.

mod bodies;
mod pages;
mod ticker;

use axum::{
    Router,
    routing::{get, post},
};

/// Serves the app where Copal says, until it says stop.
///
/// # Errors
/// See [`sdk::ServeError`].
pub async fn run() -> Result<(), sdk::ServeError> {
    let environment = sdk::Environment::read()?;
    let testing = std::env::var("COUNTER_TEST").is_ok_and(|value| value == "1");
    sdk::serve(router(&environment.server, testing).merge(ticker::router(&environment))).await
}

/// The app on `server`. `testing`: with `/exit`, which ends the process at once.
pub fn router(server: &str, testing: bool) -> Router {
    let router = Router::new()
        .route("/", get(pages::home))
        .route("/count", get(pages::count).post(pages::count))
        .route("/forget", post(pages::forget))
        .route("/login", post(pages::login))
        .route("/slow", get(pages::slow))
        .route("/echo", post(bodies::echo).put(bodies::echo))
        .route("/bytes", get(bodies::bytes))
        .route("/upload", post(bodies::upload).put(bodies::upload));
    let router = if testing { router.route("/exit", get(pages::exit)) } else { router };
    router.with_state(pages::Server(server.into()))
}

#[cfg(test)]
mod tests;
