//! Sessions of users who take no cookies: `session-url`.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    header::{ACCEPT, HOST},
};
use std::fs;
use tokio::time::timeout;

/// What a browser that drops all cookies sees: it follows links.
#[derive(Debug)]
struct Page {
    html: String,
}

impl Page {
    async fn get(cluster: &Cluster, path: &str) -> Self {
        let request = Request::get(path).header(HOST, cluster.web()).header(ACCEPT, "text/html");
        let mut connection = connect(&cluster.web()).await;
        let sent = connection.send_request(request.body(Full::<Bytes>::default()).unwrap());
        let answer = timeout(PATIENCE, sent).await.expect("an answer in time").unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Self { html: String::from_utf8(body.to_vec()).unwrap() }
    }

    fn between(&self, before: &str, after: &str) -> &str {
        let (_, rest) =
            self.html.split_once(before).unwrap_or_else(|| panic!("no {before} in {}", self.html));
        rest.split_once(after).unwrap().0
    }

    fn count(&self) -> (u64, &str) {
        (self.between("<h1>", "</h1>").parse().unwrap(), self.between("on <b>", "</b>"))
    }

    /// Where the link to the count leads.
    fn link(&self) -> String {
        format!("/count{}", self.between("href=\"count", "\""))
    }
}

/// Counts in the session of a link, and says where. A GET whose server dies or comes back may be sent again, and count twice.
async fn count_on(cluster: &Cluster, link: &str, last: &mut u64) -> String {
    let page = Page::get(cluster, link).await;
    let (count, server) = page.count();
    assert!((*last + 1..=*last + 2).contains(&count), "{count} after {last} on {server}");
    assert_eq!(page.link(), link);
    *last = count;
    server.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_cookies_counts_on_when_his_server_is_killed() {
    let mut cluster = Cluster::start_with(3, |it| {
        it.rule = "{cluster: app-tier, session-url: true}".into();
        it.web_tier.push("access-log: {path: access.log, format: json}".into());
    })
    .await;
    let mut links = Vec::new();
    for user in 0..4 {
        // Nothing is kept under what a page without a session offers: it is the next page's that counts.
        let offered = Page::get(&cluster, "/").await.link();
        let first = Page::get(&cluster, &offered).await;
        assert_eq!(first.count().0, 1, "user {user}");
        assert_ne!(first.link(), offered);
        links.push(first.link());
    }
    let id = |link: &str| link.split_once(";jsessionid=").unwrap().1.to_owned();
    let home = |link: &str| format!("app-{}", &id(link)[..1]);
    let mut count = 1;
    for _ in 0..3 {
        count += 1;
        for link in &links {
            let page = Page::get(&cluster, link).await;
            assert_eq!((page.count(), page.link()), ((count, home(link).as_str()), link.clone()));
        }
    }
    let mut last = vec![count; links.len()];
    let dead = home(&links[0]);
    cluster.kill(&dead).await;
    for _ in 0..2 {
        for (link, last) in links.iter().zip(&mut last) {
            assert_ne!(count_on(&cluster, link, last).await, dead);
        }
    }
    cluster.start_one(&dead).await;
    for (link, last) in links.iter().zip(&mut last) {
        count_on(&cluster, link, last).await;
    }
    // A cookie wins, and its user sees no ids in links.
    let mut user = cluster.user_of(1, 7);
    assert_eq!(user.get(&links[0]).await.count().0, 1);
    count_on(&cluster, &links[0], &mut last[0]).await;

    assert!(cluster.stop("web-a").await.success());
    let log = fs::read_to_string(cluster.folder().join("access.log")).unwrap();
    assert!(log.contains("\"/count;jsessionid=***\""), "{log}");
    assert!(links.iter().all(|link| !log.contains(&id(link))), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_urls_name_no_sessions() {
    let cluster = Cluster::start(1).await;
    assert_eq!(Page::get(&cluster, "/").await.link(), "/count");
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let (_, id) = user.cookie.as_deref().unwrap().split_once('=').unwrap();
    let mut other = cluster.user();
    assert_eq!(other.get(&format!("/count;jsessionid={id}")).await.status, StatusCode::NOT_FOUND);
}
