//! Calls of apps that are under way, and the bytes of their large bodies: of one app there are not too many at once.

use super::{Active, answer::Problem};
use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tonic::Status;

/// Calls of one app that are under way at once; a further one is refused.
const CALLS_MAX: usize = 1024;

/// Bodies that are longer than this count, one of unknown length as this much; and what those of one app may have at once, in bytes.
const BODY_SMALL: u64 = 64 << 10;
const BODY_UNKNOWN: u64 = 4 << 20;
const BODIES_MAX: u64 = 128 << 20;

/// What is under way, by app.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<String, OfApp>>);

/// An app's calls, and the bytes of their large bodies.
#[derive(Debug, Default)]
struct OfApp {
    calls: usize,
    bytes: u64,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfApp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of an app; it is under way until it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    under_way: Arc<UnderWay>,
    app: String,
    /// What its body counts.
    bytes: Mutex<u64>,
    _active: Active,
}

impl Call {
    /// Another one, with a body of so many bytes.
    ///
    /// # Errors
    /// Too much is under way.
    pub(super) fn begin(
        under_way: &Arc<UnderWay>,
        app: &str,
        body: Option<u64>,
        active: Active,
    ) -> Result<Self, Problem> {
        let bytes = body.unwrap_or(BODY_UNKNOWN);
        let bytes = if bytes <= BODY_SMALL { 0 } else { bytes };
        let mut all = under_way.lock();
        let of_app = all.entry(app.to_owned()).or_default();
        if of_app.calls >= CALLS_MAX {
            return Err(full(format!("{CALLS_MAX} calls of this app are under way already")));
        }
        if bytes > 0 && of_app.bytes + bytes > BODIES_MAX {
            return Err(full_of_bytes());
        }
        of_app.calls += 1;
        of_app.bytes += bytes;
        drop(all);
        let (under_way, app, bytes) = (under_way.clone(), app.to_owned(), Mutex::new(bytes));
        Ok(Self { under_way, app, bytes, _active: active })
    }

    /// Its body has so many bytes by now.
    fn has_come(&self, bytes: u64) -> Result<(), Problem> {
        if bytes <= BODY_SMALL {
            return Ok(());
        }
        let mut counted = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.under_way.lock();
        let of_app = all.entry(self.app.clone()).or_default();
        let more = bytes.saturating_sub(*counted);
        if of_app.bytes + more > BODIES_MAX {
            return Err(full_of_bytes());
        }
        of_app.bytes += more;
        *counted += more;
        Ok(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let bytes = *self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.under_way.lock();
        if let Some(of_app) = all.get_mut(&self.app) {
            of_app.calls -= 1;
            of_app.bytes -= bytes;
            if of_app.calls == 0 {
                all.remove(&self.app);
            }
        }
    }
}

fn full(text: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", text).again(1)
}

fn full_of_bytes() -> Problem {
    full(format!("{BODIES_MAX} bytes of bodies of this app's calls are under way already"))
}

/// A body that counts as it comes.
#[derive(Debug)]
pub(super) struct Counted {
    body: Incoming,
    /// `None`: it is not counted.
    call: Option<Arc<Call>>,
    bytes: u64,
}

impl Counted {
    pub(super) fn new(body: Incoming, call: Option<Arc<Call>>) -> Self {
        Self { body, call, bytes: 0 }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|cause| Status::from_error(cause.into()));
        let length = frame.as_ref().ok().and_then(|it| it.data_ref().map(Bytes::len));
        self.bytes += u64::try_from(length.unwrap_or_default()).unwrap_or(u64::MAX);
        match &self.call {
            Some(call) if frame.is_ok() => {
                let counted = call.has_come(self.bytes).map_err(Status::from);
                Poll::Ready(Some(counted.and(frame)))
            }
            _ => Poll::Ready(Some(frame)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer of a known length: its call lasts until it is sent, so that nobody who reads none has more of them than calls.
#[derive(Debug)]
pub(super) struct Answer {
    body: tonic::body::Body,
    _call: Arc<Call>,
}

impl Answer {
    /// A stream is not one: it has bounds of its own.
    pub(super) fn of(response: Response<tonic::body::Body>, call: Arc<Call>) -> Response<tonic::body::Body> {
        match response.body().size_hint().exact() {
            Some(0) | None => response,
            Some(_) => response.map(|body| tonic::body::Body::new(Self { body, _call: call })),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Activity, *};

    fn begin(under_way: &Arc<UnderWay>, body: Option<u64>) -> Result<Call, Problem> {
        Call::begin(under_way, "a", body, Arc::new(Activity::new()).begin())
    }

    #[test]
    fn calls_and_bytes_of_an_app_are_bounded_and_come_back() {
        let under_way = Arc::<UnderWay>::default();
        let calls: Vec<_> = (0..CALLS_MAX).map(|_| begin(&under_way, Some(1)).unwrap()).collect();
        assert!(begin(&under_way, Some(1)).is_err());
        assert!(Call::begin(&under_way, "b", Some(1), Arc::new(Activity::new()).begin()).is_ok());
        drop(calls);
        let large = begin(&under_way, Some(BODIES_MAX - BODY_SMALL)).unwrap();
        let second = begin(&under_way, Some(0)).unwrap();
        assert!(second.has_come(BODY_SMALL).is_ok());
        assert!(second.has_come(BODY_SMALL + 1).is_err());
        assert!(begin(&under_way, None).is_err());
        drop(large);
        assert!(second.has_come(BODY_SMALL + 1).is_ok());
        assert!(second.has_come(BODIES_MAX).is_ok());
        assert!(second.has_come(BODIES_MAX + 1).is_err());
        drop(second);
        assert!(under_way.lock().is_empty());
    }

    #[test]
    fn a_call_lasts_until_its_answer_is_sent() {
        let under_way = Arc::<UnderWay>::default();
        let answer = |text: &str| {
            let call = Arc::new(begin(&under_way, Some(0)).unwrap());
            Answer::of(
                Response::new(tonic::body::Body::new(http_body_util::Full::from(text.to_owned()))),
                call,
            )
        };
        let (some, none) = (answer("x"), answer(""));
        assert_eq!(under_way.lock()["a"].calls, 1);
        drop((some, none));
        assert!(under_way.lock().is_empty());
    }
}
