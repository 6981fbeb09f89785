//! An app that has its sessions from the crate `tower-sessions`: Copal keeps them, and nothing else of the app knows.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sdk::{CopalStore, Environment};
use tower_sessions::{Session, SessionManagerLayer, session::Error};

/// Counts of a session.
const COUNT: &str = "count";

/// The sessions can't be had: while the hub elects, say.
#[derive(Debug)]
struct Failed(Error);

impl From<Error> for Failed {
    fn from(cause: Error) -> Self {
        Self(cause)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

/// Serves the app where Copal says, until it says stop.
///
/// # Errors
/// See [`sdk::ServeError`].
pub async fn run() -> Result<(), sdk::ServeError> {
    let environment = Environment::read()?;
    sdk::serve(router(&environment)).await
}

/// The app's pages.
pub fn router(environment: &Environment) -> Router {
    // A name of its own: `id`, which is the default, would be another app's as well. Browsers send a `Secure` cookie over HTTPS alone, and to this machine.
    let sessions = SessionManagerLayer::new(CopalStore::new(environment)).with_name("axum-sessions");
    Router::new()
        .route("/count", get(count))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .with_state(environment.server.clone())
        .layer(sessions)
}

/// Counts in the session.
async fn count(State(server): State<String>, session: Session) -> Result<String, Failed> {
    let count = session.get::<u64>(COUNT).await?.unwrap_or(0) + 1;
    session.insert(COUNT, count).await?;
    Ok(format!("count {count} on {server}\n"))
}

/// The session goes on under another id: nobody who knew the old one shares the login.
async fn login(session: Session) -> Result<&'static str, Failed> {
    session.cycle_id().await?;
    Ok("logged in\n")
}

/// Ends the session on all servers.
async fn logout(session: Session) -> Result<&'static str, Failed> {
    session.flush().await?;
    Ok("logged out\n")
}

#[cfg(test)]
mod tests;
