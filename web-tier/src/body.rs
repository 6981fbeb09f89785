//! The bodies that pass through: nothing is buffered, and the socket to the server is given back at an answer's very end.

use crate::{connection::Client, pool::Pooled, upstream::Lease};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{task::spawn_local, time::timeout};

/// What an answer that nobody wants may cost before its socket is closed instead.
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// A request's body on its way to a server.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is none: such a request can be sent again.
    Empty,
    /// The client's, as it arrives.
    Upload(Upload),
}

/// A client's body, and whether it has been read to its end.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Incoming,
    done: Arc<AtomicBool>,
}

impl RequestBody {
    /// The body, and the flag that tells of its end if it has one.
    pub(crate) fn new(incoming: Incoming) -> (Self, Option<Arc<AtomicBool>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let done = Arc::new(AtomicBool::new(false));
        (Self::Upload(Upload { incoming, done: done.clone() }), Some(done))
    }

    /// Whether there is no body.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Upload(upload) => {
                let frame = ready!(Pin::new(&mut upload.incoming).poll_frame(cx));
                if frame.is_none() || upload.incoming.is_end_stream() {
                    upload.done.store(true, Relaxed);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.incoming.size_hint(),
        }
    }
}

/// Why an answer's body has no end. hyper closes the client's connection then: never a body that looks complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    /// The connection to the server broke.
    #[error(transparent)]
    Connection(hyper::Error),
    /// The hub says that the server's process is gone.
    #[error("the server is down")]
    ServerGone,
}

/// An answer's body on its way to the client.
pub(crate) struct ResponseBody {
    kind: Kind,
    client: Rc<Client>,
}

enum Kind {
    /// The proxy's own.
    Text(Option<Bytes>),
    /// A server's.
    Upstream(Incoming, Option<Held>),
}

/// What an answer holds of its server until its end.
struct Held {
    pooled: Pooled,
    lease: Lease,
}

impl ResponseBody {
    /// A text of the proxy's own.
    pub(crate) fn text(client: Rc<Client>, text: Bytes) -> Self {
        Self { kind: Kind::Text(Some(text)), client }
    }

    /// A server's body; the socket goes back to its pool at the end.
    pub(crate) fn upstream(client: Rc<Client>, incoming: Incoming, pooled: Pooled, lease: Lease) -> Self {
        let mut body = Self { kind: Kind::Upstream(incoming, Some(Held { pooled, lease })), client };
        if body.is_end_stream() {
            body.release();
        }
        body
    }

    /// The answer is complete: the socket can serve another request.
    fn release(&mut self) {
        if let Kind::Upstream(_, held) = &mut self.kind
            && let Some(held) = held.take()
        {
            held.pooled.give_back();
        }
    }

    /// There is nothing more yet; breaks the answer off if there never will be.
    fn unless_server_gone<T>(&mut self) -> Poll<Option<Result<T, BrokenOff>>> {
        let Kind::Upstream(_, held) = &mut self.kind else { return Poll::Pending };
        if held.take_if(|held| held.lease.is_lost()).is_none() {
            return Poll::Pending;
        }
        tracing::debug!("a server went down in the middle of an answer");
        self.client.worker.counters.upstream_failures.up();
        Poll::Ready(Some(Err(BrokenOff::ServerGone)))
    }
}

/// Reads an answer that nobody wants to its end, so that its socket can serve another request; within bounds.
pub(crate) fn discard(incoming: Incoming, pooled: Pooled) {
    if incoming.is_end_stream() {
        return pooled.give_back();
    }
    spawn_local(async move {
        let rest = Limited::new(incoming, DISCARD_BYTES).collect();
        if let Ok(Ok(_)) = timeout(DISCARD_TIMEOUT, rest).await {
            pooled.give_back();
        }
    });
}

impl Drop for ResponseBody {
    /// A body that is dropped early leaves its socket in the middle of an answer: `Pooled` closes it.
    fn drop(&mut self) {
        if self.client.progress.is_uploading() {
            self.client.leaves_unread();
        }
        self.client.progress.answered(self.client.worker.now());
        self.client.worker.counters.requests_active.down();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let body = &mut *self;
        let (incoming, held) = match &mut body.kind {
            Kind::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Upstream(incoming, held) => (incoming, held),
        };
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            return body.unless_server_gone();
        };
        body.client.progress.server_moved(body.client.worker.now());
        match &frame {
            Some(Ok(_)) if !incoming.is_end_stream() => {}
            Some(Ok(_)) | None => body.release(),
            // The error makes hyper break the client's answer off: never a body that looks complete.
            Some(Err(cause)) => {
                tracing::debug!(%cause, "a server broke off in the middle of an answer");
                if let Some(held) = held.take() {
                    held.lease.broke(body.client.worker.read_clock());
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BrokenOff::Connection)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_none(),
            Kind::Upstream(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Upstream(incoming, _) => incoming.size_hint(),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
