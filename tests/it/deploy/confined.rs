//! Deployed apps are less trusted than the server: what they try is refused.

use super::{Deploying, Version, python};
use crate::{confinement::INTRUDER, tell::tell};

fn intruder(deploying: &Deploying, python: &str, name: &str) -> Version {
    let yaml = format!(
        "command: [{python}, -B, intruder.py]\nlisten: unix\nhealth: {{path: /healthz, start-timeout: 30s}}\n"
    );
    deploying.files(name, &[("intruder.py", INTRUDER), ("app.yaml", &yaml), ("secret", name)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_app_gets_at_nothing_that_is_not_its_own() {
    let Some(python) = python() else { return };
    let deploying = Deploying::start(1).await;
    deploying.deploy(&intruder(&deploying, python, "one"), "").await;
    deploying.deploy(&intruder(&deploying, python, "two"), "").await;
    let tries = async |attempt: &str, argument: String| {
        let argument = argument.replace('%', "%25").replace('|', "%7C");
        let answer = deploying.get(&format!("/one/{attempt}?{argument}")).await;
        assert_eq!(answer.status, 200, "{attempt} {argument}: {answer:?}");
        answer.body
    };
    let landlock: u32 = tries("landlock", String::new()).await.parse().unwrap();
    if landlock < 6 {
        return tell(&format!(
            "skipped what Landlock keeps from deployed apps: its version is {landlock} here"
        ));
    }
    // As a program of pyenv: a script that can't read what it needs.
    let yaml = "command: [sh, -c, 'echo no such interpreter >&2; exit 126']\n";
    let shim = deploying.files("shim", &[("app.yaml", yaml)]);
    let said = deploying.tool(&format!("deploy {}", shim.0.display())).await;
    said.fails_with(1, &["exit status: 126", "it is confined to its own folder", "docs/apps.md"]);
    let status = deploying.get("/two/status").await.body;
    let other = status.lines().find_map(|it| it.strip_prefix("pid=")).unwrap().to_owned();
    let server = deploying.cluster.process("app-a").pid().to_string();
    let path = |name: &str| deploying.cluster.folder().join(name).display().to_string();
    for process in [&server, &other] {
        for (attempt, argument) in [
            ("read", format!("/proc/{process}/environ")),
            ("read", format!("/proc/{process}/mem")),
            ("kill", process.clone()),
        ] {
            assert_eq!(tries(attempt, argument.clone()).await, "PermissionError", "{attempt} {argument}");
        }
    }
    // The file has the cluster's key.
    for file in ["copal.yaml", "data/app-a/repository.git/HEAD", "data/app-a/app.pids"] {
        assert!(std::fs::exists(path(file)).unwrap(), "{file}");
        assert_eq!(tries("read", path(file)).await, "PermissionError", "{file}");
    }
    let apps = path("data/app-a/apps/production/default");
    for folder in ["data/app-a", "data/app-a/app-data", "data/app-a/repository.git", "data/app-a/hub"] {
        assert_eq!(tries("listed", path(folder)).await, "PermissionError", "{folder}");
    }
    assert_eq!(tries("listed", format!("{apps}/two")).await, "PermissionError");
    let own = tries("environment", "PWD".to_owned()).await;
    let own = if own.is_empty() { tries("read", "/proc/self/cwd/secret".to_owned()).await } else { own };
    assert!(!own.is_empty());
    assert_eq!(tries("read", "secret".to_owned()).await, "one");
    assert_eq!(
        tries("write", "secret".to_owned()).await,
        "PermissionError",
        "its own files are to be read alone"
    );
    assert_eq!(tries("put", "name".to_owned()).await, "intruded");

    // What it has written survives the next version.
    let next = intruder(&deploying, python, "one");
    std::fs::write(next.0.join("secret"), "next").unwrap();
    deploying.deploy(&next, "").await;
    assert_eq!(tries("read", "secret".to_owned()).await, "next");
    assert_eq!(tries("kept", "name".to_owned()).await, "intruded");
}
