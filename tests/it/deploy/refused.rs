//! What is refused, and that the words say what to do.

use super::{Deploying, python, step};
use crate::tool::tool_as;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deployments_at_once_one_wins_and_the_other_is_told() {
    let Some(python) = python() else { return };
    let deploying =
        Deploying::start_with(3, |it| it.host.push("web-app-default: {confine: off}".into())).await;
    deploying.deploy(&deploying.app(python, "1", ""), "").await;
    let held = deploying.held(python, "2", "app-a app-b app-c");
    let line = format!("deploy {}", held.0.display());
    let first = async {
        let said = deploying.tool(&line).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    let other = deploying.app(python, "3", "");
    let second = async {
        deploying.app_is("shop", |app| step(app, "app-a") == "preparing").await;
        let busy = ["another deployment of production/webapp/default/shop is under way", "by ops", "wait"];
        deploying.tool(&format!("deploy {}", other.0.display())).await.fails_with(1, &busy);
        deploying.tool("restart shop").await.fails_with(1, &busy);
        assert_eq!(deploying.get_of(1, "/shop/").await.body, "1 on app-b\n");
        deploying.go_on();
    };
    tokio::join!(first, second);
    assert_eq!(deploying.get_of(1, "/shop/").await.body, "2 on app-b\n");
    deploying.deploy(&other, "").await;
    assert_eq!(deploying.get_of(1, "/shop/").await.body, "3 on app-b\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_deployed_is_told_with_what_to_do() {
    let mut deploying = Deploying::start_with(3, |it| {
        it.web_apps.push("{id: /taken, root-directory: app}".into());
    })
    .await;
    let one = deploying.files("one", &[("index.html", "first")]);
    let two = deploying.files("two", &[("index.html", "second")]);
    let deploy = |version: &super::Version, more: &str| format!("deploy {} {more}", version.0.display());

    deploying.deploy(&one, "--name site --version 1.0").await;
    let other_content = ["production/webapp/default/site-1.0", "other content", "--replace"];
    deploying.tool(&deploy(&two, "--name site --version 1.0")).await.fails_with(1, &other_content);
    assert_eq!(deploying.tool("cat site-1.0 index.html").await.succeeds(), "first");
    deploying.deploy(&two, "--name site --version 1.0 --replace").await;
    assert_eq!(deploying.tool("cat site-1.0 index.html").await.succeeds(), "second");

    for (line, words) in [
        (deploy(&one, "--name taken"), ["/taken/", "another name"]),
        (deploy(&one, "--name a --host nowhere.example"), ["nowhere.example", "the file has default"]),
        (deploy(&one, "--name a --stage test"), ["no server", "test/webapp/default/a"]),
        (deploy(&one, "--name a/b"), ["name is \"a/b\"", "expected"]),
        (deploy(&one, "--name a --version x"), ["version", "begins with a digit"]),
        (deploy(&one, "--name a --timeout 9999h"), ["timeout", "expected"]),
        ("deploy /nowhere/at/all".to_owned(), ["/nowhere/at/all", "No such file"]),
        ("restart sight".to_owned(), ["no app production/webapp/default/sight", "default/site-1.0"]),
        ("rollback site-1.0 fffffff".to_owned(), ["fffffff", "`log` lists"]),
        ("cat site-1.0 none".to_owned(), ["none", ""]),
    ] {
        deploying.tool(&line).await.fails_with(1, &words);
    }
    let url = deploying.url();
    let line = deploy(&one, "--name a");
    tool_as(&url, "ops", "guess", &line).await.fails_with(1, &["wrong user or password"]);
    for user in ["eve", "bob"] {
        tool_as(&url, user, "password", &line).await.fails_with(1, &[user, "`deploy` among its `roles`"]);
        tool_as(&url, user, "password", "undeploy site-1.0").await.fails_with(1, &["`deploy`"]);
    }
    assert!(tool_as(&url, "eve", "password", "list").await.succeeds().contains("site-1.0"));
    tool_as("http://127.0.0.1:1", "ops", "password", &line).await.fails_with(1, &["can't connect"]);
    assert_eq!(deploying.tool("list").await.succeeds().lines().count(), 2, "nothing of it was done");

    let triad = deploying.tool("triad status").await.succeeds();
    let lines: Vec<Vec<_>> = triad.lines().map(|it| it.split_whitespace().collect()).collect();
    let servers: Vec<_> = lines[1..].iter().map(|it| it[0]).collect();
    assert!(lines[0][..2] == ["SERVER", "STATE"] && servers == ["app-a", "app-b", "app-c"], "{triad}");
    assert_eq!(triad.matches(" leader ").count(), 1, "{triad}");
    assert_eq!((triad.matches(" follower ").count(), triad.matches("B of ").count()), (2, 3), "{triad}");
    deploying.cluster.kill_all(&["app-b".to_owned(), "app-c".to_owned()]).await;
    let said = deploying.tool("triad status").await;
    assert_eq!((said.code, said.stdout.matches(" unreachable ").count()), (Some(0), 2), "{said:?}");
    for words in ["note: app-b can't be asked: ", "warning: no majority of the hub takes part"] {
        assert!(said.stderr.contains(words), "{said:?}");
    }
    let eve = tool_as(&url, "eve", "password", "--json triad status").await.succeeds();
    assert!(eve.contains("\"majority\":false") && eve.contains("\"state\":\"unreachable\""), "{eve}");
    let said = deploying.tool(&deploy(&one, "--name b")).await;
    said.fails_with(1, &["1 of 3 hub servers", "a majority is needed"]);
    deploying.tool("restart site-1.0").await.fails_with(1, &["the hub did not answer"]);
    for verb in ["list", "status", "log site-1.0", "token list"] {
        deploying.tool(verb).await.fails_with(1, &["more than half of its servers must be up"]);
    }
    deploying.cluster.start_all().await;
    deploying.deploy(&one, "--name b").await;
    deploying.repositories_are_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_service_it_says_which_line_is_missing() {
    let deploying = Deploying::start_with(1, |it| {
        it.lines.clear();
        it.root = true;
    })
    .await;
    let one = deploying.files("one", &[("index.html", "first")]);
    let words = ["deployments are off", "`deploy-service: true`"];
    deploying.tool(&format!("deploy {}", one.0.display())).await.fails_with(1, &words);
    assert!(!fs::exists(deploying.cluster.folder().join("data/app-a/repository.git")).unwrap());
}
