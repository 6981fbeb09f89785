//! The app services as an app's process meets them: reads of a near copy over the local API's HTTP beside Redis' GET, one at a time, turn by turn in
//! one run. The client is the same loop for all: a blocking socket, a request of fixed bytes, and the answer read to its end. (Writes that are on
//! disk on a majority are measured by `bench hub --what put` and `--what increment`.)

use crate::{backend::content_length, median, process::Process, say};
use anyhow::{Context, bail, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Longer than a start takes.
const START_MAX: Duration = Duration::from_secs(60);

/// Longer than an answer takes.
const ANSWER_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// Turns of each
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Reads of a turn
    #[arg(long, default_value_t = 20_000)]
    reads: usize,
    /// Bytes of the value
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
    /// Is added to the demo's ports
    #[arg(long, default_value_t = 2200)]
    port_offset: u16,
    /// Redis' port
    #[arg(long, default_value_t = 26_900)]
    redis_port: u16,
    /// Data is kept under this folder
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// How an app's process reaches its server.
struct Way {
    tcp: String,
    socket: String,
    token: String,
}

/// One who is asked the same thing again and again.
struct Reader {
    name: &'static str,
    stream: Box<dyn Stream>,
    request: Vec<u8>,
    /// All of them are as long as the first one.
    answer: usize,
    /// Microseconds: of each turn, the middle and the 99th of 100.
    turns: Vec<(f64, f64)>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let offset = arguments.port_offset.to_string();
    let data = folder.path().join("demo").to_string_lossy().into_owned();
    let flags = ["demo", "--processes", "--data-dir", &data, "--port-offset", &offset];
    let demo = Process::start(&arguments.copal, &flags, None, &folder.path().join("demo.log"))?;
    let port = arguments.redis_port.to_string();
    let flags = ["--port", &port, "--save", "", "--appendonly", "no"];
    let mut redis =
        Process::start(Path::new("redis-server"), &flags, None, &folder.path().join("redis.log"))?;
    let at = SocketAddr::from(([127, 0, 0, 1], arguments.redis_port));
    redis.listening(at)?;
    let way = way(&demo)?;
    let value = "v".repeat(arguments.bytes);
    let (get, tcp, unix) =
        (TcpStream::connect(at)?, TcpStream::connect(&way.tcp)?, UnixStream::connect(&way.socket)?);
    for stream in [&get, &tcp] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
    }
    unix.set_read_timeout(Some(ANSWER_MAX))?;
    let mut readers = [
        Reader::redis(get, &value)?,
        Reader::copal("near read, TCP", tcp, &way.token, &value)?,
        Reader::copal("near read, Unix socket", unix, &way.token, &value)?,
    ];
    for round in 0..=arguments.rounds {
        for reader in &mut readers {
            let turn = reader.turn(arguments.reads)?;
            // The first one warms up.
            if round > 0 {
                reader.turns.push(turn);
            }
        }
    }
    say(&format!("| {} B, one at a time | p50 µs | p99 µs | p50 beside Redis |", arguments.bytes));
    say("|---|---|---|---|");
    let base: Vec<f64> =
        readers.first().map(|it| it.turns.iter().map(|turn| turn.0).collect()).context("Redis")?;
    for reader in &readers {
        let (middle, late): (Vec<f64>, Vec<f64>) = reader.turns.iter().copied().unzip();
        let ratio = median(middle.iter().zip(&base).map(|(it, base)| it / base).collect());
        say(&format!("| {} | {:.1} | {:.1} | {ratio:.2} |", reader.name, median(middle), median(late)));
    }
    Ok(())
}

/// From the environment of an app's process that the demo has started.
fn way(demo: &Process) -> anyhow::Result<Way> {
    let began = Instant::now();
    while began.elapsed() < START_MAX {
        for pid in descendants(demo.id()) {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let variable = |name: &str| {
                let is_it = |it: &&[u8]| it.starts_with(name.as_bytes()) && it.get(name.len()) == Some(&b'=');
                let found = environment.split(|byte| *byte == 0).find(is_it)?;
                Some(String::from_utf8_lossy(found.get(name.len() + 1..)?).into_owned())
            };
            if let (Some(url), Some(socket), Some(token)) =
                (variable("COPAL_API"), variable("COPAL_HUB"), variable("COPAL_TOKEN"))
            {
                let tcp = url.trim_start_matches("http://").to_owned();
                return Ok(Way { tcp, socket, token });
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the demo has started no app within {START_MAX:?}")
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    // Each thread has children of its own.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    for child in found.clone() {
        found.extend(descendants(child));
    }
    found
}

impl Reader {
    fn redis(mut stream: TcpStream, value: &str) -> anyhow::Result<Self> {
        write!(stream, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len())?;
        let mut stored = [0; 5];
        stream.read_exact(&mut stored)?;
        ensure!(&stored == b"+OK\r\n", "Redis has not stored it");
        let request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec();
        let answer = format!("${}\r\n{value}\r\n", value.len());
        Self::new("Redis GET, TCP", Box::new(stream), request, |read| read == answer.as_bytes())
    }

    fn copal(
        name: &'static str,
        mut stream: impl Stream + 'static,
        token: &str,
        value: &str,
    ) -> anyhow::Result<Self> {
        let head = |method: &str| {
            format!(
                "{method} /v1/caches/bench/k HTTP/1.1\r\nhost: copal\r\nauthorization: Bearer {token}\r\n"
            )
        };
        // The hub may still be electing.
        let began = Instant::now();
        loop {
            write!(stream, "{}content-length: {}\r\n\r\n{value}", head("PUT"), value.len())?;
            let answer = whole(&mut stream, is_whole)?;
            if answer.starts_with(b"HTTP/1.1 2") {
                break;
            }
            ensure!(began.elapsed() < START_MAX, "PUT: {}", String::from_utf8_lossy(&answer));
            thread::sleep(Duration::from_millis(100));
        }
        let request = format!("{}\r\n", head("GET")).into_bytes();
        // What was read once is near, as soon as the hub is heard.
        let is_near = |read: &[u8]| read.windows(19).any(|it| it == b"x-copal-cache: near");
        loop {
            stream.write_all(&request)?;
            if is_near(&whole(&mut stream, is_whole)?) {
                break;
            }
            ensure!(began.elapsed() < START_MAX, "it does not come near");
            thread::sleep(Duration::from_millis(10));
        }
        Self::new(name, Box::new(stream), request, is_whole)
    }

    fn new(
        name: &'static str,
        mut stream: Box<dyn Stream>,
        request: Vec<u8>,
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> anyhow::Result<Self> {
        stream.write_all(&request)?;
        let answer = whole(&mut stream, is_whole)?.len();
        Ok(Self { name, stream, request, answer, turns: Vec::new() })
    }

    fn turn(&mut self, reads: usize) -> anyhow::Result<(f64, f64)> {
        let mut took = Vec::with_capacity(reads);
        let mut answer = vec![0; self.answer];
        for _ in 0..reads {
            let began = Instant::now();
            self.stream.write_all(&self.request)?;
            self.stream.read_exact(&mut answer)?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        took.sort_by(f64::total_cmp);
        let at = |part: f64| took.get((reads as f64 * part) as usize).copied().unwrap_or(f64::NAN);
        Ok((at(0.5), at(0.99)))
    }
}

/// Reads until `is_whole`.
fn whole(stream: &mut impl Read, is_whole: impl Fn(&[u8]) -> bool) -> anyhow::Result<Vec<u8>> {
    let (mut read, mut buffer) = (Vec::new(), [0; 16_384]);
    while !is_whole(&read) {
        let more = stream.read(&mut buffer)?;
        ensure!(more > 0, "closed after {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(buffer.get(..more).unwrap_or_default());
    }
    Ok(read)
}

/// Whether an answer of HTTP/1.1 has come to its end.
fn is_whole(read: &[u8]) -> bool {
    let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(read.get(..end).unwrap_or_default());
    read.len() >= end + 4 + content_length(&head).unwrap_or(0)
}
