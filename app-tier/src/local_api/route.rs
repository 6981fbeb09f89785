//! From a call's method and path to who answers it.

use super::{
    LocalApi, answer::Problem, app, caches, jobs, leases, openapi, pipelines, queues, sessions, topics,
};
use crate::registry::Running;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::body::Body;

/// Answers a call of an app.
///
/// # Errors
/// What is told to the app instead.
pub(super) async fn answer(
    api: &LocalApi,
    caller: &Running,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.strip_prefix("/v1/").map(|it| it.split('/').collect()).unwrap_or_default();
    match segments[..] {
        ["caches"] => caches::all(api, request).await,
        ["caches", name] => caches::of_name(api, name, request).await,
        ["caches", name, "events"] if is_for_events(&request) => caches::events(api, name, &request),
        ["caches", name, key] => caches::of_key(api, caller, (name, key), request).await,
        ["caches", name, key, "increment"] => caches::increment(api, (name, key), request).await,
        ["queues"] => queues::all(api, &request).await,
        ["queues", name] => queues::of_name(api, caller, name, request).await,
        ["queues", name, "batch"] => queues::batch(api, caller, name, request).await,
        ["queues", name, "receive"] => queues::receive(api, caller, name, &request).await,
        ["queues", name, "dead"] => queues::dead(api, name, &request).await,
        ["queues", name, "dead", "replay"] => queues::replay(api, name, request).await,
        ["deliveries", token] => queues::of_delivery(api, caller, token, request).await,
        ["topics", name] => topics::publish(api, caller, name, request).await,
        ["topics", name, "events"] => topics::events(api, name, &request),
        ["topics", topic, "subscriptions", name] => {
            topics::subscription(api, caller, (topic, name), &request).await
        }
        ["topics", topic, "subscriptions", name, "receive"] => {
            topics::receive(api, caller, (topic, name), &request).await
        }
        ["pipelines", name] => pipelines::of_name(api, caller, name, request).await,
        ["pipelines", name, "runs", run] => pipelines::of_run(api, (name, run), &request).await,
        ["jobs"] => jobs::all(api, &request).await,
        ["jobs", name] => jobs::of_name(api, caller, name, request).await,
        ["jobs", name, "run"] => jobs::run(api, name, &request).await,
        ["session"] => sessions::session(caller, request).await,
        ["session", "id"] => sessions::change_id(caller, &request).await,
        ["leases", name] => leases::of_name(api, caller, name, request).await,
        ["leases", name, token] => leases::of_token(api, caller, (name, token), request).await,
        ["app"] => app::declare(caller, request).await,
        ["openapi.json"] => openapi::describe(&request),
        _ => Err(Problem::not_found(format!("{path} is none of this API: see docs/local-api.md"))),
    }
}

/// A key may be called `events` as well: it is the client who says which is meant.
fn is_for_events(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
    accept.flat_map(|it| it.split(',')).any(|it| it.trim().starts_with("text/event-stream"))
}

/// A method that a path does not have.
pub(super) fn not_allowed(allowed: &'static str, method: &Method) -> Response<Body> {
    let text = format!("{method} is none of this path: expected {allowed}");
    let mut response =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
