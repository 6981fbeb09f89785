//! What an app does beside requests: its daemons, and the queues, jobs, topics and steps that it is called with. Its `app.yaml` has them, or its
//! process declares them when it starts (`PUT /v1/app`).

use crate::{
    cache::Caches,
    daemon::{DaemonHost, Daemons, Standing},
    own_paths::OwnPaths,
    process::{IsDeclared, Launch, Processes},
    queue::{Consumers, QueueHost},
    spec::{DeployedAs, Spec},
};
use common::config::Declarations;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Of what duties are made.
#[derive(Debug)]
pub(crate) struct Making {
    /// `host/path`, for people.
    pub(crate) name: String,
    /// The app's name on the hub.
    pub(crate) key: String,
    pub(crate) deployed_as: DeployedAs,
    /// Variables for daemons that are processes.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) launch: Launch,
    pub(crate) processes: Arc<Processes>,
    pub(crate) daemons: Option<DaemonHost>,
    pub(crate) queues: Option<QueueHost>,
    pub(crate) caches: Option<Caches>,
}

/// Why an app can't declare anything now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDeclared {
    /// Its `app.yaml` has it all.
    Elsewhere,
    /// It has declared something else before.
    Otherwise,
    /// This version is not in use any more.
    Over,
}

/// The duties of one version of an app on this server.
#[derive(Debug)]
pub(crate) struct Duties {
    making: Making,
    at_start: bool,
    is_declared: IsDeclared,
    made: OnceLock<Made>,
    phase: Mutex<Phase>,
    /// Of what its processes declare one text is read at a time.
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Made {
    declared: Declarations,
    daemons: Daemons,
    consumers: Consumers,
    own_paths: OwnPaths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is being prepared.
    Waits,
    InUse,
    Over,
}

impl Duties {
    /// Those that an app's file has, or those that it will declare.
    pub(crate) fn new(making: Making, spec: &Spec, is_declared: IsDeclared) -> Self {
        let (at_start, made, phase) = (spec.declare_at_start, OnceLock::new(), Mutex::new(Phase::Waits));
        let duties = Self { making, at_start, is_declared, made, phase, reading: Arc::default() };
        if !at_start {
            duties.make(spec.declared.clone());
        }
        duties
    }

    fn make(&self, declared: Declarations) {
        let Making { name, key, deployed_as, env, launch, processes, daemons, queues, caches } = &self.making;
        if let Some(caches) = caches {
            caches.declare(name, &declared.caches);
        }
        let own_paths = OwnPaths::of(&declared);
        let daemons = Daemons::new((name, key), (&declared, env), launch, processes, daemons.as_ref());
        let consumers = Consumers::new((key, deployed_as), &declared, launch, processes, queues.as_ref());
        let _first = self.made.set(Made { declared, daemons, consumers, own_paths });
        self.is_declared.set();
    }

    /// Whether a process of the app may declare anything.
    ///
    /// # Errors
    /// See [`NotDeclared`].
    pub(crate) fn may_declare(&self) -> Result<(), NotDeclared> {
        self.may_declare_in(*self.phase())
    }

    fn may_declare_in(&self, phase: Phase) -> Result<(), NotDeclared> {
        match phase {
            _ if !self.at_start => Err(NotDeclared::Elsewhere),
            Phase::Over if self.made.get().is_none() => Err(NotDeclared::Over),
            _ => Ok(()),
        }
    }

    /// Waits for its turn to be read.
    pub(crate) async fn reading(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.reading.clone().lock_owned().await
    }

    /// Takes the word of a process of the app.
    ///
    /// # Errors
    /// See [`NotDeclared`]; the same said again is none.
    pub(crate) fn declare(&self, declared: Declarations) -> Result<(), NotDeclared> {
        let phase = self.phase();
        self.may_declare_in(*phase)?;
        if let Some(made) = self.made.get() {
            return if made.declared == declared { Ok(()) } else { Err(NotDeclared::Otherwise) };
        }
        self.make(declared);
        if *phase == Phase::InUse {
            self.begin_made();
        }
        Ok(())
    }

    /// This version is in use from now on.
    pub(crate) fn begin(&self) {
        let mut phase = self.phase();
        if *phase != Phase::Over {
            *phase = Phase::InUse;
            self.begin_made();
        }
    }

    fn begin_made(&self) {
        if let Some(made) = self.made.get() {
            made.daemons.begin();
            made.consumers.begin();
        }
    }

    /// They end, in order.
    pub(crate) async fn end(&self) {
        *self.phase() = Phase::Over;
        if let Some(made) = self.made.get() {
            tokio::join!(made.daemons.stop(), made.consumers.stop());
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As which the app is deployed.
    pub(crate) fn deployed_as(&self) -> &DeployedAs {
        &self.making.deployed_as
    }

    /// Whether this server alone may ask for a path, of an app that is mounted at `prefix`.
    pub(crate) fn has_path(&self, prefix: &str, path: &str) -> bool {
        self.made.get().is_some_and(|it| it.own_paths.has(prefix, path))
    }

    /// How each of its daemons is here.
    pub(crate) fn daemons(&self) -> impl Iterator<Item = (&str, Standing)> {
        self.made.get().into_iter().flat_map(|it| it.daemons.seen())
    }
}
