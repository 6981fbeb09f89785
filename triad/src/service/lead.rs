//! `lead.proto`'s service.

use super::{audit, input};
use crate::{command::AUDIT, hub::Hub, serve::Caller};
use proto::hub::v1::{Author, Command, HandOverLead, LeadHandedOver, NoteAudit, command, lead_server::Lead};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What is written down is small.
const BYTES: usize = 512;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct LeadService(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl Lead for LeadService {
    async fn hand_over(&self, request: Request<HandOverLead>) -> Result<Response<LeadHandedOver>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let HandOverLead { to, author } = request.into_inner();
        input::server("to", &to)?;
        audit::check(author.as_ref())?;
        let author = audit::signed(&self.0, author, caller.as_ref());
        self.0.hand_over(&to, author).await.map(Response::new)
    }
}

/// Writes down that the lead is handed over; nothing while a hub server may not know the audit log.
pub(crate) async fn note_hand_over(hub: &Hub, to: &str, author: Option<Author>) -> Result<(), Status> {
    if !hub.all_read(AUDIT) {
        return Ok(());
    }
    let note = NoteAudit {
        author,
        action: "hand-over-lead".to_owned(),
        target: to.to_owned(),
        outcome: "begun".to_owned(),
        ..NoteAudit::default()
    };
    let note = command::Command::NoteAudit(note);
    hub.propose(vec![Command { command: Some(note) }], BYTES).await.map(drop)
}
