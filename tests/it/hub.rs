//! The hub under load and loss, by its own protocol.

use crate::{
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use bytes::Bytes;
use proto::hub::v1::{SaveSession, SessionKey, session_outcome::Outcome, session_write::Write};
use rustix::process::Signal;
use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};
use triad_client::Hub;

fn key(id: &str) -> SessionKey {
    SessionKey { app: "test|".into(), id: id.into() }
}

fn save(id: &str, base_version: u64, value: String) -> Write {
    Write::Save(SaveSession {
        key: Some(key(id)),
        base_version,
        save_id: rand::random(),
        set: HashMap::from([("count".to_owned(), Bytes::from(value))]),
        removed: Vec::new(),
        owner: "test".into(),
        timeout_ms: 0,
    })
}

/// Saves on and on; gives the last acknowledged version and the longest wait for one.
async fn saving(
    hub: Hub,
    id: String,
    stop: Arc<AtomicBool>,
    saved: Arc<AtomicU64>,
) -> (String, u64, Duration) {
    let (mut version, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        let outcome = hub.write(save(&id, version, (version + 1).to_string()), PATIENCE).await.unwrap();
        match outcome {
            Outcome::Version(new) => assert_eq!(new, version + 1, "{id}"),
            other => panic!("{id} at {version}: {other:?}"),
        }
        version += 1;
        longest = longest.max(before.elapsed());
        saved.fetch_add(1, Ordering::Relaxed);
    }
    (id, version, longest)
}

async fn progress(saved: &AtomicU64, more: u64) {
    let goal = saved.load(Ordering::Relaxed) + more;
    let waiting = async {
        while saved.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("saves go on");
}

/// Waits until a server's log has `text`.
async fn says(cluster: &Cluster, id: &str, text: &str) {
    let log = cluster.folder().join(format!("{id}.log"));
    let waiting = async {
        while !std::fs::read_to_string(&log).unwrap_or_default().contains(text) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{id} does not say {text:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_under_load_and_no_acknowledged_write_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let hub = cluster.hub();
    let (stop, saved): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        tasks.spawn(saving(hub.clone(), format!("aaSession{n}"), stop.clone(), saved.clone()));
    }
    progress(&saved, 500).await;
    let leader = hub.leader(PATIENCE).await.unwrap().to_string();
    cluster.kill(&leader).await;
    progress(&saved, 500).await;
    cluster.start_one(&leader).await;
    progress(&saved, 500).await;
    stop.store(true, Ordering::Relaxed);

    let mut longest = Duration::ZERO;
    for (id, version, wait) in tasks.join_all().await {
        let record = hub.load(key(&id), PATIENCE).await.unwrap().unwrap();
        assert_eq!(record.version, version, "{id}");
        assert_eq!(&record.attributes["count"][..], version.to_string().as_bytes());
        longest = longest.max(wait);
    }
    tell(&format!("the leader's death held a write up for {longest:?} at most"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_data_was_deleted_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let hub = cluster.hub();
    for n in 0..50 {
        hub.write(save(&format!("aaSession{n}"), 0, "1".into()), PATIENCE).await.unwrap();
    }
    let leader = hub.leader(PATIENCE).await.unwrap().to_string();
    let apps = cluster.configuration.app_servers();
    let [follower, other] = apps.iter().filter(|id| **id != leader).collect::<Vec<_>>()[..] else { panic!() };
    cluster.kill(follower).await;
    std::fs::remove_dir_all(cluster.folder().join("data").join(follower).join("hub")).unwrap();
    cluster.start_one(follower).await;
    // It needs both others until it has everything.
    says(&cluster, follower, "it votes again").await;
    // With the other follower gone, a write needs the one that lost its data.
    cluster.kill(other).await;
    hub.write(save("aaAfter", 0, "1".into()), PATIENCE).await.unwrap();
    for n in 0..50 {
        let record = hub.load(key(&format!("aaSession{n}")), PATIENCE).await.unwrap();
        assert_eq!(record.unwrap().version, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_and_a_server_without_data_forget_nothing() {
    let mut cluster = Cluster::start(3).await;
    let hub = cluster.hub();
    let (stop, saved): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
    let task = tokio::spawn(saving(hub.clone(), "aaPaused".into(), stop.clone(), saved.clone()));
    progress(&saved, 50).await;
    let old = hub.leader(PATIENCE).await.unwrap().to_string();
    cluster.process(&old).signal(Signal::STOP);
    progress(&saved, 200).await;
    stop.store(true, Ordering::Relaxed);
    let (id, version, longest) = task.await.unwrap();
    tell(&format!("a paused leader held a write up for {longest:?} at most"));
    let others: Vec<String> =
        cluster.configuration.app_servers().into_iter().filter(|id| *id != old).collect();
    cluster.kill_all(&others).await;
    let [wiped, away] = &others[..] else { panic!("{others:?}") };
    std::fs::remove_dir_all(cluster.folder().join("data").join(wiped).join("hub")).unwrap();
    cluster.process(&old).signal(Signal::CONT);
    cluster.launch(wiped);
    says(&cluster, wiped, "acknowledges nothing before all others").await;
    // The old leader has a majority, and none that counts.
    let refused = hub.write(save("aaOther", 0, "1".into()), Duration::from_secs(3)).await;
    assert!(refused.is_err(), "{refused:?}");
    cluster.launch(away);
    let found = hub.load(key(&id), PATIENCE).await.unwrap().unwrap();
    assert_eq!((found.version, &found.attributes["count"][..]), (version, version.to_string().as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_of_the_leader_hands_over() {
    let mut cluster = Cluster::start(3).await;
    let hub = cluster.hub();
    hub.write(save("aaOne", 0, "1".into()), PATIENCE).await.unwrap();
    let leader = hub.leader(PATIENCE).await.unwrap().to_string();
    let status = cluster.stop(&leader).await;
    assert!(status.success(), "{status}");
    let saved = hub.write(save("aaOne", 1, "2".into()), PATIENCE).await.unwrap();
    assert!(matches!(saved, Outcome::Version(2)), "{saved:?}");
    assert_ne!(hub.leader(PATIENCE).await.unwrap().to_string(), leader);
}

/// A file system of its own for one server's data, which can be filled; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(folder).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_that_server_alone_and_says_so() {
    let mut cluster = Cluster::prepare(3, |_| {});
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("data").join("app-b")) else {
        tell("skipped a_full_disk_stops_that_server: mounting a file system is not allowed here");
        return;
    };
    cluster.start_all().await;
    let hub = cluster.hub();
    disk.fill();
    let (stop, saved): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
    let task = tokio::spawn(saving(hub.clone(), "aaFull".into(), stop.clone(), saved.clone()));
    let status = cluster.process_mut("app-b").ended().await;
    assert_eq!(status.code(), Some(1));
    let log = std::fs::read_to_string(cluster.folder().join("app-b.log")).unwrap();
    assert!(log.contains("No space left on device"), "{log}");
    // The other two go on, and what was acknowledged before, during and after is there.
    progress(&saved, 50).await;
    stop.store(true, Ordering::Relaxed);
    let (id, version, _) = task.await.unwrap();
    assert_eq!(hub.load(key(&id), PATIENCE).await.unwrap().unwrap().version, version);
}
