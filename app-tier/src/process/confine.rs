//! How an app's processes are kept from the server, from its data and from other apps: by a user of their own, by limits, and by what of
//! the machine's files they can reach (docs/apps.md, "What it can and can't reach"). This is what is decided; a launcher does it.

use super::{
    account::{Account, AccountError},
    app_folders::AppFolders,
};
use crate::{spec::Spec, tier::AppTierConfig};
use common::{
    config::{AppLimits, AppRights, Config, Confine},
    id::ServerId,
};
use rustix::process::geteuid;
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Once},
};
use tokio::process::Command;

/// The program that starts confined apps, `copal launch-app`: it gives up rights, and then becomes the app.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program: `copal` itself.
    pub program: PathBuf,
    /// The version of the kernel's Landlock (landlock(7)); 0 = it has none.
    pub landlock: u32,
}

/// From this version on an app's signals reach no process but its own (landlock(7), `LANDLOCK_SCOPE_SIGNAL`).
const LANDLOCK_SIGNALS: u32 = 6;

/// Why an app can't have the rights that are asked for.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// An `app.yaml` chooses a user that it may not.
    #[error(
        "its app.yaml wants the user `{user}`, which the cluster's file does not have in `app-users`: expected {allowed}"
    )]
    NotAllowed {
        /// The user.
        user: String,
        /// Who could be chosen.
        allowed: String,
    },
    /// Only root can become someone else.
    #[error(
        "it is to run as the user `{user}`, and this server, which runs as user {me}, is not root: only root can start processes of others"
    )]
    NotRoot {
        /// The user.
        user: String,
        /// This process's user.
        me: u32,
    },
    /// There is no such user, or an app may not be it.
    #[error("its user: {0}")]
    Account(#[from] AccountError),
    /// The app-tier was made without a launcher.
    #[error("it is to run as the user `{0}`, and this program has no launcher for that")]
    NoLauncher(String),
    /// A folder of the app has files of another user.
    #[error("{} belongs to user {owner}, and the app runs as user {me}: `chown -R {me}` it", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whose it has to be.
        me: u32,
    },
    /// A folder on the way to the app's own is closed to its user.
    #[error("its user {user} can't get to its data, as {} is closed to it: `chmod o+x` that, or choose another `data-dir`", path.display())]
    NoPassage {
        /// The folder.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// A folder of the app can't be made.
    #[error("its folder {}: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl RightsError {
    pub(super) fn folder(path: &Path, cause: io::Error) -> Self {
        Self::Folder { path: path.to_owned(), cause }
    }
}

/// An app of which the confinement is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// `host/path`, for the log.
    pub(crate) name: &'a str,
    /// The same after every deployment: what its data is kept under.
    pub(crate) key: &'a str,
    /// What the cluster's file says.
    pub(crate) rights: &'a AppRights,
    /// What the app says.
    pub(crate) spec: &'a Spec,
    /// It was deployed, and is not a folder of the operator's: it is confined unless the cluster's file says otherwise.
    pub(crate) deployed: bool,
}

/// How the processes of one app are started.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    /// `None`: without one, or as there is nothing for it to do.
    launcher: Option<Launcher>,
    pub(super) user: Option<Account>,
    limits: AppLimits,
    /// What it reaches; `None`: what its user can.
    reach: Option<Reach>,
    pub(super) folders: AppFolders,
}

/// Files beside the app's own.
#[derive(Debug, Clone)]
struct Reach {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    /// Of what is in these, nothing but what the app is given by name.
    hidden: Arc<[PathBuf]>,
}

/// One start of a program of the app.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The app's folder.
    pub(super) root: &'a Path,
    /// Whether it may write there.
    pub(super) writes_root: bool,
    /// Where it makes its socket.
    pub(super) sockets: Option<&'a Path>,
}

impl Confinement {
    /// Looks the app's user up and makes its folders.
    ///
    /// # Errors
    /// What is asked for can't be had: see [`RightsError`].
    pub(crate) fn new(config: &AppTierConfig, app: Asked<'_>) -> Result<Self, RightsError> {
        let user = account(app.rights, app.spec, &config.config.app_users)?;
        if let (Some(user), None) = (&user, &config.launcher) {
            return Err(RightsError::NoLauncher(user.name.clone()));
        }
        let reach = reach(app.rights, app.deployed);
        let reach = reach.map(|(read, write)| Reach {
            read,
            write,
            hidden: hidden(&config.config, &config.me).into(),
        });
        let limits = app.rights.limits.least(app.spec.limits);
        let folders = AppFolders::make(&config.data_dir, app.key, user.as_ref())?;
        let is_needed = user.is_some() || reach.is_some() || !limits.is_empty();
        let launcher = config.launcher.clone().filter(|_| is_needed);
        let confinement = Self { launcher, user, limits, reach, folders };
        confinement.warn(app.name);
        Ok(confinement)
    }

    /// Nothing is taken from the app.
    #[cfg(test)]
    pub(super) fn off(data_dir: &Path) -> Self {
        let folders = AppFolders::make(data_dir, "app", None).unwrap();
        Self { launcher: None, user: None, limits: AppLimits::default(), reach: None, folders }
    }

    /// Whether files are kept from the app.
    pub(super) fn keeps_files(&self) -> bool {
        self.reach.is_some()
    }

    /// What does not hold here.
    fn warn(&self, app: &str) {
        static NO_LANDLOCK: Once = Once::new();
        let Some(launcher) = &self.launcher else { return };
        if self.reach.is_some() && launcher.landlock < LANDLOCK_SIGNALS {
            NO_LANDLOCK.call_once(|| {
                tracing::warn!(
                    landlock = launcher.landlock,
                    "this kernel's Landlock is older than version {LANDLOCK_SIGNALS} (Linux 6.12) or absent: apps without a `user` of their own \
                     are confined in part at most (docs/apps.md, \"What it can and can't reach\")"
                );
            });
        }
        if self.user.is_none() && geteuid().is_root() {
            tracing::warn!(app, "its processes are root's, as this server is: give it a `user`");
        }
        if self.user.is_none() && self.limits.processes.is_some() {
            tracing::warn!(app, "`processes-max` counts for nothing without a `user` of its own");
        }
    }

    /// What starts `program`: itself, or the launcher, which becomes it.
    pub(super) fn command(&self, program: &Path, place: Place<'_>) -> Command {
        let Some(launcher) = &self.launcher else { return Command::new(program) };
        let mut command = Command::new(&launcher.program);
        command.arg("launch-app");
        let mut option = |name: &str, value: &dyn ToString| {
            command.arg(name).arg(value.to_string());
        };
        if let Some(Account { uid, gid, .. }) = &self.user {
            option("--uid", uid);
            option("--gid", gid);
        }
        let AppLimits { memory, processes, open_files } = self.limits;
        // The count is of a user's processes: of the server's own it would be the server's threads and all apps.
        let processes = processes.filter(|_| self.user.is_some());
        let limits =
            [("--memory-max", memory), ("--processes-max", processes), ("--open-files-max", open_files)];
        for (name, limit) in limits {
            if let Some(limit) = limit {
                option(name, &limit);
            }
        }
        if let Some(reach) = &self.reach {
            command.arg("--landlock").args(reach.arguments(&self.folders, place));
        }
        command.arg("--").arg(program);
        command
    }

    /// Variables that tell the app of its folders.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("DATA", self.folders.data.clone().into_os_string())];
        if self.user.is_some() || self.reach.is_some() {
            // The server's own it can't write to.
            variables.push(("HOME", self.folders.data.clone().into_os_string()));
            variables.push(("TMPDIR", self.folders.tmp.clone().into_os_string()));
        }
        if let Some(user) = &self.user {
            variables.extend(["USER", "LOGNAME"].map(|name| (name, user.name.clone().into())));
        }
        variables
    }

    /// Whether it runs as a user of its own.
    pub(crate) fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// `${DATA}` for a text.
    pub(super) fn data(&self) -> io::Result<&str> {
        self.folders.data.to_str().ok_or_else(|| io::Error::other("the data folder's path is not UTF-8"))
    }
}

impl Reach {
    fn arguments(&self, folders: &AppFolders, place: Place<'_>) -> Vec<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let searched = std::env::split_paths(&path).filter(|it| it.is_absolute() && it.parent().is_some());
        let system = SYSTEM.iter().map(PathBuf::from).chain(searched);
        let own = [place.root.to_owned()].into_iter().chain(self.read.iter().cloned());
        let written = [&folders.data, &folders.tmp].into_iter().chain(&self.write).cloned();
        let written = written
            .chain(place.sockets.map(Path::to_owned))
            .chain(place.writes_root.then(|| place.root.to_owned()));
        let devices = DEVICES.iter().map(PathBuf::from);
        let hidden = self.hidden.iter().cloned();
        let options: [(&str, Vec<PathBuf>); 5] = [
            ("--system", system.collect()),
            ("--read", own.collect()),
            ("--write", written.collect()),
            ("--device", devices.collect()),
            ("--hide", hidden.collect()),
        ];
        let each =
            options.into_iter().flat_map(|(name, paths)| paths.into_iter().map(move |path| (name, path)));
        each.flat_map(|(name, path)| [name.into(), path.into_os_string()]).collect()
    }
}

/// What programs need of a system to run: to read and to execute.
const SYSTEM: [&str; 16] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/opt",
    "/nix/store",
    "/snap",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage",
    // Where /etc/resolv.conf may lead.
    "/run/systemd/resolve",
    "/run/resolvconf",
];

/// To read and to write.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Of the system's, what an app of root's could read.
const SYSTEM_SECRETS: [&str; 12] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/letsencrypt",
    "/etc/krb5.keytab",
    "/etc/copal",
];

/// Where there are secrets of this server: its data, its files and those beside them, the keys of its certificates.
fn hidden(config: &Config, me: &ServerId) -> Vec<PathBuf> {
    let is_systems = |folder: &Path| SYSTEM.iter().any(|system| Path::new(system).starts_with(folder));
    let files = config.private_files.iter().map(|file| match file.parent() {
        Some(folder) if !is_systems(folder) => folder.to_owned(),
        _ => file.clone(),
    });
    let listeners = config.servers().flat_map(|(_, server)| &server.http).filter_map(|it| it.tls.as_ref());
    let keys = listeners.flat_map(|tls| &tls.certificates).map(|certificate| certificate.key.path.clone());
    let own = config.cluster_tls.as_ref().map(|tls| tls.of(me).key.path);
    let system = SYSTEM_SECRETS.iter().map(PathBuf::from);
    files.chain(keys).chain(own).chain([config.data_dir.clone()]).chain(system).collect()
}

/// What the app may read and write beside its own, if it is confined.
fn reach(rights: &AppRights, deployed: bool) -> Option<(Vec<PathBuf>, Vec<PathBuf>)> {
    match &rights.confine {
        Some(Confine::Full { read, write }) => Some((read.clone(), write.clone())),
        None if deployed => Some((Vec::new(), Vec::new())),
        Some(Confine::Off) | None => None,
    }
}

/// The user that the cluster's file names, or that the app chooses of those that it may.
fn account(rights: &AppRights, spec: &Spec, allowed: &[String]) -> Result<Option<Account>, RightsError> {
    let (user, group) = match (&rights.user, &spec.user) {
        (Some(user), _) => (user, rights.group.as_deref()),
        (None, Some(user)) if allowed.contains(user) => (user, None),
        (None, Some(user)) => {
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            return Err(RightsError::NotAllowed { user: user.clone(), allowed });
        }
        (None, None) => return Ok(None),
    };
    if !geteuid().is_root() {
        return Err(RightsError::NotRoot { user: user.clone(), me: geteuid().as_raw() });
    }
    Ok(Some(Account::find(user, group)?))
}

#[cfg(test)]
mod tests;
