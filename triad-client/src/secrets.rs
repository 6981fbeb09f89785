//! What web-tiers share and keep, as the hub's leader is asked to keep it.

use crate::{Hub, HubError, leader::TRY_TIMEOUT};
use proto::hub::v1::{PutSecret, secret_put::Outcome, secrets_client::SecretsClient};
use std::time::Duration;

impl Hub {
    /// Puts or removes a secret, once that is on disk on a majority of the hub. Sent again, it is the same put.
    ///
    /// # Errors
    /// See [`HubError`]; refused while a hub server does not know secrets.
    pub async fn put_secret(&self, put: PutSecret, deadline: Duration) -> Result<Outcome, HubError> {
        let done = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = put.clone();
            async move { SecretsClient::new(channel).put(request).await }
        });
        done.await?.outcome.ok_or_else(|| HubError::Refused("an outcome of an unknown kind".into()))
    }
}
