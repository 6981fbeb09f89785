//! What an operator sees of daemons: where each runs, and which keep failing.

use crate::{
    cluster::PATIENCE,
    daemons::{CALLED, holder_after, start_with},
    tokens::{OPS, curl, deploying},
    tool::tool_as,
};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_where_each_runs_and_which_keep_failing() {
    let broken = "{name: broken, command: [/bin/false], lease: 2s}]";
    let lines = CALLED.replace(']', &format!(", {broken}"));
    let Some((cluster, out)) = start_with(2, &lines, deploying).await else { return };
    let (server, token) = holder_after(&out, 0).await;
    let target = format!("http://{}/admin", cluster.web());
    let asked = async |line: &str| -> Value {
        let said = tool_as(&target, "eve", "password", line).await.succeeds();
        serde_json::from_str(&said).unwrap()
    };
    let fails = async {
        loop {
            let told = asked("--json daemon list").await["daemons"].take();
            let [broken, counter] = told.as_array().unwrap().as_slice() else { panic!("{told}") };
            assert_eq!((&broken["name"], &counter["name"]), (&json!("broken"), &json!("counter")));
            if broken["failures"].as_u64() >= Some(3) && counter["state"] == "running" {
                return counter.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let counter = tokio::time::timeout(PATIENCE, fails).await.expect("it is tried again and again");
    assert_eq!(
        (&counter["server"], &counter["token"], &counter["failures"]),
        (&json!(server), &json!(token), &json!(0))
    );
    assert!(counter["since"].is_string() && counter["servers"].as_array().unwrap().len() == 2, "{counter}");
    // In the moment in which it is begun on a server where it has not failed it looks well.
    let found = async {
        loop {
            let (_, status) = curl(&cluster.web(), "GET /admin/api/v1/status", OPS, "").await;
            let problems = status["problems"].as_array().unwrap();
            if let Some(problem) = problems.iter().find(|it| it["check"] == "daemon") {
                return problem.clone();
            }
        }
    };
    let problem = tokio::time::timeout(PATIENCE, found).await.expect("it is told");
    let what = problem["what"].as_str().unwrap();
    assert!(
        what.starts_with("The daemon broken of default/ keeps failing, ") && problem["severity"] == "fault"
    );
    let said = tool_as(&target, "eve", "password", "daemon list").await.succeeds();
    let line = said.lines().find(|it| it.starts_with("counter")).unwrap();
    assert!(said.starts_with("DAEMON") && line.contains(&format!("running  {server}")), "{said}");
}
