//! Acknowledged session saves of 1 KB a second, beside etcd's puts of the same size: three processes each on this machine,
//! fsync on, one client process.

use crate::{
    etcd::{self, Etcd},
    median,
    process::Process,
    say,
};
use anyhow::Context;
use bytes::Bytes;
use cluster_port::{ClusterKey, Credentials};
use common::config::{ClusterEncryption, Secret};
use proto::hub::v1::{
    CacheIncrement, CachePut, CacheValue, CacheWrite, SaveSession, SessionKey, cache_outcome, cache_write,
    session_outcome::Outcome, session_write::Write,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use triad_client::{CacheWriter, Hub, HubConfig};

const VALUE: usize = 1024;

/// No single write may take longer.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// The folder of the peers' configurations
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// Runs; the table shows their median
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds a run
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Writes in flight
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    in_flight: Vec<usize>,
    /// What is written: `save` a session, `put` a value into a cache, or `increment` a number in one
    #[arg(long, default_value = "save")]
    what: What,
    /// Measures this alone: `copal`, `copal-encrypted` or `etcd`
    #[arg(long)]
    only: Option<String>,
    /// Data is kept under this folder, which decides which disk is synced
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// What is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    Save,
    Put,
    Increment,
}

/// A store to measure.
enum Contender {
    Copal(Hub, CacheWriter, What),
    Etcd(Etcd, What),
}

impl Contender {
    /// One acknowledged write by writer `n`, its `round`th.
    async fn write(&self, n: usize, round: u64, value: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Copal(_, caches, What::Put) => {
                let value = CacheValue { value, ..CacheValue::default() };
                let put = CachePut { key: format!("bench{n}"), value: Some(value), condition: None };
                cached(caches, cache_write::Write::Put(put)).await
            }
            Self::Copal(_, caches, What::Increment) => {
                let increment =
                    CacheIncrement { key: format!("bench{n}"), by: 1, ..CacheIncrement::default() };
                cached(caches, cache_write::Write::Increment(increment)).await
            }
            Self::Copal(hub, _, What::Save) => {
                let save = SaveSession {
                    key: Some(SessionKey { app: "bench|".into(), id: format!("aaBench{n}") }),
                    base_version: round,
                    save_id: rand::random(),
                    set: HashMap::from([("value".to_owned(), value)]),
                    removed: Vec::new(),
                    owner: "bench".into(),
                    timeout_ms: 0,
                };
                match hub.write(Write::Save(save), DEADLINE).await? {
                    Outcome::Version(_) => Ok(()),
                    other => anyhow::bail!("writer {n} round {round}: {other:?}"),
                }
            }
            // The nearest that there is: a transaction that puts the next number if nobody else has.
            Self::Etcd(etcd, What::Increment) => etcd.increment(format!("bench{n}").into(), round).await,
            Self::Etcd(etcd, What::Save | What::Put) => etcd.put(format!("bench{n}").into(), value).await,
        }
    }
}

async fn cached(caches: &CacheWriter, write: cache_write::Write) -> anyhow::Result<()> {
    let write = CacheWrite { cache: "bench".into(), fence: None, write: Some(write) };
    match caches.write(write, DEADLINE).await? {
        cache_outcome::Outcome::Stored(_) | cache_outcome::Outcome::Number(_) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Writes a second, median and 99th percentile of the wait.
type Figures = (f64, Duration, Duration);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    say("| store | in flight | writes/s | p50 | p99 |");
    say("|---|---|---|---|---|");
    for in_flight in &arguments.in_flight {
        for name in ["copal", "copal-encrypted", "etcd"] {
            if arguments.only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let mut runs = Vec::new();
            for _ in 0..arguments.runs {
                runs.push(runtime.block_on(measure(arguments, name, *in_flight))?);
            }
            let rate = median(runs.iter().map(|(rate, _, _)| *rate).collect());
            let p50 = median(runs.iter().map(|(_, p50, _)| p50.as_secs_f64()).collect()) * 1e3;
            let p99 = median(runs.iter().map(|(_, _, p99)| p99.as_secs_f64()).collect()) * 1e3;
            say(&format!("| {name} | {in_flight} | {rate:.0} | {p50:.2} ms | {p99:.2} ms |"));
        }
    }
    Ok(())
}

async fn measure(arguments: &Arguments, name: &str, in_flight: usize) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let (contender, _processes) = match name {
        "copal" => start_copal(arguments, folder.path(), ClusterEncryption::BeyondLoopback).await?,
        "copal-encrypted" => start_copal(arguments, folder.path(), ClusterEncryption::Always).await?,
        _ => {
            let (etcd, processes) = etcd::start(folder.path()).await?;
            (Contender::Etcd(etcd, arguments.what), processes)
        }
    };
    let contender = Arc::new(contender);
    load(&contender, in_flight, Duration::from_secs(1), "warm").await?;
    load(&contender, in_flight, Duration::from_secs(arguments.seconds), "run").await
}

async fn load(
    contender: &Arc<Contender>,
    in_flight: usize,
    time: Duration,
    name: &str,
) -> anyhow::Result<Figures> {
    let offset = if name == "warm" { 1_000_000 } else { 0 };
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for n in 0..in_flight {
        let contender = contender.clone();
        writers.spawn(async move {
            let value = Bytes::from(vec![b'v'; VALUE]);
            let mut waits = Vec::new();
            while start.elapsed() < time {
                let before = Instant::now();
                contender.write(offset + n, waits.len() as u64, value.clone()).await?;
                waits.push(before.elapsed());
            }
            anyhow::Ok(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(writer) = writers.join_next().await {
        waits.extend(writer??);
    }
    let elapsed = start.elapsed();
    waits.sort_unstable();
    let at = |share: usize| {
        waits.get((waits.len() * share / 100).min(waits.len() - 1)).copied().unwrap_or_default()
    };
    Ok((waits.len() as f64 / elapsed.as_secs_f64(), at(50), at(99)))
}

async fn start_copal(
    arguments: &Arguments,
    folder: &Path,
    encryption: ClusterEncryption,
) -> anyhow::Result<(Contender, Vec<Process>)> {
    let encrypted = encryption == ClusterEncryption::Always;
    let file = arguments.peers.join(if encrypted { "hub-encrypted.yaml" } else { "hub.yaml" });
    let (file, data) = (file.to_string_lossy().into_owned(), folder.to_string_lossy().into_owned());
    let servers = [("hub-a", 26800), ("hub-b", 26801), ("hub-c", 26802)];
    let mut processes = Vec::new();
    for (id, _) in servers {
        let words = ["start", "--conf", &file, "--server", id, "--data-dir", &data];
        processes.push(Process::start(&arguments.copal, &words, None, &folder.join(format!("{id}.log")))?);
    }
    let hub = Hub::new(HubConfig {
        me: "bench".into(),
        credentials: Credentials::new(ClusterKey::new(&Secret::default()), encryption),
        servers: servers.iter().map(|(id, port)| ((*id).into(), format!("127.0.0.1:{port}"))).collect(),
    });
    hub.leader(DEADLINE).await.context("the hub elects a leader")?;
    let caches = hub.cache_writer(1);
    Ok((Contender::Copal(hub, caches, arguments.what), processes))
}
