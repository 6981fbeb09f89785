//! `audit.proto`'s service, and what the others put into their commands for it.

use super::input;
use crate::{command::AUDIT, hub::Hub, serve::Caller};
use proto::hub::v1::{
    AuditKind, AuditList, AuditNoted, Author, Command, ListAudit, NoteAudit, audits_server::Audits, command,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// An entry is small.
const BYTES: usize = 1024;

/// Entries of one answer: with the longest texts they fit into a message.
const ENTRIES_MAX: usize = 1000;

/// The longest text of a note, in bytes; what is kept of it is less.
const TEXT_MAX: usize = 4 << 10;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct AuditService(pub(crate) Arc<Hub>);

/// Who a command's author is: what the caller says of its user, and who the caller has proved to be. While a hub server may not know the
/// audit log there is none: the command would be of a kind that it can't read.
pub(super) fn signed(hub: &Hub, author: Option<Author>, caller: Option<&Caller>) -> Option<Author> {
    if !hub.all_read(AUDIT) {
        return None;
    }
    let server = caller.map(|Caller(id)| id.as_str().to_owned()).unwrap_or_default();
    Some(Author { server, ..author.unwrap_or_default() })
}

/// What an author may hold.
pub(super) fn check(author: Option<&Author>) -> Result<(), Status> {
    let Some(Author { user, token, address, server: _, verb }) = author else { return Ok(()) };
    for (field, text) in
        [("author.user", user), ("author.token", token), ("author.address", address), ("author.verb", verb)]
    {
        input::text(field, text, 255)?;
    }
    Ok(())
}

#[tonic::async_trait]
impl Audits for AuditService {
    async fn list(&self, request: Request<ListAudit>) -> Result<Response<AuditList>, Status> {
        self.0.confirm_read().await?;
        let ListAudit { before, limit, kinds } = request.into_inner();
        let mut wanted = Vec::new();
        for kind in kinds.into_iter().take(ENTRIES_MAX) {
            let known = AuditKind::try_from(kind);
            wanted.push(
                known.map_err(|_| Status::invalid_argument(format!("kinds has {kind}: expected 0 to 2")))?,
            );
        }
        let limit = usize::try_from(limit).unwrap_or(ENTRIES_MAX);
        let limit = if limit == 0 { ENTRIES_MAX } else { limit.min(ENTRIES_MAX) };
        let audit = self.0.node().view().read().state.audit().clone();
        let (entries, more) = audit.list(before, limit, &wanted);
        Ok(Response::new(AuditList { entries, more }))
    }

    async fn note(&self, request: Request<NoteAudit>) -> Result<Response<AuditNoted>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let note = request.into_inner();
        check(note.author.as_ref())?;
        let texts = [&note.action, &note.target, &note.detail, &note.outcome];
        for (field, text) in ["action", "target", "detail", "outcome"].into_iter().zip(texts) {
            input::text(field, text, TEXT_MAX)?;
        }
        let server = caller.map(|Caller(id)| id.as_str().to_owned()).unwrap_or_default();
        let author = Some(Author { server, ..note.author.unwrap_or_default() });
        let note = command::Command::NoteAudit(NoteAudit { author, ..note });
        self.0.propose(vec![Command { command: Some(note) }], BYTES).await?;
        Ok(Response::new(AuditNoted {}))
    }
}
