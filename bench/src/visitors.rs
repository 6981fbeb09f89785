//! Visitors without a cookie, who come once and never again, against a hub with little memory: that it stays up, and that users who
//! have a session keep it, also through a crash of all its servers.

use crate::{process::Process, say};
use anyhow::{Context, ensure};
use bytes::Bytes;
use cluster_port::{ClusterKey, Credentials};
use common::{
    config::{ClusterEncryption, Secret},
    id::ServerId,
};
use proto::hub::v1::{
    SaveSession, SessionKey, SessionWrite, TouchSession, WriteSessions, session_outcome::Outcome,
    session_write::Write, sessions_client::SessionsClient,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use triad_client::{Hub, HubConfig};

/// No single call may take longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// An unoptimised build takes a while to read a gigabyte back.
const START: Duration = Duration::from_secs(180);

/// Visitors whose sessions are saved by one call, as an app server does when so many wait.
const BATCH: u64 = 1000;

/// As an app server says it: half an hour and a tenth.
const TIMEOUT_MS: u64 = 33 * 60 * 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// The folder of the peers' configurations
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// Visitors, each of whom makes a session
    #[arg(long, default_value_t = 2_000_000)]
    visitors: u64,
    /// Users who were there before, and go on
    #[arg(long, default_value_t = 1000)]
    users: u64,
    /// `session-memory-max` of the hub's servers
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Servers of the hub: 1 or 3
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Calls at the same time, each for a thousand visitors who wait
    #[arg(long, default_value_t = 3)]
    in_flight: usize,
    /// Data is kept under this folder
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// What became of the visitors.
#[derive(Debug, Default)]
struct Visits {
    next: AtomicU64,
    made: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    over: AtomicBool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let mut processes = start(arguments, folder.path())?;
    let hub = client(arguments);
    hub.leader(DEADLINE).await.context("the hub elects a leader")?;
    let mut versions = Vec::new();
    for user in 0..arguments.users {
        versions.push(save(&hub, &format!("user-{user}"), 0, &["first"; 10].concat()).await?);
        let touch = TouchSession { key: key(&format!("user-{user}")) };
        hub.write(Write::Touch(touch), DEADLINE).await?;
    }
    let (visits, began) = (Arc::new(Visits::default()), Instant::now());
    let users = tokio::spawn(go_on(hub.clone(), versions, visits.clone()));
    come(&hub, arguments, &visits).await?;
    let took = began.elapsed();
    visits.over.store(true, Ordering::Relaxed);
    let Users { versions, saves, longest } = users.await??;
    say(
        "| visitors | in | with a session | without | failed | users' saves | slowest | memory of the hub's servers |",
    );
    say("|---|---|---|---|---|---|---|---|");
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (made, refused, failed) = (read(&visits.made), read(&visits.refused), read(&visits.failed));
    let resident = resident(&processes)?;
    say(&format!(
        "| {} | {took:.0?} | {made} | {refused} | {failed} | {saves} | {longest:.0?} | {resident} |",
        arguments.visitors
    ));
    processes.clear();
    processes.extend(start(arguments, folder.path())?);
    hub.leader(START).await.context("the hub elects a leader again")?;
    for (user, version) in (0..).zip(&versions) {
        let found = hub.load(session_key(&format!("user-{user}")), DEADLINE).await?.map(|it| it.version);
        ensure!(found == Some(*version), "user {user} has version {found:?} after the crash, had {version}");
    }
    say(&format!(
        "After a crash of all: {} users have their sessions; memory {}.",
        versions.len(),
        self::resident(&processes)?
    ));
    Ok(())
}

fn start(arguments: &Arguments, folder: &Path) -> anyhow::Result<Vec<Process>> {
    let peers = std::path::absolute(arguments.peers.join("hub.yaml"))?;
    let file = folder.join("copal.yaml");
    let ids: Vec<String> = servers(arguments).map(|(id, _)| id.to_string()).collect();
    let text = format!(
        "session-memory-max: {}\napp-session-memory-max: {}\ntriad: [{}]\nimport: {}\n",
        arguments.memory,
        arguments.memory,
        ids.join(", "),
        peers.display()
    );
    std::fs::write(&file, text)?;
    let (file, data) = (file.to_string_lossy().into_owned(), folder.to_string_lossy().into_owned());
    let started = ids.into_iter().map(|id| {
        let words = ["start", "--conf", &file, "--server", &id, "--data-dir", &data];
        Process::start(&arguments.copal, &words, None, &folder.join(format!("{id}.log")))
    });
    started.collect()
}

/// The hub's servers and where they are, as in `peers/hub.yaml`.
fn servers(arguments: &Arguments) -> impl Iterator<Item = (ServerId, String)> {
    let all = [("hub-a", 26800), ("hub-b", 26801), ("hub-c", 26802)];
    all.into_iter().take(arguments.servers).map(|(id, port)| (id.into(), format!("127.0.0.1:{port}")))
}

fn client(arguments: &Arguments) -> Hub {
    Hub::new(HubConfig {
        me: "bench".into(),
        credentials: credentials(),
        servers: servers(arguments).collect(),
    })
}

fn session_key(id: &str) -> SessionKey {
    SessionKey { app: "bench|".into(), id: format!("aa-{id:0>23}") }
}

fn key(id: &str) -> Option<SessionKey> {
    Some(session_key(id))
}

fn saving(id: &str, base_version: u64, value: &str) -> Write {
    Write::Save(SaveSession {
        key: key(id),
        base_version,
        save_id: rand::random(),
        set: HashMap::from([("basket".to_owned(), Bytes::copy_from_slice(value.as_bytes()))]),
        removed: Vec::new(),
        owner: "bench".into(),
        timeout_ms: TIMEOUT_MS,
    })
}

async fn save(hub: &Hub, id: &str, base_version: u64, value: &str) -> anyhow::Result<u64> {
    match hub.write(saving(id, base_version, value), DEADLINE).await? {
        Outcome::Version(version) => Ok(version),
        other => anyhow::bail!("{id}: {other:?}"),
    }
}

/// All visitors.
async fn come(hub: &Hub, arguments: &Arguments, visits: &Arc<Visits>) -> anyhow::Result<()> {
    let leader = hub.leader(DEADLINE).await?;
    let address = servers(arguments).find(|(id, _)| *id == leader).map(|(_, address)| address);
    let address = address.context("the leader is one of the servers")?;
    let leader = triad_client::channel(&"bench".into(), &credentials(), &leader, &address);
    let mut calls = JoinSet::new();
    let count = arguments.visitors;
    for _ in 0..arguments.in_flight {
        let (mut leader, visits) = (SessionsClient::new(leader.clone()), visits.clone());
        calls.spawn(async move {
            loop {
                let from = visits.next.fetch_add(BATCH, Ordering::Relaxed);
                if from >= count {
                    return;
                }
                let to = count.min(from + BATCH);
                let value = ["once"; 25].concat();
                let writes =
                    (from..to).map(|n| SessionWrite { write: Some(saving(&n.to_string(), 0, &value)) });
                let answer = leader.write(WriteSessions { writes: writes.collect() }).await;
                let outcomes = answer.map(|it| it.into_inner().outcomes).unwrap_or_default();
                visits.failed.fetch_add(to - from - outcomes.len() as u64, Ordering::Relaxed);
                for outcome in outcomes {
                    let counter = match outcome.outcome {
                        Some(Outcome::Version(_)) => &visits.made,
                        Some(Outcome::NoRoom(_)) => &visits.refused,
                        _ => &visits.failed,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call?;
    }
    Ok(())
}

/// How users fared.
struct Users {
    versions: Vec<u64>,
    saves: u64,
    longest: Duration,
}

/// Users save, one after the other, until the visitors have gone; once more then.
async fn go_on(hub: Hub, mut versions: Vec<u64>, visits: Arc<Visits>) -> anyhow::Result<Users> {
    let (mut saves, mut longest) = (0, Duration::ZERO);
    loop {
        let last = visits.over.load(Ordering::Relaxed);
        for (user, version) in versions.iter_mut().enumerate() {
            let before = Instant::now();
            *version = save(&hub, &format!("user-{user}"), *version, &["later"; 10].concat()).await?;
            longest = longest.max(before.elapsed());
            saves += 1;
        }
        if last {
            return Ok(Users { versions, saves, longest });
        }
    }
}

fn resident(processes: &[Process]) -> anyhow::Result<String> {
    let each = processes.iter().map(|it| Ok(format!("{:.0} MiB", it.resident_bytes()? / f64::from(1 << 20))));
    Ok(each.collect::<anyhow::Result<Vec<_>>>()?.join(", "))
}

fn credentials() -> Credentials {
    Credentials::new(ClusterKey::new(&Secret::default()), ClusterEncryption::default())
}
