//! One life of an app's process as a backend: its pooled connections and its limits.

use super::{answer::Answer, expectation::Expectation, progress::Progress, target::Target};
use crate::{
    body::{Body, Request},
    error::RequestError,
    interim::Interims,
};
use http::{Response, StatusCode};
use hyper::client::conn::http1::SendRequest;
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Idle connections that are kept.
const IDLE_MAX: usize = 256;

/// An idle connection is used for this long: below what common servers keep theirs (5 s).
const IDLE_TIME: Duration = Duration::from_secs(3);

/// Requests at one process at once; one more is answered with 503.
const IN_FLIGHT_MAX: usize = 4096;

/// A process that takes requests.
#[derive(Debug)]
pub(crate) struct Backend {
    app: String,
    target: Target,
    answer_timeout: Duration,
    /// Newest last: the newest is taken first, so that the rest grows old and is closed.
    idle: Mutex<Vec<Idle>>,
    in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// The right to have a request at the process; carries the connection back to the pool when the answer has ended.
#[derive(Debug)]
pub(crate) struct Lease {
    backend: Arc<Backend>,
    sender: Option<SendRequest<Body>>,
}

impl Backend {
    /// A process at `target` whose answers may pause for `answer_timeout`.
    pub(crate) fn new(app: &str, target: Target, answer_timeout: Duration) -> Self {
        let (idle, in_flight) = (Mutex::default(), AtomicUsize::new(0));
        Self { app: app.to_owned(), target, answer_timeout, idle, in_flight }
    }

    /// Requests at it now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Where it listens.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and waits for the head of its answer. A pooled connection that turns out dead before the request left is
    /// replaced by a new one, once.
    ///
    /// # Errors
    /// [`RequestError::AppUnavailable`] and [`RequestError::Short`] when the process has not seen the request; [`RequestError::AppFailed`] and
    /// [`RequestError::AppTimeout`] when it may have.
    pub(crate) async fn send(self: &Arc<Self>, request: Request) -> Result<Response<Answer>, RequestError> {
        self.send_within(request, self.answer_timeout).await
    }

    /// The same with an answer that may pause for another time.
    ///
    /// # Errors
    /// Those of [`Backend::send`].
    pub(crate) async fn send_within(
        self: &Arc<Self>,
        mut request: Request,
        answer_timeout: Duration,
    ) -> Result<Response<Answer>, RequestError> {
        let mut lease = self.lease()?;
        let expectation = Expectation::of(&mut request);
        hear_interims(&mut request, expectation.as_ref());
        let progress = Progress::begin(&mut request);
        if let Some(mut sender) = self.take_idle() {
            match self.try_send(&mut sender, request, (&progress, answer_timeout)).await? {
                Ok(response) => {
                    return Ok(Self::answer(response, (lease, sender), expectation, answer_timeout));
                }
                Err(unsent) => request = unsent,
            }
        }
        let mut sender = self.target.connect().await.map_err(|cause| self.not_reached(cause))?;
        lease.sender = None;
        match self.try_send(&mut sender, request, (&progress, answer_timeout)).await? {
            Ok(response) => Ok(Self::answer(response, (lease, sender), expectation, answer_timeout)),
            Err(_unsent) => Err(self.unavailable(format!("{} closed a new connection", self.target))),
        }
    }

    /// Sorts out whose fault it is.
    fn not_reached(&self, cause: io::Error) -> RequestError {
        match self.target.is_short(&cause) {
            true => RequestError::Short(cause),
            false => self.unavailable(format!("{}: {cause}", self.target)),
        }
    }

    fn unavailable(&self, why: String) -> RequestError {
        RequestError::AppUnavailable { app: self.app.clone(), why }
    }

    /// The answer, or the request when it did not leave.
    async fn try_send(
        &self,
        sender: &mut SendRequest<Body>,
        request: Request,
        (progress, answer_timeout): (&Progress, Duration),
    ) -> Result<Result<Response<hyper::body::Incoming>, Request>, RequestError> {
        match progress.within(answer_timeout, sender.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(Ok(response)),
            Ok(Err(mut failed)) => match failed.take_message() {
                Some(request) => Ok(Err(request)),
                None => {
                    Err(RequestError::AppFailed { app: self.app.clone(), cause: chain(&failed.into_error()) })
                }
            },
            Err(_stalled) => Err(RequestError::AppTimeout { app: self.app.clone(), waited: answer_timeout }),
        }
    }

    fn answer(
        response: Response<hyper::body::Incoming>,
        (mut lease, sender): (Lease, SendRequest<Body>),
        expectation: Option<Expectation>,
        answer_timeout: Duration,
    ) -> Response<Answer> {
        let unread = expectation.as_ref().is_some_and(|it| it.answered(response.status()));
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        // What has become something else, or waits for a body that never comes, is of no use to another request.
        lease.sender = (!unread && !switches).then_some(sender);
        response.map(|body| Answer::new(body, lease, expectation, switches, answer_timeout))
    }

    /// The app did what no app may do.
    pub(crate) fn failed(&self, cause: &str) -> RequestError {
        RequestError::AppFailed { app: self.app.clone(), cause: cause.to_owned() }
    }

    /// Whether an idle connection can take a request now.
    #[cfg(test)]
    pub(crate) fn has_ready(&self) -> bool {
        self.idle.lock().unwrap().iter().any(|it| it.sender.is_ready())
    }

    fn lease(self: &Arc<Self>) -> Result<Lease, RequestError> {
        let lease = Lease { backend: self.clone(), sender: None };
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < IN_FLIGHT_MAX {
            Ok(lease)
        } else {
            Err(self.unavailable(format!("{IN_FLIGHT_MAX} requests are in flight")))
        }
    }

    /// The newest idle connection that can take a request now.
    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().ok()?;
        let now = Instant::now();
        // Oldest first: all that are too old are at the front.
        let old = idle.partition_point(|it| now.duration_since(it.since) > IDLE_TIME);
        idle.drain(..old);
        // One that is still busy with the end of its last answer is left for later.
        let place = idle.iter().rposition(|it| it.sender.is_ready())?;
        Some(idle.remove(place).sender)
    }
}

impl Lease {
    /// The answer has ended as it should: the connection can be used again.
    pub(super) fn give_back(&mut self) {
        let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) else { return };
        let Ok(mut idle) = self.backend.idle.lock() else { return };
        if idle.len() < IDLE_MAX {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the app says before its answer: `100` lets the body go, the others are for the client.
fn hear_interims(request: &mut Request, expectation: Option<&Expectation>) {
    let (go_on, interims) =
        (expectation.map(Expectation::opener), request.extensions_mut().remove::<Interims>());
    hyper::ext::on_informational(request, move |head| match (head.status(), &go_on, &interims) {
        (StatusCode::CONTINUE, Some(go_on), _) => go_on(),
        (StatusCode::CONTINUE, None, _) | (_, _, None) => {}
        (status, _, Some(interims)) => interims.put(status, head.headers()),
    });
}

/// An error with what caused it: hyper's own text alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
