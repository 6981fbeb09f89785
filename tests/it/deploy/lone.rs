//! One cluster that listens and runs the apps itself: what is deployed is served there without a rule, beside the file's own web-apps.

use crate::{
    client::User,
    cluster::{Address, Process, copal},
    tool::{HASH, tool_as},
};
use hyper::StatusCode;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_alone_serves_what_is_deployed() {
    // Without hosts; with a host that has a folder of files at its root.
    for (hosts, root) in [
        ("{id: '', web-apps: [{id: /admin, admin: true}]}", None),
        (
            "{id: '', web-apps: [{id: /admin, admin: true}, {id: '', root-directory: www}]}",
            Some("the file's"),
        ),
    ] {
        let (folder, leased) = (tempfile::tempdir().unwrap(), Address::lease());
        let (ip, at) = (leased.ip(), folder.path());
        fs::create_dir_all(at.join("www")).unwrap();
        fs::write(at.join("www/index.html"), "the file's").unwrap();
        fs::create_dir_all(at.join("site")).unwrap();
        fs::write(at.join("site/index.html"), "deployed").unwrap();
        let file = at.join("copal.yaml");
        let server = format!("{{id: a, address: {ip}, port: 6800, http: [{{address: {ip}, port: 8080}}]}}");
        let user = format!("{{name: ops, password: \"{HASH}\", roles: [deploy]}}");
        let text = format!(
            "data-dir: data\ndeploy-service: true\nadmin:\n  users:\n    - {user}\nclusters:\n  - id: alone\n    servers: [{server}]\n    \
             hosts:\n      - {hosts}\n"
        );
        fs::write(&file, text).unwrap();
        let mut process = Process::start(&copal(), &file, "a", &at.join("log"), None);
        process.ready().await;
        let address = format!("{ip}:8080");
        let mut user = User::new(address.clone());
        assert_eq!(user.get("/site/").await.status, StatusCode::NOT_FOUND);
        let url = format!("http://{address}/admin");
        let line = format!("deploy {} --name site", at.join("site").display());
        let said = tool_as(&url, "ops", "password", &line).await;
        assert!(said.stdout.ends_with(&format!("http://{address}/site/\n")), "{said:?}");
        assert_eq!(user.get("/site/").await.body, "deployed");
        let answer = user.get("/").await;
        match root {
            Some(root) => assert_eq!(answer.body, root),
            None => assert_eq!(answer.status, StatusCode::NOT_FOUND),
        }
        assert!(process.stop().await.success());
    }
}
