//! Asks a process whether it is well: a GET that is answered with 2xx, or a connection that it accepts.

use crate::{body::empty, proxy::Target};
use http::{Request, header};
use std::time::Duration;

/// One check, on a connection of its own.
///
/// # Errors
/// What was seen instead, for people.
pub(crate) async fn check(target: &Target, path: Option<&str>, limit: Duration) -> Result<(), String> {
    match tokio::time::timeout(limit, ask(target, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(match path {
            Some(path) => format!("GET {path} was not answered within {limit:?}"),
            None => format!("no connection within {limit:?}"),
        }),
    }
}

async fn ask(target: &Target, path: Option<&str>) -> Result<(), String> {
    let place = |cause: &dyn std::fmt::Display| format!("{target}: {cause}");
    let Some(path) = path else {
        return target.probe().await.map_err(|cause| place(&cause));
    };
    let mut sender = target.connect().await.map_err(|cause| place(&cause))?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "close")
        .body(empty());
    let request = request.map_err(|cause| format!("health path {path:?}: {cause}"))?;
    let answer = sender.send_request(request).await.map_err(|cause| place(&cause))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("GET {path} was answered with {}", answer.status()))
    }
}
