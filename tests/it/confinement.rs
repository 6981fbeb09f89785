//! Apps that try to get at the server, at each other and at the machine: real processes under every kind of confinement that this system has.

use crate::{
    client::User,
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use rustix::process::geteuid;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tokio::time::timeout;

pub(crate) const INTRUDER: &str = include_str!("confinement/intruder.py");

/// Of the file that `cluster-key` names.
const KEY: &str = "bV8sQ2mZ5yTx1Rk7LwEf9JgHn3Uc6Pd0";

/// Enough for Python, and too little for the attempt.
const MEMORY: u64 = 512 << 20;

/// Numbers of users that nobody else has: the system counts a user's processes wherever they are. `test` is another in each test.
fn users(test: u32) -> Option<[u32; 2]> {
    let first = 1_000_000_000 + std::process::id() * 8 + test * 2;
    Some([first, first + 1])
}

/// What is asked for both apps.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Whose the apps `/` and `/other` are; only where the tests run as root.
    users: Option<[u32; 2]>,
    confine: &'static str,
}

/// Two intruders in one server of the hub.
struct Intruders {
    cluster: Cluster,
    user: User,
    asked: Asked,
}

/// A Python in the system's folders, where confined apps find it.
fn python() -> Option<&'static str> {
    let found =
        ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        tell("skipped the tests of confinement: there is no python3 in /usr");
    }
    found
}

impl Intruders {
    async fn start(asked: Asked) -> Option<Self> {
        let python = python()?;
        let mut cluster = Cluster::prepare(1, |configuration| {
            configuration.command = vec![python.to_owned(), "-B".to_owned(), "intruder.py".to_owned()];
            configuration.app.push("listen: unix".to_owned());
        });
        let folder = cluster.folder();
        let text = fs::read_to_string(cluster.file()).unwrap();
        let [first, second] = [0, 1].map(|app| asked.lines(app));
        let root = "            root-directory: app\n";
        assert!(text.contains(root));
        let other = format!("          - id: /other\n            root-directory: other\n{second}");
        let text = text.replace("  - id: web-tier\n", &format!("{other}  - id: web-tier\n"));
        let text = text.replacen(root, &format!("{root}{first}"), 1);
        let line = text.lines().find(|line| line.starts_with("cluster-key")).unwrap();
        fs::write(cluster.file(), text.replace(line, "cluster-key: {file: cluster.key}")).unwrap();
        fs::write(folder.join("cluster.key"), KEY).unwrap();
        for file in [cluster.file(), folder.join("cluster.key")] {
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        }
        fs::create_dir(folder.join("other")).unwrap();
        fs::copy(folder.join("app/app.yaml"), folder.join("other/app.yaml")).unwrap();
        for app in ["app", "other"] {
            fs::write(folder.join(app).join("intruder.py"), INTRUDER).unwrap();
        }
        fs::write(folder.join("other/secret"), "of the other app").unwrap();
        if let Some(users) = asked.users {
            fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
            // As a check-out for a user of its own is.
            std::os::unix::fs::chown(folder.join("other"), None, Some(users[1])).unwrap();
            fs::set_permissions(folder.join("other"), Permissions::from_mode(0o750)).unwrap();
        }
        cluster.start_all().await;
        let user = cluster.user();
        Some(Self { cluster, user, asked })
    }

    async fn tries(&mut self, attempt: &str, argument: impl ToString) -> String {
        let argument = argument.to_string().replace('%', "%25").replace('|', "%7C");
        let answer = timeout(PATIENCE, self.user.get(&format!("/{attempt}?{argument}"))).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200, "{attempt} {argument}: {answer:?}");
        answer.body
    }

    /// The attempt fails as something that is not allowed.
    async fn is_refused(&mut self, attempt: &str, argument: impl ToString) {
        let argument = argument.to_string();
        let said = self.tries(attempt, &argument).await;
        assert_eq!(said, "PermissionError", "{attempt} {argument} under {:?}", self.asked);
    }

    fn path(&self, name: &str) -> String {
        self.cluster.folder().join(name).to_str().unwrap().to_owned()
    }

    /// Of an app's process.
    async fn status(&mut self, app: &str) -> Vec<(String, String)> {
        let body = self.user.get(&format!("{app}/status")).await.body;
        body.lines().map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
    }

    /// What no confined app can do, whatever makes it so.
    async fn are_kept_out(&mut self) {
        let server = self.cluster.process("app-a").pid();
        let other = value(&self.status("/other").await, "pid");
        for process in [server.to_string(), other.clone()] {
            for file in ["environ", "mem", "maps"] {
                self.is_refused("read", format!("/proc/{process}/{file}")).await;
            }
            self.is_refused("kill", &process).await;
            self.is_refused("limit", &process).await;
        }
        for file in ["cluster.key", "copal.yaml", "other/secret", "data/app-a/app.pids", "data/app-a/lock"] {
            let path = self.path(file);
            self.is_refused("read", &path).await;
            self.is_refused("write", &path).await;
        }
        for folder in ["data/app-a", "data/app-a/hub", "data/app-a/app-data", "data/web-a"] {
            let path = self.path(folder);
            self.is_refused("listed", path).await;
        }
        let data = self.environment("DATA").await;
        let others = data.replace("%7C%7C", "%7C%7C%2Fother");
        assert!(Path::new(&others).exists(), "{others}");
        self.is_refused("listed", &others).await;
        self.is_refused("write", format!("{others}/file")).await;
        for file in ["app/intruder.py", "app/app.yaml", "app/new", "new"] {
            let path = self.path(file);
            self.is_refused("write", path).await;
        }
        self.is_refused("write", "/etc/copal-intruded").await;
        self.is_refused("read", "/etc/shadow").await;
    }

    /// What a confined app needs, and what holds of its process.
    async fn can_work(&mut self) {
        assert_eq!(self.tries("put", "name").await, "intruded");
        assert_eq!(self.tries("api", "").await, "reached");
        assert!(self.tries("read", "/etc/hosts").await.contains("localhost"));
        assert!(self.tries("read", "/proc/self/environ").await.contains("COPAL_TOKEN="));
        assert!(!self.tries("read", "/proc/self/environ").await.contains(KEY));
        assert_eq!(self.tries("read", "/proc/self/oom_score_adj").await, "500\n");
        let home = self.environment("HOME").await;
        assert_eq!(home, self.environment("DATA").await);
        let status = self.status("").await;
        let of = |name: &str| value(&status, name);
        assert_eq!([of("NoNewPrivs"), of("core"), of("inherited")], ["1", "0", "[]"]);
        if geteuid().is_root() {
            assert_eq!([of("CapEff"), of("CapBnd")], ["0000000000000000"; 2], "{status:?}");
        }
        if let Some(users) = self.asked.users {
            let user = [users[0]; 4].map(|id| id.to_string()).join(" ");
            assert_eq!([of("Uid"), of("Gid"), of("Groups")], [user.clone(), user, String::new()]);
        }
    }

    async fn are_limited(&mut self) {
        assert_eq!(self.tries("opened", 100).await, "OSError", "open-files-max");
        assert_eq!(self.tries("opened", 20).await, "20 opened");
        assert_eq!(self.tries("take", 2 * MEMORY).await, "MemoryError", "memory-max");
        assert_eq!(self.tries("take", MEMORY / 8).await, format!("{} taken", MEMORY / 8));
        if self.asked.users.is_some() {
            assert_eq!(self.tries("fork", 40).await, "BlockingIOError", "processes-max");
            assert_eq!(self.tries("fork", 3).await, "3 forked");
        }
    }

    async fn environment(&mut self, name: &str) -> String {
        self.tries("environment", name).await
    }
}

impl Asked {
    /// Of a web-app.
    fn lines(self, app: usize) -> String {
        let mut lines = vec![
            format!("confine: {}", self.confine),
            format!("memory-max: {MEMORY}"),
            "open-files-max: 64".to_owned(),
        ];
        if let Some(user) = self.users.map(|users| users[app]) {
            lines.extend([format!("user: {user}"), format!("group: {user}"), "processes-max: 16".to_owned()]);
        }
        lines.iter().map(|line| format!("            {line}\n")).collect()
    }
}

fn value(status: &[(String, String)], name: &str) -> String {
    status.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confined_apps_of_the_servers_own_user_are_kept_out() {
    let Some(mut apps) = Intruders::start(Asked { users: None, confine: "full" }).await else { return };
    apps.are_limited().await;
    let landlock: u32 = apps.tries("landlock", "").await.parse().unwrap();
    if landlock < 6 {
        tell(&format!("skipped what Landlock keeps from apps: its version is {landlock} here"));
        return;
    }
    apps.can_work().await;
    apps.are_kept_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confined_apps_with_users_of_their_own_are_kept_out() {
    if !geteuid().is_root() {
        return tell("skipped apps with users of their own: only root can start them");
    }
    let Some(mut apps) = Intruders::start(Asked { users: users(0), confine: "full" }).await else { return };
    apps.can_work().await;
    apps.are_kept_out().await;
    apps.are_limited().await;
    // What it has written survives the server, what was temporary does not.
    let tmp = PathBuf::from(apps.environment("TMPDIR").await);
    assert!(tmp.join("name").exists());
    assert!(apps.cluster.stop("app-a").await.success());
    apps.cluster.start_one("app-a").await;
    // The web-tier may not know yet.
    let back = async { while apps.user.get("/healthz").await.body != "healthy" {} };
    timeout(PATIENCE, back).await.unwrap();
    assert_eq!(apps.tries("kept", "name").await, "intruded");
    assert!(!tmp.join("name").exists());
    let log = fs::read_to_string(apps.path("app-a.log")).unwrap();
    assert!(!log.contains("others could read or change the data folder"), "{log}");
}

/// What a kernel without Landlock gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_their_own_keep_apps_out_by_themselves() {
    if !geteuid().is_root() {
        return tell("skipped apps with users of their own: only root can start them");
    }
    let Some(mut apps) = Intruders::start(Asked { users: users(1), confine: "off" }).await else { return };
    apps.can_work().await;
    apps.are_kept_out().await;
    apps.are_limited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_an_app_may_not_have_keeps_it_from_starting() {
    let mut cluster = Cluster::prepare(1, |configuration| configuration.app.push("user: '64001'".to_owned()));
    cluster.launch("web-a");
    cluster.launch("app-a");
    // A server of the hub goes on without its apps, and says so.
    let log = cluster.folder().join("app-a.log");
    let wanted =
        "wants the user `64001`, which the cluster's file does not have in `app-users`: expected none";
    let said = async {
        while !fs::read_to_string(&log).unwrap_or_default().contains(wanted) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, said).await.unwrap();
}
