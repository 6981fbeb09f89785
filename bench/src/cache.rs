//! What a kept answer costs: CPU time of Copal, nginx and Varnish for each hit, each on one core, turn by turn in one run.

use crate::{
    median,
    process::{Process, machine_cpu},
    proxy::{h2load_count, wrk_count},
    say,
};
use anyhow::{Context, bail, ensure};
use rand::{RngExt, SeedableRng};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

/// Where the caches run, and where the load does.
const CACHE_CORE: usize = 0;
const LOAD_CORE: &str = "1";

/// Bodies, by their names and lengths.
const BODIES: [(&str, usize); 3] = [("100B", 100), ("10KB", 10 << 10), ("1MB", 1 << 20)];

/// What the origin has besides.
const OTHERS: [(&str, usize); 2] = [("4KB", 4 << 10), ("20KB.txt", 20 << 10)];

/// Has wrk ask for each URL once: the path with a number behind it.
const UNIQUE: [&str; 2] = ["-s", "unique.lua"];

/// Answers that are not kept: how they are told, the paths without a cache and with it, and what wrk is told besides.
const NOT_KEPT: [(&str, [&str; 2], &[&str]); 2] = [
    ("one URL", ["plain/100B", "not-kept/100B"], &[]),
    ("each URL another one", ["plain/unique/", "not-kept/"], &UNIQUE),
];

/// Loads of HTTP/1.1: how they are told, the path, and what wrk is told besides.
const LOADS: [(&str, &str, &[&str]); 4] = [
    ("100B, proxied, no cache", "plain/100B", &[]),
    ("100B, a miss that is kept", "unique/", &UNIQUE),
    ("20KB of text, gzip, proxied", "plain/20KB.txt", &["-H", "Accept-Encoding: gzip"]),
    ("20KB of text, gzip, a hit", "20KB.txt", &["-H", "Accept-Encoding: gzip"]),
];

/// Where the origin listens.
const ORIGIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 17700);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// The configurations of the peers
    #[arg(long, default_value = "bench/cache")]
    peers: PathBuf,
    /// Turns of each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a turn
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// The rows whose names contain this, alone
    #[arg(long)]
    row: Option<String>,
    /// Data is kept under this folder
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// How hits are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Tls,
    Http2,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Tls => "HTTP/1.1 over TLS",
            Self::Http2 => "HTTP/2 over TLS",
        }
    }

    fn url(self, cache: &Cache, body: &str) -> Option<String> {
        Some(match self {
            Self::Http1 => format!("http://127.0.0.1:{}/{body}", cache.port),
            Self::Tls | Self::Http2 => format!("https://127.0.0.1:{}/{body}", cache.tls_port?),
        })
    }

    /// Runs a load; how many requests were answered.
    fn run(self, folder: &Path, url: &str, more: &[&str], seconds: u32) -> anyhow::Result<f64> {
        self.run_on((LOAD_CORE, "-t1"), folder, url, more, seconds)
    }

    /// The same on other cores, with as many threads.
    fn run_on(
        self,
        (cores, threads): (&str, &str),
        folder: &Path,
        url: &str,
        more: &[&str],
        seconds: u32,
    ) -> anyhow::Result<f64> {
        let duration = if self == Self::Http2 { seconds.to_string() } else { format!("{seconds}s") };
        let (program, arguments) = match self {
            Self::Http2 => ("h2load", ["-c4", "-m100", "-D"]),
            _ => ("wrk", ["-c64", "--timeout", "10s"]),
        };
        let mut command = Command::new("taskset");
        command.current_dir(folder).args(["-c", cores, program, threads]).args(arguments);
        if self != Self::Http2 {
            command.arg("-d");
        }
        let output = command.arg(duration).args(more).arg(url).output().context(program)?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("Non-2xx") {
            bail!("{program} at {url}: {text}");
        }
        let count = if self == Self::Http2 { h2load_count(&text) } else { wrk_count(&text) };
        count
            .with_context(|| format!("{program} at {url}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A cache that runs.
struct Cache {
    name: &'static str,
    port: u16,
    tls_port: Option<u16>,
    process: Process,
    resident_at_start: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let folder = fs::canonicalize(folder.path())?;
    prepare(&arguments.peers, &folder)?;
    let copal = fs::canonicalize(&arguments.copal)?;
    let (_origin, caches) = start(&copal, &folder)?;
    say(
        "| CPU µs a hit | copal | nginx | varnish | copal to the best | with the load: copal | nginx | varnish | copal to the best |",
    );
    say("|---|---|---|---|---|---|---|---|---|");
    for protocol in [Protocol::Http1, Protocol::Tls, Protocol::Http2] {
        for (body, _) in BODIES {
            let name = format!("{body}, {}", protocol.name());
            row(arguments, &folder, (&name, protocol, body, &[]), &caches)?;
        }
    }
    for (name, path, more) in LOADS {
        row(arguments, &folder, (name, Protocol::Http1, path, more), &caches)?;
    }
    for (name, paths, more) in NOT_KEPT {
        not_kept(arguments, &folder, (name, paths, more), &caches[0])?;
    }
    two_workers(arguments, &folder, &copal, &caches[0])?;
    if arguments.row.is_some() {
        return Ok(());
    }
    for cache in &caches {
        // A peer that breaks off in the middle takes nothing away from the others.
        if let Err(cause) = hit_ratio(cache) {
            say(&format!("{}: the part of hits is not measured: {cause:#}", cache.name));
        }
    }
    for cache in &caches {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let resident = cache.process.resident_bytes()?;
        say(&format!(
            "{}: {:.0} MiB resident, {:.0} more than at its start",
            cache.name,
            mib(resident),
            mib(resident - cache.resident_at_start)
        ));
    }
    drop(caches);
    fs::remove_dir_all(folder).ok();
    Ok(())
}

/// The part of requests for a million URLs (zipf) for which the origin is not asked: of as many requests for each cache, and the same ones, after as many
/// others.
fn hit_ratio(cache: &Cache) -> anyhow::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], cache.port));
    zipf(address, 1)?;
    let before = origin_requests()?;
    let failed = zipf(address, 2)?;
    let misses = origin_requests()? - before;
    let all = (CLIENTS * REQUESTS) as f64;
    let share = 100.0 * (1.0 - misses / all);
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    say(&format!(
        "{}: {share:.1} % of {all:.0} requests for a million URLs of 4 KB (zipf) are hits{failed}",
        cache.name
    ));
    Ok(())
}

/// How much larger a process becomes when its cache is full, and others make room.
fn memory(process: &Process, port: u16) -> anyhow::Result<()> {
    let before = process.resident_bytes()?;
    for turn in 1..=2 {
        let failed = zipf(SocketAddr::from(([127, 0, 0, 1], port)), turn)?;
        ensure!(failed == 0, "{failed} requests failed");
    }
    let more = (process.resident_bytes()? - before) / f64::from(1 << 20);
    say(&format!("copal: a memory-size of 256 MiB, full of answers of 4 KB, takes {more:.0} MiB"));
    Ok(())
}

/// Clients, and requests of each.
const CLIENTS: usize = 32;
const REQUESTS: usize = 10_000;

/// Errors of one client, at most: a peer may have no room for an answer now and then.
const FAILED_MAX: usize = REQUESTS / 100;

/// Asks for the k-th of a million URLs as often as 1/k; how many requests failed.
fn zipf(address: SocketAddr, turn: u64) -> anyhow::Result<usize> {
    let client = |client: u64| -> anyhow::Result<usize> {
        let mut random = rand::rngs::StdRng::seed_from_u64(turn << 32 | client);
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        let (mut line, mut failed) = (String::new(), 0);
        for _ in 0..REQUESTS {
            let number = 1e6_f64.powf(random.random::<f64>()) as u64;
            // In one piece: else the kernel waits for more.
            let request = format!("GET /zipf/{number} HTTP/1.1\r\nHost: bench\r\n\r\n");
            stream.get_mut().write_all(request.as_bytes())?;
            let mut length = 0;
            loop {
                line.clear();
                ensure!(stream.read_line(&mut line)? > 0, "{address} has closed the connection");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse()?;
                }
                if line == "\r\n" {
                    break;
                }
            }
            failed += usize::from(length != 4 << 10);
            ensure!(
                failed <= FAILED_MAX,
                "{failed} requests failed, the last with an answer of {length} bytes"
            );
            stream.read_exact(&mut vec![0; length])?;
        }
        Ok(failed)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS as u64).map(|it| scope.spawn(move || client(it))).collect();
        clients.into_iter().map(|it| it.join().expect("a client ends")).sum()
    })
}

/// How many requests the origin has had.
fn origin_requests() -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(ORIGIN)?;
    stream.write_all(b"GET /requests HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let numbers = text.lines().skip_while(|it| !it.contains("accepts handled requests")).nth(1);
    let last = numbers.and_then(|it| it.split_whitespace().nth(2)).context("the origin's counters")?;
    Ok(last.parse()?)
}

fn row(
    arguments: &Arguments,
    folder: &Path,
    (name, protocol, path, more): (&str, Protocol, &str, &[&str]),
    caches: &[Cache],
) -> anyhow::Result<()> {
    if arguments.row.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
        return Ok(());
    }
    let mut own: Vec<Vec<f64>> = vec![Vec::new(); caches.len()];
    let mut all = own.clone();
    // The first turn warms up.
    for round in 0..=arguments.rounds {
        for ((cache, own), all) in caches.iter().zip(&mut own).zip(&mut all) {
            let Some(url) = protocol.url(cache, path) else { continue };
            let before = (cache.process.cpu()?, machine_cpu()?);
            let count = protocol.run(folder, &url, more, if round == 0 { 1 } else { arguments.seconds })?;
            let (cpu, machine) = (cache.process.cpu()?.since(before.0), machine_cpu()? - before.1);
            if round > 0 {
                own.push((cpu.user + cpu.system) * 1e6 / count);
                all.push(machine * 1e6 / count);
            }
        }
    }
    say(&format!("| {name} | {} | {} |", columns(own), columns(all)));
    Ok(())
}

/// What an answer that is not kept costs, beside one that goes by no cache; turn by turn.
fn not_kept(
    arguments: &Arguments,
    folder: &Path,
    (name, paths, more): (&str, [&str; 2], &[&str]),
    copal: &Cache,
) -> anyhow::Result<()> {
    let title = format!("an answer that is not kept, {name}");
    if arguments.row.as_ref().is_some_and(|wanted| !title.contains(wanted)) {
        return Ok(());
    }
    let mut spent = [Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds {
        for (path, spent) in paths.iter().zip(&mut spent) {
            let url = Protocol::Http1.url(copal, path).context("copal listens")?;
            let before = copal.process.cpu()?;
            let count = Protocol::Http1.run(folder, &url, more, arguments.seconds)?;
            let cpu = copal.process.cpu()?.since(before);
            spent.push((cpu.user + cpu.system) * 1e6 / count);
        }
    }
    let [without, with] = spent.map(median);
    say(&format!("copal: {title}: {with:.2} CPU µs, without a cache {without:.2}: {:.3}", with / without));
    Ok(())
}

/// The cost of each, Copal's first, and that as a ratio with the best of the others.
fn columns(spent: Vec<Vec<f64>>) -> String {
    let costs: Vec<f64> = spent.into_iter().map(median).collect();
    let best = costs[1..].iter().copied().filter(|it| it.is_finite()).fold(f64::INFINITY, f64::min);
    let shown: Vec<String> =
        costs.iter().map(|it| if it.is_finite() { format!("{it:.2}") } else { "–".to_owned() }).collect();
    format!("{} | {:.2}", shown.join(" | "), costs[0] / best)
}

fn prepare(peers: &Path, folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(peers).with_context(|| format!("--peers {}", peers.display()))? {
        let path = entry?.path();
        fs::copy(&path, folder.join(path.file_name().context("a file has a name")?))?;
    }
    fs::create_dir(folder.join("www"))?;
    for (name, length) in BODIES {
        fs::write(folder.join("www").join(name), vec![b'x'; length])?;
    }
    for (name, length) in OTHERS {
        // Neither random nor all the same.
        let words = (0_u32..).map(|it| format!("{} ", it.wrapping_mul(2_654_435_761) % 3000));
        let mut text = String::new();
        words.take(length / 2).for_each(|it| text.push_str(&it));
        text.truncate(length);
        fs::write(folder.join("www").join(name), text)?;
    }
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
                .split(' '),
        )
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .context("openssl can't be started: is it installed?")?;
    ensure!(made.status.success(), "openssl makes no certificate");
    // Workers of a peer may run as somebody else.
    Command::new("chmod").args(["-R", "a+rX"]).arg(folder).status()?;
    Ok(())
}

/// Starts a program, and waits until it listens.
fn begin(
    folder: &Path,
    program: &Path,
    arguments: &str,
    core: Option<usize>,
    port: u16,
    name: &str,
) -> anyhow::Result<Process> {
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let log = folder.join(format!("{name}.log"));
    let mut process = Process::start_in(folder, program, &arguments, core, &log)?;
    process
        .listening(SocketAddr::from(([127, 0, 0, 1], port)))
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok(process)
}

/// What a hit costs two workers on two cores, which share them with the load, beside one worker on one; and the memory of these two.
fn two_workers(arguments: &Arguments, folder: &Path, copal: &Path, one: &Cache) -> anyhow::Result<()> {
    let title = "two workers";
    if arguments.row.as_ref().is_some_and(|wanted| !title.contains(wanted)) {
        return Ok(());
    }
    let config = fs::read_to_string(folder.join("copal.yaml"))?;
    let config = config.replace("workers: 1", "workers: 2").replace("port: 177", "port: 178");
    fs::write(folder.join("copal-two.yaml"), config.replace("data-dir: data", "data-dir: data-two"))?;
    let two = begin(folder, copal, "start --conf copal-two.yaml --server web-a", None, 17820, "copal-two")?;
    for (body, _) in BODIES.into_iter().take(2) {
        let mut spent = [Vec::new(), Vec::new()];
        // The first turn warms up.
        for round in 0..=arguments.rounds {
            let runs = [(&one.process, one.port, (LOAD_CORE, "-t1")), (&two, 17810, ("0,1", "-t2"))];
            for ((process, port, load), spent) in runs.into_iter().zip(&mut spent) {
                let url = format!("http://127.0.0.1:{port}/{body}");
                let before = process.cpu()?;
                let count = Protocol::Http1.run_on(load, folder, &url, &[], arguments.seconds)?;
                let cpu = process.cpu()?.since(before);
                if round > 0 {
                    spent.push((cpu.user + cpu.system) * 1e6 / count);
                }
            }
        }
        let [one, two] = spent.map(median);
        say(&format!(
            "copal: {title} on two cores, {body}: {two:.2} CPU µs a hit, of one on one core {one:.2}: twice the cores bring {:.2} times as many",
            2.0 * one / two
        ));
    }
    memory(&two, 17810)
}

fn start(copal: &Path, folder: &Path) -> anyhow::Result<(Process, Vec<Cache>)> {
    let shown = folder.display();
    let nginx = |file: &str| format!("-p {shown} -e stderr -c {shown}/{file}");
    let origin = begin(folder, Path::new("nginx"), &nginx("origin.conf"), Some(1), 17700, "origin")?;
    let varnish =
        format!("-F -j none -n {shown}/varnish -a 127.0.0.1:17712 -f {shown}/varnish.vcl -s malloc,256m");
    let cache =
        |name, port, tls_port: Option<u16>, program: &Path, arguments: &str| -> anyhow::Result<Cache> {
            let last_port = tls_port.unwrap_or(port);
            let process = begin(folder, program, arguments, Some(CACHE_CORE), last_port, name)?;
            let resident_at_start = process.resident_bytes()?;
            Ok(Cache { name, port, tls_port, process, resident_at_start })
        };
    let caches = vec![
        cache("copal", 17710, Some(17720), copal, "start --conf copal.yaml --server web-a")?,
        cache("nginx", 17711, Some(17721), Path::new("nginx"), &nginx("nginx.conf"))?,
        cache("varnish", 17712, None, Path::new("varnishd"), &varnish)?,
    ];
    Ok((origin, caches))
}
