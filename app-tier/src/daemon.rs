//! Daemons: what of an app runs on one server of its cluster at a time (docs/daemons.md). Each has a lease of its own; the server that holds
//! it runs the daemon, and another takes over when it does not any more.

mod guard;
mod guarded;
mod keeper;
mod runner;

pub use guard::guard_daemons;
pub(crate) use guarded::{Guard, Guarded};
pub(crate) use keeper::{Phase, Standing};

use crate::{
    lease::{Leases, Name},
    process::{Launch, Output, Processes},
};
use common::config::Declarations;
use keeper::Keeper;
use runner::Runner;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What daemons need of their server.
#[derive(Debug, Clone)]
pub(crate) struct DaemonHost {
    pub(crate) leases: Leases,
    pub(crate) guard: Guard,
    /// Cancelled when this server stops: no daemon begins here any more.
    pub(crate) stop: CancellationToken,
}

/// The daemons of one version of an app on this server: they run, or wait for their turn, from [`Daemons::begin`] on.
#[derive(Debug)]
pub(crate) struct Daemons {
    kept: Vec<Kept>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Kept {
    name: String,
    standing: watch::Receiver<Standing>,
    /// Until it has begun.
    keeper: Mutex<Option<Keeper>>,
}

impl Daemons {
    /// Those that the app declares; `key` is its name on the hub. None without a host for them.
    pub(crate) fn new(
        (app, key): (&str, &str),
        (declared, env): (&Declarations, &[(String, String)]),
        launch: &Launch,
        processes: &Arc<Processes>,
        host: Option<&DaemonHost>,
    ) -> Self {
        let stop = host.map_or_else(CancellationToken::new, |host| host.stop.child_token());
        let kept = host.into_iter().flat_map(|host| {
            declared.daemons.iter().map(|daemon| {
                let (sender, standing) = watch::channel(Standing::new());
                let keeper = Keeper {
                    app: app.to_owned(),
                    lease: Name { app: key.to_owned(), name: daemon.name.clone() },
                    daemon: daemon.clone(),
                    runner: Runner {
                        daemon: daemon.clone(),
                        processes: processes.clone(),
                        launch: launch.clone(),
                        env: env.to_vec(),
                        output: Arc::new(Output::new(app)),
                        guard: host.guard.clone(),
                    },
                    leases: host.leases.clone(),
                    processes: processes.clone(),
                    standing: sender,
                    stop: stop.clone(),
                };
                let keeper = Mutex::new(Some(keeper));
                Kept { name: daemon.name.as_str().to_owned(), standing, keeper }
            })
        });
        Self { kept: kept.collect(), stop: stop.clone() }
    }

    /// They may run from now on: this version of the app is in use. The second time it does nothing.
    pub(crate) fn begin(&self) {
        for kept in &self.kept {
            let keeper = kept.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
            keeper.filter(|_| !self.stop.is_cancelled()).map(|keeper| tokio::spawn(keeper.run()));
        }
    }

    /// Ends them, in order; another server may run them when this returns, and this version of the app here no more.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        for kept in &self.kept {
            drop(kept.keeper.lock().unwrap_or_else(PoisonError::into_inner).take());
            // An error means that its task is gone, or never was.
            let _ = kept.standing.clone().wait_for(|it| it.phase == Phase::Stopped).await;
        }
    }

    /// How each of them is here.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&str, Standing)> {
        self.kept.iter().map(|it| (it.name.as_str(), it.standing.borrow().clone()))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
