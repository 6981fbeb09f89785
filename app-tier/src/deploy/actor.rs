//! The task of one app on this server.

use super::{
    Shared,
    decision::{Holds, Next, next},
    version::Version,
};
use crate::{
    error::AppTierError,
    loader::{Folder, Loader, Started},
    registry::Mounted,
    session::Sessions,
};
use common::{
    app_tag::AppTag,
    backoff::Backoff,
    config::{Host, SessionConfig},
    private,
};
use proto::hub::v1::{
    App, AppServer, AppServerState, ReportApp, Rollout, RolloutOutcome, RolloutReport, RolloutStep,
    report_app::Report,
};
use std::{
    fmt::Write,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// A process that is started for a rollout may take so long in all; its own `start-timeout` is shorter.
const START_MAX: Duration = Duration::from_secs(15 * 60);

/// Waits between tries to bring up what is in use, and to tell the hub.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The hub is told again for so long.
const TELL_MAX: Duration = Duration::from_secs(30);

/// What is told of a failure, in bytes: its end.
const TEXT_MAX: usize = 6 << 10;

/// The app's state on this server.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    tag: AppTag,
    host: Host,
    /// `host/path`, for people.
    name: String,
    current: Option<Version>,
    prepared: Option<(u64, Version)>,
    failed: Option<u64>,
    settled: watch::Sender<bool>,
}

/// What follows a step.
enum Then {
    /// Another look at once.
    Again,
    /// News.
    Wait,
    /// News, or the time.
    WaitAtMost(Duration),
}

/// Why a step failed: for the log and for who deploys.
struct Failure {
    step: RolloutStep,
    text: String,
}

impl Actor {
    pub(crate) fn new(shared: Arc<Shared>, tag: AppTag, host: Host, settled: watch::Sender<bool>) -> Self {
        let path = host.paths_of(&tag).swap_remove(0);
        let name = format!("{}{}", tag.host, if path.is_empty() { "/" } else { &path });
        Self { shared, tag, host, name, current: None, prepared: None, failed: None, settled }
    }

    /// Goes by what the hub wants until it wants nothing of the app any more.
    pub(crate) async fn run(mut self, mut wanted: watch::Receiver<Option<App>>) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        loop {
            let app = wanted.borrow_and_update().clone();
            let then = match &app {
                Some(app) => self.go_by(app, &mut wanted, &mut backoff).await,
                // It has been told nothing yet, or the app is gone.
                None if self.current.is_some() || *self.settled.borrow() => return self.end(),
                None => Then::Wait,
            };
            let changed = wanted.changed();
            let ended = match then {
                Then::Again => false,
                Then::Wait => changed.await.is_err(),
                Then::WaitAtMost(time) => matches!(tokio::time::timeout(time, changed).await, Ok(Err(_))),
            };
            if ended {
                return self.end();
            }
        }
    }

    /// One step towards what the hub wants.
    async fn go_by(
        &mut self,
        app: &App,
        wanted: &mut watch::Receiver<Option<App>>,
        backoff: &mut Backoff,
    ) -> Then {
        match next(&self.holds(), app, self.shared.loader.me().as_str(), self.shared.started_ms) {
            Next::Nothing => {
                self.settled.send_replace(true);
                return Then::Wait;
            }
            Next::Prepare => {
                if let Some(rollout) = &app.rollout {
                    self.roll_out(rollout, wanted).await;
                }
            }
            Next::Activate => {
                if let Some((number, version)) = self.prepared.take() {
                    self.activate(version);
                    self.tell_active(number).await;
                }
            }
            Next::Discard => {
                if let Some((rollout, version)) = self.prepared.take() {
                    tracing::info!(app = self.name, rollout, "the new version will not be used: stopping it");
                    version.retire();
                }
            }
            Next::Stop => {
                self.unmount();
                let state = AppServerState::Stopped.into();
                self.tell(Report::Runs(AppServer { state, ..AppServer::default() })).await;
            }
            Next::CatchUp => match self.catch_up(app, wanted).await {
                Some(true) => backoff.reset(),
                Some(false) => return Then::WaitAtMost(backoff.wait(rand::random())),
                None => {}
            },
        }
        Then::Again
    }

    fn holds(&self) -> Holds {
        Holds {
            current: self.current.as_ref().map(|it| it.commit.clone()),
            prepared: self.prepared.as_ref().map(|(number, it)| (*number, it.commit.clone())),
            failed: self.failed,
        }
    }

    /// Brings a rollout's version up, as long as that is wanted.
    async fn roll_out(&mut self, rollout: &Rollout, wanted: &mut watch::Receiver<Option<App>>) {
        let number = rollout.number;
        let still = |app: &Option<App>| {
            let rollout = app.as_ref().and_then(|it| it.rollout.as_ref());
            rollout.is_some_and(|it| it.number == number && it.outcome() == RolloutOutcome::UnderWay)
        };
        let (mut moot, files) = (wanted.clone(), (rollout.commit.to_vec(), rollout.tree.to_vec()));
        let brought = tokio::select! {
            brought = self.bring_up(files, Some(number)) => brought,
            _ = moot.wait_for(|app| !still(app)) => return,
        };
        match brought {
            Ok(version) if rollout.rolling => {
                self.activate(version);
                self.tell_active(number).await;
            }
            Ok(version) => {
                self.prepared = Some((number, version));
                self.tell_step(number, RolloutStep::Ready, String::new()).await;
            }
            Err(Failure { step, text }) => {
                tracing::error!(
                    app = self.name,
                    rollout = number,
                    ?step,
                    text,
                    "a new version can't be used"
                );
                self.failed = Some(number);
                self.tell_step(number, RolloutStep::Failed, text).await;
            }
        }
    }

    /// Brings up what is in use elsewhere. `None`: something else is in use by now; false: it failed.
    async fn catch_up(&mut self, app: &App, wanted: &mut watch::Receiver<Option<App>>) -> Option<bool> {
        let (commit, tree) = (app.commit.to_vec(), app.tree.to_vec());
        let mut moot = wanted.clone();
        let brought = tokio::select! {
            brought = self.bring_up((commit.clone(), tree.clone()), None) => brought,
            _ = moot.wait_for(|it| it.as_ref().is_none_or(|it| it.commit != commit || it.stopped)) => return None,
        };
        let runs = match &brought {
            Ok(version) => runs(version),
            Err(Failure { text, .. }) => {
                tracing::error!(app = self.name, text, "what is in use elsewhere can't be brought up here");
                let (state, text) = (AppServerState::Failed.into(), text.clone());
                AppServer { commit: commit.into(), tree: tree.into(), state, text, ..AppServer::default() }
            }
        };
        let brought = brought.map(|version| self.activate(version)).is_ok();
        self.settled.send_replace(true);
        self.tell(Report::Runs(runs)).await;
        Some(brought)
    }

    /// Fetches, checks out and starts a version, until it is healthy.
    async fn bring_up(
        &mut self,
        files: (Vec<u8>, Vec<u8>),
        rollout: Option<u64>,
    ) -> Result<Version, Failure> {
        let failed = |step| move |text: String| Failure { step, text: end_of(&text) };
        let step = async |step| {
            if let Some(number) = rollout {
                self.try_tell_step(number, step).await;
            }
        };
        let shared = self.shared.clone();
        step(RolloutStep::Fetching).await;
        shared.deployments.fetch(&files.0).await.map_err(failed(RolloutStep::Fetching))?;
        step(RolloutStep::CheckingOut).await;
        let folder = self.folder().join(hex(&files.0));
        let checked_out = shared.deployments.check_out(&files.1, folder.clone()).await;
        checked_out.map_err(failed(RolloutStep::CheckingOut))?;
        let starting = |cause: AppTierError| failed(RolloutStep::Starting)(cause.to_string());
        let key = shared.loader.key(&self.host.id, &self.path());
        // Read before anything of the app runs: its `prepare` may not change what it was deployed as.
        let read = shared
            .loader
            .read(&self.name, key, &folder, &self.host.rights_default, true)
            .map_err(starting)?;
        let prepared = folder.with_extension("prepared");
        if !prepared.exists() {
            step(RolloutStep::Preparing).await;
            let preparing = shared.loader.prepare(&read).await;
            preparing.map_err(|cause| failed(RolloutStep::Preparing)(cause.to_string()))?;
            // So that a restart of this server need not prepare again.
            private::write(&prepared, b"")
                .map_err(|cause| failed(RolloutStep::Preparing)(cause.to_string()))?;
        }
        step(RolloutStep::Starting).await;
        let config = Loader::session_config(&self.host.session_default, &read.spec.session);
        let sessions = self.sessions(config, &read);
        let Started { app, running } = shared.loader.start(&self.name, read, |_| sessions);
        let version = Version::new(files, folder, app, running, shared.registry.clone());
        let ready = version.ready(shared.loader.me(), START_MAX).await;
        ready.map_err(failed(RolloutStep::Starting))?;
        Ok(version)
    }

    /// The app's sessions in this server's memory go on from version to version, as long as they are to behave alike.
    fn sessions(&self, config: SessionConfig, folder: &Folder) -> Arc<Sessions> {
        let mut all = self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, sessions)| sessions.strong_count() > 0);
        let known = all.get(&folder.key).filter(|(known, _)| *known == config);
        if let Some(sessions) = known.and_then(|(_, sessions)| sessions.upgrade()) {
            return sessions;
        }
        let sessions = self.shared.loader.sessions(folder.key.clone(), config.clone());
        all.insert(folder.key.clone(), (config, Arc::downgrade(&sessions)));
        sessions
    }

    /// Lets a version take the requests; the one before it ends when its own have ended.
    fn activate(&mut self, version: Version) {
        let paths = self.host.paths_of(&self.tag);
        let mounted = Mounted {
            name: self.name.clone(),
            version: self.tag.version.clone(),
            versioning: self.host.versioning(&self.tag),
            app: version.mounted(),
            since: Instant::now(),
        };
        self.shared.registry.mount(self.host.tag_name(), &paths, &mounted);
        tracing::info!(app = self.name, commit = hex(&version.commit), "in use");
        if let Some(old) = self.current.replace(version) {
            old.retire();
        }
        self.remove_old_folders();
    }

    fn unmount(&mut self) {
        if let Some(old) = self.current.take() {
            self.shared.registry.unmount(&old.mounted());
            tracing::info!(app = self.name, "not in use any more");
            old.retire();
        }
    }

    fn end(mut self) {
        self.unmount();
        if let Some((_, version)) = self.prepared.take() {
            version.retire();
        }
    }

    /// Where it is served first of all.
    fn path(&self) -> String {
        self.host.paths_of(&self.tag).swap_remove(0)
    }

    fn folder(&self) -> PathBuf {
        let AppTag { stage, host, name, version } = &self.tag;
        let version = version.iter().map(|it| format!("-{it}")).collect::<String>();
        self.shared.folder.join(stage).join(host).join(format!("{name}{version}"))
    }

    /// The newest `keep-versions` stay, and whatever is in use.
    fn remove_old_folders(&self) {
        let (folder, keep) = (self.folder(), self.shared.keep_versions);
        let used = |path: &PathBuf| {
            let prepared = self.prepared.as_ref().map(|(_, it)| it);
            self.current.iter().chain(prepared).any(|it| it.folder == *path)
        };
        let Ok(entries) = std::fs::read_dir(&folder) else { return };
        let mut known: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|it| it.path().is_dir())
            .filter_map(|it| Some((it.metadata().ok()?.modified().ok()?, it.path())))
            .collect();
        known.sort();
        let surplus = known.len().saturating_sub(keep.max(1));
        let old: Vec<_> =
            known.into_iter().take(surplus).map(|(_, path)| path).filter(|it| !used(it)).collect();
        if old.is_empty() {
            return;
        }
        tokio::task::spawn_blocking(move || {
            for path in old {
                let _none = std::fs::remove_file(path.with_extension("prepared"));
                if let Err(cause) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %cause, "an old version can't be removed");
                }
            }
        });
    }

    async fn tell_active(&self, number: u64) {
        self.tell_step(number, RolloutStep::Active, String::new()).await;
        if let Some(version) = &self.current {
            self.tell(Report::Runs(runs(version))).await;
        }
    }

    async fn tell_step(&self, number: u64, step: RolloutStep, text: String) {
        self.tell(Report::Rollout(RolloutReport { number, step: step.into(), text })).await;
    }

    /// Progress on the way: nothing depends on it.
    async fn try_tell_step(&self, number: u64, step: RolloutStep) {
        let report = Report::Rollout(RolloutReport { number, step: step.into(), text: String::new() });
        let _unheard = self.shared.deployments.report(self.of_mine(report)).await;
    }

    /// Tells the hub, again and again for a while: without it the rollout would wait in vain.
    async fn tell(&self, report: Report) {
        let report = self.of_mine(report);
        let telling = async {
            let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
            while let Err(cause) = self.shared.deployments.report(report.clone()).await {
                tracing::debug!(app = self.name, cause, "the hub was not told");
                tokio::time::sleep(backoff.wait(rand::random())).await;
            }
        };
        if tokio::time::timeout(TELL_MAX, telling).await.is_err() {
            tracing::warn!(app = self.name, "the hub could not be told how far this server is");
        }
    }

    fn of_mine(&self, report: Report) -> ReportApp {
        ReportApp {
            tag: self.tag.to_string(),
            server: self.shared.loader.me().as_str().to_owned(),
            started_ms: self.shared.started_ms,
            report: Some(report),
        }
    }
}

fn runs(version: &Version) -> AppServer {
    AppServer {
        commit: version.commit.clone().into(),
        tree: version.tree.clone().into(),
        state: AppServerState::Running.into(),
        ..AppServer::default()
    }
}

/// The end of a long text: the last lines of a log say most.
fn end_of(text: &str) -> String {
    let from = text.len().saturating_sub(TEXT_MAX);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    if from == 0 { text.to_owned() } else { format!("…{}", &text[from..]) }
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
