//! `PUT /v1/app`: what the app takes and does beside requests, declared by its process when it starts.

use super::{
    answer::{Problem, no_content},
    input::{self, Query},
    route::not_allowed,
};
use crate::{duties::NotDeclared, registry::Running};
use common::config::read_declarations;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;

/// The longest text, in bytes.
const TEXT_MAX: usize = 64 << 10;

/// What errors call it.
const NAME: &str = "/v1/app";

/// Takes the declarations.
pub(super) async fn declare(caller: &Running, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    if request.method() != Method::PUT {
        return Ok(not_allowed("PUT", request.method()));
    }
    Query::of(request.uri().query(), &[])?;
    let duties = &caller.app.duties;
    duties.may_declare().map_err(refused)?;
    let text = input::bytes(request.into_body(), TEXT_MAX).await?;
    // One at a time of an app, though it goes away meanwhile, and where nobody else waits for it.
    let alone = duties.reading().await;
    let read = tokio::task::spawn_blocking(move || {
        let _alone = alone;
        read(&text)
    });
    let read = read.await;
    let declared = read.unwrap_or_else(|cause| Err(cause.to_string())).map_err(Problem::bad)?;
    duties.declare(declared).map_err(refused)?;
    Ok(no_content())
}

/// What an app is told that can't declare anything.
fn refused(why: NotDeclared) -> Problem {
    match why {
        NotDeclared::Elsewhere => Problem::new(
            StatusCode::CONFLICT,
            "not-at-start",
            "its app.yaml declares what it takes: expected `declare-at-start: true` there, and no queues, jobs and the like",
        ),
        NotDeclared::Otherwise => Problem::new(
            StatusCode::CONFLICT,
            "declared-otherwise",
            "this version has declared something else before: what it takes changes with its next version, or when its server is started anew",
        ),
        NotDeclared::Over => Problem::new(
            StatusCode::CONFLICT,
            "version-over",
            "this version of the app is not in use any more",
        ),
    }
}

fn read(text: &[u8]) -> Result<common::config::Declarations, String> {
    let text = std::str::from_utf8(text).map_err(|cause| format!("the body is no UTF-8: {cause}"))?;
    // YAML would take more than JSON.
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => {
            // What JSON escapes, YAML has otherwise: places are those of the text that it is made anew as.
            let anew = if text.contains("\\u") { format!("{value:#}") } else { text.to_owned() };
            read_declarations(NAME, &anew).map_err(|errors| errors.to_string())
        }
        Ok(_) => {
            Err("the body is no JSON object: expected the keys of app.yaml, such as {\"queues\": []}"
                .to_owned())
        }
        Err(cause) => Err(format!("the body is no JSON: {cause}")),
    }
}
