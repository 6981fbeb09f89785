//! `lease.proto`'s service.

use super::input;
use crate::{hub::Hub, serve::Caller, state::Reply};
use cluster_port::Rights;
use common::service_name::ACME_LEASES;
use proto::hub::v1::{
    AcquireLease, Command, LeaseAcquired, LeaseKey, LeasesReleased, LeasesRenewed, ReleaseLeases,
    RenewLeases, command, lease_acquired, leases_server::Leases,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// A lease's record is small.
const BYTES: usize = 512;

/// Leases that one call may be of: a server holds no more.
const TOKENS_MAX: usize = 10_000;

/// The shortest and the longest time of a lease.
const TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=24 * 3600 * 1000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct LeaseService(pub(crate) Arc<Hub>);

fn unexpected() -> Status {
    Status::internal("the hub's state answered another question")
}

fn tokens(tokens: &[u64]) -> Result<(), Status> {
    if tokens.len() <= TOKENS_MAX {
        return Ok(());
    }
    let text = format!("tokens has {} entries: expected at most {TOKENS_MAX}", tokens.len());
    Err(Status::invalid_argument(text))
}

/// The leases of ACME are the web-tiers', all others those of apps: those that `app` asks for, and that count as its own.
fn may_ask(rights: Rights, key: Option<&LeaseKey>, app: &str) -> Result<(), Status> {
    let is_acme = key.is_some_and(|it| it.app == ACME_LEASES);
    if is_acme != (app == ACME_LEASES) {
        let expected = if is_acme { "as the key's app" } else { "the app that asks" };
        return Err(Status::invalid_argument(format!("app is {app:?}: expected {expected}")));
    }
    if if is_acme { rights.listens } else { rights.apps } {
        return Ok(());
    }
    let whose = if is_acme { "a web-tier's" } else { "an app's" };
    Err(Status::permission_denied(format!(
        "key: this lease is {whose}, and the caller's roles do not include that"
    )))
}

impl LeaseService {
    async fn propose(&self, command: command::Command, bytes: usize) -> Result<Reply, Status> {
        let replies = self.0.propose(vec![Command { command: Some(command) }], bytes).await?;
        replies.into_iter().next().ok_or_else(unexpected)
    }
}

#[tonic::async_trait]
impl Leases for LeaseService {
    async fn acquire(&self, request: Request<AcquireLease>) -> Result<Response<LeaseAcquired>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let rights = request.extensions().get::<Rights>().copied().unwrap_or_default();
        let acquire = request.into_inner();
        input::server("server", &acquire.server)?;
        input::own("server", &acquire.server, caller.as_ref())?;
        input::lease("key", acquire.key.as_ref())?;
        input::app("app", &acquire.app)?;
        may_ask(rights, acquire.key.as_ref(), &acquire.app)?;
        if !TTL_MS.contains(&acquire.ttl_ms) {
            let text =
                format!("ttl_ms is {}: expected {} to {}", acquire.ttl_ms, TTL_MS.start(), TTL_MS.end());
            return Err(Status::invalid_argument(text));
        }
        // Who asks again and again for what another has costs no entry of the log.
        self.0.must_be_confirmed()?;
        let held = {
            let applied = self.0.node().view().read();
            acquire.key.as_ref().and_then(|key| applied.state.leases().holder(key)).cloned()
        };
        if let Some(held) = held.filter(|it| it.id != acquire.id || it.server != acquire.server) {
            return Ok(Response::new(LeaseAcquired { outcome: Some(lease_acquired::Outcome::Held(held)) }));
        }
        match self.propose(command::Command::AcquireLease(acquire), BYTES).await? {
            Reply::LeaseAcquired(acquired) => Ok(Response::new(acquired)),
            _ => Err(unexpected()),
        }
    }

    async fn renew(&self, request: Request<RenewLeases>) -> Result<Response<LeasesRenewed>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let renew = request.into_inner();
        input::server("server", &renew.server)?;
        input::own("server", &renew.server, caller.as_ref())?;
        tokens(&renew.tokens)?;
        let bytes = 64 + 16 * renew.tokens.len();
        match self.propose(command::Command::RenewLeases(renew), bytes).await? {
            Reply::LeasesRenewed(renewed) => Ok(Response::new(renewed)),
            _ => Err(unexpected()),
        }
    }

    async fn release(&self, request: Request<ReleaseLeases>) -> Result<Response<LeasesReleased>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let release = request.into_inner();
        input::server("server", &release.server)?;
        input::own("server", &release.server, caller.as_ref())?;
        tokens(&release.tokens)?;
        tokens(&release.ids)?;
        let bytes = 64 + 16 * release.tokens.len();
        match self.propose(command::Command::ReleaseLeases(release), bytes).await? {
            Reply::LeasesReleased(released) => Ok(Response::new(released)),
            _ => Err(unexpected()),
        }
    }
}
