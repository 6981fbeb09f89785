//! gRPC on the same connections as HTTP: each service is a thin layer over what answers the calls of HTTP (docs/local-api.md).

mod caches;
mod jobs;
mod leases;
mod pipelines;
mod queues;
mod topics;

use super::{Caller, LocalApi, answer::Problem, calls::Call, sessions::SessionService};
use crate::registry::Running;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Response as HttpResponse, StatusCode, header};
use proto::app::v1::{
    caches_server::CachesServer, jobs_server::JobsServer, leases_server::LeasesServer,
    pipelines_server::PipelinesServer, queues_server::QueuesServer, topics_server::TopicsServer,
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, body::Body, service::Routes};

/// The longest message, in bytes: of many messages or values, and of one job or lease; as of bodies over HTTP.
const MANY_MAX: usize = 4 << 20;
const JOB_MAX: usize = 300 << 10;
const LEASE_MAX: usize = 64 << 10;

/// How long a caller waits (gRPC over HTTP/2, "Requests").
const TIMEOUT: &str = "grpc-timeout";

/// Whoever has a message that is not counted among the bodies of its app.
const UNCOUNTED: &str = "/copal.app.v1.Sessions/";

/// The services but for the sessions.
#[derive(Debug, Clone)]
struct Services(LocalApi);

/// All of them, for a server that has looked at the token.
pub(super) fn routes(api: &LocalApi) -> Routes {
    let services = || Services(api.clone());
    Routes::new(SessionService::server())
        .add_service(CachesServer::new(services()).max_decoding_message_size(MANY_MAX))
        .add_service(LeasesServer::new(services()).max_decoding_message_size(LEASE_MAX))
        .add_service(QueuesServer::new(services()).max_decoding_message_size(MANY_MAX))
        .add_service(JobsServer::new(services()).max_decoding_message_size(JOB_MAX))
        .add_service(PipelinesServer::new(services()).max_decoding_message_size(JOB_MAX))
        .add_service(TopicsServer::new(services()).max_decoding_message_size(JOB_MAX))
        .prepare()
}

/// Whether a call is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// Whether the bytes of a call's message count among those of its app. A session's have a bound of their own.
pub(super) fn is_counted(path: &str) -> bool {
    !path.starts_with(UNCOUNTED)
}

/// How long a caller waits: up to eight digits, and a unit.
///
/// # Errors
/// It says something else.
pub(super) fn time(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let text = value.to_str().unwrap_or("?");
    let read = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
        let number: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    let bad =
        || Problem::bad(format!("{TIMEOUT} is {text:?}: expected up to 8 digits and a unit, such as 10S"));
    read().map(Some).ok_or_else(bad)
}

/// A caller's time is over.
pub(super) fn late() -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "late", "it took too long")
}

/// What a service has answered. What was not even read is told as all else that is wrong.
///
/// # Errors
/// The message was too long, or none of this service.
pub(super) fn told(response: HttpResponse<Body>) -> Result<HttpResponse<Body>, Problem> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", status.message()))
        }
        Some(status) if status.code() == Code::Internal => Err(Problem::bad(status.message())),
        _ => Ok(response),
    }
}

/// The app that calls.
fn caller<T>(request: &Request<T>) -> Result<Running, Status> {
    let caller = request.extensions().get::<Caller>().map(|it| it.0.clone());
    caller.ok_or_else(|| Status::unauthenticated("the value of COPAL_TOKEN is missing"))
}

/// What ends a call, in the extensions of its request. A stream keeps it: it is a call of its app for as long as it lasts.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    _call: Arc<Call>,
    until: Option<Instant>,
    stops: [CancellationToken; 2],
}

impl InFlight {
    /// `time`: so long from now on; `stops`: this server stops.
    pub(super) fn new(call: Arc<Call>, time: Option<Duration>, stops: [&CancellationToken; 2]) -> Self {
        // A time that no clock has is none.
        let until = time.and_then(|it| Instant::now().checked_add(it));
        Self { _call: call, until, stops: stops.map(Clone::clone) }
    }

    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let found = request.extensions().get::<Self>().cloned();
        found.ok_or_else(|| Status::internal("a call that nobody has begun"))
    }

    /// Waits until the stream has to end, and says why.
    async fn ends(&self) -> Problem {
        let late = async {
            match self.until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let [drain, stop] = &self.stops;
        tokio::select! {
            () = late => self::late(),
            () = drain.cancelled() => stopping(),
            () = stop.cancelled() => stopping(),
        }
    }
}

fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this server stops").again(1)
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers as they come, until the caller goes away, or his time or that of this server is over. Each is made when there is room to send it.
fn answers<T: Send + 'static>(
    in_flight: InFlight,
    answers: impl Stream<Item = Result<T, Problem>> + Send + 'static,
) -> Response<Answers<T>> {
    let begun = Some((in_flight, Box::pin(answers)));
    Response::new(Box::pin(stream::unfold(begun, |going| async {
        let (in_flight, mut answers) = going?;
        let answer = tokio::select! {
            biased;
            ended = in_flight.ends() => Some(Err(ended)),
            answer = answers.next() => answer,
        };
        match answer? {
            Ok(answer) => Some((Ok(answer), Some((in_flight, answers)))),
            Err(problem) => Some((Err(problem.into()), None)),
        }
    })))
}

#[cfg(test)]
mod tests;
