//! The body of a request on its way to an app: broken when the client makes no progress.

use crate::{body::BodyError, linger::Unread, proxy::Pause};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// A request's body whose reads must make progress within a limit.
pub(crate) struct Upload {
    body: Incoming,
    limit: Duration,
    pause: Pause,
    unread: Unread,
    /// Its end has come, or it has broken.
    ended: bool,
}

impl Upload {
    /// Bounds the reads of `body`; should it be dropped before its end, that is told.
    pub(crate) fn new(body: Incoming, limit: Duration, unread: Unread) -> Self {
        Self { body, limit, pause: Pause::new(limit), unread, ended: false }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.unread.set(!self.ended && !self.body.is_end_stream());
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.pause.poll(cx));
                Poll::Ready(Some(Err(
                    format!("the request's body made no progress for {:?}", self.limit).into()
                )))
            }
            Poll::Ready(frame) => {
                self.pause.progress();
                self.ended = !matches!(frame, Some(Ok(_)));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
