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
const TEXT_MAX: usize = 256 << 10;

/// What errors call it.
const NAME: &str = "/v1/app";

/// Takes the declarations.
pub(super) async fn declare(caller: &Running, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    if request.method() != Method::PUT {
        return Ok(not_allowed("PUT", request.method()));
    }
    Query::of(request.uri().query(), &[])?;
    let text = input::bytes(request.into_body(), TEXT_MAX).await?;
    let declared = read(&text).map_err(Problem::bad)?;
    caller.app.duties.declare(declared).map_err(|why| match why {
        NotDeclared::Elsewhere => Problem::new(
            StatusCode::CONFLICT,
            "not-at-start",
            "its app.yaml declares what it takes: expected `declare-at-start: true` there, and no queues, jobs and the like",
        ),
        NotDeclared::Otherwise => Problem::new(
            StatusCode::CONFLICT,
            "declared-otherwise",
            "this version has declared something else before: what it takes changes with its next version, or start",
        ),
        NotDeclared::Over => {
            Problem::new(StatusCode::CONFLICT, "version-over", "this version of the app is not in use any more")
        }
    })?;
    Ok(no_content())
}

fn read(text: &[u8]) -> Result<common::config::Declarations, String> {
    let text = std::str::from_utf8(text).map_err(|cause| format!("the body is no UTF-8: {cause}"))?;
    // YAML would take more than JSON.
    let is_object = serde_json::from_str::<serde_json::Value>(text).map(|it| it.is_object());
    match is_object {
        Ok(true) => read_declarations(NAME, text).map_err(|errors| errors.to_string()),
        Ok(false) => {
            Err("the body is no JSON object: expected the keys of app.yaml, such as {\"queues\": []}"
                .to_owned())
        }
        Err(cause) => Err(format!("the body is no JSON: {cause}")),
    }
}
