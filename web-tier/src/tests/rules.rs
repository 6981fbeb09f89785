//! Rules, as a client sees them: over sockets, in HTTP/1.1 and HTTP/2.

use super::{
    backend::echo,
    client::Client,
    cluster::{Cluster, config},
    reload::file,
};
use common::config::{Config, HttpListener, LoadOptions, WebApp, load_str};
use std::{fs, path::Path};

/// The hosts of a web tier whose file says so, before a cluster `app-tier`.
pub(super) fn hosts(folder: &Path, dispatch: &str) -> Vec<common::config::Host> {
    let text = format!(
        "clusters:\n  - id: app-tier\n    servers: [{{id: app-a, address: 127.0.0.1}}]\n    hosts: [{{id: '', web-apps: [{{id: '', root-directory: {root}}}]}}]\n  \
         - {{id: canary, servers: [{{id: canary-a, address: 127.0.0.1, port: 6802}}]}}\n  \
         - id: web-tier\n    servers: [{{id: web-a, address: 127.0.0.1, port: 6801}}]\n    hosts:\n      - id: ''\n        \
         web-apps: [{{id: '', root-directory: {root}}}]\n        dispatch: [{dispatch}]\n",
        root = folder.display(),
    );
    let loaded = load_str(&text, Path::new("cluster.yaml"), &LoadOptions::default());
    let config = loaded.map_err(|errors| errors.to_string()).unwrap().config;
    config.clusters.into_iter().find(|it| it.id.as_str() == "web-tier").unwrap().hosts
}

async fn cluster(folder: &Path, dispatch: &str) -> Cluster {
    let hosts = hosts(folder, dispatch);
    Cluster::start_with([echo("a")], |config: &mut Config| config.clusters[1].hosts = hosts).await
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "a file").unwrap();
    fs::write(folder.path().join("large.bin"), vec![b'x'; 300_000]).unwrap();
    folder
}

#[tokio::test]
async fn redirects_and_errors_are_answers_of_our_own() {
    let folder = folder();
    let rules = "{redirect: {regexp: '^/old/(.*)', target: '/new/$1'}}, {moved-permanently: {regexp: '^/gone', target: 'https://h.example/x'}}, \
                 {forbidden: {regexp: '^/secret'}}, {send-error: {regexp: '^/tea', code: 418, message: 'short and stout'}}, \
                 {load-balance: {cluster: app-tier}}";
    let cluster = cluster(folder.path(), rules).await;
    let mut client = cluster.client().await;
    let moved = client.ask("GET /old/a%20b?q", "").await;
    assert!(moved.status == 302 && moved.has("location: /new/a%20b?q"), "{}", moved.head);
    assert!(!moved.head.contains("via:"), "it came by nobody: {}", moved.head);
    assert_eq!(client.ask("GET /gone", "").await.status, 301);
    assert_eq!(client.ask("POST /secret", "Content-Length: 3\r\n\r\nabc").await.status, 403);
    let tea = client.ask("GET /tea", "").await;
    assert!(tea.status == 418 && tea.body.contains("short and stout"), "{}", tea.body);
    assert!(client.ask("GET /x", "").await.body.starts_with("a\nGET /x\n"), "all on one connection");
    assert_eq!(cluster.web.totals().connections, 1);
}

#[tokio::test]
async fn headers_change_on_the_way_in_and_out() {
    let folder = folder();
    let rules = "{set-header: {name: X-Frame-Options, value: DENY}}, {set-request-header: {name: X-Tier, value: web}}, \
                 {set-request-header: {name: host, value: inner.example}}, {set-request-header: {name: X-Drop, value: ''}}, \
                 {forbidden: {regexp: '^/secret'}}, {load-balance: {cluster: app-tier}}";
    let cluster = cluster(folder.path(), rules).await;
    let answer = cluster.ask("GET /", "X-Tier: spoofed\r\nX-Drop: 1\r\n").await;
    assert!(answer.has("x-frame-options: DENY"), "{}", answer.head);
    for line in ["x-tier: web", "host: inner.example", "x-forwarded-host: shop.example"] {
        assert!(answer.body.lines().any(|it| it == line), "{line} in {}", answer.body);
    }
    assert!(!answer.body.contains("spoofed") && !answer.body.contains("x-drop"), "{}", answer.body);
    let refused = cluster.ask("GET /secret", "").await;
    assert!(refused.status == 403 && refused.has("x-frame-options: DENY"), "{}", refused.head);
}

#[tokio::test]
async fn files_are_served_here_and_the_rest_forwarded() {
    let folder = folder();
    let rules = "{dispatch: {regexp: '\\.(txt|bin)$'}}, {forward: {regexp: '^/short', target: '/long'}}, {load-balance: {cluster: app-tier}}";
    let cluster = cluster(folder.path(), rules).await;
    let mut client = cluster.client().await;
    let file = client.ask("GET /a.txt", "").await;
    assert!(file.status == 200 && file.body == "a file" && file.head.contains("etag: "), "{}", file.head);
    let etag = file.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    assert_eq!(client.ask("GET /a.txt", &format!("If-None-Match: {etag}\r\n")).await.status, 304);
    let part = client.ask("GET /large.bin", "Range: bytes=10-19\r\n").await;
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(client.ask("GET /large.bin", "").await.body.len(), 300_000);
    client.send("HEAD /large.bin HTTP/1.1\r\nHost: h\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let text = {
        let mut text = vec![0; 1];
        use tokio::io::AsyncReadExt;
        while !text.ends_with(b"a file") {
            text.push(client.0.read_u8().await.unwrap());
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    assert!(text.contains("content-length: 300000") && text.matches("HTTP/1.1 200").count() == 2, "{text}");
    assert_eq!(client.ask("GET /none.txt", "").await.status, 404);
    assert!(client.ask("GET /short", "").await.body.starts_with("a\nGET /long\n"));
}

#[tokio::test]
async fn a_host_without_a_rule_for_a_path_is_a_404() {
    let cluster = Cluster::start_with([echo("a")], |it: &mut Config| {
        let rules = config(&[]).clusters[1].hosts[0].dispatch.clone();
        it.clusters[1].hosts[0].dispatch = rules;
        it.clusters[1].hosts[0].dispatch[0].regexp = Some(regex::Regex::new("^/only").unwrap());
        it.clusters[1].hosts[0].web_apps = Vec::<WebApp>::new();
    })
    .await;
    assert_eq!(cluster.ask("GET /other", "").await.status, 404);
    assert_eq!(cluster.ask("GET /only", "").await.status, 200);
}

/// Where who asks, how and by which listener decides, and `trusted-proxies` are the addresses of this machine or not.
async fn conditional(folder: &Path, dispatch: &str, trusted: bool) -> Cluster {
    let hosts = hosts(folder, dispatch);
    Cluster::start_with([echo("a")], |config: &mut Config| {
        config.clusters[1].hosts = hosts;
        config.clusters[1].servers[0].http[0].h2c = true;
        if trusted {
            config.clusters[1].trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        }
    })
    .await
}

/// The example of docs/rules.md, behind a balancer that ends TLS: it must not go round for ever.
#[tokio::test]
async fn a_request_is_secure_where_a_trusted_proxy_says_so() {
    let folder = folder();
    let rules =
        "{redirect: {target: 'https://$host$0', if: {secure: false}}}, {load-balance: {cluster: app-tier}}";
    let location = "location: https://shop.example/a?q=1";
    let cluster = conditional(folder.path(), rules, true).await;
    let mut client = cluster.client().await;
    for said in ["https", "HTTPS", "wss", "https, http"] {
        let answer = client.ask("GET /a?q=1", &format!("X-Forwarded-Proto: {said}\r\n")).await;
        assert_eq!(answer.status, 200, "{said}: {}", answer.head);
    }
    for headers in
        ["X-Forwarded-Proto: http\r\n", "X-Forwarded-Proto:\r\n", "X_Forwarded_Proto: https\r\n", ""]
    {
        let answer = client.ask("GET /a?q=1", headers).await;
        assert!(answer.status == 302 && answer.has(location), "{headers}: {}", answer.head);
    }
    let mut streams = super::http2::client(&cluster).await;
    for (said, status) in [("https", 200), ("http", 302)] {
        let request = super::http2::get("/a").header("x-forwarded-proto", said).body(()).unwrap();
        let (answer, ..) = super::http2::ask(&mut streams, request, &[]).await.unwrap();
        assert_eq!(answer.status(), status, "{said}");
    }
    let stranger = conditional(folder.path(), rules, false).await;
    let answer = stranger.ask("GET /a?q=1", "X-Forwarded-Proto: https\r\n").await;
    assert!(answer.status == 302 && answer.has(location), "{}", answer.head);
}

#[tokio::test]
async fn the_remote_address_is_whom_a_trusted_proxy_names() {
    let folder = folder();
    let rules = "{forbidden: {if: {remote-addr: 192.0.2.0/24}}}, {load-balance: {cluster: app-tier}}";
    let (trusted, stranger) =
        (conditional(folder.path(), rules, true).await, conditional(folder.path(), rules, false).await);
    for (headers, behind_trusted) in [
        ("X-Forwarded-For: 192.0.2.9\r\n", 403),
        ("X-Forwarded-For: 198.51.100.1, 192.0.2.9\r\n", 403),
        ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.9, 127.0.0.2\r\n", 403),
        // What stands left of the first stranger may be a lie.
        ("X-Forwarded-For: 192.0.2.9, 198.51.100.1\r\n", 200),
        ("X_Forwarded_For: 192.0.2.9\r\n", 200),
        ("", 200),
    ] {
        assert_eq!(trusted.ask("GET /", headers).await.status, behind_trusted, "{headers}");
        assert_eq!(stranger.ask("GET /", headers).await.status, 200, "{headers}");
    }
    let rules = "{forbidden: {if: {remote-addr: 127.0.0.0/8}}}, {load-balance: {cluster: app-tier}}";
    let cluster = conditional(folder.path(), rules, false).await;
    assert_eq!(cluster.ask("GET /", "X-Forwarded-For: 192.0.2.9\r\n").await.status, 403, "who connected");
}

#[tokio::test]
async fn the_local_port_is_the_listeners_own() {
    let folder = folder();
    let listeners = |config: &mut Config| {
        config.clusters[1].trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        config.clusters[1].servers[0].http.push(HttpListener::plain("127.0.0.2", 0));
    };
    let mut cluster = Cluster::start_with([echo("a")], listeners).await;
    let [open, closed] = cluster.web.addresses()[..] else { panic!("two listeners") };
    // The system has chosen the ports: a rule can name one only now.
    let rules = format!(
        "{{forbidden: {{if: {{local-port: {}}}}}}}, {{load-balance: {{cluster: app-tier}}}}",
        closed.port()
    );
    let config = file(&cluster, |config| {
        listeners(config);
        config.clusters[1].hosts = hosts(folder.path(), &rules);
    });
    assert_eq!(cluster.web.reload(config).await.unwrap().to_string(), "rules");
    let headers = format!("X-Forwarded-Port: {}\r\n", open.port());
    for (address, status) in [(open, 200), (closed, 403)] {
        let answer = Client::connect(address).await.ask("GET /", &headers).await;
        assert_eq!(answer.status, status, "{address}");
    }
}

/// CGI and its kin make one variable of `X-User` and `X_User`: whoever takes the one away has to take the other too.
#[tokio::test]
async fn a_header_that_a_rule_vouches_for_comes_under_no_other_name() {
    let folder = folder();
    let rules = "{set-request-header: {name: X-User, value: ''}}, {set-request-header: {name: X-Role, value: guest}}, {load-balance: {cluster: app-tier}}";
    let cluster = cluster(folder.path(), rules).await;
    let forged = "X-User: evil\r\nX_User: evil\r\nx.user: evil\r\nX~USER: evil\r\nX_Role: evil\r\nX-Role: evil\r\nX-Users: kept\r\n";
    let seen = cluster.ask("GET /", forged).await.body;
    assert!(!seen.contains("evil") && seen.contains("\nx-users: kept\n"), "{seen}");
    let roles: Vec<_> = seen.lines().filter(|line| line.starts_with('x') && line.contains("role")).collect();
    assert_eq!(roles, ["x-role: guest"]);
}

#[tokio::test]
async fn a_rule_holds_however_its_path_is_written() {
    let folder = folder();
    let rules = "{forbidden: {regexp: '^/private(/|$)'}}, {redirect: {regexp: '^/old/(.*)', target: 'https://$host/new/$1'}}, \
                 {load-balance: {cluster: app-tier}}";
    let cluster = cluster(folder.path(), rules).await;
    let mut client = cluster.client().await;
    for path in
        ["/%2Fprivate/x", "/.%2Fprivate", "/private;a=1/x", "/%5cprivate", "//private", "/.;a/private"]
    {
        assert_eq!(client.ask(&format!("GET {path}"), "").await.status, 403, "{path}");
    }
    for path in ["/api/a%2Fb", "/a;jsessionid=0F/b", "/x/https%3A%2F%2Fh%2F", "/caf%E9"] {
        let seen = client.ask(&format!("GET {path}?q=%2F"), "").await.body;
        assert!(seen.starts_with(&format!("a\nGET {path}?q=%2F\n")), "{seen}");
    }
    let moved = client.ask("GET /old/a%2Fb%E9;c?q", "").await;
    assert!(moved.has("location: https://shop.example/new/a%2Fb%E9;c?q"), "{}", moved.head);
}

#[tokio::test]
async fn a_host_keeps_the_slashes_of_its_paths_if_it_is_told_to() {
    let keeping = async |merge_slashes: bool| {
        let change = |config: &mut Config| config.clusters[1].hosts[0].merge_slashes = merge_slashes;
        let cluster = Cluster::start_with([echo("a")], change).await;
        let seen = cluster.ask("GET /fetch/https://example.com//a/../b", "").await.body;
        seen.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(keeping(false).await, "GET /fetch/https://example.com//b");
    assert_eq!(keeping(true).await, "GET /fetch/https:/example.com/b");
}
