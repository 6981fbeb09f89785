//! Apps that are stopped and taken away: what users see meanwhile, and that no server keeps their files.

use super::{Deploying, python, traffic};
use crate::cluster::PATIENCE;
use std::{fs, path::PathBuf, time::Duration};
use tokio::time::{sleep, timeout};

const NAMES: [&str; 4] = ["app-a", "app-b", "app-c", "app-d"];

/// Where a server checks an app out.
fn folder(deploying: &Deploying, server: &str, app: &str) -> PathBuf {
    deploying.cluster.folder().join("data").join(server).join("apps/production/default").join(app)
}

async fn is_gone(path: PathBuf) {
    let gone = async {
        while fs::exists(&path).unwrap() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{} stays", path.display()));
}

/// Waits until each server says that it has the app in this state.
async fn are(deploying: &Deploying, app: &str, state: &str) {
    deploying.app_is(app, |it| it["servers"].as_array().unwrap().iter().all(|it| it["state"] == state)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stopped_says_so_and_what_is_taken_away_leaves_no_files() {
    let Some(python) = python() else { return };
    let mut deploying = Deploying::start(4).await;
    let site = deploying.files("site", &[("index.html", "site")]);
    deploying.deploy(&site, "").await;
    deploying.deploy(&deploying.app(python, "1", ""), "").await;

    // Stopped: told as it is, on the same server as before, whose other apps nobody is kept from.
    deploying.tool("stop site").await.succeeds();
    are(&deploying, "site", "stopped").await;
    for (server, name) in NAMES.into_iter().enumerate() {
        assert_eq!(deploying.get_of(server, "/site/").await.status, 503);
        assert_eq!(deploying.get_of(server, "/shop/").await.body, format!("1 on {name}\n"));
    }
    // A server that starts says the same.
    deploying.cluster.kill("app-d").await;
    deploying.cluster.start_one("app-d").await;
    are(&deploying, "site", "stopped").await;
    assert_eq!(deploying.get_of(3, "/site/").await.status, 503);
    // The same content again starts it, on all servers or on none.
    let said = deploying.deploy(&site, "").await;
    assert!(said.starts_with("Deployed production/webapp/default/site ("), "{said}");
    for server in 0..4 {
        assert_eq!(deploying.get_of(server, "/site/").await.body, "site");
    }

    // Taken away: the files go when nobody uses them any more, the app's data stays, and who was away catches up.
    let mut socket = traffic::open_socket(&deploying.cluster.web()).await;
    traffic::echoes(&mut socket, "begun").await;
    deploying.cluster.kill("app-d").await;
    let data = deploying.cluster.folder().join("data/app-b/app-data");
    let kept = fs::read_dir(&data).unwrap().count();
    deploying.tool("undeploy shop").await.succeeds();
    deploying.tool("undeploy site").await.succeeds();
    for (server, app) in [("app-a", "site"), ("app-b", "site"), ("app-b", "shop"), ("app-c", "shop")] {
        is_gone(folder(&deploying, server, app)).await;
    }
    assert!(fs::exists(folder(&deploying, "app-a", "shop")).unwrap(), "a WebSocket goes on with it");
    traffic::echoes(&mut socket, "to the end").await;
    drop(socket);
    is_gone(folder(&deploying, "app-a", "shop")).await;
    for app in ["shop", "site"] {
        assert!(fs::exists(folder(&deploying, "app-d", app)).unwrap(), "it is away");
    }
    deploying.cluster.start_one("app-d").await;
    for app in ["shop", "site"] {
        is_gone(folder(&deploying, "app-d", app)).await;
    }
    assert!(kept > 0 && fs::read_dir(&data).unwrap().count() == kept, "its data stays");
    let nothing = async {
        while fs::read_dir(folder(&deploying, "app-b", "")).unwrap().next().is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, nothing).await.expect("what was set aside goes as well");
    deploying.deploy(&site, "").await;
    assert_eq!(deploying.get_of(3, "/site/").await.body, "site");
}
