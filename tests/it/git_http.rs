//! Real `git` against a whole cluster: what is deployed is cloned, what is pushed is deployed, and who sends nonsense is refused.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

/// Of `password`, and quick to verify.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

/// An app that ends as soon as it is started.
const BROKEN: &str = "command: [/bin/sh, -c, 'echo no database >&2; exit 3']\nhealth: {start-timeout: 20s}\n";

async fn start() -> Cluster {
    Cluster::start_with(2, |configuration| {
        configuration.lines.push("deploy-service: true".to_owned());
        configuration.admin = vec![
            "users:".to_owned(),
            format!("  - {{name: ops, password: \"{HASH}\", roles: [deploy]}}"),
            format!("  - {{name: eve, password: \"{HASH}\", roles: [view]}}"),
        ];
    })
    .await
}

fn url(cluster: &Cluster, user: &str, repository: &str) -> String {
    format!("http://{user}@{}/admin/{repository}", cluster.web())
}

/// What `git` said.
#[derive(Debug)]
struct Said {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn succeeds(self) -> Self {
        assert!(self.succeeded, "{self:?}");
        self
    }

    #[track_caller]
    fn fails_with(self, words: &[&str]) {
        let all = words.iter().all(|word| self.stderr.contains(word));
        assert!(!self.succeeded && all, "expected {words:?}: {self:?}");
    }
}

/// Somebody's folder with `git`, whose settings are git's own.
#[derive(Debug)]
struct Work {
    folder: TempDir,
}

impl Work {
    fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("copal-git-").tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, within: &Path, line: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(within).args(line).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_AUTHOR_NAME", "Ann"),
            ("GIT_AUTHOR_EMAIL", "ann@example.com"),
            ("GIT_COMMITTER_NAME", "Ann"),
            ("GIT_COMMITTER_EMAIL", "ann@example.com"),
        ] {
            command.env(name, value);
        }
        command.env("HOME", self.folder.path());
        command
    }

    async fn git(&self, within: &str, line: &[&str]) -> Said {
        let output = self.command(&self.path(within), line).output();
        let output = timeout(PATIENCE, output).await.unwrap_or_else(|_| panic!("{line:?} hangs")).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { succeeded: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// A repository with a remote.
    async fn init(&self, name: &str, remote: &str) {
        fs::create_dir(self.path(name)).unwrap();
        self.git(name, &["init", "--quiet", "--initial-branch=main"]).await.succeeds();
        self.git(name, &["remote", "add", "origin", remote]).await.succeeds();
    }

    /// Writes a file and commits all; the commit.
    async fn commit(&self, name: &str, file: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name).join(file), content).unwrap();
        self.git(name, &["add", "--all"]).await.succeeds();
        self.git(name, &["commit", "--quiet", "--allow-empty", "--message", file]).await.succeeds();
        self.head(name).await
    }

    async fn head(&self, name: &str) -> String {
        self.git(name, &["rev-parse", "HEAD"]).await.succeeds().stdout.trim().to_owned()
    }

    async fn push(&self, name: &str, more: &[&str]) -> Said {
        self.git(name, &[&["push", "origin"], more].concat()).await
    }

    /// Where a branch of the remote is.
    async fn remote(&self, name: &str, branch: &str) -> Option<String> {
        let said = self.git(name, &["ls-remote", "origin", branch]).await.succeeds();
        said.stdout.split_whitespace().next().map(str::to_owned)
    }
}

async fn served(cluster: &Cluster, path: &str) -> String {
    cluster.user().get(path).await.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_deploys_and_a_clone_has_the_history() {
    let (cluster, work) = (start().await, Work::new());
    work.init("shop", &url(&cluster, "ops:password", "git/shop.git")).await;
    assert_eq!(work.remote("shop", "main").await, None);
    let first = work.commit("shop", "index.html", "one").await;
    let said = work.push("shop", &["main"]).await.succeeds();
    for line in ["remote: app-a: active", "remote: app-b: active", "in use at /shop/", "[new branch]"] {
        assert!(said.stderr.contains(line), "{line}: {said:?}");
    }
    assert_eq!(served(&cluster, "/shop/").await, "one");
    assert_eq!(work.remote("shop", "main").await.as_ref(), Some(&first));

    let second = work.commit("shop", "index.html", "two").await;
    work.push("shop", &["main"]).await.succeeds();
    assert_eq!(served(&cluster, "/shop/").await, "two");
    // The same files: the branch moves all the same.
    let third = work.commit("shop", "index.html", "two").await;
    work.push("shop", &["main:master"]).await.succeeds();
    assert_eq!(work.remote("shop", "main").await.as_ref(), Some(&third));

    for version in ["0", "1", "2"] {
        let (asked, name) = (format!("protocol.version={version}"), format!("clone-{version}"));
        let all = url(&cluster, "eve:password", "deploy.git");
        work.git("", &["-c", &asked, "clone", "--quiet", &all, &name]).await.succeeds();
        work.git(&name, &["fsck", "--strict"]).await.succeeds();
        let log = work.git(&name, &["log", "--format=%H", "origin/production/webapp/default/shop"]).await;
        let commits: Vec<_> = log.succeeds().stdout.lines().map(str::to_owned).collect();
        assert_eq!(commits, [third.as_str(), &second, &first]);
        assert_eq!(fs::read_to_string(work.path(&name).join("index.html")).unwrap(), "two");
    }

    // Somebody else goes on from there, and the first one fetches that.
    work.git("", &["clone", "--quiet", &url(&cluster, "ops:password", "git/shop.git"), "other"])
        .await
        .succeeds();
    let fourth = work.commit("other", "index.html", "four").await;
    work.push("other", &["HEAD:main"]).await.succeeds();
    work.commit("shop", "mine.html", "mine").await;
    work.push("shop", &["main"]).await.fails_with(&["[rejected]", "fetch first"]);
    assert_eq!(served(&cluster, "/shop/").await, "four");
    for version in ["0", "2"] {
        let asked = format!("protocol.version={version}");
        // So much to say that git compresses it.
        for _ in 0..40 {
            let line = ["commit", "--quiet", "--allow-empty", "--message", "local"];
            work.git(&format!("clone-{version}"), &line).await.succeeds();
        }
        let fetched =
            work.git(&format!("clone-{version}"), &["-c", &asked, "fetch", "origin"]).await.succeeds();
        assert!(fetched.stderr.contains("production/webapp/default/shop"), "{fetched:?}");
    }
    work.git("shop", &["pull", "--quiet", "--no-rebase", "--no-edit", "origin", "main"]).await.succeeds();
    work.push("shop", &["main"]).await.succeeds();
    let parents = work.git("shop", &["rev-list", "--count", &fourth]).await.succeeds().stdout;
    assert_eq!((parents.trim(), served(&cluster, "/shop/mine.html").await.as_str()), ("4", "mine"));

    // Back to the first version, by force.
    work.git("shop", &["reset", "--quiet", "--hard", &first]).await.succeeds();
    work.push("shop", &["main"]).await.fails_with(&["[rejected]"]);
    work.push("shop", &["--force", "main"]).await.succeeds();
    assert_eq!(served(&cluster, "/shop/").await, "one");
    assert_eq!(work.remote("shop", "main").await, Some(first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_fails_moves_nothing_and_says_why() {
    let (cluster, work) = (start().await, Work::new());
    work.init("shop", &url(&cluster, "ops:password", "git/shop.git")).await;
    // Larger than what git sends in one piece.
    let large: Vec<u8> =
        (0..600_000u64).flat_map(|it| it.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let good = work.commit("shop", "large", &large).await;
    work.push("shop", &["main"]).await.succeeds();
    assert_eq!(work.remote("shop", "main").await.as_ref(), Some(&good));

    work.commit("shop", "app.yaml", BROKEN).await;
    let failed = work.push("shop", &["main"]).await;
    failed.fails_with(&[
        ": failed",
        "no database",
        "what was in use goes on",
        "[remote rejected] main -> main (it failed on app-",
    ]);
    assert_eq!(work.remote("shop", "main").await.as_ref(), Some(&good));
    work.git("shop", &["reset", "--quiet", "--hard", "HEAD~"]).await.succeeds();
    work.push("shop", &["main"]).await.succeeds();

    // What is not for a push.
    work.git("shop", &["branch", "one"]).await.succeeds();
    work.commit("shop", "more", "more").await;
    work.push("shop", &["one", "main"]).await.fails_with(&["one branch at a time"]);
    work.push("shop", &["main:production"]).await.fails_with(&["push it as `main`"]);
    work.push("shop", &["main:refs/tags/v1"]).await.fails_with(&["only branches are deployed"]);
    work.push("shop", &["main:nowhere"])
        .await
        .fails_with(&["no server that would run nowhere/webapp/default/shop"]);
    work.push("shop", &["--delete", "main"])
        .await
        .fails_with(&["a push deletes nothing", "deploy-tool undeploy"]);
    work.git("shop", &["update-index", "--add", "--cacheinfo", &format!("160000,{good},module")])
        .await
        .succeeds();
    work.git("shop", &["commit", "--quiet", "--message", "module"]).await.succeeds();
    work.push("shop", &["main"]).await.fails_with(&["unpack failed", "submodules are not supported"]);
    assert_eq!(work.remote("shop", "main").await.as_ref(), Some(&good));

    // Who may not.
    let remote = |user: &str, repository: &str| url(&cluster, user, repository);
    let push = |remote: String| async { work.git("shop", &["push", &{ remote }, "one:main"]).await };
    push(remote("ops:wrong", "git/shop.git")).await.fails_with(&["Authentication failed"]);
    push(remote("eve:password", "git/shop.git")).await.fails_with(&["remote: the user `eve` may not", "403"]);
    push(remote("ops:password", "deploy.git"))
        .await
        .fails_with(&["remote: deploy.git is there to read", "403"]);
    push(remote("ops:password", "git/shop-1.2.git")).await.fails_with(&["would be the version"]);
    push(remote("ops:password", "git/elsewhere/shop.git")).await.fails_with(&["`elsewhere`"]);
    work.git("", &["clone", "--quiet", &remote("eve:wrong", "deploy.git"), "no"])
        .await
        .fails_with(&["Authentication failed"]);
    work.git("", &["clone", "--quiet", "--depth=1", &remote("eve:password", "deploy.git"), "no"])
        .await
        .fails_with(&["shallow"]);
    work.git("", &["clone", "--quiet", &remote("eve:password", "git/shop.git"), "yes"]).await.succeeds();
    assert_eq!((work.head("yes").await, fs::read(work.path("yes/large")).unwrap()), (good, large));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_stops_no_rollout() {
    let (cluster, work) = (start().await, Work::new());
    work.init("shop", &url(&cluster, "ops:password", "git/shop.git")).await;
    fs::write(work.path("shop/app.yaml"), "static: public\nprepare: [/bin/sleep, \"1\"]\n").unwrap();
    fs::create_dir(work.path("shop/public")).unwrap();
    let commit = work.commit("shop", "public/index.html", "one").await;
    let mut command = work.command(&work.path("shop"), &["push", "origin", "main"]);
    let mut push = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(push.stderr.take().unwrap()).lines();
    let preparing = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("preparing") {
                return;
            }
        }
        panic!("it is not told that the app is prepared");
    };
    timeout(PATIENCE, preparing).await.unwrap();
    push.kill().await.unwrap();
    let deployed = async { while work.remote("shop", "main").await.as_ref() != Some(&commit) {} };
    timeout(PATIENCE, deployed).await.expect("the rollout ends");
    assert_eq!(served(&cluster, "/shop/").await, "one");
}

/// Status and body of what is sent by hand; `ops` is who sends it.
async fn post(cluster: &Cluster, service: &str, body: impl Into<Bytes>) -> (u16, String) {
    let address = cluster.web();
    let request = Request::post(format!("/admin/git/shop.git/git-{service}"))
        .header("host", &address)
        .header("authorization", "Basic b3BzOnBhc3N3b3Jk")
        .header("content-type", format!("application/x-git-{service}-request"))
        .header("git-protocol", "version=2");
    let mut connection = connect(&address).await;
    let sent = connection.send_request(request.body(Full::new(body.into())).unwrap());
    let answer = timeout(PATIENCE, sent).await.expect("no hanging").unwrap();
    let status = answer.status().as_u16();
    let body = timeout(PATIENCE, answer.into_body().collect()).await.expect("no hanging").unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// One command, then this pack.
fn push(new: &str, pack: &[u8]) -> Vec<u8> {
    let none = "0".repeat(40);
    let line = format!("{none} {new} refs/heads/main\0report-status side-band-64k");
    let mut body = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
    body.extend_from_slice(pack);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused_and_leaves_nothing_behind() {
    let (cluster, work) = (start().await, Work::new());
    work.init("shop", &url(&cluster, "ops:password", "git/shop.git")).await;
    let commit = work.commit("shop", "index.html", "one").await;
    let packed =
        work.command(&work.path("shop"), &["pack-objects", "--all", "--revs", "--stdout", "--quiet"]);
    let pack = { packed }.output().await.unwrap().stdout;
    assert!(pack.starts_with(b"PACK"));

    for body in [
        &b""[..],
        b"zzzz",
        b"0001",
        b"fff1",
        b"ffff",
        b"00",
        b"fff0half",
        b"0008want",
        b"0010not a command0000",
    ] {
        let (status, text) = post(&cluster, "receive-pack", body).await;
        assert_eq!(status, 400, "{}: {text}", body.escape_ascii());
        let (status, text) = post(&cluster, "upload-pack", body).await;
        assert_eq!(status, 400, "{}: {text}", body.escape_ascii());
    }
    let want = format!("0012command=fetch\n00010032want {commit}\n0009done\n0000");
    let (status, text) = post(&cluster, "upload-pack", want).await;
    assert!(status == 200 && text.contains("ERR") && text.contains("is missing"), "{text}");

    let mut flipped = pack.clone();
    flipped[pack.len() / 2] ^= 1;
    let other = "1".repeat(40);
    for (body, words) in [
        (push(&commit, &pack[..pack.len() / 2]), "unpack "),
        (push(&commit, b""), "unpack "),
        (push(&commit, b"PACK is not what this is"), "unpack "),
        (push(&commit, &flipped), "unpack "),
        (push(&commit, &[&pack[..], b"and more"].concat()), "unpack "),
        (push(&other, &pack), "is missing"),
        (push(&"0".repeat(40), b""), "a push deletes nothing"),
    ] {
        let (status, text) = post(&cluster, "receive-pack", body).await;
        assert!(status == 200 && text.contains("ng refs/heads/main ") && text.contains(words), "{text}");
        assert_eq!(text.contains("unpack ok"), words != "unpack ", "{text}");
    }
    assert_eq!(work.remote("shop", "main").await, None);
    work.push("shop", &["main"]).await.succeeds();
    assert_eq!(served(&cluster, "/shop/").await, "one");
    // Once more, as by a client that has not heard the answer: it is done.
    let (_, text) = post(&cluster, "receive-pack", push(&commit, &pack)).await;
    assert!(text.contains("is in use"), "{text}");
}
