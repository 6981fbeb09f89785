//! The app API on a Unix socket: what app processes call for their requests' sessions. The token says which app calls, the
//! request's handle which session it may see.

use crate::{
    error::AppTierError,
    registry::Registry,
    session::{SessionError, Sessions, Visit},
};
use futures_util::stream;
use proto::app::v1::{
    ChangeIdReply, ChangeIdRequest, InvalidateReply, InvalidateRequest, LoadReply, LoadRequest, UpdateReply,
    UpdateRequest,
    sessions_server::{Sessions as SessionsService, SessionsServer},
};
use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, metadata::MetadataValue, service::interceptor::InterceptedService,
    transport::Server,
};

/// Largest message.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// Calls at once on one connection of an app.
const STREAMS_MAX: u32 = 1024;

/// A call takes at most this long; what it waits for inside is bounded by `save-timeout`.
const CALL_MAX: Duration = Duration::from_secs(60);

/// Window of a stream, and of a connection: large enough for a session in one round trip.
const WINDOW: u32 = 1024 * 1024;

/// The apps that may call.
#[derive(Debug, Clone)]
pub(crate) struct AppApi(Arc<Registry>);

impl AppApi {
    /// For the apps that there are, by their tokens.
    pub(crate) fn new(apps: Arc<Registry>) -> Self {
        Self(apps)
    }

    /// Serves calls on a new socket at `path` until `stop` is cancelled.
    ///
    /// # Errors
    /// [`AppTierError::Io`]: the socket can't be made.
    pub(crate) fn serve(
        self,
        path: PathBuf,
        stop: CancellationToken,
    ) -> Result<JoinHandle<()>, AppTierError> {
        let bound = UnixListener::bind(&path).and_then(|listener| {
            // Who may enter its folder may connect; a call needs an app's token.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        });
        let listener =
            bound.map_err(|cause| AppTierError::Io { what: "binding the app API's socket", path, cause })?;
        let incoming = stream::unfold(listener, |listener| async move {
            let accepted = match listener.accept().await {
                Ok((stream, _)) => Ok(stream),
                Err(cause) => {
                    // Out of file descriptors: not a reason to spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(cause)
                }
            };
            Some((accepted as io::Result<UnixStream>, listener))
        });
        let known = self.clone();
        let service = SessionsServer::new(self)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        // Before its message is read: nobody's is kept without a token.
        let service = InterceptedService::new(service, move |call: Request<()>| {
            known.caller(&call)?;
            Ok(call)
        });
        let server = Server::builder()
            .timeout(CALL_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .add_service(service);
        Ok(tokio::spawn(async move {
            let served = server.serve_with_incoming_shutdown(Box::pin(incoming), stop.cancelled_owned());
            if let Err(cause) = served.await {
                tracing::error!(%cause, "the app API has stopped");
            }
        }))
    }

    /// The sessions of the app that calls.
    fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Sessions>, Status> {
        let token = request.metadata().get("copal-token").map(MetadataValue::as_encoded_bytes);
        let token = token.unwrap_or_default();
        // Every token is compared, to its end: how long it takes tells nothing.
        let apps = self.0.running();
        let app = apps.iter().fold(None, |found, known| {
            if is_same(known.token.as_bytes(), token) { Some(&known.app.sessions) } else { found }
        });
        app.cloned().ok_or_else(|| Status::unauthenticated("copal-token is not the value of COPAL_TOKEN"))
    }

    /// The visit that a call is for.
    fn visit<T>(&self, request: &Request<T>) -> Result<Arc<Visit>, Status> {
        let app = self.caller(request)?;
        let handle = request.metadata().get("copal-request").map(MetadataValue::as_encoded_bytes);
        let handle = handle.and_then(|value| std::str::from_utf8(value).ok());
        let handle = handle.ok_or_else(|| {
            Status::failed_precondition("copal-request is missing: send the request's X-Copal-Request")
        })?;
        app.visit(handle)
            .ok_or_else(|| Status::failed_precondition("the request of this copal-request is over"))
    }
}

/// In a time that depends on the lengths alone.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let differing =
        known.iter().zip(given).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    known.len() == given.len() && differing == 0
}

impl From<SessionError> for Status {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        match error {
            SessionError::Stale => Self::aborted(text),
            SessionError::HubLost(_) => Self::unavailable(text),
            SessionError::Refused(_) | SessionError::NoRoom | SessionError::Full { .. } => {
                Self::resource_exhausted(text)
            }
            SessionError::TooLarge { .. } => Self::invalid_argument(text),
            SessionError::NotThisRequest => Self::permission_denied(text),
        }
    }
}

#[tonic::async_trait]
impl SessionsService for AppApi {
    async fn load(&self, request: Request<LoadRequest>) -> Result<Response<LoadReply>, Status> {
        let visit = self.visit(&request)?;
        let (exists, version, attributes) =
            visit.within(visit.load(&request.into_inner().session_id)).await?;
        Ok(Response::new(LoadReply { exists, version, attributes }))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Result<Response<UpdateReply>, Status> {
        let visit = self.visit(&request)?;
        let UpdateRequest { session_id, set, removed } = request.into_inner();
        visit.within(visit.update(&session_id, set, removed)).await?;
        Ok(Response::new(UpdateReply {}))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateReply>, Status> {
        let visit = self.visit(&request)?;
        visit.within(visit.invalidate(&request.into_inner().session_id)).await?;
        Ok(Response::new(InvalidateReply {}))
    }

    async fn change_id(&self, request: Request<ChangeIdRequest>) -> Result<Response<ChangeIdReply>, Status> {
        let visit = self.visit(&request)?;
        let session_id = visit.within(visit.change_id(&request.into_inner().session_id)).await?;
        let session_id = session_id.as_str().to_owned();
        Ok(Response::new(ChangeIdReply { session_id }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_same(b"abc", b"abc"));
        for given in [&b"abd"[..], b"ab", b"abcd", b"", b"bbc"] {
            assert!(!is_same(b"abc", given), "{given:?}");
        }
    }
}
