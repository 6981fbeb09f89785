//! `session.proto`'s service.

use super::input;
use crate::{command, hub::Hub, state::Reply};
use proto::hub::v1::{LoadSession, LoadedSession, SessionOutcomes, WriteSessions, sessions_server::Sessions};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct SessionService(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl Sessions for SessionService {
    async fn write(&self, request: Request<WriteSessions>) -> Result<Response<SessionOutcomes>, Status> {
        let writes = request.into_inner().writes;
        let bytes = input::writes(&writes)?;
        if writes.is_empty() {
            return Ok(Response::new(SessionOutcomes::default()));
        }
        let count = writes.len();
        let replies = self.0.propose(writes.into_iter().map(command::session).collect(), bytes).await?;
        let outcomes: Vec<_> = replies
            .into_iter()
            .filter_map(|reply| match reply {
                Reply::Session(outcome) => Some(outcome),
                Reply::Done => None,
            })
            .collect();
        if outcomes.len() != count {
            let found = outcomes.len();
            return Err(Status::internal(format!("{count} writes have {found} outcomes")));
        }
        Ok(Response::new(SessionOutcomes { outcomes }))
    }

    async fn load(&self, request: Request<LoadSession>) -> Result<Response<LoadedSession>, Status> {
        let key = request.into_inner().key;
        input::key("key", key.as_ref())?;
        self.0.confirm_session_read().await?;
        let key = key.unwrap_or_default();
        let session = self.0.node().view().read().state.session(&key);
        Ok(Response::new(LoadedSession { session: session.map(|it| it.record(key)) }))
    }
}
