//! The same over HTTP: `/v1/session` of the request whose `X-Copal-Request` the call bears.

use crate::{
    content::BadJson,
    local_api::{
        answer::{Problem, hub_lost, json_body, no_content},
        input::{self, Query},
        route::not_allowed,
    },
    proxy::REQUEST,
    registry::Running,
    session::{SessionError, Visit},
};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, sync::Arc};
use tonic::body::Body;

/// The longest body, in bytes.
const BODY_MAX: usize = 8 << 20;

/// Attributes that are taken out at a time.
const REMOVED_MAX: usize = 10_000;

/// The request that a call is for.
fn visit(caller: &Running, request: &Request<Incoming>) -> Result<Arc<Visit>, Problem> {
    let handle = request.headers().get(REQUEST).and_then(|it| it.to_str().ok());
    let missing = || Problem::bad("X-Copal-Request is missing: send what the user's request has in it");
    let handle = handle.ok_or_else(missing)?;
    caller.app.sessions.visit(handle).ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "request-over",
            "the request of this X-Copal-Request is over, or another app's",
        )
    })
}

/// `GET` what is in it, `PATCH` changes, `DELETE` ends it.
pub(in crate::local_api) async fn session(
    caller: &Running,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    Query::of(request.uri().query(), &[])?;
    if ![Method::GET, Method::PATCH, Method::DELETE].contains(request.method()) {
        return Ok(not_allowed("GET, PATCH, DELETE", request.method()));
    }
    let visit = visit(caller, &request)?;
    let id = visit.current_id().await;
    match *request.method() {
        Method::GET => {
            let (exists, _, attributes) = visit.within(visit.load(id.as_str())).await?;
            Ok(json_body(StatusCode::OK, &told(id.as_str(), exists, &attributes)))
        }
        Method::PATCH => {
            let body = input::object_of(request.into_body(), &["set", "binary", "remove"], BODY_MAX).await?;
            let (set, removed) = changes(body.members())?;
            visit.within(visit.update(id.as_str(), set, removed)).await?;
            Ok(no_content())
        }
        _ => {
            visit.within(visit.invalidate(id.as_str())).await?;
            Ok(no_content())
        }
    }
}

/// `POST …/id`: another id, as after a sign-in; the user gets its cookie with the answer.
pub(in crate::local_api) async fn change_id(
    caller: &Running,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    Query::of(request.uri().query(), &[])?;
    if request.method() != Method::POST {
        return Ok(not_allowed("POST", request.method()));
    }
    let visit = visit(caller, request)?;
    let id = visit.current_id().await;
    let id = visit.within(visit.change_id(id.as_str())).await?;
    Ok(json_body(StatusCode::OK, &json!({"id": id.as_str()})))
}

/// Attributes that are JSON as such, and the others in base64.
fn told(id: &str, exists: bool, attributes: &HashMap<String, Bytes>) -> Value {
    let (mut json, mut binary) = (Map::new(), Map::new());
    for (name, value) in attributes {
        match serde_json::from_slice(value) {
            Ok(value) => drop(json.insert(name.clone(), value)),
            Err(_) => drop(binary.insert(name.clone(), Base64::encode_string(value).into())),
        }
    }
    json!({"id": id, "exists": exists, "attributes": json, "binary": binary})
}

/// What a body changes.
fn changes(body: &Map<String, Value>) -> Result<(HashMap<String, Bytes>, Vec<String>), BadJson> {
    let object = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(BadJson::Bad(format!("{key} is no object"))),
    };
    let mut set = HashMap::new();
    for (name, value) in object("set")?.into_iter().flatten() {
        set.insert(name.clone(), Bytes::from(value.to_string()));
    }
    for (name, value) in object("binary")?.into_iter().flatten() {
        let bytes = value.as_str().and_then(|it| Base64::decode_vec(it).ok());
        let bytes = bytes.ok_or_else(|| BadJson::Bad(format!("binary.{name} is no base64")))?;
        set.insert(name.clone(), bytes.into());
    }
    let removed = match body.get("remove") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) if list.len() <= REMOVED_MAX => {
            let text = |it: &Value| it.as_str().map(str::to_owned);
            let names: Option<Vec<String>> = list.iter().map(text).collect();
            names.ok_or_else(|| BadJson::Bad("remove: expected names".to_owned()))?
        }
        Some(_) => {
            return Err(BadJson::Bad(format!("remove: expected a list of at most {REMOVED_MAX} names")));
        }
    };
    Ok((set, removed))
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        match error {
            SessionError::Stale | SessionError::NotThisRequest => {
                Self::new(StatusCode::CONFLICT, "session-changed", text)
            }
            SessionError::HubLost(_) => hub_lost(text),
            SessionError::Refused(_) | SessionError::NoRoom | SessionError::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "full", text).again(1)
            }
            SessionError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_can_be_set() {
        let attributes: HashMap<String, Bytes> = [("n", &b"3"[..]), ("t", b"\"x\""), ("b", b"\xff")]
            .map(|(name, value)| (name.to_owned(), Bytes::from(value)))
            .into();
        let told = told("aaX", true, &attributes);
        assert_eq!(told["attributes"], json!({"n": 3, "t": "x"}));
        let body = json!({"set": told["attributes"], "binary": told["binary"], "remove": ["y"]});
        let (set, removed) = changes(body.as_object().unwrap()).unwrap();
        assert_eq!((set, removed), (attributes, vec!["y".to_owned()]));
        for wrong in
            [json!({"set": []}), json!({"binary": {"x": 1}}), json!({"remove": [1]}), json!({"remove": "x"})]
        {
            assert!(changes(wrong.as_object().unwrap()).is_err(), "{wrong}");
        }
    }
}
