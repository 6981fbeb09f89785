//! What leases need of the hub.

use futures_util::future::BoxFuture;
use proto::hub::v1::{AcquireLease, ReleaseLeases, RenewLeases, lease_acquired::Outcome};
use std::{fmt, time::Duration};
use triad_client::{Hub, HubError};

/// The hub, as leases see it.
pub(crate) trait LeaseHub: fmt::Debug + Send + Sync {
    fn acquire(&self, acquire: AcquireLease, limit: Duration) -> BoxFuture<'_, Result<Outcome, HubError>>;
    /// Those that are lost.
    fn renew(&self, renew: RenewLeases, limit: Duration) -> BoxFuture<'_, Result<Vec<u64>, HubError>>;
    /// Those that were held.
    fn release(&self, release: ReleaseLeases, limit: Duration) -> BoxFuture<'_, Result<Vec<u64>, HubError>>;
    /// Who holds what, as last heard.
    fn heard(&self) -> triad_client::Leases;
}

/// The hub, and what is heard of it.
#[derive(Debug)]
pub(crate) struct HubLeases {
    pub(crate) hub: Hub,
    pub(crate) heard: triad_client::Leases,
}

impl LeaseHub for HubLeases {
    fn acquire(&self, acquire: AcquireLease, limit: Duration) -> BoxFuture<'_, Result<Outcome, HubError>> {
        Box::pin(self.hub.acquire_lease(acquire, limit))
    }

    fn renew(&self, renew: RenewLeases, limit: Duration) -> BoxFuture<'_, Result<Vec<u64>, HubError>> {
        Box::pin(self.hub.renew_leases(renew, limit))
    }

    fn release(&self, release: ReleaseLeases, limit: Duration) -> BoxFuture<'_, Result<Vec<u64>, HubError>> {
        Box::pin(self.hub.release_leases(release, limit))
    }

    fn heard(&self) -> triad_client::Leases {
        self.heard.clone()
    }
}
