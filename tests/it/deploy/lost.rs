//! Servers that were away, or lost what they had: they have everything again before they take requests.

use super::{Deploying, python};
use crate::cluster::PATIENCE;
use std::{fs, path::PathBuf, process::Command};
use tokio::time::timeout;

const NAMES: [&str; 4] = ["app-a", "app-b", "app-c", "app-d"];

/// Whoever answers has this version; waits until the server with this index does.
async fn answers(deploying: &Deploying, server: usize, version: &str) {
    let wanted = format!("{version} on {}\n", NAMES[server]);
    let answers = async {
        loop {
            let answer = deploying.get_of(server, "/shop/").await;
            assert!(answer.status == 200 && answer.body.starts_with(&format!("{version} on ")), "{answer:?}");
            if answer.body == wanted {
                return;
            }
        }
    };
    timeout(PATIENCE, answers).await.expect("it takes requests");
}

fn checkout(deploying: &Deploying, id: &str, app: &str) -> PathBuf {
    let folder = deploying.cluster.folder().join("data").join(id).join("apps/production/default").join(app);
    let newest = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).filter(|it| it.is_dir());
    newest.max_by_key(|it| fs::metadata(it).unwrap().modified().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_catches_up_before_it_takes_requests() {
    let Some(python) = python() else { return };
    let mut deploying = Deploying::start(4).await;
    deploying.deploy(&deploying.app(python, "1", ""), "").await;
    deploying.cluster.kill("app-d").await;
    let files = deploying.files("files", &[("index.html", "files")]);
    deploying.deploy(&files, "--name site").await;
    deploying.deploy(&deploying.app(python, "2", ""), "").await;
    deploying.cluster.start_one("app-d").await;
    answers(&deploying, 3, "2").await;
    assert_eq!(deploying.get_of(3, "/site/").await.body, "files");
    assert_eq!(
        deploying.log("app-d").matches("version 1 starts").count(),
        1,
        "the old one is not started any more"
    );

    // What it has on disk is damaged, then lost.
    deploying.cluster.kill("app-d").await;
    fs::write(checkout(&deploying, "app-d", "shop").join("version"), "3").unwrap();
    fs::remove_file(checkout(&deploying, "app-d", "site").join("index.html")).unwrap();
    deploying.cluster.start_one("app-d").await;
    answers(&deploying, 3, "2").await;
    assert_eq!(deploying.get_of(3, "/site/").await.body, "files");
    assert!(deploying.log("app-d").contains("files of a version were changed: mending them"));
    for id in ["app-d", "app-c"] {
        deploying.cluster.kill(id).await;
        fs::remove_dir_all(deploying.cluster.folder().join("data").join(id)).unwrap();
        deploying.cluster.start_one(id).await;
        answers(&deploying, NAMES.iter().position(|it| *it == id).unwrap(), "2").await;
    }
    deploying.everywhere().await;
    // The hub's server that lost everything has every branch with its history again.
    let repository = deploying.cluster.folder().join("data/app-c/repository.git");
    let log = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(&repository).args(["log", "--format=%h", "production/webapp/default/shop"]);
        String::from_utf8(git.output().unwrap().stdout).unwrap().lines().count()
    };
    let mirrored = async {
        while log() != 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, mirrored).await.expect("it follows the hub's log");
    deploying.deploy(&deploying.app(python, "3", ""), "").await;
    answers(&deploying, 3, "3").await;
    deploying.repositories_are_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_die_at_once_and_have_everything_when_they_are_back() {
    let Some(python) = python() else { return };
    let mut deploying = Deploying::start(3).await;
    deploying.deploy(&deploying.app(python, "1", ""), "").await;
    deploying.deploy(&deploying.app(python, "2", ""), "").await;
    deploying.tool("rollback shop").await;
    deploying.cluster.kill_all(&deploying.cluster.configuration.servers()).await;
    deploying.repositories_are_clean();
    deploying.cluster.start_all().await;
    for server in 0..3 {
        answers(&deploying, server, "1").await;
    }
    deploying.everywhere().await;
    assert_eq!(deploying.tool("log shop").await.succeeds().lines().count(), 4);

    // A server that stops while a version is being brought up leaves no process behind, and stops in time.
    // So long that no other test's is the same.
    let length = format!("1{:09}", rand::random::<u32>() % 1_000_000_000);
    let held = deploying.app(python, "3", &format!("prepare: [sleep, '{length}']"));
    let line = format!("deploy {}", held.0.display());
    let (said, ()) = tokio::join!(deploying.tool(&line), async {
        deploying.app_is("shop", |app| NAMES[..3].iter().all(|it| super::step(app, it) == "preparing")).await;
        for id in &NAMES[..3] {
            deploying.cluster.process(id).signal(rustix::process::Signal::TERM);
        }
    });
    assert_eq!(said.code, Some(1), "{said:?}");
    for id in &NAMES[..3] {
        assert!(deploying.cluster.ended(id).await.success(), "{id}");
    }
    // They were killed with their servers, which does not say that they have ended when these have.
    let pattern = format!("^sleep {length}");
    let gone = async {
        while Command::new("pgrep").args(["-f", &pattern]).output().is_ok_and(|it| !it.stdout.is_empty()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("no preparation goes on");
}
