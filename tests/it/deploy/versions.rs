//! `versioning: multiversion-routing` on a whole cluster: users stay in the version in which they began, on whichever server, for as long
//! as the file says.

use super::{Deploying, Version};
use crate::{
    client::connect,
    cluster::{PATIENCE, copal},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    header::{COOKIE, HOST, SET_COOKIE},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};

const VERSION: &str = "JSESSIONID-version";

/// A user with all cookies.
struct Browser {
    web: String,
    jar: BTreeMap<String, String>,
    /// As it has counted.
    count: u64,
}

impl Browser {
    fn new(deploying: &Deploying) -> Self {
        Self { web: deploying.cluster.web(), jar: BTreeMap::new(), count: 0 }
    }

    async fn get(&mut self, path: &str) -> (u16, String) {
        let cookies: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::get(path).header(HOST, &self.web).header(COOKIE, cookies.join("; "));
        let mut connection = connect(&self.web).await;
        let sent = connection.send_request(request.body(Full::<Bytes>::default()).unwrap());
        let answer = timeout(PATIENCE, sent).await.unwrap().unwrap();
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.jar.insert(name.to_owned(), value.to_owned());
        }
        let status = answer.status().as_u16();
        let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The version that answers.
    async fn version(&mut self) -> String {
        let (status, version) = self.get("/version.txt").await;
        assert_eq!(status, 200, "{version}");
        version
    }

    /// Counts on, one by one. The server that answered.
    async fn counts(&mut self) -> String {
        let (status, body) = self.get("/count").await;
        let words: Vec<_> = body.split_whitespace().collect();
        let ["count", count, "on", server] = words[..] else { panic!("{status} {body}") };
        self.count += 1;
        assert_eq!(count, self.count.to_string(), "{body}");
        server.to_owned()
    }
}

/// Counts in its session; its files say which version it is.
fn counter(deploying: &Deploying, version: &str) -> Version {
    let yaml = format!(
        "command: [{}, demo-app]\nstatic: htdocs\nhealth: {{path: /, interval: 1s, start-timeout: 30s}}\n",
        copal().display()
    );
    deploying.files(version, &[("app.yaml", &yaml), ("htdocs/version.txt", version)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_stay_in_their_version_on_every_server_until_its_time_is_over() {
    let line = "web-app-default: {confine: off, versioning: multiversion-routing, old-version-timeout: 1h}";
    let mut deploying = Deploying::start_with(3, |it| it.host.push(line.to_owned())).await;
    deploying.deploy(&counter(&deploying, "1.9"), "--name ROOT --version 1.9").await;
    let (mut users, mut homes) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let mut user = Browser::new(&deploying);
        homes.push(user.counts().await);
        assert_eq!(user.jar[VERSION], "1.9", "alone, it is told as well: another one may come");
        users.push(user);
    }
    homes.sort();
    homes.dedup();
    assert_eq!(homes, ["app-a", "app-b", "app-c"]);

    deploying.deploy(&counter(&deploying, "1.10"), "--name ROOT --version 1.10").await;
    let mut new = Browser::new(&deploying);
    assert_eq!(new.version().await, "1.10", "1.10 is above 1.9");
    new.counts().await;
    assert_eq!((new.version().await.as_str(), new.jar[VERSION].as_str()), ("1.10", "1.10"));
    for user in &mut users {
        user.counts().await;
        assert_eq!(user.version().await, "1.9");
    }

    // Whoever was at home there goes on elsewhere, in the same version.
    deploying.cluster.kill("app-c").await;
    for user in &mut users {
        assert_ne!(user.counts().await, "app-c");
        assert_eq!(user.version().await, "1.9");
    }
    assert_eq!(Browser::new(&deploying).version().await, "1.10");

    // The time is over a second after each server has the newer one.
    deploying.cluster.configuration.host[0] = line.replace("1h", "1s");
    deploying.cluster.write();
    let running = ["app-a", "app-b", "web-a"].map(str::to_owned);
    deploying.cluster.kill_all(&running).await;
    deploying.cluster.start_all().await;
    let moves = async {
        for user in &mut users {
            while user.get("/version.txt").await != (200, "1.10".to_owned()) {
                sleep(Duration::from_millis(20)).await;
            }
            user.counts().await;
        }
    };
    timeout(PATIENCE, moves).await.expect("they move, with their sessions");
    // The old one can go, and whoever still has its cookie is not lost.
    deploying.tool("undeploy ROOT-1.9").await.succeeds();
    for user in &mut users {
        assert_eq!(user.version().await, "1.10");
        user.counts().await;
    }
}
