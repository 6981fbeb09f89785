//! `session.proto`'s service.

use super::input;
use crate::{command, hub::Hub, state::Reply};
use proto::hub::v1::{
    LoadSession, LoadedSession, NoRoom, SessionOutcome, SessionOutcomes, SessionWrite, WriteSessions,
    session_outcome::Outcome, sessions_server::Sessions,
};
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
        self.0.must_lead()?;
        let judged = self.0.admission().judge(&self.0.node().view().read().state, &writes, self.0.now());
        let refused = &judged.refused;
        let count = writes.len();
        let kept = without(writes, refused).into_iter().map(command::session).collect();
        let replies = if refused.len() == count { Vec::new() } else { self.0.propose(kept, bytes).await? };
        let written = replies.into_iter().filter_map(|reply| match reply {
            Reply::Session(outcome) => Some(outcome),
            _ => None,
        });
        let outcomes = with_refusals(written, refused, count);
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

/// The writes but for those at the ascending `places`.
fn without(writes: Vec<SessionWrite>, places: &[usize]) -> Vec<SessionWrite> {
    if places.is_empty() {
        return writes;
    }
    let mut places = places.iter().copied().peekable();
    let kept = writes.into_iter().enumerate().filter(|(place, _)| places.next_if_eq(place).is_none());
    kept.map(|(_, write)| write).collect()
}

/// The outcomes of `count` writes, of which those at the ascending `refused` have found no memory.
fn with_refusals(
    mut written: impl Iterator<Item = SessionOutcome>,
    refused: &[usize],
    count: usize,
) -> Vec<SessionOutcome> {
    let mut refused = refused.iter().copied().peekable();
    let outcome = |place| match refused.next_if_eq(&place) {
        Some(_) => Some(SessionOutcome { outcome: Some(Outcome::NoRoom(NoRoom {})) }),
        None => written.next(),
    };
    (0..count).map_while(outcome).collect()
}
