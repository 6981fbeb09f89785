//! Answers that are kept, through a whole web tier.

mod collapsing;
mod disk;
mod parts;
mod safety;

use super::{
    backend::{OnConnection, http},
    cluster::Cluster,
};
use bytes::Bytes;
use common::config::{Config, ProxyCache};
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A request as the server got it.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().unwrap())
    }
}

/// A server that writes down what it is asked.
#[derive(Debug, Clone, Default)]
struct Origin(Arc<Mutex<Vec<Seen>>>);

impl Origin {
    /// Answers with these header lines and the number of the request as its body, or by a status alone.
    fn answers(
        &self,
        answer: impl Fn(&Seen, usize) -> (u16, String) + Send + Sync + 'static,
    ) -> OnConnection {
        let seen = self.0.clone();
        let answer = Arc::new(answer);
        http(move |request| {
            let (parts, _) = request.into_parts();
            let asked = Seen { method: parts.method, path: parts.uri.to_string(), headers: parts.headers };
            let mut all = seen.lock().unwrap();
            all.push(asked.clone());
            let number = all.len();
            let (status, lines) = answer(&asked, number);
            let mut response = Response::builder().status(status);
            for line in lines.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                response = response.header(name, value);
            }
            let body = if status == 304 { String::new() } else { format!("answer {number}") };
            let response = response.body(Full::new(Bytes::from(body))).unwrap();
            std::future::ready(response)
        })
    }

    /// The same lines each time.
    fn says(&self, lines: &str) -> OnConnection {
        let lines = lines.to_owned();
        self.answers(move |_, _| (200, lines.clone()))
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until it was asked so often.
    async fn asked(&self, count: usize) {
        super::foreign::until(|| self.count() >= count).await;
    }
}

fn cached(config: &mut Config) {
    config.clusters[1].proxy_cache = Some(ProxyCache::default());
}

fn with(change: impl FnOnce(&mut ProxyCache)) -> impl FnOnce(&mut Config) {
    move |config| {
        let mut cache = ProxyCache::default();
        change(&mut cache);
        config.clusters[1].proxy_cache = Some(cache);
    }
}

async fn start(backend: OnConnection) -> Cluster {
    Cluster::start_with([backend], cached).await
}

fn status_of(answer: &super::client::Answer) -> String {
    let line = answer.head.lines().find_map(|it| it.strip_prefix("cache-status: "));
    line.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_fresh_answer_is_asked_for_once() {
    let origin = Origin::default();
    let cluster =
        start(origin.says("Cache-Control: max-age=60\nX-Thing: a\nConnection: x-hop\nX-Hop: 1")).await;
    let first = cluster.ask("GET /a?b", "").await;
    assert_eq!(
        (first.status, first.body.as_str(), status_of(&first).as_str()),
        (200, "answer 1", "copal; fwd=uri-miss; stored")
    );
    let mut client = cluster.client().await;
    for _ in 0..20 {
        let again = client.ask("GET /a?b", "").await;
        assert_eq!((again.status, again.body.as_str()), (200, "answer 1"));
        assert!(
            status_of(&again).starts_with("copal; hit; ttl=") && again.has("via: 1.1 copal"),
            "{}",
            again.head
        );
        assert!(
            again.has("x-thing: a") && again.has("age: 0") && !again.head.contains("x-hop"),
            "{}",
            again.head
        );
        assert_eq!(again.head.matches("date: ").count(), 1);
    }
    client.send("HEAD /a?b HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await;
    let head = client.rest().await;
    assert!(head.contains("content-length: 8\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(origin.count(), 1);
    for other in ["GET /a?c", "GET /a", "GET /A?b"] {
        assert!(status_of(&cluster.ask(other, "").await).contains("stored"), "{other}");
    }
}

#[tokio::test]
async fn without_a_cache_or_with_a_rule_against_it_nothing_is_kept() {
    for has_cache in [false, true] {
        let origin = Origin::default();
        let cluster = Cluster::start_with([origin.says("Cache-Control: max-age=60")], |config| {
            if has_cache {
                cached(config);
                config.clusters[1].hosts[0].dispatch[0].cache = false;
            }
        })
        .await;
        for number in 1..3 {
            let answer = cluster.ask("GET /", "").await;
            assert_eq!(answer.body, format!("answer {number}"));
            assert_eq!(status_of(&answer), "");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_it_is_told_so_and_parts_are_given() {
    let origin = Origin::default();
    let lines = "Cache-Control: max-age=60\nETag: \"v1\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nContent-Type: text/plain";
    let cluster = start(origin.says(lines)).await;
    cluster.ask("GET /", "").await;
    for (headers, status, body) in [
        ("If-None-Match: \"x\", W/\"v1\"\r\n", 304, ""),
        ("If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 2094 08:49:37 GMT\r\n", 200, "answer 1"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304, ""),
        ("Range: bytes=0-2\r\n", 206, "ans"),
        ("Range: bytes=-1\r\nIf-Range: \"v1\"\r\n", 206, "1"),
        ("Range: bytes=-1\r\nIf-Range: \"v2\"\r\n", 200, "answer 1"),
        ("Range: bytes=-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 206, "1"),
        ("Range: bytes=8-\r\n", 416, ""),
        ("Range: bytes=0-1,3-4\r\n", 200, "answer 1"),
    ] {
        let answer = cluster.ask("GET /", headers).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{headers}: {}", answer.head);
        if status == 304 {
            assert!(answer.has("etag: \"v1\"") && !answer.head.contains("content-type"), "{}", answer.head);
        }
        if status == 206 {
            assert!(
                answer.head.contains("content-range: bytes ") && answer.head.contains("/8\r\n"),
                "{}",
                answer.head
            );
        }
    }
    assert!(cluster.ask("GET /", "Range: bytes=9-\r\n").await.has("content-range: bytes */8"));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_stale_answer_is_asked_about() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, number| match asked.header("if-none-match") {
        Some("\"v1\"") if number < 4 => {
            (304, format!("Cache-Control: max-age=0\nX-Number: {number}\nETag: \"v1\""))
        }
        _ => (200, "Cache-Control: max-age=0\nETag: \"v1\"\nX-Number: 1\nX-Stays: yes".to_owned()),
    });
    let cluster = start(backend).await;
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 1");
    for number in 2..4 {
        // What the client has of it is for the cache to say.
        let answer = cluster.ask("GET /", "If-None-Match: \"mine\"\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "answer 1"));
        assert!(answer.has(&format!("x-number: {number}")) && answer.has("x-stays: yes"), "{}", answer.head);
        assert_eq!(status_of(&answer), "copal; fwd=stale; fwd-status=304");
        assert_eq!(origin.seen()[number - 1].header("if-none-match"), Some("\"v1\""));
    }
    let answer = cluster.ask("GET /", "").await;
    assert_eq!((answer.body.as_str(), origin.count()), ("answer 4", 4), "it has changed");
    // A client that wants it anew gets it anew.
    let origin = Origin::default();
    let cluster = start(origin.says("Cache-Control: max-age=60")).await;
    for (headers, body) in [
        ("", "answer 1"),
        ("Cache-Control: no-cache\r\n", "answer 2"),
        ("", "answer 2"),
        ("Pragma: no-cache\r\n", "answer 3"),
    ] {
        assert_eq!(cluster.ask("GET /", headers).await.body, body);
    }
    let answer = cluster.ask("GET /other", "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(answer.status, 504);
}

#[tokio::test]
async fn what_a_client_asks_of_caches_can_be_ignored() {
    let origin = Origin::default();
    let cluster = Cluster::start_with(
        [origin.says("Cache-Control: max-age=60")],
        with(|it| it.ignore_request_directives = true),
    )
    .await;
    for headers in ["", "Cache-Control: no-cache\r\n", "Pragma: no-cache\r\n", "Cache-Control: max-age=0\r\n"]
    {
        assert_eq!(cluster.ask("GET /", headers).await.body, "answer 1", "{headers}");
    }
}

#[tokio::test]
async fn variants_are_told_apart_and_encodings_normalised() {
    let origin = Origin::default();
    let cluster = start(origin.says("Cache-Control: max-age=60\nVary: Accept-Encoding")).await;
    for (headers, body) in [
        ("", "answer 1"),
        ("Accept-Encoding: gzip, deflate, br\r\n", "answer 2"),
        ("Accept-Encoding: br;q=0.9,gzip\r\n", "answer 2"),
        ("Accept-Encoding: identity\r\n", "answer 1"),
        ("Accept-Encoding: gzip\r\n", "answer 3"),
        ("Accept-Encoding: deflate\r\n", "answer 1"),
    ] {
        assert_eq!(cluster.ask("GET /", headers).await.body, body, "{headers}");
    }
    let encodings: Vec<_> =
        origin.seen().iter().map(|it| it.header("accept-encoding").map(str::to_owned)).collect();
    assert_eq!(encodings, [None, Some("br, gzip".to_owned()), Some("gzip".to_owned())]);
}

#[tokio::test]
async fn a_stale_answer_serves_while_its_server_is_asked() {
    let origin = Origin::default();
    let cluster = start(origin.says("Cache-Control: max-age=0, stale-while-revalidate=60")).await;
    cluster.ask("GET /", "").await;
    let stale = cluster.ask("GET /", "").await;
    assert_eq!((stale.body.as_str(), status_of(&stale).as_str()), ("answer 1", "copal; hit; ttl=-0"));
    origin.asked(2).await;
    super::foreign::until_async(async || cluster.ask("GET /", "").await.body != "answer 1").await;
}

#[tokio::test]
async fn a_stale_answer_serves_when_its_server_fails_if_it_may() {
    for (directives, expected) in
        [("max-age=0, stale-if-error=60", 200), ("max-age=0, stale-if-error=60, must-revalidate", 503)]
    {
        let origin = Origin::default();
        let lines = format!("Cache-Control: {directives}\nETag: \"a\"");
        let backend = origin
            .answers(move |_, number| if number == 1 { (200, lines.clone()) } else { (503, String::new()) });
        let mut cluster = start(backend).await;
        cluster.ask("GET /", "").await;
        let answer = cluster.ask("GET /", "").await;
        assert_eq!(answer.status, expected, "{directives}");
        assert_eq!(answer.body == "answer 1", expected == 200);
        cluster.kill(0).await;
        let answer = cluster.ask("GET /", "").await;
        assert_eq!(answer.status, expected, "{directives}: its server is gone");
    }
}

#[tokio::test]
async fn what_may_change_something_makes_what_is_kept_forgotten() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, _| match asked.method {
        Method::GET => (200, "Cache-Control: max-age=60".to_owned()),
        _ if asked.path.contains("fails") => (500, String::new()),
        _ => (200, "Location: /x/../%61\nContent-Location: http://shop.example/b?c".to_owned()),
    });
    let cluster = start(backend).await;
    let kept = async |path: &str| status_of(&cluster.ask(&format!("GET {path}"), "").await).contains("hit");
    for path in ["/a", "/b?c", "/d", "/e", "/fails"] {
        assert!(!kept(path).await && kept(path).await);
    }
    cluster.ask("POST /fails", "Content-Length: 0\r\n").await;
    assert!(kept("/fails").await, "an error has changed nothing");
    cluster.ask("DELETE /d", "").await;
    for path in ["/a", "/b?c", "/d"] {
        assert!(!kept(path).await, "{path}");
    }
    assert!(kept("/e").await);
    cluster.ask("OPTIONS /e", "Max-Forwards: 5\r\n").await;
    assert!(kept("/e").await, "what is safe changes nothing");
}

#[tokio::test]
async fn what_is_too_long_is_passed_on_and_not_kept() {
    let origin = Origin::default();
    let cluster =
        Cluster::start_with([origin.says("Cache-Control: max-age=60")], with(|it| it.max_entry_size = 7))
            .await;
    for number in 1..3 {
        let answer = cluster.ask("GET /", "").await;
        assert_eq!(
            (answer.body.clone(), status_of(&answer).as_str()),
            (format!("answer {number}"), "copal; fwd=uri-miss")
        );
    }
}

#[tokio::test]
async fn a_mapping_says_how_long_an_answer_with_a_validator_is_fresh() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, _| {
        (200, if asked.path.contains("tagged") { "ETag: \"a\"".to_owned() } else { String::new() })
    });
    let cluster = Cluster::start_with(
        [backend],
        with(|it| {
            it.mappings = vec![common::config::CacheMapping {
                regexp: Some(regex::Regex::new(r"\.png$").unwrap()),
                max_age: Some(Duration::from_secs(60)),
                heuristic: None,
                heuristic_max: Duration::ZERO,
                ignore_query: Vec::new(),
            }];
        }),
    )
    .await;
    for (path, hit) in [("/tagged.png", true), ("/plain.png", false), ("/plain", false)] {
        cluster.ask(&format!("GET {path}"), "").await;
        assert_eq!(status_of(&cluster.ask(&format!("GET {path}"), "").await).contains("hit"), hit, "{path}");
    }
}

#[tokio::test]
async fn a_purge_forgets_or_makes_stale() {
    use proto::web::v1::{PurgeCache, purge_cache::What};
    let origin = Origin::default();
    let backend = origin.answers(|asked, _| match asked.header("if-none-match") {
        Some(_) => (304, "Cache-Control: max-age=60\nETag: \"a\"".to_owned()),
        None => (200, "Cache-Control: max-age=60\nETag: \"a\"\nSurrogate-Key: one two".to_owned()),
    });
    let cluster = start(backend).await;
    let view = cluster.web.view();
    let purge =
        |what: What, soft: bool| view.purge(&PurgeCache { what: Some(what), soft, number: 0 }).unwrap().count;
    let status = async || status_of(&cluster.ask("GET /a", "").await);
    status().await;
    assert!(status().await.contains("hit"));
    assert_eq!(
        (purge(What::Tag("three".to_owned()), false), purge(What::Tag("two".to_owned()), true)),
        (0, 1)
    );
    assert_eq!(status().await, "copal; fwd=stale; fwd-status=304");
    assert!(status().await.contains("hit"), "its server has said that it is still so");
    assert_eq!(purge(What::Url("http://shop.example/a".to_owned()), false), 1);
    assert_eq!(status().await, "copal; fwd=uri-miss; stored");
    // However it is written.
    for url in ["http://SHOP.example:80/x/../%61#part", "/./a", "//shop.example/a"] {
        assert_eq!(purge(What::Url(url.to_owned()), false), 1, "{url}");
        assert_eq!(status().await, "copal; fwd=uri-miss; stored");
    }
    let report = view.cache_report(10);
    assert_eq!((report.largest.len(), report.largest[0].url.as_str()), (1, "shop.example/a"));
    let cache = view.status().await.cache.unwrap();
    assert_eq!((cache.hits, cache.misses, cache.revalidated, cache.entries > 0), (2, 6, 1, true));
}

#[tokio::test]
async fn a_reload_keeps_what_is_kept() {
    let origin = Origin::default();
    let backend = origin.says("Cache-Control: max-age=60");
    let kept = std::cell::RefCell::new(None);
    let mut cluster = Cluster::start_with([backend], |config| {
        cached(config);
        *kept.borrow_mut() = Some(config.clone());
    })
    .await;
    cluster.ask("GET /", "").await;
    let mut config = kept.borrow_mut().take().unwrap();
    config.clusters[1].proxy_cache.as_mut().unwrap().stale_keep = Duration::from_secs(9);
    cluster.web.reload(Arc::new(config.clone())).await.unwrap();
    assert!(status_of(&cluster.ask("GET /", "").await).contains("hit"));
    // By other rules it would not have been kept.
    config.clusters[1].proxy_cache.as_mut().unwrap().vary_is_private = true;
    cluster.web.reload(Arc::new(config.clone())).await.unwrap();
    assert!(status_of(&cluster.ask("GET /", "").await).ends_with("stored"));
    config.clusters[1].proxy_cache = None;
    cluster.web.reload(Arc::new(config)).await.unwrap();
    assert_eq!(status_of(&cluster.ask("GET /", "").await), "");
}

#[tokio::test]
async fn over_http_2_the_same_is_given() {
    let origin = Origin::default();
    let cluster = Cluster::start_with([origin.says("Cache-Control: max-age=60\nETag: \"a\"")], |config| {
        cached(config);
        config.clusters[1].servers[0].http[0].h2c = true;
    })
    .await;
    cluster.ask("GET /", "").await;
    let stream = tokio::net::TcpStream::connect(cluster.address()).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (headers, status, body) in [
        (None, 200, "answer 1"),
        (Some(("range", "bytes=0-2")), 206, "ans"),
        (Some(("if-none-match", "\"a\"")), 304, ""),
    ] {
        let mut request = http::Request::get("http://shop.example/");
        if let Some((name, value)) = headers {
            request = request.header(name, value);
        }
        send = send.ready().await.unwrap();
        let (answer, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
        let (head, mut stream) = answer.await.unwrap().into_parts();
        let mut got = Vec::new();
        while let Some(piece) = stream.data().await {
            got.extend_from_slice(&piece.unwrap());
        }
        assert_eq!((head.status.as_u16(), got.as_slice()), (status, body.as_bytes()));
        assert!(
            head.headers["cache-status"].to_str().unwrap().contains("hit")
                && head.headers.contains_key("via")
        );
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn what_was_asked_for_before_a_change_is_not_given_after_it() {
    use super::backend::raw;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // The first answer ends when it may; all others at once.
    let (gate, count) =
        (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let (held, counted) = (gate.clone(), count.clone());
    let backend = raw(move |head, mut stream| {
        let (gate, count) = (held.clone(), counted.clone());
        async move {
            let mut head = head;
            loop {
                let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let text = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=60\r\n\r\nanswer "
                    .to_owned();
                let _ = stream.write_all(text.as_bytes()).await;
                if number == 0 && head.starts_with("GET") {
                    gate.acquire().await.unwrap().forget();
                }
                let _ = stream.write_all(number.to_string().as_bytes()).await;
                let mut more = [0; 4096];
                match stream.read(&mut more).await {
                    Ok(length) if length > 0 => head = String::from_utf8_lossy(&more[..length]).into_owned(),
                    _ => return,
                }
            }
        }
    });
    let cluster = start(backend).await;
    let mut first = cluster.client().await;
    first.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    super::foreign::until(|| count.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    assert_eq!(cluster.ask("POST /", "Content-Length: 0\r\n").await.status, 200);
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 2");
    gate.add_permits(1);
    assert_eq!(first.answer().await.body, "answer 0");
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 2", "the late one has not taken its place");
}

#[tokio::test]
async fn a_304_that_is_about_something_else_freshens_nothing() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, number| match (number, asked.header("if-none-match")) {
        (2, Some(_)) => (304, "Cache-Control: max-age=60\nETag: \"b\"".to_owned()),
        _ => (200, "Cache-Control: max-age=0\nETag: \"a\"".to_owned()),
    });
    let cluster = start(backend).await;
    cluster.ask("GET /", "").await;
    cluster.ask("GET /", "").await;
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 3");
}

#[tokio::test]
async fn clients_that_take_nothing_hold_no_more_than_their_part() {
    let origin = Origin::default();
    let seen = origin.0.clone();
    const LENGTH: usize = 8 << 20;
    let backend = http(move |request| {
        let path = request.uri().path().to_owned();
        seen.lock().unwrap().push(Seen { method: Method::GET, path, headers: HeaderMap::new() });
        let body = Full::new(Bytes::from(vec![b'x'; LENGTH]));
        std::future::ready(Response::builder().header("cache-control", "max-age=60").body(body).unwrap())
    });
    let change = with(|it| (it.memory_size, it.max_entry_size) = (4 * LENGTH as u64, LENGTH as u64));
    let cluster = Cluster::start_with([backend], change).await;
    let mut clients = Vec::new();
    for number in 0..10 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let mut client = super::client::Client(socket.connect(cluster.address()).await.unwrap());
        client.send(&format!("GET /{number} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
        clients.push(client);
        origin.asked(number + 1).await;
    }
    // Some are in the table, one outside of it; the others are passed on as their clients take them.
    super::foreign::until(|| cluster.web.totals().cache.too_large > 3).await;
    for mut client in clients {
        assert_eq!(client.answer().await.body.len(), LENGTH);
    }
}

#[tokio::test]
async fn parameters_that_choose_no_answer_are_none_of_the_key() {
    let origin = Origin::default();
    let hosts = "clusters: [{id: app-tier, servers: [{id: app-a, address: 127.0.0.1}]}, {id: web-tier, servers: [{id: web-a, address: 127.0.0.1, port: 6801}], \
        proxy-cache: {cache-mapping: [{regexp: '^/a', ignore-query: [fbclid, utm_*]}]}}]";
    let loaded = common::config::load_str(
        hosts,
        std::path::Path::new("c.yaml"),
        &common::config::LoadOptions::default(),
    );
    let cache = loaded.unwrap().config.clusters[1].proxy_cache.clone();
    let cluster = Cluster::start_with([origin.says("Cache-Control: max-age=60")], |config| {
        config.clusters[1].proxy_cache = cache;
    })
    .await;
    for (target, body) in [
        ("/a?x=1&utm_source=mail", "answer 1"),
        ("/a?utm_id=2&x=1&fbclid=3", "answer 1"),
        ("/a?x=1", "answer 1"),
        ("/a?x=2", "answer 2"),
        ("/a?fbclid", "answer 3"),
        ("/a", "answer 3"),
        ("/a?fbclids=1", "answer 4"),
        ("/b?fbclid=1", "answer 5"),
        ("/b", "answer 6"),
        // Some servers part at semicolons too.
        ("/a?fbclid=1;x=2", "answer 7"),
    ] {
        assert_eq!(cluster.ask(&format!("GET {target}"), "").await.body, body, "{target}");
    }
    // The server saw what the first had.
    assert_eq!(origin.seen()[0].path, "/a?x=1&utm_source=mail");
    cluster.ask("POST /a?x=1&fbclid=9", "Content-Length: 0\r\n").await;
    assert_eq!(cluster.ask("GET /a?x=1", "").await.body, "answer 9");
}
