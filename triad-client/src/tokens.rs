//! Tokens, as the hub's leader is asked for them.

use crate::{Hub, HubError, leader::TRY_TIMEOUT};
use bytes::Bytes;
use proto::hub::v1::{
    Author, CreateToken, ListTokens, RevokeToken, Token, token_created::Outcome, tokens_client::TokensClient,
};
use std::time::Duration;

impl Hub {
    /// Makes a token known, once it is on disk on a majority of the hub. Sent again, it is the same one.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn create_token(&self, create: CreateToken, deadline: Duration) -> Result<Outcome, HubError> {
        let created = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = create.clone();
            async move { TokensClient::new(channel).create(request).await }
        });
        created.await?.outcome.ok_or_else(|| HubError::Refused("an outcome of an unknown kind".into()))
    }

    /// Ends a token; as it is then, or `None` when there is no such one.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn revoke_token(
        &self,
        hash: Bytes,
        author: Author,
        deadline: Duration,
    ) -> Result<Option<Token>, HubError> {
        let revoked = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = RevokeToken { hash: hash.clone(), author: Some(author.clone()) };
            async move { TokensClient::new(channel).revoke(request).await }
        });
        Ok(revoked.await?.token)
    }

    /// The tokens as the hub's leader has them, the oldest first.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn tokens(&self, deadline: Duration) -> Result<Vec<Token>, HubError> {
        let listed = self.leader.call(deadline, TRY_TIMEOUT, |channel| async move {
            TokensClient::new(channel).list(ListTokens {}).await
        });
        Ok(listed.await?.tokens)
    }
}
