//! An open-loop load: requests leave by a fixed schedule, whether answers come or not, and a latency counts from the instant at
//! which the request was due. A closed loop (wrk) sends less when the proxy is slow, and so hides what a user would wait.

use crate::{backend::content_length, say};
use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroU64,
    time::{Duration, Instant},
};

/// An answer takes no longer, or the run has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The schedule's first part is not counted: connections and caches warm up.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to send
    #[arg(long)]
    to: SocketAddr,
    /// Requests a second
    #[arg(long)]
    rate: f64,
    /// For so many seconds
    #[arg(long)]
    seconds: u64,
    /// Over so many connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// A header line of each request
    #[arg(long, default_value = "X-Bench: 1")]
    header: String,
}

/// Prints two numbers: the 50th and the 99th percentile in microseconds.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.rate.is_finite() || arguments.rate <= 0.0 || arguments.connections == 0 {
        bail!("--rate {} and --connections {}: expected more than 0", arguments.rate, arguments.connections);
    }
    // The kernel may otherwise sleep 50 µs longer than asked.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("timer slack")?;
    let mut load = Load::open(arguments)?;
    load.run(WARM_UP, Duration::from_secs(arguments.seconds))?;
    let mut latencies = load.latencies;
    latencies.sort_unstable();
    say(&format!("{:.1} {:.1}", micros(percentile(&latencies, 50)?), micros(percentile(&latencies, 99)?)));
    Ok(())
}

/// The value that `percent` of the sorted values do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> anyhow::Result<Duration> {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().context("no request was answered")
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The connections and their schedule.
struct Load {
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    request: Vec<u8>,
    interval: Duration,
    latencies: Vec<Duration>,
}

struct Connection {
    stream: TcpStream,
    /// When the request in flight was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

impl Load {
    fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..arguments.connections {
            let stream = TcpStream::connect(arguments.to)
                .with_context(|| format!("no connection to {}", arguments.to))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            connections.push(Connection { stream, due: None, answer: Vec::with_capacity(4096) });
        }
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n", arguments.to, arguments.header);
        Ok(Self {
            idle: (0..connections.len()).collect(),
            connections,
            request: request.into_bytes(),
            interval: Duration::from_secs_f64(1.0 / arguments.rate),
            latencies: Vec::new(),
        })
    }

    /// Sends for as long as this, after the warm-up, and waits for the last answers.
    fn run(&mut self, warm_up: Duration, time: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let (counted, end) = (start + warm_up, start + warm_up + time);
        let mut next = start;
        loop {
            let now = Instant::now();
            while next <= now && next < end {
                let Some(place) = self.idle.pop_front() else { break };
                self.send(place, next)?;
                next += self.interval;
            }
            if next >= end && self.idle.len() == self.connections.len() {
                return Ok(());
            }
            let until_next = next.saturating_duration_since(Instant::now());
            let may_send = next < end && !self.idle.is_empty();
            self.receive(if may_send { until_next } else { PATIENCE }, may_send, counted)?;
        }
    }

    fn send(&mut self, place: usize, due: Instant) -> anyhow::Result<()> {
        let connection = &mut self.connections[place];
        connection.due = Some(due);
        // A request fits into an idle connection's buffer.
        connection.stream.write_all(&self.request).context("a connection broke")
    }

    /// Waits for answers, for so long at most.
    fn receive(&mut self, wait: Duration, may_send: bool, counted: Instant) -> anyhow::Result<()> {
        let busy: Vec<_> =
            (0..self.connections.len()).filter(|it| self.connections[*it].due.is_some()).collect();
        let ready: Vec<usize> = {
            let mut sockets: Vec<_> =
                busy.iter().map(|it| PollFd::new(&self.connections[*it].stream, PollFlags::IN)).collect();
            let wait = rustix::event::Timespec::try_from(wait).context("a wait that is too long")?;
            let count = poll(&mut sockets, Some(&wait)).context("poll")?;
            if count == 0 && !may_send {
                bail!("no answer for {PATIENCE:?}");
            }
            let is_ready = |socket: &PollFd<'_>| !socket.revents().is_empty();
            busy.iter().zip(&sockets).filter(|(_, socket)| is_ready(socket)).map(|(it, _)| *it).collect()
        };
        for place in ready {
            let connection = &mut self.connections[place];
            if connection.is_answered()?
                && let Some(due) = connection.due.take()
            {
                if due >= counted {
                    self.latencies.push(due.elapsed());
                }
                self.idle.push_back(place);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Reads what there is; whether the answer is complete with it.
    fn is_answered(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("a connection was closed"),
            Ok(read) => self.answer.extend_from_slice(&bytes[..read]),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(cause) => return Err(cause).context("a connection broke"),
        }
        let complete = is_complete(&self.answer)?;
        if complete {
            self.answer.clear();
        }
        Ok(complete)
    }
}

/// Whether these are a head and the body that it announces.
fn is_complete(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..end]).context("an answer that is no text")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("answered {:?}", head.lines().next().unwrap_or_default());
    }
    let length = content_length(head).context("an answer without Content-Length")?;
    Ok(answer.len() >= end + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&values, 50).unwrap(), Duration::from_micros(100));
        assert_eq!(percentile(&values, 99).unwrap(), Duration::from_micros(198));
        assert_eq!(percentile(&values[..1], 99).unwrap(), Duration::from_micros(1));
        assert!(percentile(&[], 50).is_err());
    }

    #[test]
    fn an_answer_is_complete_with_its_body() {
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\n").unwrap());
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").unwrap());
        assert!(is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").unwrap());
        assert!(is_complete(b"HTTP/1.1 502 x\r\n\r\n").is_err());
    }

    #[test]
    fn every_request_of_the_schedule_is_sent_and_answered() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut count = 0;
            let mut bytes = [0; 4096];
            while stream.read(&mut bytes).unwrap() > 0 {
                count += 1;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
            count
        });
        let arguments = Arguments { to, rate: 1000.0, seconds: 0, connections: 1, header: "X: 1".to_owned() };
        let mut load = Load::open(&arguments).unwrap();
        load.run(Duration::from_millis(20), Duration::from_millis(30)).unwrap();
        let latencies = load.latencies.len();
        drop(load.connections);
        assert_eq!((server.join().unwrap(), latencies), (50, 30), "warm-up and all");
    }
}
