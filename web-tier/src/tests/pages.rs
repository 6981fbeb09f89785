//! Pages for errors, and for a site that is closed.

use super::{
    backend::{echo, says},
    client::Answer,
    cluster::Cluster,
    reload::file,
};
use crate::{WebTierError, route::pages::Pages};
use common::config::{Config, Host, LoadOptions, load_str};
use std::{fs, path::Path};
use tempfile::TempDir;

/// A folder with pages, and files to serve.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("404.html", "<h1>not here</h1>"),
        ("sorry.html", "<h1>sorry</h1>"),
        ("bad.txt", "bad"),
        ("closed.html", "<h1>closed</h1>"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::create_dir(folder.path().join("files")).unwrap();
    folder
}

/// A host whose file says so, before a cluster `app-tier`.
fn host(folder: &Path, keys: &str) -> Vec<Host> {
    let text = format!(
        "clusters:\n  - id: app-tier\n    servers: [{{id: app-a, address: 127.0.0.1}}]\n    hosts: [{{id: '', web-apps: [{{id: '', root-directory: files}}]}}]\n  \
         - id: web-tier\n    servers: [{{id: web-a, address: 127.0.0.1, port: 6801}}]\n    hosts:\n      - id: ''\n        \
         web-apps: [{{id: /files, root-directory: files}}]\n        {keys}\n"
    );
    let loaded = load_str(&text, &folder.join("cluster.yaml"), &LoadOptions::default());
    let config = loaded.map_err(|errors| errors.to_string()).unwrap().config;
    config.clusters.into_iter().find(|it| it.id.as_str() == "web-tier").unwrap().hosts
}

const OWN: &str = "error-pages: {404: 404.html, 5xx: sorry.html, 4xx: bad.txt}";

async fn cluster(
    folder: &Path,
    keys: &str,
    backends: impl IntoIterator<Item = super::backend::OnConnection>,
) -> Cluster {
    let hosts = host(folder, keys);
    Cluster::start_with(backends, |config: &mut Config| config.clusters[1].hosts = hosts).await
}

fn is(answer: &Answer, status: u16, kind: &str, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body), "{}", answer.head);
    assert!(answer.has(&format!("content-type: {kind}")), "{}", answer.head);
    assert!(answer.has("cache-control: no-store"), "{}", answer.head);
    assert_eq!(answer.head.matches("content-type").count(), 1, "{}", answer.head);
}

const HTML: &str = "text/html; charset=utf-8";

#[tokio::test]
async fn errors_of_the_web_tiers_own_have_pages() {
    let folder = folder();
    let keys = format!(
        "{OWN}\n        dispatch: [{{forbidden: {{regexp: '^/secret'}}}}, {{send-error: {{regexp: '^/tea', code: 418, message: stout}}}}, \
         {{dispatch: {{regexp: '^/files/'}}}}, {{load-balance: {{regexp: '^/app', cluster: app-tier}}}}]"
    );
    let cluster = cluster(folder.path(), &keys, []).await;
    let mut client = cluster.client().await;
    is(&client.ask("GET /nowhere", "").await, 404, HTML, "<h1>not here</h1>");
    is(&client.ask("GET /files/none", "").await, 404, HTML, "<h1>not here</h1>");
    is(&client.ask("GET /secret", "").await, 403, "text/plain; charset=utf-8", "bad");
    let busy = client.ask("GET /app", "").await;
    is(&busy, 503, HTML, "<h1>sorry</h1>");
    assert!(busy.has("retry-after: 1"), "{}", busy.head);
    let tea = client.ask("GET /tea", "").await;
    assert!(tea.status == 418 && tea.body.contains("stout"), "a rule's own words stay: {}", tea.body);
    client.send("HEAD /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let head = client.rest().await;
    assert!(head.contains("content-length: 17\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let unread = cluster.ask("GET /a/../../b", "").await;
    is(&unread, 400, "text/plain; charset=utf-8", "bad");
}

#[tokio::test]
async fn a_body_that_is_too_large_has_one_too() {
    let folder = folder();
    let hosts =
        host(folder.path(), &format!("{OWN}\n        dispatch: [{{load-balance: {{cluster: app-tier}}}}]"));
    let cluster = Cluster::start_with([echo("a")], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        config.clusters[1].servers[0].request_limits.body = std::num::NonZeroU64::new(2);
    })
    .await;
    let answer = cluster.ask("POST /", "Content-Length: 3\r\n\r\nabc").await;
    is(&answer, 413, "text/plain; charset=utf-8", "bad");
}

#[tokio::test]
async fn errors_of_servers_have_them_if_the_host_wants_that() {
    let failing = || {
        says(
            "HTTP/1.1 500 Oh\r\nretry-after: 7\r\nset-cookie: a=b\r\nx-debug: secret\r\netag: \"x\"\r\n\
             content-type: text/x\r\ncontent-length: 5\r\n\r\ntrace",
        )
    };
    let folder = folder();
    let keys = |which: &str| {
        format!(
            "{OWN}\n        error-pages-for: {which}\n        dispatch: [{{set-header: {{name: X-A, value: b}}}}, {{load-balance: {{cluster: app-tier}}}}]"
        )
    };
    let own = cluster(folder.path(), &keys("own"), [failing()]).await;
    let answer = own.ask("GET /", "").await;
    assert!(answer.body == "trace" && answer.has("x-debug: secret"), "{}", answer.head);
    let all = cluster(folder.path(), &keys("all"), [failing()]).await;
    let answer = all.ask("GET /", "").await;
    is(&answer, 500, HTML, "<h1>sorry</h1>");
    for line in ["retry-after: 7", "set-cookie: a=b", "x-a: b"] {
        assert!(answer.has(line), "{line} in {}", answer.head);
    }
    assert!(!answer.head.contains("x-debug") && !answer.head.contains("etag"), "{}", answer.head);
    let fine = cluster(folder.path(), &keys("all"), [echo("a")]).await;
    assert!(fine.ask("GET /", "").await.body.starts_with("a\n"));
}

#[tokio::test]
async fn a_client_of_grpc_reads_no_pages() {
    let folder = folder();
    let hosts =
        host(folder.path(), &format!("{OWN}\n        dispatch: [{{load-balance: {{cluster: app-tier}}}}]"));
    let cluster = Cluster::start_with([], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        config.clusters[1].servers[0].http[0].h2c = true;
    })
    .await;
    let stream = tokio::net::TcpStream::connect(cluster.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let _connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut ask = async |kind: &str| {
        let request = http::Request::post("http://shop.example/a.B/C").header("content-type", kind).body(());
        client.send_request(request.unwrap(), true).unwrap().0.await.unwrap()
    };
    let call = ask("application/grpc").await;
    assert_eq!(
        (call.status().as_u16(), &call.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    assert_eq!(call.headers()["grpc-status"], "14");
    let other = ask("application/json").await;
    assert_eq!((other.status().as_u16(), other.headers()["content-type"].to_str().unwrap()), (503, HTML));
}

#[tokio::test]
async fn a_file_closes_the_site() {
    let folder = folder();
    let keys = format!(
        "{OWN}\n        dispatch: [{{maintenance: {{file: closed.html, retry-after: 15m, if: {{file-exists: /files/closed}}}}}}, \
         {{maintenance: {{regexp: '^/old', file: closed.html, status: 410, retry-after: 0s}}}}, {{load-balance: {{cluster: app-tier}}}}]"
    );
    let site = cluster(folder.path(), &keys, [echo("a")]).await;
    assert_eq!(site.ask("GET /", "").await.status, 200);
    let old = site.ask("GET /old", "").await;
    is(&old, 410, HTML, "<h1>closed</h1>");
    assert!(!old.head.contains("retry-after"), "{}", old.head);
    fs::write(folder.path().join("files/closed"), "").unwrap();
    // What a web tier has seen of a file is good for a second: another has seen nothing.
    let closed = cluster(folder.path(), &keys, [echo("a")]).await;
    let answer = closed.ask("POST /", "Content-Length: 3\r\n\r\nabc").await;
    is(&answer, 503, HTML, "<h1>closed</h1>");
    assert!(answer.has("retry-after: 900"), "{}", answer.head);
}

#[test]
fn a_page_that_changes_is_read_again() {
    let folder = folder();
    let path = folder.path().join("404.html");
    let mut config = super::cluster::config(&[]);
    config.clusters[1].hosts = host(folder.path(), OWN);
    let pages = Pages::read(&config.clusters[1]).unwrap();
    let text = || String::from_utf8(pages.get(&path).unwrap().content.to_vec()).unwrap();
    assert_eq!(text(), "<h1>not here</h1>");
    let write = |text: &str, second| {
        fs::write(&path, text).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
        fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    write("moved", 1000);
    pages.look();
    pages.look();
    assert_eq!(text(), "moved");
    fs::remove_file(&path).unwrap();
    pages.look();
    pages.look();
    assert_eq!(text(), "moved", "one that is gone stays as it was");
    write(&"x".repeat((1 << 20) + 1), 2000);
    pages.look();
    pages.look();
    assert_eq!(text(), "moved", "so does one that is too large");
    write("back", 3000);
    pages.look();
    pages.look();
    assert_eq!(text(), "back");
}

#[tokio::test]
async fn a_page_that_is_not_there_is_told_with_its_place() {
    let folder = folder();
    let wrong = host(folder.path(), "error-pages: {404: none.html}");
    let mut config = super::cluster::config(&[]);
    config.clusters[1].hosts = wrong.clone();
    let errors = crate::check_pages(&config, None).unwrap_err().to_string();
    assert!(
        errors.contains("none.html can't be used: No such file") && errors.contains("cluster.yaml:10:28"),
        "{errors}"
    );
    let mut cluster = cluster(folder.path(), OWN, []).await;
    let config = file(&cluster, |config| config.clusters[1].hosts = wrong);
    let refused = cluster.web.reload(config).await.unwrap_err();
    assert!(matches!(refused, WebTierError::Page(_)), "{refused}");
    assert_eq!(cluster.ask("GET /", "").await.body, "<h1>not here</h1>", "nothing has changed");
}
