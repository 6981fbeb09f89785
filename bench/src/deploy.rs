//! Deployments beside `git add && git commit && git push` into a local bare repository: how long from the command until every server
//! serves the new version, what is stored, and how much memory it takes.

use crate::{median, process::Process, say};
use anyhow::{Context, bail, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longer than any step takes.
const STEP_MAX: Duration = Duration::from_secs(300);

/// App servers of the demo.
const SERVERS: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`; `deploy-tool` is beside it
    #[arg(long)]
    copal: PathBuf,
    /// Rounds of the small app
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Files of the app with many
    #[arg(long, default_value_t = 50_000)]
    files: usize,
    /// Megabytes of the app with much
    #[arg(long, default_value_t = 500)]
    megabytes: usize,
    /// Deployments of the app that grows
    #[arg(long, default_value_t = 100)]
    deployments: usize,
    /// Is added to the demo's ports
    #[arg(long, default_value_t = 2000)]
    port_offset: u16,
    /// Data is kept under this folder
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// Deployments of the app with many files after the first.
const ROUNDS: usize = 9;

/// `keep-versions`, as it is by default.
const KEPT: usize = 3;

/// A demo cluster of three app servers and a web-tier, each a process.
struct Cluster {
    demo: Process,
    tool: PathBuf,
    data: PathBuf,
    address: String,
    password: String,
}

/// What one run of a program took.
struct Took {
    seconds: f64,
    /// The most memory that it had, in MB.
    peak_mb: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let cluster = Cluster::start(arguments, folder.path())?;
    if !Rsync::is_there() {
        say("rsync is not installed: its column stays empty");
    }
    say("| app | | deploy-tool, 3 servers | git, 1 repository | ratio | rsync, 3 folders |");
    say("|---|---|---|---|---|---|");
    small(&cluster, arguments.rounds, folder.path())?;
    many(&cluster, arguments.files, folder.path())?;
    growing(&cluster, arguments.deployments, folder.path())?;
    large(&cluster, arguments.megabytes, folder.path())
}

/// A site of 1 MB of which one file changes.
fn small(cluster: &Cluster, rounds: usize, folder: &Path) -> anyhow::Result<()> {
    let site = folder.join("small");
    fs::create_dir(&site)?;
    for number in 0..20 {
        fs::write(site.join(format!("{number}.html")), noise(number, 50_000))?;
    }
    let (git, rsync) = (Git::new(&site, folder)?, Rsync::new(&site, folder));
    let (mut ours, mut gits, mut rsyncs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        fs::write(site.join("0.html"), format!("round {round}"))?;
        let began = Instant::now();
        cluster.deploy(&site)?;
        ensure!(
            cluster.get("/small/0.html")?.ends_with(&format!("round {round}")),
            "another version is served"
        );
        let took = began.elapsed().as_secs_f64();
        let (pushed, copied) = (git.push()?, rsync.copy()?);
        // The first one is of everything.
        if round > 0 {
            ours.push(took * 1000.0);
            gits.push(pushed * 1000.0);
            rsyncs.extend(copied.map(|it| it * 1000.0));
        }
    }
    row("1 MB, one file changed", "ms, median", median(ours), median(gits), rsyncs);
    Ok(())
}

/// Many small files of which one changes.
fn many(cluster: &Cluster, files: usize, folder: &Path) -> anyhow::Result<()> {
    let site = folder.join("many");
    for number in 0..files {
        let at = site.join(format!("{:03}", number / 200));
        fs::create_dir_all(&at)?;
        fs::write(at.join(format!("{number}.txt")), noise(number, 200))?;
    }
    let (git, rsync) = (Git::new(&site, folder)?, Rsync::new(&site, folder));
    let first = (cluster.deploy(&site)?.seconds, git.push()?);
    row(&format!("{files} files, the first time"), "s", first.0, first.1, rsync.copy()?);
    let (stored, stored_git) = (cluster.stored()?, git.stored()?);
    let (mut ours, mut gits, mut rsyncs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        fs::write(site.join("000/0.txt"), format!("round {round}"))?;
        ours.push(cluster.deploy(&site)?.seconds);
        gits.push(git.push()?);
        rsyncs.extend(rsync.copy()?);
    }
    let one_changed = format!("{files} files, one changed");
    // Until there are `keep-versions` of them, each version is written as a whole.
    let (anew, from_spare) = ours.split_at(KEPT - 1);
    row(&one_changed, "s, the 2nd and 3rd deployment", median(anew.to_vec()), median(gits.clone()), None);
    row(&one_changed, "s, median of the later ones", median(from_spare.to_vec()), median(gits), rsyncs);
    let grown = (cluster.stored()? - stored, git.stored()? - stored_git);
    let rounds = ROUNDS as f64 * 1e3;
    row(&one_changed, "kB stored by one server, a deployment", grown.0 / rounds, grown.1 / rounds, None);
    Ok(())
}

/// 10 MB of which little changes, again and again.
fn growing(cluster: &Cluster, deployments: usize, folder: &Path) -> anyhow::Result<()> {
    let site = folder.join("growing");
    fs::create_dir(&site)?;
    for number in 0..200 {
        fs::write(site.join(format!("{number}.bin")), noise(number + 1000, 50_000))?;
    }
    let git = Git::new(&site, folder)?;
    cluster.deploy(&site)?;
    git.push()?;
    let (stored, stored_git) = (cluster.stored()?, git.stored()?);
    for round in 0..deployments {
        fs::write(site.join(format!("{}.bin", round % 200)), noise(round + 5000, 50_000))?;
        cluster.deploy(&site)?;
        git.push()?;
    }
    let grown = (cluster.stored()? - stored, git.stored()? - stored_git);
    row(
        &format!("10 MB, {deployments} times 50 kB changed"),
        "MB stored by one server",
        grown.0 / 1e6,
        grown.1 / 1e6,
        None,
    );
    Ok(())
}

/// One archive that is larger than what the processes may take.
fn large(cluster: &Cluster, megabytes: usize, folder: &Path) -> anyhow::Result<()> {
    let site = folder.join("large");
    fs::create_dir(&site)?;
    for number in 0..megabytes.div_ceil(50) {
        fs::write(site.join(format!("{number}.bin")), noise(number + 10_000, 50_000_000))?;
    }
    let archive = folder.join("large.tar");
    let packed = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&site).arg(".").status()?;
    ensure!(packed.success(), "tar: {packed}");
    let before = cluster.peaks()?;
    let took = cluster.deploy(&archive)?;
    say(&format!("| {megabytes} MB tar | s | {:.1} | | | |", took.seconds));
    say(&format!("| {megabytes} MB tar | MB of memory, deploy-tool's most | {:.0} | | | |", took.peak_mb));
    for ((name, before), (_, after)) in before.iter().zip(cluster.peaks()?) {
        say(&format!(
            "| {megabytes} MB tar | MB that {name}'s most has grown by | {:.0} | | | |",
            after - before
        ));
    }
    Ok(())
}

fn row(app: &str, what: &str, ours: f64, git: f64, rsyncs: impl IntoIterator<Item = f64>) {
    let rsyncs: Vec<_> = rsyncs.into_iter().collect();
    let rsync = if rsyncs.is_empty() { String::new() } else { format!("{:.2}", median(rsyncs)) };
    say(&format!("| {app} | {what} | {ours:.2} | {git:.2} | {:.2} | {rsync} |", ours / git));
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut made = Vec::with_capacity(bytes + 8);
    while made.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(bytes);
    made
}

impl Cluster {
    fn start(arguments: &Arguments, folder: &Path) -> anyhow::Result<Self> {
        let data = folder.join("demo");
        let offset = arguments.port_offset.to_string();
        let shown = data.to_string_lossy().into_owned();
        let flags = ["demo", "--processes", "--data-dir", &shown, "--port-offset", &offset];
        let demo = Process::start(&arguments.copal, &flags, None, &folder.join("demo.log"))?;
        let address = format!("127.0.0.1:{}", 8080 + arguments.port_offset);
        let tool = arguments.copal.with_file_name("deploy-tool");
        let began = Instant::now();
        let password = data.join("admin-password");
        let mut cluster = Self { demo, tool, data, address, password: String::new() };
        while !cluster.get("/").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            ensure!(began.elapsed() < STEP_MAX, "the demo does not answer: see {}", folder.display());
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::read_to_string(&password)?.trim().clone_into(&mut cluster.password);
        while cluster.servers_up()? < SERVERS {
            ensure!(began.elapsed() < STEP_MAX, "not all servers are up: see {}", folder.display());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(cluster)
    }

    /// How many app servers the hub knows as up.
    fn servers_up(&self) -> anyhow::Result<usize> {
        let said = self.tool("status").output()?.stdout;
        let said = String::from_utf8_lossy(&said);
        let is_up = |line: &&str| line.contains(" app-tier ") && line.contains(" up ");
        Ok(said.lines().filter(is_up).count())
    }

    /// `deploy-tool`, as the demo's administrator.
    fn tool(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.tool);
        command.arg(verb);
        command.env("COPAL_URL", format!("http://{}/admin", self.address));
        command.env("COPAL_USER", "admin").env("COPAL_PASSWORD", &self.password);
        command
    }

    /// The answer to a GET.
    fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn deploy(&self, source: &Path) -> anyhow::Result<Took> {
        let mut command = self.tool("deploy");
        command.arg(source).args(["--timeout", "300s"]);
        timed(command)
    }

    /// Bytes of a hub server's repository.
    fn stored(&self) -> anyhow::Result<f64> {
        size(&self.data.join("app-a/repository.git"))
    }

    /// The most memory that each server has had, in MB.
    fn peaks(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let children = format!("/proc/{0}/task/{0}/children", self.demo.id());
        let children = fs::read_to_string(children).context("the demo's processes")?;
        let mut peaks = Vec::new();
        for pid in children.split_whitespace() {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            let mut words = line.split('\0');
            if words.any(|word| word == "--server") {
                peaks.push((words.next().unwrap_or_default().to_owned(), peak_mb(pid)?));
            }
        }
        Ok(peaks)
    }
}

/// A bare repository and a folder that is pushed to it.
struct Git {
    site: PathBuf,
    work: PathBuf,
    bare: PathBuf,
}

impl Git {
    fn new(site: &Path, folder: &Path) -> anyhow::Result<Self> {
        let name = site.file_name().context("a site has a name")?.to_string_lossy().into_owned();
        let (work, bare) = (folder.join(format!("{name}.work.git")), folder.join(format!("{name}.git")));
        let git = Self { site: site.to_owned(), work, bare };
        for path in [&git.work, &git.bare] {
            timed(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(path))?;
        }
        Ok(git)
    }

    fn git(&self, arguments: &[&str]) -> anyhow::Result<f64> {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.work).arg("--work-tree").arg(&self.site);
        command.args(["-c", "user.name=bench", "-c", "user.email=bench@copal", "-c", "gc.auto=0"]);
        Ok(timed(command.args(arguments))?.seconds)
    }

    fn push(&self) -> anyhow::Result<f64> {
        let bare = self.bare.to_string_lossy().into_owned();
        let added = self.git(&["add", "-A"])?;
        let committed = self.git(&["commit", "-qm", "bench"])?;
        Ok(added + committed + self.git(&["push", "-q", &bare, "HEAD:main"])?)
    }

    fn stored(&self) -> anyhow::Result<f64> {
        size(&self.bare)
    }
}

/// Three folders that are made as the site by rsync, one after the other, where it is installed.
struct Rsync {
    site: PathBuf,
    copies: Vec<PathBuf>,
}

impl Rsync {
    fn is_there() -> bool {
        let found = Command::new("rsync").arg("--version").stdout(Stdio::null()).status();
        found.is_ok_and(|it| it.success())
    }

    fn new(site: &Path, folder: &Path) -> Self {
        let name = site.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let copies = if Self::is_there() { 0..3 } else { 0..0 };
        let copies = copies.map(|number| folder.join(format!("{name}.copy{number}"))).collect();
        Self { site: site.to_owned(), copies }
    }

    /// Seconds; `None` without rsync.
    fn copy(&self) -> anyhow::Result<Option<f64>> {
        let mut seconds = None;
        for copy in &self.copies {
            let mut command = Command::new("rsync");
            command.args(["-a", "--delete"]).arg(self.site.join("")).arg(copy);
            *seconds.get_or_insert(0.0) += timed(command)?.seconds;
        }
        Ok(seconds)
    }
}

/// Runs a program to its end.
fn timed(mut command: impl std::borrow::BorrowMut<Command>) -> anyhow::Result<Took> {
    let command = command.borrow_mut();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let peak_mb = watch(&mut child)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Took { seconds: began.elapsed().as_secs_f64(), peak_mb })
}

/// Waits for the end; the most memory that it had on the way, in MB.
fn watch(child: &mut Child) -> anyhow::Result<f64> {
    let (pid, began) = (child.id().to_string(), Instant::now());
    let mut peak = 0.0_f64;
    while child.try_wait()?.is_none() {
        peak = peak.max(peak_mb(&pid).unwrap_or_default());
        ensure!(began.elapsed() < STEP_MAX, "a program has not ended within {STEP_MAX:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(peak)
}

fn peak_mb(pid: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1000.0 * 1.024)
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { size(&entry.path())? } else { about.len() as f64 };
    }
    Ok(bytes)
}
