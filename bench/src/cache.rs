//! What a kept answer costs: CPU time of Copal, nginx and Varnish for each hit, each on one core, turn by turn in one run.

use crate::{
    median,
    process::Process,
    proxy::{h2load_count, wrk_count},
    say,
};
use anyhow::{Context, bail, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the caches run, and where the load does.
const CACHE_CORE: usize = 0;
const LOAD_CORE: &str = "1";

/// Bodies, by their names and lengths.
const BODIES: [(&str, usize); 3] = [("100B", 100), ("10KB", 10 << 10), ("1MB", 1 << 20)];

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
    fn run(self, url: &str, seconds: u32) -> anyhow::Result<f64> {
        let duration = if self == Self::Http2 { seconds.to_string() } else { format!("{seconds}s") };
        let (program, arguments) = match self {
            Self::Http2 => ("h2load", ["-t1", "-c4", "-m100", "-D"]),
            _ => ("wrk", ["-t1", "-c64", "--timeout", "10s"]),
        };
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CORE, program]).args(arguments);
        if self != Self::Http2 {
            command.arg("-d");
        }
        let output = command.arg(duration).arg(url).output().context(program)?;
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
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let folder = fs::canonicalize(folder.path())?;
    prepare(&arguments.peers, &folder)?;
    let (_origin, caches) = start(&fs::canonicalize(&arguments.copal)?, &folder)?;
    say("| CPU µs a hit | copal | nginx | varnish | copal to the best |");
    say("|---|---|---|---|---|");
    for protocol in [Protocol::Http1, Protocol::Tls, Protocol::Http2] {
        for (body, _) in BODIES {
            row(arguments, protocol, body, &caches)?;
        }
    }
    for cache in &caches {
        say(&format!(
            "{}: {:.0} MiB resident",
            cache.name,
            cache.process.resident_bytes()? / f64::from(1 << 20)
        ));
    }
    drop(caches);
    fs::remove_dir_all(folder).ok();
    Ok(())
}

fn row(arguments: &Arguments, protocol: Protocol, body: &str, caches: &[Cache]) -> anyhow::Result<()> {
    let mut spent: Vec<Vec<f64>> = vec![Vec::new(); caches.len()];
    // The first turn warms up.
    for round in 0..=arguments.rounds {
        for (cache, spent) in caches.iter().zip(&mut spent) {
            let Some(url) = protocol.url(cache, body) else { continue };
            let before = cache.process.cpu()?;
            let count = protocol.run(&url, if round == 0 { 1 } else { arguments.seconds })?;
            let cpu = cache.process.cpu()?.since(before);
            if round > 0 {
                spent.push((cpu.user + cpu.system) * 1e6 / count);
            }
        }
    }
    let costs: Vec<f64> = spent.into_iter().map(median).collect();
    let best = costs[1..].iter().copied().filter(|it| it.is_finite()).fold(f64::INFINITY, f64::min);
    let shown: Vec<String> =
        costs.iter().map(|it| if it.is_finite() { format!("{it:.2}") } else { "–".to_owned() }).collect();
    say(&format!("| {body}, {} | {} | {:.2} |", protocol.name(), shown.join(" | "), costs[0] / best));
    Ok(())
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

fn start(copal: &Path, folder: &Path) -> anyhow::Result<(Process, Vec<Cache>)> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let shown = folder.display();
    let begin =
        |program: &Path, arguments: String, core: usize, port: u16, name: &str| -> anyhow::Result<Process> {
            let log = folder.join(format!("{name}.log"));
            let mut process = Process::start_in(folder, program, &words(&arguments), core, &log)?;
            process
                .listening(SocketAddr::from(([127, 0, 0, 1], port)))
                .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
            Ok(process)
        };
    let nginx = |file: &str| format!("-p {shown} -e stderr -c {shown}/{file}");
    let origin = begin(Path::new("nginx"), nginx("origin.conf"), 1, 17700, "origin")?;
    let varnish =
        format!("-F -j none -n {shown}/varnish -a 127.0.0.1:17712 -f {shown}/varnish.vcl -s malloc,256m");
    let caches = vec![
        Cache {
            name: "copal",
            port: 17710,
            tls_port: Some(17720),
            process: begin(
                copal,
                "start --conf copal.yaml --server web-a".to_owned(),
                CACHE_CORE,
                17720,
                "copal",
            )?,
        },
        Cache {
            name: "nginx",
            port: 17711,
            tls_port: Some(17721),
            process: begin(Path::new("nginx"), nginx("nginx.conf"), CACHE_CORE, 17721, "nginx")?,
        },
        Cache {
            name: "varnish",
            port: 17712,
            tls_port: None,
            process: begin(Path::new("varnishd"), varnish, CACHE_CORE, 17712, "varnish")?,
        },
    ];
    Ok((origin, caches))
}
