//! Leases, as the hub's leader is asked for them.

use crate::{Hub, HubError, leader::TRY_TIMEOUT};
use proto::hub::v1::{
    AcquireLease, ReleaseLeases, RenewLeases, lease_acquired::Outcome, leases_client::LeasesClient,
};
use std::time::Duration;

impl Hub {
    /// Asks for a lease, once it is on disk on a majority of the hub. Sent again, it is the same grant. Its time runs from before this is called.
    ///
    /// # Errors
    /// See [`HubError`]; refused while a hub server does not know leases.
    pub async fn acquire_lease(
        &self,
        acquire: AcquireLease,
        deadline: Duration,
    ) -> Result<Outcome, HubError> {
        let acquired = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = acquire.clone();
            async move { LeasesClient::new(channel).acquire(request).await }
        });
        acquired.await?.outcome.ok_or_else(|| HubError::Refused("an outcome of an unknown kind".into()))
    }

    /// Holds on to leases; those that are lost. Their time runs from before this is called.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn renew_leases(&self, renew: RenewLeases, deadline: Duration) -> Result<Vec<u64>, HubError> {
        let renewed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = renew.clone();
            async move { LeasesClient::new(channel).renew(request).await }
        });
        Ok(renewed.await?.lost)
    }

    /// Gives leases back before their time; those of them that were held.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn release_leases(
        &self,
        release: ReleaseLeases,
        deadline: Duration,
    ) -> Result<Vec<u64>, HubError> {
        let released = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = release.clone();
            async move { LeasesClient::new(channel).release(request).await }
        });
        Ok(released.await?.released)
    }
}
