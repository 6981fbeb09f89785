//! The hidden `copal launch-app`: a process that gives up what an app is not to have, and then becomes the app (execve(2)). It has no
//! secret of the server: it is started with the app's environment and no descriptor but the standard ones.
//!
//! Order matters: limits and Landlock are set while this process can still set them, its user is changed last.

mod syscalls;

use crate::{check::complain, cli::LaunchArguments};
use anyhow::{Context, anyhow};
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use rustix::{
    process::{Resource, Rlimit, geteuid, getrlimit, setrlimit},
    thread::{
        CapabilitySet, clear_ambient_capability_set, remove_capability_from_bounding_set, set_no_new_privs,
    },
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What is used of Landlock at most (Linux 6.12); an older kernel gives what it has.
const LANDLOCK: ABI = ABI::V6;

/// The exit status of a program that can't be started, as a shell has it.
const NOT_STARTED: u8 = 126;

/// Where a process says how readily it is ended for want of memory, from -1000 to 1000, and what an app says.
const OOM: &str = "/proc/self/oom_score_adj";
const OOM_APP: i32 = 500;

/// Folders within folders that are looked through for what is hidden in them.
const DEPTH_MAX: usize = 8;

/// Becomes the app; returns only when that fails.
pub(crate) fn run(arguments: &LaunchArguments) -> ExitCode {
    let Err(error) = launch(arguments);
    complain(&error.context("the app can't be started"));
    NOT_STARTED.into()
}

fn launch(arguments: &LaunchArguments) -> anyhow::Result<std::convert::Infallible> {
    close_files();
    limit(arguments)?;
    go_before_the_server();
    set_no_new_privs(true).context("no_new_privs")?;
    give_up_capabilities().context("capabilities")?;
    if arguments.landlock {
        confine(arguments).context("Landlock")?;
        syscalls::filter()?;
    }
    let (program, rest) = arguments.command.split_first().ok_or_else(|| anyhow!("no program"))?;
    let mut command = Command::new(program);
    command.args(rest);
    let mut whose = String::new();
    if let (Some(uid), Some(gid)) = (arguments.uid, arguments.gid) {
        // The library drops the supplementary groups of a root that becomes someone else.
        command.uid(uid).gid(gid);
        whose = format!(" as user {uid} and group {gid}, which needs to read it and to get to its folder");
    }
    let cause = command.exec();
    Err(anyhow!(cause).context(format!("{}{whose}", program.to_string_lossy())))
}

/// All but the standard ones: the server's own are closed on exec(2) anyway, those that it was started with may not be. Nothing here has one.
fn close_files() {
    let files = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The folder's own is closed by now.
        let _ = nix::unistd::close(number);
    }
}

/// Limits that the app can't raise again.
fn limit(arguments: &LaunchArguments) -> anyhow::Result<()> {
    let limits = [
        // It would show the app's memory, and may be large.
        (Resource::Core, Some(0)),
        (Resource::Data, arguments.memory_max),
        (Resource::Nproc, arguments.processes_max),
        (Resource::Nofile, arguments.open_files_max),
    ];
    for (resource, limit) in limits {
        let Some(limit) = limit else { continue };
        // No process may go beyond what it has itself.
        let limit = getrlimit(resource).maximum.map_or(limit, |maximum| limit.min(maximum));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .with_context(|| format!("the limit {resource:?} of {limit}"))?;
    }
    Ok(())
}

/// When the machine is out of memory, the kernel ends apps first (proc(5), `oom_score_adj`; everybody may raise his own).
fn go_before_the_server() {
    let current = fs::read_to_string(OOM).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if current.is_none_or(|current| current < OOM_APP) {
        // Without /proc there is no way to.
        let _ = fs::write(OOM, OOM_APP.to_string());
    }
}

/// What the next program would get of root's or the service manager's capabilities (capabilities(7)).
fn give_up_capabilities() -> anyhow::Result<()> {
    clear_ambient_capability_set()?;
    if geteuid().is_root() {
        for capability in CapabilitySet::all().iter() {
            match remove_capability_from_bounding_set(capability) {
                // The kernel is older than the capability.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
    }
    Ok(())
}

fn confine(arguments: &LaunchArguments) -> anyhow::Result<RestrictionStatus> {
    let file = AccessFs::from_file(LANDLOCK);
    let read = AccessFs::from_read(LANDLOCK);
    // Devices of its own it could not make anyway; root could.
    let write = AccessFs::from_all(LANDLOCK) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(LANDLOCK))?;
    let mut ruleset = ruleset.scope(Scope::from_all(LANDLOCK))?.create()?;
    let hidden: Vec<PathBuf> = arguments.hide.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let system = arguments.system.iter().filter_map(|path| path.canonicalize().ok());
    // What is in a hidden folder is the system's no more; what the app is given by name it gets.
    let system = system
        .filter(|path| path.parent().is_some() && !hidden.iter().any(|hidden| path.starts_with(hidden)));
    let mut readable = BTreeSet::new();
    for path in system.chain(arguments.read.iter().filter_map(|path| path.canonicalize().ok())) {
        around(&path, &hidden, DEPTH_MAX, &mut readable);
    }
    for path in readable {
        ruleset = allow(ruleset, &path, read, file)?;
    }
    for path in &arguments.write {
        ruleset = allow(ruleset, path, write, file)?;
    }
    for path in &arguments.device {
        ruleset = allow(ruleset, path, AccessFs::ReadFile | AccessFs::WriteFile, file)?;
    }
    Ok(ruleset.restrict_self()?)
}

/// `path`, or, where something is hidden in it, what is beside that. Links are left out: what they lead to is allowed, or not, for itself.
fn around(path: &Path, hidden: &[PathBuf], depth: usize, found: &mut BTreeSet<PathBuf>) {
    if !hidden.iter().any(|hidden| hidden.starts_with(path) && hidden != path) {
        found.insert(path.to_owned());
        return;
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) && !hidden.contains(&path) {
            around(&path, hidden, depth, found);
        }
    }
}

/// Allows `access` to a file, or to a folder and what is in it; one that is gone needs none.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    file: BitFlags<AccessFs>,
) -> anyhow::Result<RulesetCreated> {
    let Ok(found) = fs::metadata(path) else { return Ok(ruleset) };
    let access = if found.is_dir() { access } else { access & file };
    let Ok(handle) = PathFd::new(path) else { return Ok(ruleset) };
    ruleset.add_rule(PathBeneath::new(handle, access)).with_context(|| path.display().to_string())
}

/// The version of the kernel's Landlock, 0 for none. The crate tells it of a thread that it has confined: one that ends at once.
pub(crate) fn landlock_version() -> u32 {
    let ask = || {
        let ruleset = Ruleset::default().handle_access(AccessFs::MakeChar)?.create()?;
        ruleset.restrict_self().map(|status| status.landlock)
    };
    match std::thread::spawn(ask).join() {
        Ok(Ok(LandlockStatus::Available { effective_abi, .. })) => effective_abi as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around_of(path: &Path, hidden: &[PathBuf]) -> Vec<PathBuf> {
        let mut found = BTreeSet::new();
        around(path, hidden, DEPTH_MAX, &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn what_is_hidden_is_gone_around() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let path = |name: &str| root.join(name);
        fs::create_dir_all(path("etc/ssl/private")).unwrap();
        fs::create_dir_all(path("etc/ssl/certs")).unwrap();
        for file in ["etc/hosts", "etc/shadow", "etc/ssl/private/key", "etc/ssl/openssl.cnf"] {
            fs::write(path(file), "").unwrap();
        }
        std::os::unix::fs::symlink(path("etc/shadow"), path("etc/link")).unwrap();
        let etc = path("etc");
        let whole = std::slice::from_ref(&etc);
        assert_eq!(around_of(&etc, &[]), whole);
        assert_eq!(around_of(&etc, &[path("var")]), whole);
        let hidden = [path("etc/shadow"), path("etc/ssl/private")];
        let expected = ["etc/hosts", "etc/ssl/certs", "etc/ssl/openssl.cnf"].map(path);
        assert_eq!(around_of(&etc, &hidden), expected);
        // What the app is given by name may be in a hidden folder.
        assert_eq!(around_of(&path("etc/ssl/private"), &hidden), [path("etc/ssl/private")]);
    }

    #[test]
    fn the_version_is_asked_for_without_a_trace() {
        let version = landlock_version();
        assert_eq!(landlock_version(), version);
        assert!(!rustix::thread::no_new_privs().unwrap(), "this thread is as it was");
    }
}
