//! How long nothing has happened: an app's time for its answer runs from the last piece of the request that it took, so that a long
//! upload is not taken for a silent app.

use crate::body::{Body, BodyError, Request};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// When a request's body moved last.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    began: Instant,
    /// Milliseconds since `began`.
    moved_ms: Arc<AtomicU64>,
}

/// Nothing happened for the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stalled;

/// A body that notes when it moves.
struct Noted {
    body: Body,
    progress: Progress,
}

impl Progress {
    /// Follows the body of `request` from now on.
    pub(super) fn begin(request: &mut Request) -> Self {
        let progress = Self { began: Instant::now(), moved_ms: Arc::default() };
        // A request without a body moves once.
        if !http_body::Body::is_end_stream(request.body()) {
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Noted { body, progress: progress.clone() }.boxed_unsync();
        }
        progress
    }

    /// The result of `work`, which may take as long as the body moves, and `limit` longer.
    ///
    /// # Errors
    /// [`Stalled`].
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        tokio::pin!(work);
        let mut until = Instant::now() + limit;
        loop {
            if let Ok(done) = timeout_at(until, work.as_mut()).await {
                return Ok(done);
            }
            let later = self.moved() + limit;
            if later <= until {
                return Err(Stalled);
            }
            until = later;
        }
    }

    fn moved(&self) -> Instant {
        self.began + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }

    fn note(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(passed, Ordering::Relaxed);
    }
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.progress.note();
        }
        polled
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
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_secs(600);

    /// `pieces` of a body, each just within the limit after the one before.
    fn upload(pieces: u32) -> Request {
        let frames = stream::unfold(0, move |sent| async move {
            (sent < pieces).then_some(())?;
            sleep(LIMIT - Duration::from_secs(1)).await;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))), sent + 1))
        });
        http::Request::new(StreamBody::new(Box::pin(frames)).boxed_unsync())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_may_take_as_long_as_it_moves() {
        let mut request = upload(9);
        let progress = Progress::begin(&mut request);
        let began = Instant::now();
        let answer = async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            // The app takes its time after the last piece.
            sleep(LIMIT - Duration::from_secs(1)).await;
            body.len()
        };
        assert_eq!(progress.within(LIMIT, answer).await, Ok(9));
        assert!(began.elapsed() > 9 * (LIMIT - Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let mut request = upload(1);
        let progress = Progress::begin(&mut request);
        let began = Instant::now();
        let answer = async {
            request.into_body().collect().await.unwrap();
            std::future::pending::<()>().await;
        };
        assert_eq!(progress.within(LIMIT, answer).await, Err(Stalled));
        assert_eq!(began.elapsed().as_secs(), 2 * LIMIT.as_secs() - 1, "the limit after the last piece");
        let mut request = http::Request::new(crate::body::empty());
        let progress = Progress::begin(&mut request);
        assert_eq!(progress.within(LIMIT, std::future::pending::<()>()).await, Err(Stalled));
    }
}
