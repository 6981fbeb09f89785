//! The task of one app on this server.

use super::{
    Shared,
    checkouts::{AppFolder, VersionFolder},
    decision::{Files, Holds, Me, Next, is_to_prepare, next, unheard},
    version::Version,
};
use crate::{
    app::{self, StoppedApp},
    error::AppTierError,
    loader::{Folder, Loader, Started},
    registry::Mounted,
    session::Sessions,
    spec::DeployedAs,
};
use common::{
    app_tag::AppTag,
    backoff::Backoff,
    config::{Host, SessionConfig},
};
use proto::hub::v1::{
    App, ReportApp, Rollout, RolloutOutcome, RolloutReport, RolloutStep, report_app::Report,
};
use std::{
    fmt::Write,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A process that is started for a rollout may take so long in all; its own `start-timeout` is shorter.
const START_MAX: Duration = Duration::from_secs(15 * 60);

/// Waits between tries to bring up what is in use.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Waits between tries to tell the hub: a rollout may wait for it.
const FIRST_TELL: Duration = Duration::from_millis(100);
const MAX_TELL: Duration = Duration::from_secs(5);

/// What the hub has been told comes back from it within this, or it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// What is told of a failure, in bytes: its end.
const TEXT_MAX: usize = 6 << 10;

/// The app's state on this server.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    tag: AppTag,
    host: Host,
    /// `host/path`, for people.
    name: String,
    /// Where its versions are checked out.
    folder: Arc<AppFolder>,
    current: Option<Version>,
    /// What answers in its place when an administrator has stopped it.
    stopped: Option<Arc<dyn app::App>>,
    prepared: Option<(u64, Version)>,
    activated: Option<u64>,
    failed: Option<(u64, String)>,
    unable: Option<(Files, String)>,
    /// What the hub was told last, and when.
    told: Option<(Report, Instant)>,
    untold: Backoff,
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
#[derive(Debug, thiserror::Error)]
#[error("{step}: {}", end_of(text))]
struct Failure {
    step: &'static str,
    text: String,
}

impl Failure {
    fn of(step: RolloutStep) -> impl Fn(String) -> Self {
        let step = match step {
            RolloutStep::Fetching => "fetching",
            RolloutStep::CheckingOut => "checking out",
            RolloutStep::Preparing => "preparing",
            _ => "starting",
        };
        move |text| Self { step, text }
    }
}

impl Actor {
    pub(crate) fn new(shared: Arc<Shared>, tag: AppTag, host: Host, settled: watch::Sender<bool>) -> Self {
        let path = host.paths_of(&tag).swap_remove(0);
        let name = format!("{}{}", tag.host, if path.is_empty() { "/" } else { &path });
        let folder = shared.checkouts.hold(&tag);
        Self {
            shared,
            tag,
            host,
            name,
            folder,
            current: None,
            stopped: None,
            prepared: None,
            activated: None,
            failed: None,
            unable: None,
            told: None,
            untold: Backoff::new(FIRST_TELL, MAX_TELL),
            settled,
        }
    }

    /// Goes by what the hub wants until it wants nothing of the app any more.
    pub(crate) async fn run(mut self, mut wanted: watch::Receiver<Option<App>>) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        let mut told = false;
        loop {
            let app = wanted.borrow_and_update().clone();
            let then = match &app {
                Some(app) => {
                    told = true;
                    self.go_by(app, &mut wanted, &mut backoff).await
                }
                None if told => {
                    self.folder.gone();
                    return self.end();
                }
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
        let shared = self.shared.clone();
        let me = Me { server: shared.loader.me().as_str(), started_ms: shared.started_ms };
        match next(&self.holds(), app, me) {
            Next::Nothing => {
                self.settled.send_replace(true);
                return self.tell(app, me).await;
            }
            Next::Prepare => {
                if let Some(rollout) = &app.rollout {
                    self.roll_out(rollout, wanted).await;
                }
            }
            Next::Activate => {
                if let Some((number, version)) = self.prepared.take() {
                    self.activate(version);
                    self.activated = Some(number);
                }
            }
            Next::Discard => {
                if let Some((rollout, version)) = self.prepared.take() {
                    tracing::info!(app = self.name, rollout, "the new version will not be used: stopping it");
                    version.retire();
                }
            }
            Next::Stop => self.stop(),
            Next::TakeAway => self.unmount(),
            Next::CatchUp => match self.catch_up(app, me, wanted).await {
                Some(true) => backoff.reset(),
                Some(false) => {
                    self.tell(app, me).await;
                    return Then::WaitAtMost(backoff.wait(rand::random()));
                }
                None => {}
            },
        }
        Then::Again
    }

    fn holds(&self) -> Holds {
        let files = |it: &Version| Files { commit: it.commit.clone(), tree: it.tree.clone() };
        Holds {
            current: self.current.as_ref().map(files),
            prepared: self.prepared.as_ref().map(|(number, it)| (*number, it.commit.clone())),
            activated: self.activated,
            failed: self.failed.clone(),
            unable: self.unable.clone(),
            stopped: self.stopped.is_some(),
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
                self.activated = Some(number);
            }
            Ok(version) => self.prepared = Some((number, version)),
            Err(cause) => {
                let text = cause.to_string();
                tracing::error!(app = self.name, rollout = number, text, "a new version can't be used");
                self.failed = Some((number, text));
            }
        }
    }

    /// Brings up what is in use elsewhere. `None`: something else is wanted by now; false: it failed. A rollout waits for the first try
    /// alone: it may be the cure.
    async fn catch_up(
        &mut self,
        app: &App,
        me: Me<'_>,
        wanted: &mut watch::Receiver<Option<App>>,
    ) -> Option<bool> {
        let files = Files { commit: app.commit.to_vec(), tree: app.tree.to_vec() };
        let (mut moot, holds) = (wanted.clone(), self.holds());
        let again = holds.unable.as_ref().is_some_and(|(it, _)| *it == files);
        let still = |it: &Option<App>| {
            let same = it.as_ref().filter(|it| it.commit == files.commit && !it.stopped);
            same.is_some_and(|it| !(again && is_to_prepare(&holds, it, me)))
        };
        let brought = tokio::select! {
            brought = self.bring_up((files.commit.clone(), files.tree.clone()), None) => brought,
            _ = moot.wait_for(|it| !still(it)) => return None,
        };
        let brought = match brought {
            Ok(version) => {
                self.activate(version);
                true
            }
            Err(cause) => {
                let text = cause.to_string();
                tracing::error!(app = self.name, text, "what is in use elsewhere can't be brought up here");
                self.unable = Some((files, text));
                false
            }
        };
        self.settled.send_replace(true);
        Some(brought)
    }

    /// Fetches, checks out and starts a version, until it is healthy.
    async fn bring_up(
        &mut self,
        files: (Vec<u8>, Vec<u8>),
        rollout: Option<u64>,
    ) -> Result<Version, Failure> {
        let step = |step| rollout.into_iter().for_each(|number| self.show(number, step));
        let shared = self.shared.clone();
        step(RolloutStep::Fetching);
        shared.deployments.fetch(&files.0).await.map_err(Failure::of(RolloutStep::Fetching))?;
        step(RolloutStep::CheckingOut);
        let folder = self.folder.version(&hex(&files.0));
        self.check_out(&files.1, &folder).await.map_err(Failure::of(RolloutStep::CheckingOut))?;
        let starting = |cause: AppTierError| Failure::of(RolloutStep::Starting)(cause.to_string());
        let key = shared.loader.key(&self.host.id, &self.path());
        // Read before anything of the app runs: its `prepare` may not change what it was deployed as.
        let mut read = shared
            .loader
            .read(&self.name, key, folder.path(), &self.host.rights_default, true)
            .map_err(starting)?;
        read.deployed_as = DeployedAs { tag: self.tag.to_string(), commit: files.0.clone() };
        if !folder.is_prepared() {
            step(RolloutStep::Preparing);
            let preparing = self.prepare(&read, &folder).await;
            preparing.map_err(Failure::of(RolloutStep::Preparing))?;
        }
        step(RolloutStep::Starting);
        let config = Loader::session_config(&self.host.session_default, &read.spec.session);
        let sessions = self.sessions(config, &read);
        let Started { app, running } = shared.loader.start(&self.name, read, |_| sessions);
        let version = Version::new(files, folder, app, running, shared.registry.clone());
        let ready = version.ready(shared.loader.me(), START_MAX).await;
        ready.map_err(Failure::of(RolloutStep::Starting))?;
        Ok(version)
    }

    /// Whoever waits for it may be gone meanwhile: the folder is held until nothing is written to it any more.
    async fn check_out(&self, tree: &[u8], folder: &Arc<VersionFolder>) -> Result<(), String> {
        let (deployments, folder) = (self.shared.deployments.clone(), folder.clone());
        let is_new = !folder.path().exists();
        let spare = is_new.then(|| self.folder.spare(self.shared.keep_versions)).flatten();
        let tree = tree.to_owned();
        let checked_out = tokio::spawn(async move {
            let (path, others) = (|| folder.path().to_owned(), folder.is_others());
            if !is_new {
                // One that was never prepared to the end is not known to be what it has to be.
                let unfinished = others && !folder.is_prepared();
                if !unfinished && deployments.verify(&tree, path(), others).await? {
                    return Ok(());
                }
                folder.discard().map_err(|cause| format!("{} stays: {cause}", path().display()))?;
            }
            deployments.check_out(&tree, path(), spare).await
        });
        checked_out.await.map_err(|cause| cause.to_string())?
    }

    /// Runs the version's `prepare`, if it has one.
    async fn prepare(&self, read: &Folder, folder: &VersionFolder) -> Result<(), String> {
        let failed = |cause: std::io::Error| cause.to_string();
        if !read.spec.prepare.is_empty() {
            folder.given_to_others().map_err(failed)?;
        }
        self.shared.loader.prepare(read).await.map_err(|cause| cause.to_string())?;
        // A restart of this server need not prepare again.
        folder.prepared().map_err(failed)
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
        let files = Files { commit: version.commit.clone(), tree: version.tree.clone() };
        self.mount(version.mounted(), Some(files));
        version.begin();
        tracing::info!(app = self.name, commit = hex(&version.commit), "in use");
        (self.unable, self.stopped) = (None, None);
        if let Some(old) = self.current.replace(version) {
            old.retire();
        }
        self.remove_old_folders();
    }

    /// In place of whatever this version of the app had there. What is stopped has no files in use.
    fn mount(&self, app: Arc<dyn app::App>, files: Option<Files>) {
        let stopped = files.is_none();
        let Files { commit, tree } = files.unwrap_or_default();
        let mounted = Mounted {
            tag: self.tag.to_string(),
            commit,
            tree,
            name: self.name.clone(),
            version: self.tag.version.clone(),
            versioning: self.host.versioning(&self.tag),
            app,
            since: std::time::Instant::now(),
            stopped,
        };
        self.shared.registry.mount(self.host.tag_name(), &self.host.paths_of(&self.tag), &mounted);
    }

    fn stop(&mut self) {
        let app: Arc<dyn app::App> = Arc::new(StoppedApp(self.name.clone()));
        self.mount(app.clone(), None);
        self.stopped = Some(app);
        if let Some(old) = self.current.take() {
            tracing::info!(app = self.name, "stopped");
            old.retire();
        }
    }

    fn unmount(&mut self) {
        if let Some(stopped) = self.stopped.take() {
            self.shared.registry.unmount(&stopped);
        }
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

    /// The newest `keep-versions` stay, and whatever is in use.
    fn remove_old_folders(&self) {
        let old = self.folder.set_aside_surplus(self.shared.keep_versions);
        if old.is_empty() {
            return;
        }
        tokio::task::spawn_blocking(move || {
            for path in old {
                if let Err(cause) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %cause, "an old version can't be removed");
                }
            }
        });
    }

    /// Tells the hub what it does not know of this server. What it has just been told is on its way back here.
    async fn tell(&mut self, app: &App, me: Me<'_>) -> Then {
        let Some(report) = unheard(&self.holds(), app, me) else {
            self.told = None;
            return Then::Wait;
        };
        if let Some((told, at)) = &self.told
            && *told == report
            && at.elapsed() < TELL_AGAIN
        {
            return Then::WaitAtMost(TELL_AGAIN.saturating_sub(at.elapsed()));
        }
        match self.shared.deployments.report(self.of_mine(report.clone())).await {
            Ok(()) => {
                self.told = Some((report, Instant::now()));
                self.untold.reset();
                Then::WaitAtMost(TELL_AGAIN)
            }
            Err(cause) => {
                tracing::debug!(app = self.name, cause, "the hub was not told how far this server is");
                Then::WaitAtMost(self.untold.wait(rand::random()))
            }
        }
    }

    /// Progress on the way, for who watches: nothing depends on it, and nothing waits for it.
    fn show(&self, number: u64, step: RolloutStep) {
        let report = Report::Rollout(RolloutReport { number, step: step.into(), text: String::new() });
        let (report, deployments) = (self.of_mine(report), self.shared.deployments.clone());
        tokio::spawn(async move {
            let _unheard = deployments.report(report).await;
        });
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
