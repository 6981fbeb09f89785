//! Versions that can't be used somewhere: nothing changes, and the tool says where, at which step, and what was printed last.

use super::{Deploying, python};
use crate::{client::User, cluster::PATIENCE};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::time::timeout;

/// Asks for the app on and on; every answer is of one of the versions. Returns how many there were.
async fn asks(mut user: User, versions: &'static [&'static str], stop: Arc<AtomicBool>) -> u64 {
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = user.get("/shop/").await;
        let good = versions.iter().any(|it| answer.body.starts_with(&format!("{it} on app-")));
        assert!(answer.status == 200 && good, "{answer:?}");
        answers += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_somewhere_changes_nothing() {
    let Some(python) = python() else { return };
    let deploying = Deploying::start(3).await;
    deploying.deploy(&deploying.app(python, "1", ""), "").await;
    one_server_fails_and_the_old_version_never_stops(&deploying, python).await;
    rolling_goes_back_when_a_later_server_fails(&deploying, python).await;
    deploying.repositories_are_clean();
}

async fn one_server_fails_and_the_old_version_never_stops(deploying: &Deploying, python: &str) {
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..3)
        .map(|home| tokio::spawn(asks(deploying.cluster.user_of(home, 1), &["1"], stop.clone())))
        .collect();
    let goes_on = "is not deployed, what was in use goes on";

    let broken = deploying.app(python, "2", "");
    std::fs::write(broken.0.join("broken-on"), "app-b").unwrap();
    let said = deploying.tool(&format!("deploy {}", broken.0.display())).await;
    said.fails_with(1, &[goes_on, "\napp-b: starting: ", "exit status: 7", "the database is not there"]);
    assert!(!said.stderr.contains("\napp-a: starting: "), "{said:?}");

    let unprepared = deploying.app(python, "3", "prepare: [sh, -c, 'echo no network; exit 3']");
    let said = deploying.tool(&format!("deploy {}", unprepared.0.display())).await;
    said.fails_with(1, &[goes_on, ": preparing: prepare ", "exit status: 3", "no network"]);

    let endless = deploying.app(python, "4", "prepare: [sleep, '600']");
    let said = deploying.tool(&format!("deploy {} --timeout 1s", endless.0.display())).await;
    said.fails_with(1, &[goes_on, "not done within 1 s", "app-a is still preparing"]);

    let wrong = deploying.app(python, "5", "comand: x");
    let said = deploying.tool(&format!("deploy {}", wrong.0.display())).await;
    said.fails_with(1, &[goes_on, "comand"]);

    let nowhere = deploying.files("6", &[("app.yaml", "command: [./nothing]\n")]);
    let said = deploying.tool(&format!("deploy {} --name shop", nowhere.0.display())).await;
    said.fails_with(1, &[goes_on, "./nothing", "can't be started"]);
    stop.store(true, Ordering::Relaxed);
    for it in asking {
        assert!(it.await.unwrap() > 0);
    }
    let list = deploying.tool("list").await.succeeds();
    assert!(list.contains("✓ app-a ✓ app-b ✓ app-c"), "{list}");

    // A first version that fails is no app, and the next one is its first.
    let said = deploying.tool(&format!("deploy {} --name other", broken.0.display())).await;
    said.fails_with(1, &["the database is not there"]);
    assert!(!deploying.tool("list").await.succeeds().contains("other"));
    std::fs::remove_file(broken.0.join("broken-on")).unwrap();
    deploying.deploy(&broken, "--name other").await;
    assert_eq!(deploying.get_of(1, "/other/").await.body, "2 on app-b\n");
}

async fn rolling_goes_back_when_a_later_server_fails(deploying: &Deploying, python: &str) {
    let before = deploying.everywhere().await;
    let stop = Arc::new(AtomicBool::new(false));
    let user = deploying.cluster.user_of(0, 1);
    let asking = tokio::spawn(asks(user, &["1", "7", "8"], stop.clone()));
    let broken = deploying.app(python, "7", "");
    std::fs::write(broken.0.join("broken-on"), "app-b").unwrap();
    let said = deploying.tool(&format!("deploy {} --rolling", broken.0.display())).await;
    said.fails_with(1, &["app-a: active", "\napp-b: starting: ", "the database is not there"]);
    assert!(deploying.log("app-c").matches("version 7 starts").count() == 0, "it was not its turn");
    let after = deploying.everywhere().await;
    assert_eq!(after["commit"], before["commit"]);
    assert_eq!(deploying.get_of(0, "/shop/").await.body, "1 on app-a\n");

    let said = deploying.deploy(&deploying.app(python, "8", ""), "--rolling").await;
    assert!(said.starts_with("Deployed"), "{said}");
    for (server, name) in ["app-a", "app-b", "app-c"].into_iter().enumerate() {
        assert_eq!(deploying.get_of(server, "/shop/").await.body, format!("8 on {name}\n"));
        assert_eq!(deploying.log(name).matches("version 8 starts").count(), 1, "{name}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(timeout(PATIENCE, asking).await.unwrap().unwrap() > 0);
}
