//! Processes under measurement: started, pinned, their CPU time read, ended by id.

use anyhow::{Context, bail};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longer than any of the programs needs to start.
const START_MAX: Duration = Duration::from_secs(30);

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
        let name = program.display().to_string();
        let log = fs::File::create(log).with_context(|| format!("log of {name}"))?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{name} can't be started: is it installed?"))?;
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

    /// User and system time of the process and its children, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut total = cpu_seconds(self.child.id())?;
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            if parent(pid) == Some(self.child.id()) {
                total += cpu_seconds(pid)?;
            }
        }
        Ok(total)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    /// Linux counts in hundredths of a second for every architecture's user space.
    const TICKS: f64 = 100.0;
    let fields = stat(pid).with_context(|| format!("process {pid} is gone"))?;
    let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}
