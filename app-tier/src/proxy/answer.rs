//! The body of an app's answer on its way to the client: broken when the app breaks it, never silently short.

use super::{backend::Lease, expectation::Expectation};
use crate::body::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// What is done when an answer has ended, one way or another: its drop.
type Ending = Box<dyn std::any::Any + Send>;

/// The body of an app's answer.
pub(crate) struct Answer {
    body: Incoming,
    lease: Option<Lease>,
    expectation: Option<Expectation>,
    ending: Option<Ending>,
    pause: Pause,
}

/// A limit on the time between two frames.
pub(crate) struct Pause {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Answer {
    pub(super) fn new(
        body: Incoming,
        lease: Lease,
        expectation: Option<Expectation>,
        switches: bool,
        pause: Duration,
    ) -> Self {
        let pause = Pause::new(pause);
        let mut answer = Self { body, lease: Some(lease), expectation, ending: None, pause };
        // hyper does not poll a body that says it is empty.
        if answer.body.is_end_stream() && !switches {
            answer.ended();
        }
        answer
    }

    /// `ending` is dropped when this body has ended or is dropped itself.
    pub(crate) fn on_end(&mut self, ending: Box<dyn std::any::Any + Send>) {
        self.ending = Some(ending);
    }

    fn ended(&mut self) {
        self.expectation = None;
        if let Some(mut lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.pause.poll(cx));
                let limit = this.pause.limit;
                Poll::Ready(Some(Err(format!("the app's answer made no progress for {limit:?}").into())))
            }
            Poll::Ready(None) => {
                this.ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.pause.progress();
                if this.body.is_end_stream() {
                    this.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(cause))) => Poll::Ready(Some(Err(cause.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Pause {
    /// A limit that is not running.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waiting: false }
    }

    /// Nothing to do: ready when that has been so for the limit. The timer is made when it is first needed and moved once a wait.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(Instant::now() + self.limit),
                None => self.timer = Some(Box::pin(sleep(self.limit))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }

    /// The wait is over.
    pub(crate) fn progress(&mut self) {
        self.waiting = false;
    }
}
