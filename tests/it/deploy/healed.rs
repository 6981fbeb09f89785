//! An app that does not come up again is started anew by the health checks, as often as the file allows.

use super::*;
use crate::tokens::{OPS, curl};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_stays_down_is_started_anew_once_and_it_is_written_down() {
    let Some(python) = python() else { return };
    let deploying = Deploying::start_with(3, |configuration| {
        configuration.health = "{interval: 100ms, for: 0s, load-max: 100000, restart-apps: 1}".to_owned();
    })
    .await;
    let go = deploying.cluster.folder().join("go");
    fs::write(&go, "").unwrap();
    let version = deploying.app(python, "1", "");
    let yaml = fs::read_to_string(version.0.join("app.yaml")).unwrap();
    let command = format!("command: [sh, -c, 'test -e {} || exit 3; exec {python} -B app.py']", go.display());
    let yaml: Vec<_> = yaml.lines().map(|it| if it.starts_with("command") { &command } else { it }).collect();
    fs::write(version.0.join("app.yaml"), yaml.join("\n")).unwrap();
    deploying.deploy(&version, "").await;
    deploying.everywhere().await;
    let web = deploying.cluster.web();
    let pid = async {
        let (_, status) = curl(&web, "GET /admin/api/v1/status", OPS, "").await;
        let servers = status["servers"].as_array().unwrap();
        let server = servers.iter().find(|it| it["id"] == "app-b").unwrap();
        let apps = server["answer"]["apps"].as_array().unwrap();
        let app = apps.iter().find(|it| it["tag"] == "production/webapp/default/shop").unwrap();
        app["instances"][0]["pid"].as_u64().unwrap()
    }
    .await;
    // It can't start again.
    fs::remove_file(&go).unwrap();
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let entries = async |kind: &str, action: &str| {
        let (_, log) = curl(&web, &format!("GET /admin/api/v1/audit?kind={kind}"), OPS, "").await;
        let entries = log["entries"].as_array().cloned().unwrap_or_default();
        entries.into_iter().filter(|it| it["action"] == action).collect::<Vec<_>>()
    };
    let restarted = async {
        loop {
            if let Some(found) = entries("health", "restart-app").await.pop() {
                return found;
            }
        }
    };
    let restarted = timeout(PATIENCE, restarted).await.expect("it is started anew");
    assert_eq!(restarted["target"], "production/webapp/default/shop");
    assert_eq!(restarted["outcome"], "begun");
    let by = entries("action", "restart").await.pop().unwrap();
    assert_eq!((&by["user"], &by["outcome"]), (&"health-check".into(), &"begun".into()));
    // What can't start does not replace what runs elsewhere.
    assert_eq!(deploying.get_of(0, "/shop/").await.status, StatusCode::OK);
}
