//! What goes well: each verb of the tool, and what is served afterwards.

use super::{Deploying, python};
use hyper::StatusCode;
use std::process::Command;

/// An abbreviated commit, from `(0123456789)`.
fn commit(said: &str) -> &str {
    said.split_once('(').and_then(|(_, rest)| rest.split_once(')')).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_verb_does_what_it_says() {
    let deploying = Deploying::start_with(3, |it| {
        it.web_apps.push("{id: /elsewhere/here, deploy: moved}".into());
        it.host.push("web-app-default: {confine: off}".into());
    })
    .await;
    a_folder_is_served_and_changed_and_rolled_back(&deploying).await;
    apps_are_where_the_file_says_and_are_stopped_and_taken_away(&deploying).await;
    if let Some(python) = python() {
        an_archive_with_a_process_is_started_everywhere_and_restarted(&deploying, python).await;
    }
    deploying.repositories_are_clean();
}

async fn a_folder_is_served_and_changed_and_rolled_back(deploying: &Deploying) {
    let one = deploying.files("one", &[("index.html", "first"), ("css/a.css", "a{}"), ("old.txt", "old")]);
    let said = deploying.deploy(&one, "--name site -m first").await;
    let url = format!("http://{}/site/", deploying.cluster.web());
    assert!(
        said.starts_with("Deployed production/webapp/default/site (") && said.ends_with(&format!("{url}\n")),
        "{said}"
    );
    assert_eq!(deploying.get("/site/").await.body, "first");
    assert_eq!(deploying.get("/site/css/a.css").await.body, "a{}");
    let first = commit(&said).to_owned();

    let two =
        deploying.files("two", &[("index.html", "second"), ("css/a.css", "a{}"), ("new/file.txt", "new")]);
    let said = deploying.deploy(&two, "--name site -m second").await;
    let second = commit(&said).to_owned();
    for server in 0..3 {
        assert_eq!(deploying.get_of(server, "/site/").await.body, "second");
    }
    let said = deploying.deploy(&two, "--name site").await;
    assert!(said.contains("same content already") && said.contains(&second), "{said}");

    let list = deploying.tool("list").await.succeeds();
    assert!(list.contains("✓ app-a ✓ app-b ✓ app-c") && list.contains(&second), "{list}");
    assert!(!deploying.tool("list nothing").await.succeeds().contains("site"));
    let log = deploying.tool("log site").await.succeeds();
    let lines: Vec<_> = log.lines().collect();
    assert!(
        lines[1].starts_with(&second) && lines[1].contains("ops") && lines[1].ends_with("second"),
        "{log}"
    );
    assert!(lines[2].starts_with(&first) && lines.len() == 3, "{log}");
    let diff = deploying.tool(&format!("diff site {first} {second}")).await.succeeds();
    assert_eq!(diff, "~ index.html\n+ new/file.txt\n- old.txt\n");
    let ls = deploying.tool("ls site").await.succeeds();
    assert!(ls.contains("index.html") && ls.contains("new/") && !ls.contains("old.txt"), "{ls}");
    assert_eq!(deploying.tool("cat site new/file.txt").await.succeeds(), "new");

    let said = deploying.tool("rollback site").await;
    assert!(said.code == Some(0) && said.stdout.starts_with("Rolled back"), "{said:?}");
    assert_eq!(deploying.get("/site/").await.body, "first");
    assert_eq!(deploying.tool("log site").await.succeeds().lines().count(), 4);
}

async fn apps_are_where_the_file_says_and_are_stopped_and_taken_away(deploying: &Deploying) {
    let one = deploying.files("other-one", &[("index.html", "first")]);
    let two = deploying.files("other-two", &[("index.html", "second")]);
    deploying.deploy(&one, "--name site").await;
    assert_eq!(deploying.tool("stop site").await.succeeds(), "production/webapp/default/site is stopped\n");
    deploying
        .app_is("site", |it| it["servers"].as_array().unwrap().iter().all(|it| it["state"] == "stopped"))
        .await;
    assert_eq!(deploying.get("/site/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    deploying.tool("start site").await.succeeds();
    deploying
        .app_is("site", |it| it["servers"].as_array().unwrap().iter().all(|it| it["same"] == true))
        .await;
    assert_eq!(deploying.get("/site/").await.body, "first");

    deploying.deploy(&one, "--name ROOT").await;
    deploying.deploy(&two, "--name moved").await;
    assert_eq!(deploying.get("/").await.body, "first");
    assert_eq!(deploying.get("/elsewhere/here/").await.body, "second");
    let said = deploying.tool("undeploy site").await.succeeds();
    assert!(said.starts_with("Undeployed production/webapp/default/site; "), "{said}");
    let back = said.trim_end().split_once("deploy-tool ").unwrap().1.to_owned();
    let gone = async { while deploying.get("/site/").await.status != StatusCode::NOT_FOUND {} };
    tokio::time::timeout(crate::cluster::PATIENCE, gone).await.expect("it is taken away");
    deploying.tool("log site").await.fails_with(1, &["there is no app", "webapp/default/moved"]);
    deploying.tool("rollback site 0123456789").await.fails_with(1, &["there is no app"]);
    let said = deploying.tool(&back).await;
    assert!(said.stdout.starts_with("Rolled back production/webapp/default/site to "), "{said:?}");
    assert_eq!(deploying.get("/site/").await.body, "first");
    let said = deploying.deploy(&two, "--name site").await;
    assert!(said.starts_with("Deployed"), "{said}");
    assert_eq!(deploying.get("/site/").await.body, "second");
}

async fn an_archive_with_a_process_is_started_everywhere_and_restarted(deploying: &Deploying, python: &str) {
    let app = deploying.app(python, "1", "prepare: [sh, -c, 'echo prepared >> made']");
    let archive = deploying.cluster.folder().join("shop.tar.gz");
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&app.0).arg(".").status();
    assert!(packed.unwrap().success());
    let said = deploying.tool(&format!("deploy {}", archive.display())).await;
    assert!(
        said.code == Some(0) && said.stdout.starts_with("Deployed production/webapp/default/shop"),
        "{said:?}"
    );
    assert!(said.stderr.contains("app-b: active\n"), "{said:?}");
    for (server, name) in ["app-a", "app-b", "app-c"].into_iter().enumerate() {
        assert_eq!(deploying.get_of(server, "/shop/").await.body, format!("1 on {name}\n"));
    }
    let starts =
        || ["app-a", "app-b", "app-c"].map(|id| deploying.log(id).matches("version 1 starts on").count());
    assert_eq!(starts(), [1; 3]);
    let said = deploying.tool("restart shop").await;
    assert!(said.code == Some(0) && said.stdout.starts_with("Restarted"), "{said:?}");
    assert_eq!(starts(), [2; 3], "each server has started it once more");
    let said = deploying.tool("restart shop --rolling").await;
    assert!(said.code == Some(0), "{said:?}");
    assert_eq!(starts(), [3; 3]);
    let checkouts = deploying.cluster.folder().join("data/app-a/apps/production/default/shop");
    let folder =
        std::fs::read_dir(checkouts).unwrap().filter_map(Result::ok).find(|it| it.path().is_dir()).unwrap();
    assert_eq!(
        std::fs::read_to_string(folder.path().join("made")).unwrap(),
        "prepared\n",
        "it is prepared once"
    );
}
