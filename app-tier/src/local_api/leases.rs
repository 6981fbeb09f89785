//! Leases: `POST /v1/leases/{name}`, then `PUT` to hold on to it and `DELETE` to give it back, by its token.

use super::{
    LocalApi,
    answer::{Problem, hub_lost, json_body, no_content, of_lease},
    input::{self, Query},
    route::not_allowed,
};
use crate::{
    lease::{Held, LeaseError, Leases, Name},
    registry::Running,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use proto::hub::v1::Lease;
use serde_json::json;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

/// The bounds of a lease's time, and what it is when nothing is said.
pub(super) const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
pub(super) const TTL_DEFAULT: Duration = Duration::from_secs(5);

/// The bounds of a wait.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// What was heard of the hub may be older than its answer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The whole cluster's lease of a name.
pub(super) fn name(text: &str) -> Result<Name, Problem> {
    Ok(Name { app: String::new(), name: input::name("lease", text)? })
}

/// A lease by its name.
pub(super) async fn of_name(
    api: &LocalApi,
    caller: &Running,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, leases) = (self::name(name)?, leases(api)?);
    match *request.method() {
        Method::POST => acquire(leases, caller, &name, request).await,
        Method::GET => {
            Query::of(request.uri().query(), &[])?;
            let lease = heard(api, &name)?;
            let told = json!({
                "token": lease.token,
                "server": lease.server,
                "ttl-ms": lease.ttl_ms,
                "since-ms": lease.since_ms,
            });
            Ok(json_body(StatusCode::OK, &told))
        }
        _ => Ok(not_allowed("GET, POST", request.method())),
    }
}

/// Who holds a lease, as last heard.
pub(super) fn heard(api: &LocalApi, name: &Name) -> Result<Lease, Problem> {
    let found = leases(api)?.heard_of(name)?;
    found.ok_or_else(|| Problem::not_found(format!("nobody holds the lease {}", name.name)))
}

async fn acquire(
    leases: &Leases,
    caller: &Running,
    name: &Name,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let wait = Query::of(request.uri().query(), &["wait"])?.duration("wait", &WAIT)?.unwrap_or_default();
    let ttl = input::object(request.into_body(), &["ttl"]).await?.duration("ttl", &TTL)?;
    let held = acquired(leases, caller, name, ttl.unwrap_or(TTL_DEFAULT), wait).await?;
    let mut response = json_body(StatusCode::CREATED, &of_lease(held.token(), held.left()));
    let place = HeaderValue::try_from(format!("/v1/leases/{}/{}", name.name, held.token()));
    if let Ok(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Takes a lease, as soon as it is free.
pub(super) async fn acquired(
    leases: &Leases,
    caller: &Running,
    name: &Name,
    ttl: Duration,
    wait: Duration,
) -> Result<Arc<Held>, LeaseError> {
    let (app, until) = (caller.app.sessions.app(), Instant::now() + wait);
    loop {
        match leases.acquire_for(name, app, ttl).await {
            Err(LeaseError::Held { .. }) if Instant::now() < until => {
                let free = async {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    leases.is_free(name).await;
                };
                // Whoever waits in vain is told who has it.
                let _ = timeout_at(until, free).await;
            }
            acquired => return acquired,
        }
    }
}

/// What the app holds by a token.
pub(super) fn held(
    leases: &Leases,
    caller: &Running,
    name: &Name,
    token: u64,
) -> Result<Arc<Held>, LeaseError> {
    let held = leases.held(token).filter(|it| it.name() == name);
    held.filter(|it| it.app() == caller.app.sessions.app()).ok_or(LeaseError::Over)
}

/// A lease that the app holds, by its token.
pub(super) async fn of_token(
    api: &LocalApi,
    caller: &Running,
    (name, token): (&str, &str),
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let (name, token) = (self::name(name)?, input::token(token)?);
    Query::of(request.uri().query(), &[])?;
    let leases = leases(api)?;
    let held = || held(leases, caller, &name, token);
    match *request.method() {
        Method::PUT => {
            let held = held()?;
            leases.renew(&held).await?;
            Ok(json_body(StatusCode::OK, &of_lease(token, held.left())))
        }
        Method::GET => {
            let left = held()?.left();
            if left.is_zero() {
                return Err(LeaseError::Over.into());
            }
            Ok(json_body(StatusCode::OK, &of_lease(token, left)))
        }
        Method::DELETE => {
            leases.release(&*held()?).await?;
            Ok(no_content())
        }
        _ => Ok(not_allowed("GET, PUT, DELETE", request.method())),
    }
}

pub(super) fn leases(api: &LocalApi) -> Result<&Leases, Problem> {
    api.leases.as_ref().ok_or_else(|| hub_lost("this server has no hub"))
}
