//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client's body waits until the app asks for it, or answers without it.
//!
//! The body is held back here. When it is let go it is read for the first time, and that makes the server's side of this connection
//! say `100 Continue` to the client.

use crate::body::{Body, BodyError, Request};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// An app that neither asks for the body nor answers within this time does not know the expectation: it gets the body (curl waits
/// as long).
const WAIT: Duration = Duration::from_secs(1);

/// What the app has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    /// It wants the body.
    Open,
    /// It has answered without it; its answer is still being read.
    Answered,
    /// And that is over.
    Over,
}

/// A request's expectation; dropped when the answer has ended.
#[derive(Debug)]
pub(super) struct Expectation(Arc<watch::Sender<Gate>>);

/// A body that waits.
struct Held {
    body: Body,
    /// Whether the body may be read.
    gate: Option<BoxFuture<'static, bool>>,
}

impl Expectation {
    /// Holds the body of a request back if it expects that; an expectation without a body is taken off.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        let expected = request.headers().get(header::EXPECT)?;
        let known = expected.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if !known || http_body::Body::is_end_stream(request.body()) {
            request.headers_mut().remove(header::EXPECT);
            return None;
        }
        let (sender, receiver) = watch::channel(Gate::Shut);
        let expectation = Self(Arc::new(sender));
        let body = std::mem::take(request.body_mut());
        let gate: BoxFuture<'static, bool> = Box::pin(opens(receiver));
        *request.body_mut() = Held { body, gate: Some(gate) }.boxed_unsync();
        Some(expectation)
    }

    /// What the app's `100 Continue` is to call.
    pub(super) fn opener(&self) -> impl Fn() + Send + Sync + 'static {
        let gate = self.0.clone();
        move || turn(&gate, &[Gate::Shut], Gate::Open)
    }

    /// The app's answer has come. What is still held back is let go when the answer is a success, for it may need it to go on, and
    /// stays otherwise. Returns whether it stays.
    pub(super) fn answered(&self, status: StatusCode) -> bool {
        let to = if status.is_success() { Gate::Open } else { Gate::Answered };
        turn(&self.0, &[Gate::Shut], to);
        *self.0.borrow() != Gate::Open
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        turn(&self.0, &[Gate::Shut, Gate::Answered], Gate::Over);
    }
}

fn turn(gate: &watch::Sender<Gate>, from: &[Gate], to: Gate) {
    gate.send_if_modified(|now| {
        let turns = from.contains(now);
        if turns {
            *now = to;
        }
        turns
    });
}

/// Waits for the app's word.
async fn opens(mut gate: watch::Receiver<Gate>) -> bool {
    let said = timeout(WAIT, gate.wait_for(|now| *now != Gate::Shut)).await;
    match said.map(|said| said.map(|now| *now)) {
        Err(_) | Ok(Ok(Gate::Open)) => true,
        // The answer is read on this connection: it must not break before its end.
        Ok(Ok(Gate::Answered)) => {
            let _ = gate.wait_for(|now| *now == Gate::Over).await;
            false
        }
        Ok(Ok(Gate::Shut | Gate::Over) | Err(_)) => false,
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &mut self.gate {
            if !ready!(gate.as_mut().poll(cx)) {
                return Poll::Ready(Some(Err("the app answered without the request's body".into())));
            }
            self.gate = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{empty, full};

    fn expecting(body: Body) -> Request {
        http::Request::builder().header("expect", "100-Continue").body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_says_nothing_gets_the_body_after_a_while() {
        let mut request = expecting(full("body"));
        let _expectation = Expectation::of(&mut request).unwrap();
        assert!(request.headers().contains_key("expect"));
        let began = tokio::time::Instant::now();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
        assert_eq!(began.elapsed(), WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_answer_the_body_stays_until_the_answer_has_ended() {
        let mut request = expecting(full("body"));
        let expectation = Expectation::of(&mut request).unwrap();
        assert!(expectation.answered(StatusCode::UNAUTHORIZED));
        let mut body = request.into_body();
        let waited = timeout(100 * WAIT, body.frame()).await;
        assert!(waited.is_err());
        drop(expectation);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_lets_it_go() {
        let mut request = expecting(full("body"));
        let expectation = Expectation::of(&mut request).unwrap();
        assert!(!expectation.answered(StatusCode::OK));
        let began = tokio::time::Instant::now();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
        assert!(began.elapsed().is_zero());
    }

    #[test]
    fn without_a_body_there_is_nothing_to_expect() {
        let mut request = expecting(empty());
        assert!(Expectation::of(&mut request).is_none());
        assert!(!request.headers().contains_key("expect"));
    }
}
