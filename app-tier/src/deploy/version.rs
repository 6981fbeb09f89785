//! One version of an app on this server: it knows how many requests it is answering, and ends when the last of them has ended.

use super::checkouts::VersionFolder;
use crate::{
    app::{App, Kind},
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
    folder: Arc<VersionFolder>,
    app: Arc<dyn App>,
    requests: TaskTracker,
    registered: Option<Registered>,
}

/// The processes of a version, which may call the app API for as long as this is there; they end with the last who knows them.
#[derive(Debug)]
struct Registered {
    running: Running,
    registry: Arc<Registry>,
}

/// Whatever becomes of a version, its token is worth nothing afterwards.
impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.remove(&self.running.token);
    }
}

impl Version {
    pub(crate) fn new(
        (commit, tree): (Vec<u8>, Vec<u8>),
        folder: Arc<VersionFolder>,
        app: Arc<dyn App>,
        running: Option<Running>,
        registry: Arc<Registry>,
    ) -> Self {
        let registered = running.map(|running| {
            registry.add(running.clone());
            Registered { running, registry }
        });
        let requests = TaskTracker::new();
        let app = Arc::new(Counted { app, _known: requests.token(), requests: requests.clone() });
        Self { commit, tree, folder, app, requests, registered }
    }

    /// What answers requests.
    pub(crate) fn mounted(&self) -> Arc<dyn App> {
        self.app.clone()
    }

    /// Waits until its processes are healthy.
    pub(crate) async fn ready(&self, server: &common::id::ServerId, timeout: Duration) -> Result<(), String> {
        let Some(registered) = &self.registered else { return Ok(()) };
        registered.running.app.processes.ready(server, timeout).await.map_err(|cause| cause.to_string())
    }

    /// It is in use from now on: its daemons may run, and messages come.
    pub(crate) fn begin(&self) {
        if let Some(registered) = &self.registered {
            registered.running.app.begin();
        }
    }

    /// Ends it when its requests have ended; returns at once with what tells of the end.
    pub(crate) fn retire(self) -> tokio::task::JoinHandle<()> {
        let Self { folder, app, requests, registered, .. } = self;
        // Whoever has looked it up, and has not called it yet, still counts.
        drop(app);
        requests.close();
        tokio::spawn(async move {
            if let Some(registered) = &registered {
                registered.running.app.end().await;
            }
            if tokio::time::timeout(DRAIN_MAX, requests.wait()).await.is_err() {
                let (requests, folder) = (requests.len(), folder.path().display());
                tracing::warn!(requests, %folder, "requests go on with an old version past its time: ending it");
            }
            if let Some(registered) = &registered {
                registered.running.app.processes.stop().await;
            }
            // Its files may go from here on.
            drop(folder);
        })
    }
}

/// An app whose requests are counted, to their last byte; and, as one more, those who know it and may call it yet.
#[derive(Debug)]
struct Counted {
    app: Arc<dyn App>,
    requests: TaskTracker,
    _known: TaskTrackerToken,
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

    fn kind(&self) -> Kind<'_> {
        self.app.kind()
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
