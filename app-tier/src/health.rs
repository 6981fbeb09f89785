//! Asks a process whether it is well: a GET that is answered with 2xx, or a connection that it accepts.

use crate::{body::empty, proxy::Target};
use http::{Request, header};
use std::{io, time::Duration};

/// What a check has found instead of a healthy process, for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// Nothing: this server is short of file descriptors, ports, buffers or memory, and could not ask.
    #[error("it can't be asked, this server is short of something: {0}")]
    Short(io::Error),
    /// It is not well.
    #[error("{0}")]
    Failed(String),
}

/// One check, on a connection of its own.
///
/// # Errors
/// What was seen instead.
pub(crate) async fn check(target: &Target, path: Option<&str>, limit: Duration) -> Result<(), CheckError> {
    match tokio::time::timeout(limit, ask(target, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(CheckError::Failed(match path {
            Some(path) => format!("GET {path} was not answered within {limit:?}"),
            None => format!("no connection within {limit:?}"),
        })),
    }
}

async fn ask(target: &Target, path: Option<&str>) -> Result<(), CheckError> {
    let place = |cause: &dyn std::fmt::Display| CheckError::Failed(format!("{target}: {cause}"));
    let not_reached = |cause: io::Error| match target.is_short(&cause) {
        true => CheckError::Short(cause),
        false => place(&cause),
    };
    let Some(path) = path else {
        return target.probe().await.map_err(not_reached);
    };
    let mut sender = target.connect().await.map_err(not_reached)?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "close")
        .body(empty());
    let request = request.map_err(|cause| CheckError::Failed(format!("health path {path:?}: {cause}")))?;
    let answer = sender.send_request(request).await.map_err(|cause| place(&cause))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(CheckError::Failed(format!("GET {path} was answered with {}", answer.status())))
    }
}
