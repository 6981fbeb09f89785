//! This server's leases on the hub: asked for, held on to, and lost in time (docs/leases.md).
//!
//! A lease's time is counted here from before the call that asked for it, or renewed it, was sent, and on the hub from when it was applied, which is
//! later: whoever holds one has given it up before the hub gives it to another.

mod boot_time;
mod held;
mod hub;
mod renewals;

pub(crate) use boot_time::BootTime;
pub(crate) use held::{Held, Renewed};
pub(crate) use hub::{HubLeases, LeaseHub};

use common::service_name::ServiceName;
use proto::hub::v1::{AcquireLease, Lease, LeaseKey, Member, ReleaseLeases, lease_acquired::Outcome};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use triad_client::{Hub, HubError, WatchStream};

/// A call to the hub may take so long; a lease that is shorter has shorter ones.
const CALL_MAX: Duration = Duration::from_secs(3);

/// The wait before the hub is told again that a lease is given back.
const RELEASE_AGAIN: Duration = Duration::from_millis(500);

/// Whose lease it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The app whose daemon it is; empty: the whole cluster's.
    pub(crate) app: String,
    pub(crate) name: ServiceName,
}

impl Name {
    fn key(&self) -> LeaseKey {
        LeaseKey { app: self.app.clone(), name: self.name.as_str().to_owned() }
    }

    fn place(&self) -> (String, String) {
        (self.app.clone(), self.name.as_str().to_owned())
    }
}

/// Why a lease is not had, or not any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Another holds it.
    #[error("the server {server} holds it, with token {token}, of at most {ttl:?}")]
    Held {
        /// Where its holder is.
        server: String,
        token: u64,
        ttl: Duration,
    },
    /// There are too many.
    #[error("there are {0} leases already, which is as many as there may be")]
    Full(u32),
    /// Nobody here holds one with this token any more.
    #[error("no lease with this token is held")]
    Over,
    /// The hub did not answer: it may have happened, or not.
    #[error("the hub can't be reached: {0}")]
    HubLost(String),
    /// The hub refused.
    #[error("{0}")]
    Refused(String),
}

impl From<HubError> for LeaseError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Unavailable { .. } => Self::HubLost(error.to_string()),
            HubError::Overloaded(_) | HubError::NoRoom | HubError::Refused(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

/// Where a server has its leases and caches.
#[derive(Debug, Clone)]
pub struct ServicesConfig {
    /// The hub.
    pub hub: Hub,
    /// What is heard of it.
    pub heard: triad_client::Leases,
    /// On which stream it is heard.
    pub stream: WatchStream,
    /// All servers, this one among them: one that is disabled is handed no messages.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// This process among those of the same server.
    pub started_ms: u64,
}

impl ServicesConfig {
    pub(crate) fn start(self, server: &str) -> Leases {
        let Self { hub, heard, started_ms, .. } = self;
        Leases::start(Arc::new(HubLeases { hub, heard }), server, started_ms)
    }
}

/// The leases of this server. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Arc<dyn LeaseHub>,
    server: String,
    started_ms: u64,
    held: Mutex<BTreeMap<u64, Arc<Held>>>,
    /// One has come, or wants to be renewed.
    wake: Notify,
}

impl Leases {
    /// None yet. Needs a running tokio runtime; it ends when all handles are gone.
    pub(crate) fn start(hub: Arc<dyn LeaseHub>, server: &str, started_ms: u64) -> Self {
        let inner = Arc::new(Inner {
            hub,
            server: server.to_owned(),
            started_ms,
            held: Mutex::default(),
            wake: Notify::new(),
        });
        tokio::spawn(renewals::run(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Asks for a lease for the app `app`; it is renewed by this server, or by whoever calls [`Leases::renew`].
    ///
    /// # Errors
    /// [`LeaseError`].
    pub(crate) async fn acquire(
        &self,
        name: &Name,
        app: &str,
        ttl: Duration,
        renewed: Renewed,
    ) -> Result<Arc<Held>, LeaseError> {
        let sent = BootTime::now();
        let acquire = AcquireLease {
            key: Some(name.key()),
            server: self.0.server.clone(),
            started_ms: self.0.started_ms,
            app: app.to_owned(),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            id: rand::random::<u64>() | 1,
        };
        let id = acquire.id;
        match self.0.hub.acquire(acquire, CALL_MAX.min(ttl / 2)).await {
            Ok(Outcome::Granted(lease)) => {
                let held = Arc::new(Held::new(name.clone(), app, lease.token, ttl, renewed, sent));
                self.0.lock().insert(lease.token, held.clone());
                self.0.wake.notify_one();
                Ok(held)
            }
            Ok(Outcome::Held(lease)) => {
                let ttl = Duration::from_millis(lease.ttl_ms);
                Err(LeaseError::Held { server: lease.server, token: lease.token, ttl })
            }
            Ok(Outcome::Full(count)) => Err(LeaseError::Full(count)),
            Err(cause) => {
                // It may have been granted, and would be held by nobody.
                if let HubError::Unavailable { .. } = cause {
                    self.release_later(ReleaseLeases { ids: vec![id], ..self.releasing() }, ttl);
                }
                Err(cause.into())
            }
        }
    }

    /// The same for one who may go away meanwhile: then it is given back.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub(crate) async fn acquire_for(
        &self,
        name: &Name,
        app: &str,
        ttl: Duration,
    ) -> Result<Arc<Held>, LeaseError> {
        let (leases, name, app) = (self.clone(), name.clone(), app.to_owned());
        let (sender, answer) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let acquired = leases.acquire(&name, &app, ttl, Renewed::ByApp).await;
            if let Err(Ok(held)) = sender.send(acquired) {
                leases.give_back(&held).await;
            }
        });
        answer.await.unwrap_or_else(|_| Err(LeaseError::HubLost("the call was broken off".to_owned())))
    }

    /// How many daemons this server runs.
    pub(crate) fn daemons_held(&self) -> u32 {
        let held = self.0.lock().values().filter(|it| it.is_by_server()).count();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// What this server holds by a token.
    pub(crate) fn held(&self, token: u64) -> Option<Arc<Held>> {
        self.0.lock().get(&token).cloned()
    }

    /// Renews one that its app renews, together with all that are due.
    ///
    /// # Errors
    /// [`LeaseError::Over`]; [`LeaseError::HubLost`]: it may still be held, for as long as its time lasts.
    pub(crate) async fn renew(&self, held: &Held) -> Result<(), LeaseError> {
        let asked = held.ask();
        self.0.wake.notify_one();
        held.renewed_since(asked, CALL_MAX.min(held.ttl())).await
    }

    /// Gives one back before its time; what held it has ended.
    ///
    /// # Errors
    /// [`LeaseError::Over`]: it was not held any more; [`LeaseError::HubLost`]: it is told the hub as soon as it is heard, or ends in its time.
    pub(crate) async fn release(&self, held: &Held) -> Result<(), LeaseError> {
        self.0.lock().remove(&held.token());
        held.end();
        let release = ReleaseLeases { tokens: vec![held.token()], ..self.releasing() };
        match self.0.hub.release(release.clone(), CALL_MAX).await {
            Ok(released) if released.is_empty() => Err(LeaseError::Over),
            Ok(_) => Ok(()),
            Err(cause) => {
                self.release_later(release, held.ttl());
                Err(cause.into())
            }
        }
    }

    /// The same for who does not want to know.
    pub(crate) async fn give_back(&self, held: &Held) {
        if let Err(cause) = self.release(held).await {
            tracing::debug!(lease = %held.name().name, token = held.token(), %cause, "the lease was not given back");
        }
    }

    /// It is renewed by this server while what is returned is there, and no longer.
    pub(crate) fn while_renewed(&self, held: &Held) -> impl Drop + use<> {
        WhileRenewed { leases: self.clone(), token: held.token() }
    }

    fn releasing(&self) -> ReleaseLeases {
        ReleaseLeases {
            server: self.0.server.clone(),
            started_ms: self.0.started_ms,
            ..ReleaseLeases::default()
        }
    }

    /// Tries again until its time is over.
    fn release_later(&self, release: ReleaseLeases, ttl: Duration) {
        let hub = self.0.hub.clone();
        tokio::spawn(tokio::time::timeout(ttl, async move {
            while hub.release(release.clone(), CALL_MAX).await.is_err() {
                tokio::time::sleep(RELEASE_AGAIN).await;
            }
        }));
    }

    /// Who holds a lease, as far as is heard here.
    ///
    /// # Errors
    /// [`LeaseError::HubLost`]: nothing is heard yet.
    pub(crate) fn heard_of(&self, name: &Name) -> Result<Option<Lease>, LeaseError> {
        let heard = self.0.hub.heard();
        let heard = heard.borrow();
        let all = heard.as_ref().ok_or_else(|| LeaseError::HubLost("it was not heard of yet".to_owned()))?;
        Ok(all.get(&name.place()).cloned())
    }

    /// Who holds a lease, as far as is heard here, as soon as it is another than `known`, a token or 0 for nobody; `None`: at once.
    pub(crate) async fn heard_another(&self, name: &Name, known: Option<u64>) -> Option<Lease> {
        let (mut heard, place) = (self.0.hub.heard(), name.place());
        let token = |all: &BTreeMap<_, Lease>| all.get(&place).map_or(0, |it| it.token);
        let another = heard.wait_for(|all| all.as_ref().is_some_and(|all| known != Some(token(all))));
        let another = another.await.map(|all| all.as_ref().and_then(|all| all.get(&place).cloned()));
        match another {
            Ok(lease) => lease,
            // Nobody follows the hub any more: this server ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until nobody holds a lease, as far as is heard here; or the hub is heard of for the first time, or not.
    pub(crate) async fn is_free(&self, name: &Name) {
        let (mut heard, place) = (self.0.hub.heard(), name.place());
        let free = heard.wait_for(|all| all.as_ref().is_some_and(|all| !all.contains_key(&place)));
        if free.await.is_err() {
            // Nobody follows the hub any more: this server ends.
            std::future::pending::<()>().await;
        }
    }
}

/// Ends a lease's renewals when it is dropped.
struct WhileRenewed {
    leases: Leases,
    token: u64,
}

impl Drop for WhileRenewed {
    fn drop(&mut self) {
        self.leases.0.lock().remove(&self.token);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
