//! What the status page costs: CPU time of the servers for each proxied request while ten pages are open and metrics are scraped each
//! second, beside the same without, turn by turn in one run. (How long the pages of a simulated large cluster take, `bench/run status`
//! has a test of `admin` print.)

use crate::{
    backend::content_length,
    median,
    process::{Cpu, Process, cpu},
    say,
};
use anyhow::{Context, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Longer than a start or an answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// As the page's script has it.
const REFRESH: Duration = Duration::from_secs(2);

/// A refresh in so many asks for new points of the graphs.
const POINTS_EVERY: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// Turns with pages, and as many without
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Pages that are open
    #[arg(long, default_value_t = 10)]
    pages: usize,
    /// Connections that send requests as fast as they are answered
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Is added to the demo's ports
    #[arg(long, default_value_t = 2100)]
    port_offset: u16,
    /// Data is kept under this folder
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// CPU time for each request, in microseconds.
struct Cost {
    /// Milliseconds a second of the web-tier's threads that pass no requests on.
    besides: f64,
    web_tier: f64,
    all: f64,
    requests_per_s: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let demo = Demo::start(arguments, folder.path())?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // The first turn warms up.
    demo.turn(arguments, false)?;
    for _ in 0..arguments.rounds {
        without.push(demo.turn(arguments, false)?);
        with.push(demo.turn(arguments, true)?);
    }
    let pages = arguments.pages;
    say(&format!(
        "| CPU µs a request | no page | {pages} pages, and metrics each second | ratio, median of turns |"
    ));
    say("|---|---|---|---|");
    row("web-tier, which shows the pages", &without, &with, |it| it.web_tier);
    row("all four servers", &without, &with, |it| it.all);
    row("(its threads besides the workers, ms a second)", &without, &with, |it| it.besides);
    row("(requests a second)", &without, &with, |it| it.requests_per_s);
    let middle = |costs: &[Cost], of: fn(&Cost) -> f64| median(costs.iter().map(of).collect());
    let more = middle(&with, |it| it.besides) - middle(&without, |it| it.besides);
    let all = middle(&without, |it| it.web_tier * it.requests_per_s / 1000.0);
    say(&format!(
        "Pages and metrics are made on threads of their own: {more:.2} ms more of {all:.0} ms a second, {:.2} %.",
        more / all * 100.0
    ));
    Ok(())
}

/// Neighbours in time are compared: the machine does not stay the same over a run.
fn row(name: &str, without: &[Cost], with: &[Cost], of: fn(&Cost) -> f64) {
    let ratios = without.iter().zip(with).map(|(without, with)| of(with) / of(without)).collect();
    let middle = |costs: &[Cost]| median(costs.iter().map(of).collect());
    say(&format!("| {name} | {:.2} | {:.2} | {:.3} |", middle(without), middle(with), median(ratios)));
}

/// A demo cluster of three app servers and a web-tier, each a process.
struct Demo {
    address: String,
    cookie: String,
    web_tier: u32,
    servers: Vec<u32>,
    _process: Process,
}

impl Demo {
    fn start(arguments: &Arguments, folder: &Path) -> anyhow::Result<Self> {
        let data = folder.join("demo");
        let offset = arguments.port_offset.to_string();
        let shown = data.to_string_lossy().into_owned();
        let flags = ["demo", "--processes", "--data-dir", &shown, "--port-offset", &offset];
        let process = Process::start(&arguments.copal, &flags, None, &folder.join("demo.log"))?;
        let address = format!("127.0.0.1:{}", 8080 + arguments.port_offset);
        let began = Instant::now();
        while !Client::open(&address).and_then(|mut it| it.get("/", "")).is_ok_and(|it| it.status == 200) {
            ensure!(began.elapsed() < PATIENCE, "the demo does not answer: see {}", folder.display());
            thread::sleep(Duration::from_millis(100));
        }
        let password = fs::read_to_string(data.join("admin-password"))?;
        let form = format!("user=admin&password={}", password.trim());
        let answer = Client::open(&address)?.ask("POST /admin/sign-in", "", &form)?;
        let cookie = answer.cookie.with_context(|| format!("signing in: {}", answer.status))?;
        let servers = servers(process.id())?;
        let web_tier = servers.iter().find(|(name, _)| name == "web-a").context("no process of web-a")?.1;
        let servers = servers.into_iter().map(|(_, pid)| pid).collect();
        Ok(Self { address, cookie: format!("Cookie: {cookie}\r\n"), web_tier, servers, _process: process })
    }

    /// Requests as fast as they are answered, with pages open or not.
    fn turn(&self, arguments: &Arguments, with_pages: bool) -> anyhow::Result<Cost> {
        let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
        let spent = |pids: &[u32]| -> anyhow::Result<f64> {
            let all: Vec<Cpu> = pids.iter().map(|pid| cpu(*pid)).collect::<Result<_, _>>()?;
            Ok(all.iter().map(|it| it.user + it.system).sum())
        };
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..arguments.connections {
                threads.push(scope.spawn(|| load(&self.address, &stop, &requests)));
            }
            for _ in 0..if with_pages { arguments.pages } else { 0 } {
                threads.push(scope.spawn(|| self.page(&stop)));
            }
            if with_pages {
                threads.push(scope.spawn(|| self.scraper(&stop)));
            }
            // Until all are under way.
            thread::sleep(Duration::from_secs(1));
            let besides_begin = besides_workers(self.web_tier)?;
            let begin = (spent(&[self.web_tier])?, spent(&self.servers)?, requests.load(Ordering::Relaxed));
            thread::sleep(Duration::from_secs(arguments.seconds));
            let end = (spent(&[self.web_tier])?, spent(&self.servers)?, requests.load(Ordering::Relaxed));
            let besides = besides_workers(self.web_tier)? - besides_begin;
            stop.store(true, Ordering::Relaxed);
            for it in threads {
                it.join().map_err(|_| anyhow::anyhow!("a thread of the load has panicked"))??;
            }
            let answered = (end.2 - begin.2) as f64;
            Ok(Cost {
                besides: besides * 1000.0 / arguments.seconds as f64,
                web_tier: (end.0 - begin.0) * 1e6 / answered,
                all: (end.1 - begin.1) * 1e6 / answered,
                requests_per_s: answered / arguments.seconds as f64,
            })
        })
    }

    /// A page as a browser has it open: loaded once, then shown anew every two seconds.
    fn page(&self, stop: &AtomicBool) -> anyhow::Result<()> {
        let html = format!("{}Accept: text/html\r\n", self.cookie);
        let mut client = Client::open(&self.address)?;
        let mut get = |path: &str, fields: &str| -> anyhow::Result<()> {
            let status = client.get(path, fields)?.status;
            ensure!(status == 200, "GET {path}: {status}");
            Ok(())
        };
        let points = "/admin/api/v1/history?range=1h&series=requests_per_s,errors_4xx_per_s,errors_5xx_per_s,p50_ms,p99_ms,\
                      connections_open,requests_active,sessions,app_sessions";
        get("/admin/", &html)?;
        get(points, &self.cookie)?;
        let refresh = format!("{html}X-Copal-Refresh: 1\r\n");
        for number in 0.. {
            if rest(REFRESH, stop) {
                break;
            }
            get("/admin/", &refresh)?;
            if number % POINTS_EVERY == 0 {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
                get(&format!("{points}&since={}", now - 20), &self.cookie)?;
            }
        }
        Ok(())
    }

    fn scraper(&self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut client = Client::open(&self.address)?;
        while !rest(Duration::from_secs(1), stop) {
            let status = client.get("/admin/metrics", &self.cookie)?.status;
            ensure!(status == 200, "GET /admin/metrics: {status}");
        }
        Ok(())
    }
}

/// Waits; whether it is time to stop.
fn rest(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        // Ten pages that look more often than this are a load of their own.
        thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(500)));
    }
    stop.load(Ordering::Relaxed)
}

/// Requests of one user, one after the other.
fn load(address: &str, stop: &AtomicBool, requests: &AtomicU64) -> anyhow::Result<()> {
    let mut client = Client::open(address)?;
    let first = client.get("/", "")?;
    let cookie = first.cookie.map(|it| format!("Cookie: {it}\r\n")).unwrap_or_default();
    while !stop.load(Ordering::Relaxed) {
        let status = client.get("/", &cookie)?.status;
        ensure!(status == 200, "GET /: {status}");
        requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// CPU seconds of a web-tier's threads but its workers, `web-0` and so on; of threads that live.
fn besides_workers(pid: u32) -> anyhow::Result<f64> {
    let mut nanoseconds = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = task?.path();
        // It may end meanwhile.
        let (Ok(name), Ok(spent)) =
            (fs::read_to_string(folder.join("comm")), fs::read_to_string(folder.join("schedstat")))
        else {
            continue;
        };
        if !name.starts_with("web-") {
            let spent = spent.split_whitespace().next().and_then(|it| it.parse::<u64>().ok());
            nanoseconds += spent.context("a thread's CPU time")?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// The servers that a demo has started, by their ids.
fn servers(demo: u32) -> anyhow::Result<Vec<(String, u32)>> {
    let children = fs::read_to_string(format!("/proc/{demo}/task/{demo}/children"));
    let children = children.context("the demo's processes")?;
    let mut servers = Vec::new();
    for pid in children.split_whitespace() {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
        let mut words = line.split('\0');
        if words.any(|word| word == "--server") {
            servers.push((words.next().unwrap_or_default().to_owned(), pid.parse()?));
        }
    }
    Ok(servers)
}

/// A connection that is kept.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

struct Answer {
    status: u16,
    /// The first cookie that it sets.
    cookie: Option<String>,
}

impl Client {
    fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    fn get(&mut self, path: &str, fields: &str) -> anyhow::Result<Answer> {
        self.ask(&format!("GET {path}"), fields, "")
    }

    /// `fields` are lines with their ends.
    fn ask(&mut self, line: &str, fields: &str, body: &str) -> anyhow::Result<Answer> {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}{length}\r\n{body}");
        self.stream.write_all(request.as_bytes())?;
        self.read.clear();
        let mut buffer = [0; 64 << 10];
        let mut end = None;
        while end.is_none_or(|end| self.read.len() < end) {
            let more = self.stream.read(&mut buffer)?;
            ensure!(more > 0, "{line}: the connection broke");
            self.read.extend_from_slice(&buffer[..more]);
            if end.is_none()
                && let Some(head) = self.read.windows(4).position(|it| it == b"\r\n\r\n")
            {
                let length = content_length(std::str::from_utf8(&self.read[..head])?);
                end =
                    Some(head + 4 + length.with_context(|| format!("{line}: an answer of unknown length"))?);
            }
        }
        let head = self.read.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or_default();
        let head = std::str::from_utf8(&self.read[..head])?;
        let status = head.get(9..12).and_then(|it| it.parse().ok()).context("a status")?;
        let mut lines = head.split("\r\n").filter_map(|it| it.split_once(": "));
        let cookie = lines.find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let cookie = cookie.and_then(|(_, value)| value.split(';').next()).map(str::to_owned);
        Ok(Answer { status, cookie })
    }
}
