//! Nothing gets from one client to another by what is kept: an answer is one to its key, and is for all.

use super::{Origin, cached, start, status_of, with};
use crate::tests::{cluster::Cluster, trust::trusting};
use http::Method;

const FRESH: &str = "Cache-Control: max-age=60";

/// Whether what one request brings is given to the next, plain one.
async fn is_kept(origin: &Origin, cluster: &Cluster, line: &str, headers: &str) -> bool {
    let before = origin.count();
    cluster.ask(line, headers).await;
    let path = line.split(' ').nth(1).unwrap().split(';').next().unwrap();
    let after = cluster.ask(&format!("GET {path}"), "").await;
    let kept = status_of(&after).contains("hit");
    assert_eq!(origin.count() - before, if kept { 1 } else { 2 }, "{line} {headers}");
    kept
}

#[tokio::test]
async fn what_no_key_has_brings_nothing_to_keep() {
    let (origin, number) = (Origin::default(), std::cell::Cell::new(0));
    let cluster = start(origin.says(FRESH)).await;
    let path = || {
        number.set(number.get() + 1);
        format!("/{}", number.get())
    };
    for headers in [
        "X-HTTP-Method-Override: DELETE\r\n",
        "X-HTTP-Method: DELETE\r\n",
        "X-Method-Override: DELETE\r\n",
        "X-Original-URL: /admin\r\n",
        "X-Rewrite-URL: /admin\r\n",
        "X-Host: evil.example\r\n",
        "Front-End-Https: on\r\n",
        "Client-IP: 192.0.2.1\r\n",
        "Script_Name: /admin\r\n",
        "Base-Url: http://evil.example/\r\n",
        // A request in a request.
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n",
        "Authorization: Basic eDp5\r\n",
        "Cache-Control: no-store\r\n",
        "X_Original_URL: /admin\r\n",
        "X.HTTP_Method.Override: DELETE\r\n",
        // The server would not see it, the key would have it.
        "Accept-Language: de\r\nConnection: Accept-Language\r\n",
    ] {
        assert!(!is_kept(&origin, &cluster, &format!("GET {}", path()), headers).await, "{headers}");
    }
    for headers in [
        "",
        "X-Forwarded-Host: evil.example\r\n",
        "X-Forwarded-Scheme: nothttps\r\n",
        "User-Agent: x\r\n",
        "Cookie: a=b\r\n",
    ] {
        assert!(is_kept(&origin, &cluster, &format!("GET {}", path()), headers).await, "{headers}");
    }
    // What strangers say of themselves has not reached the server.
    for seen in origin.seen() {
        assert_ne!(seen.header("x-forwarded-host"), Some("evil.example"));
    }
}

#[tokio::test]
async fn what_is_of_a_user_or_a_session_is_not_kept() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, _| {
        let public = if asked.path.starts_with("/public") { ", public" } else { "" };
        let cookie = if asked.path == "/cookie" { "\nSet-Cookie: a=b" } else { "" };
        (200, format!("{FRESH}{public}{cookie}"))
    });
    let cluster = Cluster::start_with([backend], |config| {
        cached(config);
        let common::config::Action::LoadBalance(rule) = &mut config.clusters[1].hosts[0].dispatch[0].action
        else {
            panic!()
        };
        rule.session_url = true;
        rule.sticky_sessions = true;
    })
    .await;
    let session = "Cookie: JSESSIONID=aaaXyzSession12345678\r\n";
    for (line, headers, kept) in [
        ("GET /a", session, false),
        ("GET /b;jsessionid=aaaXyzSession12345678", "", false),
        ("GET /cookie", "", false),
        ("GET /public-1", session, true),
        ("GET /public-2", "Authorization: Basic eDp5\r\n", true),
    ] {
        assert_eq!(is_kept(&origin, &cluster, line, headers).await, kept, "{line} {headers}");
    }
}

#[tokio::test]
async fn a_key_is_what_the_server_sees() {
    let origin = Origin::default();
    let cluster = start(origin.says(FRESH)).await;
    let mut client = cluster.client().await;
    let mut ask = async |target: &str, host: &str| {
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = client.answer().await;
        (answer.body, origin.seen().last().unwrap().path.clone())
    };
    // Different ways to say the same are the same, for the server too.
    let (first, path) = ask("/a/./b/%7Euser?x=%2F", "shop.example").await;
    assert_eq!(path, "/a/b/~user?x=%2F");
    for same in ["/a/b/~user?x=%2F", "/a/c/../b/%7euser?x=%2F", "http://shop.example/a/b/~user?x=%2F"] {
        assert_eq!(ask(same, "shop.example").await.0, first, "{same}");
    }
    // What the server could see otherwise is another key.
    for other in [
        "/a/b/~user?x=/",
        "/a/b/~user/?x=%2F",
        "/a/b/~user;.css?x=%2F",
        "/a%2Fb/~user?x=%2F",
        "/a/b/~user?x=%2F&x=%2F",
        "/a/b/~user?x=%2F;y",
    ] {
        assert_ne!(ask(other, "shop.example").await.0, first, "{other}");
    }
    assert_ne!(ask("/a/b/~user?x=%2F", "other.example").await.0, first);
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_host_and_port_is_in_the_key_and_a_strangers_word_is_not() {
    for (networks, believed) in [(&["127.0.0.0/8"], true), (&["192.0.2.0/24"], false)] {
        let origin = Origin::default();
        let cluster = Cluster::start_with([origin.says(FRESH)], |config| {
            cached(config);
            trusting(networks)(config);
        })
        .await;
        for headers in ["X-Forwarded-Port: 8443\r\n", "X-Forwarded-Host: evil.example\r\n"] {
            let path = format!("/{}", headers.len());
            assert_eq!(
                is_kept(&origin, &cluster, &format!("GET {path}"), headers).await,
                !believed,
                "{headers}"
            );
            let again = cluster.ask(&format!("GET {path}"), headers).await;
            assert!(status_of(&again).contains("hit"), "{headers}");
        }
        // All that it says, as the server may take any of it.
        let twice = "X-Forwarded-Host: a.example\r\nX-Forwarded-Host: b.example\r\n";
        for headers in [twice, "X-Forwarded-Host: a.example\r\n", "X-Forwarded-Host: b.example\r\n"] {
            let status = status_of(&cluster.ask("GET /twice", headers).await);
            assert_eq!(status.ends_with("stored"), believed || headers == twice, "{headers}");
        }
        let ports = origin.seen().iter().filter(|it| it.header("x-forwarded-port") == Some("8443")).count();
        assert_eq!(ports, usize::from(believed));
    }
}

#[tokio::test]
async fn an_error_that_a_field_can_provoke_is_not_kept_and_others_for_a_short_time() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, _| {
        let status = asked.path[1..4].parse().unwrap();
        (status, "Cache-Control: public, max-age=3600".to_owned())
    });
    let cluster = start(backend).await;
    for (status, kept) in [(400, false), (431, false), (413, false), (414, true), (404, true), (301, true)] {
        let path = format!("GET /{status}");
        cluster.ask(&path, "").await;
        let again = cluster.ask(&path, "").await;
        assert_eq!(status_of(&again).contains("hit"), kept, "{status}");
        if kept && status >= 400 {
            let ttl: u64 = status_of(&again).split("ttl=").nth(1).unwrap().parse().unwrap();
            assert!(ttl <= 10, "{ttl}");
        }
    }
}

#[tokio::test]
async fn what_a_rule_sets_on_the_request_is_in_its_key() {
    use common::config::{Action, Condition, HeaderEdit, HeaderEditKind, Named, Rule};
    let origin = Origin::default();
    let cluster = Cluster::start_with([origin.says(FRESH)], |config| {
        cached(config);
        let edit = HeaderEdit {
            kind: HeaderEditKind::SetOnRequest,
            name: "x-tenant".to_owned(),
            value: vec![common::config::Piece::Text("two".to_owned())],
        };
        let named = Named { name: "x-two".to_owned(), regexp: None };
        let rule = Rule {
            regexp: None,
            condition: Some(Condition::Header(named)),
            action: Action::Header(edit),
            cache: false,
            compression: false,
        };
        config.clusters[1].hosts[0].dispatch.insert(0, rule);
    })
    .await;
    let one = cluster.ask("GET /", "").await.body;
    let two = cluster.ask("GET /", "X-Two: 1\r\n").await.body;
    assert_ne!(one, two);
    assert_eq!(
        (cluster.ask("GET /", "").await.body, cluster.ask("GET /", "X-Two: 2\r\n").await.body),
        (one, two)
    );
}

#[tokio::test]
async fn variants_of_a_url_are_bounded() {
    let origin = Origin::default();
    let cluster = start(origin.says("Cache-Control: max-age=60\nVary: X-Any")).await;
    for number in 0..80 {
        cluster.ask("GET /", &format!("X-Any: {number}\r\n")).await;
    }
    let kept = async |number: u32| {
        status_of(&cluster.ask("GET /", &format!("X-Any: {number}\r\n")).await).contains("hit")
    };
    assert!(kept(79).await && kept(70).await && !kept(0).await, "the oldest have made room");
    let long = format!("X-Any: {}\r\n", "x".repeat(2000));
    cluster.ask("GET /", &long).await;
    assert!(
        !status_of(&cluster.ask("GET /", &long).await).contains("hit"),
        "a value that is too long has no key"
    );
}

#[tokio::test]
async fn cookies_are_kept_if_that_is_said() {
    let origin = Origin::default();
    let cluster = Cluster::start_with(
        [origin.says("Cache-Control: max-age=60\nSet-Cookie: lang=en")],
        with(|it| it.store_set_cookie = true),
    )
    .await;
    cluster.ask("GET /", "").await;
    assert!(cluster.ask("GET /", "").await.has("set-cookie: lang=en"));
    assert_eq!(origin.seen().iter().filter(|it| it.method == Method::GET).count(), 1);
}

#[tokio::test]
async fn who_has_authorization_neither_fills_the_cache_nor_empties_it() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, number| {
        let user = if asked.headers.contains_key("authorization") { "\nX-Secret: yes" } else { "" };
        match asked.header("if-none-match") {
            Some(_) => {
                (304, format!("Cache-Control: max-age=0, stale-while-revalidate=60\nETag: \"a\"{user}"))
            }
            None => (
                200,
                format!("Cache-Control: max-age=0, stale-while-revalidate=60\nX-Number: {number}{user}"),
            ),
        }
    });
    let cluster = start(backend).await;
    cluster.ask("GET /", "").await;
    // Its server is asked meanwhile, in the name of the user: the answer is his.
    cluster.ask("GET /", "Authorization: Basic eDp5\r\n").await;
    origin.asked(2).await;
    // He asks himself, and another one after him.
    cluster.ask("GET /", "Authorization: Basic eDp5\r\nCache-Control: no-cache\r\n").await;
    let other = cluster.ask("GET /", "").await;
    assert!(!other.head.contains("x-secret") && status_of(&other).contains("hit"), "{}", other.head);
}

#[tokio::test]
async fn what_only_the_server_sees_is_no_part_of_a_key() {
    let origin = Origin::default();
    let backend = origin.answers(|asked, _| {
        let vary = asked.path.trim_start_matches('/').to_owned();
        (200, format!("{FRESH}\nVary: {vary}"))
    });
    let cluster = start(backend).await;
    for (vary, kept) in [
        ("X-Forwarded-For", false),
        ("X-Request-Id", false),
        ("Via", false),
        ("X-Session-Id", false),
        ("X-Forwarded-Proto", true),
        ("Host", true),
        ("Cookie", true),
        ("X-Any", true),
    ] {
        assert_eq!(is_kept(&origin, &cluster, &format!("GET /{vary}"), "").await, kept, "{vary}");
    }
}

#[tokio::test]
async fn what_the_key_takes_for_the_same_the_server_sees_the_same() {
    let origin = Origin::default();
    let cluster = start(origin.says("Cache-Control: max-age=60\nVary: Accept-Language, X-Tok")).await;
    for (one, other) in [
        ("Accept-Language: en;<script>\r\n", "Accept-Language: en\r\n"),
        ("Accept-Language: en, de\r\n", "Accept-Language: de, en\r\n"),
        ("Accept-Language: en;q=nan\r\n", "Accept-Language: en;q=0\r\n"),
        ("X-Tok: a,,b\r\n", "X-Tok: a, b\r\n"),
    ] {
        let first = cluster.ask("GET /", one).await.body;
        assert_ne!(cluster.ask("GET /", other).await.body, first, "{one}{other}");
    }
    cluster.ask("GET /l", "Accept-Language: EN ,  de;Q=0.5\r\n").await;
    assert_eq!(origin.seen().last().unwrap().header("accept-language"), Some("en, de;q=0.5"));
    assert!(status_of(&cluster.ask("GET /l", "Accept-Language: en, de;q=0.5\r\n").await).contains("hit"));
    // A host in capitals is passed on as it is, and its answer not kept.
    let mut client = cluster.client().await;
    client.send("GET /host HTTP/1.1\r\nHost: SHOP.example\r\n\r\n").await;
    assert!(status_of(&client.answer().await).contains("bypass"));
    assert!(status_of(&cluster.ask("GET /host", "").await).contains("stored"));
}
