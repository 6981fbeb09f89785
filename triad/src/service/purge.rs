//! `purge.proto`'s service.

use super::input;
use crate::{hub::Hub, state::Reply};
use proto::{
    hub::v1::{Command, NotePurge, PurgeNoted, command, purges_server::Purges},
    web::v1::purge_cache::What,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// A purge's record is small.
const BYTES: usize = 1024;

/// The longest URL, pattern or key, in bytes.
const TEXT_MAX: usize = 4 << 10;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct PurgeService(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl Purges for PurgeService {
    async fn note(&self, request: Request<NotePurge>) -> Result<Response<PurgeNoted>, Status> {
        let note = request.into_inner();
        match note.what.as_ref().and_then(|it| it.what.as_ref()) {
            Some(What::Url(text) | What::Prefix(text) | What::Pattern(text) | What::Tag(text)) => {
                input::text("what", text, TEXT_MAX)?;
            }
            Some(What::All(_)) => {}
            None => {
                return Err(Status::invalid_argument("what is missing: expected what is to be forgotten"));
            }
        }
        let command = Command { command: Some(command::Command::NotePurge(note)) };
        match self.0.propose(vec![command], BYTES).await?.pop() {
            Some(Reply::PurgeNoted(noted)) => Ok(Response::new(noted)),
            _ => Err(Status::internal("the hub's state answered another question")),
        }
    }
}
