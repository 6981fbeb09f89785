//! Sessions over gRPC: the app that calls has shown its token, and the request's handle says which session it may see.

mod http;

pub(super) use http::{change_id, session};

use super::Caller;
use crate::session::{SessionError, Sessions, Visit};
use proto::app::v1::{
    ChangeIdReply, ChangeIdRequest, InvalidateReply, InvalidateRequest, LoadReply, LoadRequest, UpdateReply,
    UpdateRequest,
    sessions_server::{Sessions as SessionsService, SessionsServer},
};
use std::sync::Arc;
use tonic::{Request, Response, Status, metadata::MetadataValue};

/// Largest message.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct SessionService;

impl SessionService {
    /// For a server of gRPC that has looked at the token.
    pub(super) fn server() -> SessionsServer<Self> {
        SessionsServer::new(Self)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
    }

    /// The sessions of the app that calls.
    fn caller<T>(request: &Request<T>) -> Result<Arc<Sessions>, Status> {
        let caller = request.extensions().get::<Caller>();
        let caller = caller.ok_or_else(|| Status::unauthenticated("the value of COPAL_TOKEN is missing"))?;
        Ok(caller.0.app.sessions.clone())
    }

    /// The visit that a call is for.
    fn visit<T>(request: &Request<T>) -> Result<Arc<Visit>, Status> {
        let app = Self::caller(request)?;
        let handle = request.metadata().get("copal-request").map(MetadataValue::as_encoded_bytes);
        let handle = handle.and_then(|value| std::str::from_utf8(value).ok());
        let handle = handle.ok_or_else(|| {
            Status::failed_precondition("copal-request is missing: send the request's X-Copal-Request")
        })?;
        app.visit(handle)
            .ok_or_else(|| Status::failed_precondition("the request of this copal-request is over"))
    }
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
impl SessionsService for SessionService {
    async fn load(&self, request: Request<LoadRequest>) -> Result<Response<LoadReply>, Status> {
        let visit = Self::visit(&request)?;
        let (exists, version, attributes) =
            visit.within(visit.load(&request.into_inner().session_id)).await?;
        Ok(Response::new(LoadReply { exists, version, attributes }))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Result<Response<UpdateReply>, Status> {
        let visit = Self::visit(&request)?;
        let UpdateRequest { session_id, set, removed } = request.into_inner();
        visit.within(visit.update(&session_id, set, removed)).await?;
        Ok(Response::new(UpdateReply {}))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateReply>, Status> {
        let visit = Self::visit(&request)?;
        visit.within(visit.invalidate(&request.into_inner().session_id)).await?;
        Ok(Response::new(InvalidateReply {}))
    }

    async fn change_id(&self, request: Request<ChangeIdRequest>) -> Result<Response<ChangeIdReply>, Status> {
        let visit = Self::visit(&request)?;
        let session_id = visit.within(visit.change_id(&request.into_inner().session_id)).await?;
        let session_id = session_id.as_str().to_owned();
        Ok(Response::new(ChangeIdReply { session_id }))
    }
}
