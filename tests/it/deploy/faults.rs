//! Servers that are killed, or stand still, at each step of a deployment: all end on the old version or the new one, all the same,
//! and the next run of the tool works.

use super::{Deploying, Version, python, step};
use crate::cluster::PATIENCE;
use rustix::process::Signal;
use tokio::time::timeout;

/// Who is struck.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Leader,
    Follower,
    /// A server that is not of the hub.
    App,
}

/// When it is struck: as soon as it is at this step.
const STEPS: [&str; 4] = ["fetching", "preparing", "starting", "ready"];

impl Victim {
    async fn id(self, deploying: &Deploying) -> String {
        let leader = deploying.cluster.hub().leader(PATIENCE).await.unwrap().to_string();
        match self {
            Self::Leader => leader,
            Self::Follower => {
                ["app-a", "app-b", "app-c"].into_iter().find(|it| *it != leader).unwrap().to_owned()
            }
            Self::App => "app-d".to_owned(),
        }
    }
}

/// Where a rollout stands at the step until it is to go on.
fn held_at(deploying: &Deploying, python: &str, version: &str, victim: &str, at: &str) -> Version {
    match at {
        "preparing" => deploying.held(python, version, victim),
        "starting" => deploying.held_at_start(python, version, victim),
        // It is ready, and waits for the others.
        "ready" => {
            let others = ["app-a", "app-b", "app-c", "app-d"].into_iter().filter(|it| *it != victim);
            deploying.held(python, version, &others.collect::<Vec<_>>().join(" "))
        }
        _ => deploying.app(python, version, ""),
    }
}

/// One deployment with one blow; gives the version that is in use afterwards.
async fn struck(
    deploying: &mut Deploying,
    victim: Victim,
    at: &str,
    pause: bool,
    round: usize,
    before: &str,
) -> String {
    let python = python().unwrap();
    let id = victim.id(deploying).await;
    let version = format!("{round}-{at}");
    let folder = held_at(deploying, python, &version, &id, at);
    let line = format!("deploy {} -m {version}", folder.0.display());
    let blow = async {
        deploying
            .app_is("shop", |app| {
                let mine = app["rollout"]["message"] == version.as_str();
                mine && (at == "fetching" && !step(app, &id).is_empty() || step(app, &id) == at)
            })
            .await;
        let process = deploying.cluster.process(&id);
        process.signal(if pause { Signal::STOP } else { Signal::KILL });
        deploying.go_on();
    };
    let (said, ()) = tokio::join!(deploying.tool(&line), blow);
    if pause {
        deploying.cluster.process(&id).signal(Signal::CONT);
    } else {
        deploying.cluster.kill(&id).await;
        deploying.repositories_are_clean();
        deploying.cluster.start_one(&id).await;
    }
    let app = deploying.everywhere().await;
    let in_use = if app["message"] == version.as_str() { version } else { before.to_owned() };
    // The tool was right, or did not know.
    match said.code {
        Some(0) => assert_ne!(in_use, before, "{said:?}"),
        _ if said.stderr.contains("is not deployed") => assert_eq!(in_use, before, "{said:?}"),
        code => assert_eq!(code, Some(1), "{said:?}"),
    }
    for (server, name) in ["app-a", "app-b", "app-c", "app-d"].into_iter().enumerate() {
        // A web-tier may not know yet that it is back; whoever answers has the same version.
        let answers = async {
            loop {
                let answer = deploying.get_of(server, "/shop/").await;
                assert!(answer.body.starts_with(&format!("{in_use} on ")), "{in_use}: {answer:?}");
                if answer.body.ends_with(&format!(" {name}\n")) {
                    return;
                }
            }
        };
        timeout(PATIENCE, answers).await.unwrap_or_else(|_| panic!("{name} does not answer"));
    }
    in_use
}

/// Blows to one kind of server: whether it stands still, or is killed, and at which steps, one after the other.
type Blows<'a> = &'a [(bool, &'a [&'a str])];

async fn each_step(victim: Victim, blows: Blows<'_>) {
    let Some(python) = python() else { return };
    let mut deploying = Deploying::start_with(4, |it| {
        it.host.push("web-app-default: {confine: off}".into());
    })
    .await;
    deploying.deploy(&deploying.app(python, "0", ""), "").await;
    let (mut in_use, mut round) = ("0".to_owned(), 0);
    for (pause, steps) in blows {
        for at in *steps {
            round += 1;
            in_use = struck(&mut deploying, victim, at, *pause, round, &in_use).await;
        }
    }
    deploying.deploy(&deploying.app(python, "last", ""), "").await;
    deploying.everywhere().await;
    let list = deploying.tool("list").await.succeeds();
    assert!(list.contains("✓ app-a ✓ app-b ✓ app-c ✓ app-d"), "{list}");
    deploying.repositories_are_clean();
    for id in deploying.cluster.configuration.servers() {
        let log = deploying.log(&id);
        assert!(!log.contains("panicked"), "{id}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hubs_leader_is_killed_at_each_step_and_stands_still() {
    each_step(Victim::Leader, &[(false, &STEPS), (true, &["preparing", "ready"])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hub_server_is_killed_at_each_step() {
    each_step(Victim::Follower, &[(false, &STEPS)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_server_is_killed_at_each_step_and_stands_still() {
    each_step(Victim::App, &[(false, &STEPS), (true, &["fetching", "starting"])]).await;
}
