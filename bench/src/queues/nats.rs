//! NATS JetStream: a stream of three replicas that is a work queue, over its own text protocol. Its servers answer before they
//! sync, which they do every two minutes: what is acknowledged is in the memory of a majority, and not on its disks. From 2.10 on
//! they can be told to sync first; Debian's 2.9.10 can't.

use super::{Broker, DEADLINE};
use crate::process::{NotInstalled, Process, not_installed};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

/// Messages that are asked for at a time.
const BATCH: usize = 500;

pub(super) struct Nats {
    commands: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>,
    next: AtomicU64,
    delivered: Mutex<Option<mpsc::UnboundedReceiver<(String, Bytes)>>>,
}

/// With servers that sync before they answer.
pub(super) async fn start_synced(program: &Path, folder: &Path) -> anyhow::Result<(Arc<Nats>, Vec<Process>)> {
    let version = Command::new(program).arg("--version").output();
    let version = version.map_err(|error| not_installed(error, &program.display().to_string()))?;
    // nats-server: v2.10.1
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.trim().rsplit('v').next().unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    let (Some(Ok(major)), Some(Ok(minor))) = (major, minor) else {
        bail!("nats-server --version: {version:?}, expected a number like v2.10.0")
    };
    if (major, minor) < (2, 10) {
        bail!(NotInstalled(format!("nats-server 2.10 or later (this is {version})")));
    }
    start(program, "sync_interval: always", folder).await
}

/// `stored`: what else its configuration says of the store.
pub(super) async fn start(
    program: &Path,
    stored: &str,
    folder: &Path,
) -> anyhow::Result<(Arc<Nats>, Vec<Process>)> {
    let routes = "nats://127.0.0.1:26930,nats://127.0.0.1:26931,nats://127.0.0.1:26932";
    let mut processes = Vec::new();
    for n in 0..3_u16 {
        let store = folder.join(format!("nats-{n}"));
        let file = folder.join(format!("nats-{n}.conf"));
        fs::write(
            &file,
            format!(
                "server_name: n{n}\nlisten: 127.0.0.1:{}\njetstream {{ store_dir: \"{}\"\n{stored} }}\n\
                 cluster {{ name: c, listen: 127.0.0.1:{}, routes: [{routes}] }}\n",
                26920 + n,
                store.display(),
                26930 + n
            ),
        )?;
        let words = ["-c", &file.to_string_lossy()];
        let log = folder.join(format!("nats-{n}.log"));
        processes.push(Process::start(program, &words, None, &log)?);
    }
    for (n, process) in (0..).zip(&mut processes) {
        process.listening(SocketAddr::from(([127, 0, 0, 1], 26920 + n)))?;
    }
    let nats = connect().await?;
    let stream = r#"{"name":"B","subjects":["b"],"retention":"workqueue","storage":"file","num_replicas":3}"#;
    // The servers elect one first.
    let start = Instant::now();
    loop {
        let made = nats.request("$JS.API.STREAM.CREATE.B", stream.as_bytes()).await;
        if made.as_ref().is_ok_and(|it| !contains(it, "\"error\"")) {
            break;
        }
        ensure!(start.elapsed() < 2 * DEADLINE, "no stream: {made:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok((nats, processes))
}

fn contains(text: &[u8], part: &str) -> bool {
    String::from_utf8_lossy(text).contains(part)
}

async fn connect() -> anyhow::Result<Arc<Nats>> {
    let stream = TcpStream::connect("127.0.0.1:26920").await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let (commands, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(mut command) = queue.recv().await {
            while let Ok(more) = queue.try_recv() {
                command.extend_from_slice(&more);
            }
            if write.write_all(&command).await.is_err() {
                return;
            }
        }
    });
    commands.send(
        b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB i.* 1\r\nSUB d 2\r\n"
            .to_vec(),
    )?;
    let waiting = Arc::<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>::default();
    let (delivering, delivered) = mpsc::unbounded_channel();
    tokio::spawn(read_all(BufReader::new(read), waiting.clone(), commands.clone(), delivering));
    let delivered = Mutex::new(Some(delivered));
    Ok(Arc::new(Nats { commands, waiting, next: AtomicU64::new(1), delivered }))
}

/// Passes on what the server says, until it closes.
async fn read_all(
    mut read: BufReader<tokio::net::tcp::OwnedReadHalf>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>,
    commands: mpsc::UnboundedSender<Vec<u8>>,
    delivering: mpsc::UnboundedSender<(String, Bytes)>,
) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        // MSG subject sid [reply] length, HMSG subject sid [reply] head length
        let Some((&verb, &subject, &length)) = (match words[..] {
            [ref verb @ ("MSG" | "HMSG"), ref subject, .., ref length] => Some((verb, subject, length)),
            _ => None,
        }) else {
            if words.first() == Some(&"PING") {
                commands.send(b"PONG\r\n".to_vec())?;
            }
            continue;
        };
        let head: usize = if verb == "HMSG" { words[words.len() - 2].parse()? } else { 0 };
        let with_reply = if verb == "HMSG" { 6 } else { 5 };
        let reply = if words.len() == with_reply { words[3] } else { "" };
        let mut body = vec![0; length.parse::<usize>()? + 2];
        read.read_exact(&mut body).await?;
        body.truncate(body.len() - 2);
        let body = Bytes::from(body).slice(head..);
        if let Some(number) = subject.strip_prefix("i.").and_then(|it| it.parse().ok()) {
            let waiter = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            if let Some(waiter) = waiter {
                let _gone = waiter.send(body);
            }
        } else {
            delivering.send((reply.to_owned(), body))?;
        }
    }
}

impl Nats {
    async fn request(&self, subject: &str, body: &[u8]) -> anyhow::Result<Bytes> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        let mut command = format!("PUB {subject} i.{number} {}\r\n", body.len()).into_bytes();
        command.extend_from_slice(body);
        command.extend_from_slice(b"\r\n");
        self.commands.send(command)?;
        Ok(tokio::time::timeout(Duration::from_secs(5), answer).await??)
    }
}

impl Broker for Nats {
    async fn publish(&self, _lane: usize, body: Bytes) -> anyhow::Result<()> {
        let answer = self.request("b", &body).await?;
        match contains(&answer, "\"seq\"") {
            true => Ok(()),
            false => bail!("{}", String::from_utf8_lossy(&answer)),
        }
    }

    async fn consume(self: &Arc<Self>, handled: mpsc::UnboundedSender<Bytes>) -> anyhow::Result<()> {
        let consumer = r#"{"stream_name":"B","config":{"durable_name":"C","ack_policy":"explicit","max_ack_pending":512,"ack_wait":60000000000}}"#;
        let made = self.request("$JS.API.CONSUMER.DURABLE.CREATE.B.C", consumer.as_bytes()).await?;
        ensure!(!contains(&made, "\"error\""), "no consumer: {}", String::from_utf8_lossy(&made));
        let delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut delivered = delivered.context("it has one consumer alone")?;
        let more = format!("{{\"batch\":{BATCH}}}");
        let more = format!("PUB $JS.API.CONSUMER.MSG.NEXT.B.C d {}\r\n{more}\r\n", more.len()).into_bytes();
        let nats = self.clone();
        nats.commands.send(more.clone())?;
        tokio::spawn(async move {
            let mut asked = BATCH;
            while let Some((reply, body)) = delivered.recv().await {
                asked -= 1;
                if asked < BATCH / 2 {
                    asked += BATCH;
                    if nats.commands.send(more.clone()).is_err() {
                        return;
                    }
                }
                let (nats, handled) = (nats.clone(), handled.clone());
                tokio::spawn(async move {
                    if body.first() == Some(&b'i') {
                        let _over = handled.send(body.clone());
                    }
                    // Answered when it is replicated.
                    let settled = nats.request(&reply, b"+ACK").await;
                    if settled.is_ok() && body.first() != Some(&b'i') {
                        let _over = handled.send(body);
                    }
                });
            }
        });
        Ok(())
    }
}
