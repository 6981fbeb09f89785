//! Pages: who answered, the count, and what helps to try failures.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use sdk::{Session, SessionError};
use std::{sync::Arc, time::Duration};

/// The server that the app runs on.
#[derive(Debug, Clone)]
pub(crate) struct Server(pub(crate) Arc<str>);

/// The longest answer of `/slow`.
const SLOW_MAX: Duration = Duration::from_secs(60);

/// Who answered, and links.
pub(crate) async fn home(State(server): State<Server>, session: Session) -> Html<String> {
    let server = escape(&server.0);
    let (count, forget) = (session.link("count").await, session.link("forget").await);
    page(&format!(
        "<h1>Copal</h1>\n<p>Answered by <b>{server}</b>.</p>\n\
         <ul>\n\
         <li><a href=\"{count}\">count</a>: counts in your session. Reload it, kill the server that answers, reload it again.</li>\n\
         <li><a href=\"ticks\">ticks</a>: one of all servers counts seconds. Kill that one, and another goes on.</li>\n\
         <li><a href=\"slow?ms=1000\">slow</a>: answers after a second.</li>\n\
         <li><a href=\"bytes?n=1000000\">bytes</a>: a million bytes.</li>\n\
         </ul>\n\
         <form method=\"post\" action=\"{forget}\"><button>Forget my session</button></form>"
    ))
}

/// Counts in the session. Plain text, but for browsers.
pub(crate) async fn count(
    State(server): State<Server>,
    headers: HeaderMap,
    session: Session,
) -> Result<Response, SessionError> {
    let count = session.get::<u64>("count").await?.unwrap_or(0) + 1;
    session.set("count", &count).await?;
    let uncached = [(header::CACHE_CONTROL, "no-store"), (header::VARY, "accept")];
    if prefers_html(&headers) {
        let server = escape(&server.0);
        let (again, home) = (session.link("count").await, session.link("./").await);
        let html = page(&format!(
            "<h1>{count}</h1>\n<p>on <b>{server}</b></p>\n<p><a href=\"{again}\">again</a> · <a href=\"{home}\">home</a></p>"
        ));
        return Ok((uncached, html).into_response());
    }
    Ok((uncached, format!("count {count} on {}\n", server.0)).into_response())
}

/// Ends the session.
pub(crate) async fn forget(session: Session) -> Result<&'static str, SessionError> {
    session.invalidate().await?;
    Ok("forgotten\n")
}

/// What an app does when a user logs in: the session goes on under a new id.
pub(crate) async fn login(session: Session) -> Result<&'static str, SessionError> {
    session.change_id().await?;
    Ok("logged in\n")
}

/// Answers after `?ms=` milliseconds.
pub(crate) async fn slow(State(server): State<Server>, uri: Uri) -> Result<String, StatusCode> {
    let wait = Duration::from_millis(number(&uri, "ms").unwrap_or(1000));
    if wait > SLOW_MAX {
        return Err(StatusCode::BAD_REQUEST);
    }
    tokio::time::sleep(wait).await;
    Ok(format!("slow {} ms on {}\n", wait.as_millis(), server.0))
}

/// Ends the process at once, in the middle of the request.
#[allow(clippy::exit, reason = "that is what it is for, and only tests have it")]
pub(crate) async fn exit() -> String {
    std::process::exit(3)
}

/// A number of the query.
pub(crate) fn number(uri: &Uri, name: &str) -> Option<u64> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}

/// Browsers name `text/html`; curl and friends say `*/*` or nothing.
fn prefers_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|it| it.contains("text/html"))
}

fn page(body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Copal</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <style>body {{ font: 1.1rem system-ui; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>\n\
         {body}\n</html>\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
