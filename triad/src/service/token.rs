//! `token.proto`'s service.

use super::{audit, input};
use crate::{hub::Hub, serve::Caller, state::Reply};
use proto::hub::v1::{
    Command, CreateToken, ListTokens, RevokeToken, TokenCreated, TokenList, TokenRevoked, command,
    tokens_server::Tokens,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// A token's record is small.
const BYTES: usize = 512;

/// The longest names of a token and of its user, in bytes, as the configuration file has them.
const NAME_MAX: usize = 64;
const USER_MAX: usize = 255;

/// Roles of one token, and the longest name of one.
const ROLES_MAX: usize = 16;
const ROLE_MAX: usize = 32;

/// The longest life: ten years.
const VALID_MAX_MS: u64 = 10 * 366 * 24 * 3600 * 1000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct TokenService(pub(crate) Arc<Hub>);

impl TokenService {
    async fn propose(&self, command: command::Command) -> Result<Reply, Status> {
        let replies = self.0.propose(vec![Command { command: Some(command) }], BYTES).await?;
        replies.into_iter().next().ok_or_else(unexpected)
    }
}

fn unexpected() -> Status {
    Status::internal("the hub's state answered another question")
}

fn check(create: &CreateToken) -> Result<(), Status> {
    input::hash("hash", &create.hash)?;
    input::text("name", &create.name, NAME_MAX)?;
    input::text("user", &create.user, USER_MAX)?;
    if !(1..=ROLES_MAX).contains(&create.roles.len()) {
        let text = format!("roles has {} entries: expected 1 to {ROLES_MAX}", create.roles.len());
        return Err(Status::invalid_argument(text));
    }
    for role in &create.roles {
        input::text("roles", role, ROLE_MAX)?;
    }
    if !(1..=VALID_MAX_MS).contains(&create.valid_ms) {
        let text = format!("valid_ms is {}: expected 1 to {VALID_MAX_MS}", create.valid_ms);
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

#[tonic::async_trait]
impl Tokens for TokenService {
    async fn create(&self, request: Request<CreateToken>) -> Result<Response<TokenCreated>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut create = request.into_inner();
        check(&create)?;
        audit::check(create.author.as_ref())?;
        create.author = audit::signed(&self.0, create.author, caller.as_ref());
        match self.propose(command::Command::CreateToken(create)).await? {
            Reply::TokenCreated(created) => Ok(Response::new(created)),
            _ => Err(unexpected()),
        }
    }

    async fn revoke(&self, request: Request<RevokeToken>) -> Result<Response<TokenRevoked>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut revoke = request.into_inner();
        input::hash("hash", &revoke.hash)?;
        audit::check(revoke.author.as_ref())?;
        revoke.author = audit::signed(&self.0, revoke.author, caller.as_ref());
        match self.propose(command::Command::RevokeToken(revoke)).await? {
            Reply::TokenRevoked(revoked) => Ok(Response::new(revoked)),
            _ => Err(unexpected()),
        }
    }

    async fn list(&self, _request: Request<ListTokens>) -> Result<Response<TokenList>, Status> {
        self.0.confirm_read().await?;
        let mut tokens: Vec<_> = self.0.node().view().read().state.tokens().iter().cloned().collect();
        tokens.sort_by_key(|it| it.created_ms);
        Ok(Response::new(TokenList { tokens }))
    }
}
