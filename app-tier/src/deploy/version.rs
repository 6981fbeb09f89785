//! One version of an app on this server: it knows how many requests it is answering, and ends when the last of them has ended.

use crate::{
    app::App,
    body::{Body, BodyError, Request, Response},
    error::RequestError,
    registry::{Registry, Running},
    upgrade::AppSide,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// How long requests may go on with a version that is no longer in use: WebSockets and long downloads.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// A version that runs.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) commit: Vec<u8>,
    pub(crate) tree: Vec<u8>,
    pub(crate) folder: PathBuf,
    app: Arc<dyn App>,
    requests: TaskTracker,
    running: Option<Running>,
    registry: Arc<Registry>,
}

impl Version {
    pub(crate) fn new(
        (commit, tree): (Vec<u8>, Vec<u8>),
        folder: PathBuf,
        app: Arc<dyn App>,
        running: Option<Running>,
        registry: Arc<Registry>,
    ) -> Self {
        if let Some(running) = &running {
            registry.add(running.clone());
        }
        let requests = TaskTracker::new();
        let app = Arc::new(Counted { app, requests: requests.clone() });
        Self { commit, tree, folder, app, requests, running, registry }
    }

    /// What answers requests.
    pub(crate) fn mounted(&self) -> Arc<dyn App> {
        self.app.clone()
    }

    /// Waits until its processes are healthy.
    pub(crate) async fn ready(&self, server: &common::id::ServerId, timeout: Duration) -> Result<(), String> {
        let Some(running) = &self.running else { return Ok(()) };
        running.app.processes.ready(server, timeout).await.map_err(|cause| cause.to_string())
    }

    /// Ends it when its requests have ended; returns at once with what tells of the end.
    pub(crate) fn retire(self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            self.requests.close();
            if tokio::time::timeout(DRAIN_MAX, self.requests.wait()).await.is_err() {
                let (requests, folder) = (self.requests.len(), self.folder.display());
                tracing::warn!(requests, %folder, "requests go on with an old version past its time: ending it");
            }
            if let Some(running) = &self.running {
                running.app.processes.stop().await;
            }
        })
    }
}

/// Whatever becomes of it, its token is worth nothing afterwards; its processes end with the last who knows them.
impl Drop for Version {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            self.registry.remove(&running.token);
        }
    }
}

/// An app whose requests are counted, to their last byte.
#[derive(Debug)]
struct Counted {
    app: Arc<dyn App>,
    requests: TaskTracker,
}

impl App for Counted {
    fn call<'a>(
        &'a self,
        prefix: &'a str,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, RequestError>> {
        Box::pin(async move {
            let token = self.requests.token();
            let mut response = self.app.call(prefix, request).await?;
            if let Some(side) = response.extensions().get::<AppSide>() {
                // A tunnel goes on when the answer has ended.
                side.keep(Box::new(token.clone()));
            }
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = CountedBody { body, _token: token }.boxed_unsync();
            Ok(response)
        })
    }
}

/// A body that counts until it is dropped.
struct CountedBody {
    body: Body,
    _token: TaskTrackerToken,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
