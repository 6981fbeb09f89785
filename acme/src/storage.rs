//! Where the web-tiers of a cluster have together what they have: the hub. It says who orders, too.

use common::{
    id::{ClusterId, ServerId},
    service_name::ACME_LEASES,
};
use proto::hub::v1::{
    AcquireLease, LeaseKey, PutSecret, ReleaseLeases, RenewLeases, lease_acquired, secret_put::Outcome,
};
use std::time::Duration;
use triad_client::{Hub, HubError, Secrets};

/// How long a call to the hub may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What web-tiers have together. The hub's; tests have one of their own.
#[async_trait::async_trait]
pub trait Storage: Send + Sync + 'static {
    /// What is there, as last heard.
    fn secrets(&self) -> Secrets;

    /// Puts or removes a record, if what is there is what the caller believes.
    async fn put(&self, put: PutSecret) -> Result<Outcome, HubError>;

    /// Takes the lease by which one server of all orders; its token, or `None` while another has it. Its time runs from before the call.
    async fn acquire(&self, time: Duration) -> Result<Option<u64>, HubError>;

    /// Holds on to it; false when it is lost.
    async fn renew(&self, token: u64) -> Result<bool, HubError>;

    /// Gives it back.
    async fn release(&self, token: u64);
}

/// The hub.
#[derive(Debug)]
pub struct HubStorage {
    hub: Hub,
    secrets: Secrets,
    me: ServerId,
    started_ms: u64,
    lease: LeaseKey,
}

impl HubStorage {
    /// For the web-tier `me` of `cluster`, a process that was started at `started_ms`.
    pub fn new(hub: Hub, secrets: Secrets, cluster: &ClusterId, me: ServerId, started_ms: u64) -> Self {
        // A lease's name has fewer characters to choose from than a cluster's.
        let hex: String = cluster.as_str().bytes().take(31).map(|it| format!("{it:02x}")).collect();
        let lease = LeaseKey { app: ACME_LEASES.to_owned(), name: hex };
        Self { hub, secrets, me, started_ms, lease }
    }
}

#[async_trait::async_trait]
impl Storage for HubStorage {
    fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    async fn put(&self, put: PutSecret) -> Result<Outcome, HubError> {
        self.hub.put_secret(put, DEADLINE).await
    }

    async fn acquire(&self, time: Duration) -> Result<Option<u64>, HubError> {
        let acquire = AcquireLease {
            key: Some(self.lease.clone()),
            server: self.me.as_str().to_owned(),
            started_ms: self.started_ms,
            app: ACME_LEASES.to_owned(),
            ttl_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            id: rand::random(),
        };
        Ok(match self.hub.acquire_lease(acquire, DEADLINE).await? {
            lease_acquired::Outcome::Granted(lease) => Some(lease.token),
            lease_acquired::Outcome::Held(_) => None,
            lease_acquired::Outcome::Full(count) => {
                tracing::warn!(
                    count,
                    "no certificate is ordered: the hub has no room for another lease (ACME)"
                );
                None
            }
        })
    }

    async fn renew(&self, token: u64) -> Result<bool, HubError> {
        let renew = RenewLeases {
            server: self.me.as_str().to_owned(),
            started_ms: self.started_ms,
            tokens: vec![token],
        };
        Ok(!self.hub.renew_leases(renew, DEADLINE).await?.contains(&token))
    }

    async fn release(&self, token: u64) {
        let (server, started_ms) = (self.me.as_str().to_owned(), self.started_ms);
        let release = ReleaseLeases { server, started_ms, tokens: vec![token], ids: Vec::new() };
        if let Err(cause) = self.hub.release_leases(release, DEADLINE).await {
            tracing::debug!(%cause, "the lease of who orders certificates is left to its end");
        }
    }
}
