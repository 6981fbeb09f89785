//! Processes under measurement: started, pinned, their CPU time and memory read, ended by id.

use anyhow::{Context, bail};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// Longer than any of the programs needs to start.
const START_MAX: Duration = Duration::from_secs(30);

/// CPU time in seconds, by where it was spent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    /// What was spent between `earlier` and this.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// Lets this process, and those it starts, open as many files as the system allows; how many that is.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("limit of open files")?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Why a program can't be started: it is not here, or too old.
#[derive(Debug)]
pub(crate) struct NotInstalled(pub(crate) String);

impl std::fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not installed", self.0)
    }
}

impl std::error::Error for NotInstalled {}

/// A program that is ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `program`, on `core` alone if one is given. What it prints goes to `log`.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        core: Option<usize>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("log of {}", program.display()))?;
        let mut command = pinned(program, core);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Self::spawn(command, program)
    }

    /// The same, with further variables in its environment.
    pub(crate) fn start_with_variables(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("log of {}", program.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Self::spawn(command, program)
    }

    /// The same, with `folder` as its working folder.
    pub(crate) fn start_in(
        folder: &Path,
        program: &Path,
        arguments: &[String],
        core: Option<usize>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("log of {}", program.display()))?;
        let mut command = pinned(program, core);
        command.args(arguments).current_dir(folder);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Self::spawn(command, program)
    }

    /// Starts `program` with its output to be read here; it lives until its input is closed, at the latest when this is dropped.
    pub(crate) fn start_piped(
        program: &Path,
        arguments: &[&str],
        core: usize,
    ) -> anyhow::Result<(Self, ChildStdout)> {
        let mut command = pinned(program, Some(core));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self::spawn(command, program)?;
        let output = process.child.stdout.take().context("its output is a pipe")?;
        Ok((process, output))
    }

    fn spawn(mut command: Command, program: &Path) -> anyhow::Result<Self> {
        let name = program.display().to_string();
        let child = command.spawn().map_err(|error| not_installed(error, &name))?;
        Ok(Self { child, name })
    }

    /// Waits until something listens at `address`.
    pub(crate) fn listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it listened at {address}", self.name);
            }
            if start.elapsed() > START_MAX {
                bail!("{} does not listen at {address} after {START_MAX:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the process and its children.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut total = Cpu::default();
        for pid in self.family()? {
            let Cpu { user, system } = cpu(pid)?;
            total.user += user;
            total.system += system;
        }
        Ok(total)
    }

    /// Memory of the process and its children that is in RAM, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<f64> {
        self.family()?.into_iter().map(resident_bytes).sum()
    }

    fn family(&self) -> anyhow::Result<Vec<u32>> {
        let mut pids = vec![self.child.id()];
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            if parent(pid) == Some(self.child.id()) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}

impl Drop for Process {
    /// Its children too: nginx's outlive a master that is killed, and keep its ports.
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        let family = self.family().unwrap_or_default();
        let _ = self.child.kill();
        for pid in family.into_iter().filter(|pid| *pid != self.child.id()) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// What a start has failed of.
pub(crate) fn not_installed(error: std::io::Error, name: &str) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return NotInstalled(name.to_owned()).into();
    }
    anyhow::Error::new(error).context(format!("{name} can't be started"))
}

/// The fields of `/proc/PID/stat` after the name, the state first (proc(5)).
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// CPU time of all of the machine, by whomever it was spent, in seconds.
pub(crate) fn machine_cpu() -> anyhow::Result<f64> {
    machine_ticks(&fs::read_to_string("/proc/stat").context("/proc/stat")?)
        .map(|ticks| ticks / TICKS)
        .context("the line cpu of /proc/stat")
}

/// Of user space, of the kernel and its interrupts (proc(5)): not idle, not waiting, not taken by other machines.
fn machine_ticks(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let columns: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, ..] = columns[..] else {
        return None;
    };
    Some(user + nice + system + interrupts + soft_interrupts)
}

/// Linux counts in hundredths of a second for every architecture's user space.
const TICKS: f64 = 100.0;

/// CPU time of one process.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Cpu> {
    let fields = stat(pid).with_context(|| format!("process {pid} is gone"))?;
    let seconds = |place: usize| -> anyhow::Result<f64> {
        let ticks: f64 = fields.get(place).context("a field of /proc/PID/stat")?.parse()?;
        Ok(ticks / TICKS)
    };
    Ok(Cpu { user: seconds(11)?, system: seconds(12)? })
}

fn resident_bytes(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS in /proc/PID/status")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS in kB")?;
    Ok(kilobytes * 1024.0)
}

/// A command for `program`, on `core` alone if one is given.
fn pinned(program: &Path, core: Option<usize>) -> Command {
    let Some(core) = core else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_or_taken_by_others_is_not_spent() {
        let text = "cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(machine_ticks(text), Some(7_600_321.0));
        assert_eq!(machine_ticks("cpu 1 2 3"), None);
        assert!(machine_cpu().unwrap() > 0.0);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = std::process::id();
        let before = cpu(me).unwrap();
        // Until the clock of ticks has moved.
        let mut spent = before.since(before);
        while spent.user + spent.system == 0.0 {
            spent = cpu(me).unwrap().since(before);
        }
        assert!(spent.user >= 0.0 && spent.system >= 0.0, "{spent:?}");
        assert!(resident_bytes(me).unwrap() > 100_000.0);
    }
}
