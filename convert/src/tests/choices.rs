//! Whom a translation sends where, and whom the file that it was made of: never another one, and nobody who was refused.

use super::*;
use common::config::{HttpProxy, TcpListener};

/// How a connection begins.
#[derive(Debug, Clone)]
struct Client {
    is_tls: bool,
    name: Option<&'static str>,
    protocol: Option<&'static str>,
}

/// Every one that the words below can tell apart, and some more.
fn clients() -> Vec<Client> {
    let mut all = vec![Client { is_tls: false, name: None, protocol: None }];
    for name in
        [None, Some("o"), Some("x"), Some("y.x"), Some("z.y.x"), Some("w.z.y.x"), Some("v.x"), Some("q")]
    {
        for protocol in [None, Some("h2"), Some("acme")] {
            all.push(Client { is_tls: true, name, protocol });
        }
    }
    all
}

/// A word of a condition, and whether it holds for a client.
type Word = (&'static str, fn(&Client) -> bool);

const WORDS: [Word; 8] = [
    ("{ req.ssl_hello_type 1 }", |it| it.is_tls),
    ("{ req.ssl_sni x }", |it| it.name == Some("x")),
    ("{ req.ssl_sni y.x q }", |it| matches!(it.name, Some("y.x" | "q"))),
    ("{ req_ssl_sni -m end .x }", |it| it.name.is_some_and(|it| it.ends_with(".x"))),
    ("{ req.ssl_sni -i -m end .y.x }", |it| it.name.is_some_and(|it| it.ends_with(".y.x"))),
    ("{ req.ssl_sni -m reg ^(.+\\.)?y\\.x$ }", |it| {
        it.name.is_some_and(|it| it == "y.x" || it.ends_with(".y.x"))
    }),
    ("{ req.ssl_alpn h2 }", |it| it.protocol == Some("h2")),
    ("TRUE", |_| true),
];

/// `if` or `unless`, and alternatives of words that hold together, each perhaps negated.
type Condition = (bool, Vec<Vec<(bool, usize)>>);

fn condition() -> impl Strategy<Value = Condition> {
    let words = proptest::collection::vec((any::<bool>(), 0..WORDS.len()), 1..3);
    (proptest::bool::weighted(0.2), proptest::collection::vec(words, 1..3))
}

fn written((unless, alternatives): &Condition) -> String {
    let word = |(negated, at): &(bool, usize)| format!("{}{}", if *negated { "!" } else { "" }, WORDS[*at].0);
    let together = |it: &Vec<(bool, usize)>| it.iter().map(word).collect::<Vec<_>>().join(" ");
    let all: Vec<String> = alternatives.iter().map(together).collect();
    format!("{} {}", if *unless { "unless" } else { "if" }, all.join(" || "))
}

fn holds((unless, alternatives): &Condition, client: &Client) -> bool {
    let together =
        |it: &Vec<(bool, usize)>| it.iter().all(|(negated, at)| (WORDS[*at].1)(client) != *negated);
    alternatives.iter().any(together) != *unless
}

/// Where Copal sends a client: `route/tcp.rs` of its web-tier.
fn chosen(listener: &TcpListener, client: &Client) -> Option<String> {
    let fits = |name: Option<&str>| {
        let mut routes = listener.routes.iter().filter(|it| {
            name.map_or(it.server_names.is_empty(), |name| it.server_names.iter().any(|it| it == name))
        });
        let offers = |it: &str| client.protocol == Some(it);
        routes.find(|it| it.alpn.is_empty() || it.alpn.iter().any(|it| offers(it))).map(|it| &it.servers)
    };
    let by_name = |name: &str| {
        let below = || name.match_indices('.').find_map(|(at, _)| fits(Some(&format!("*{}", &name[at..]))));
        fits(Some(name)).or_else(below)
    };
    let route = || client.name.and_then(by_name).or_else(|| fits(None));
    let servers: Option<&HttpProxy> =
        if client.is_tls { route() } else { None }.or(listener.default.as_ref());
    servers.map(|it| it.backends[0].name())
}

proptest! {
    #[test]
    fn who_is_sent_where_haproxy_says_it(
        content in proptest::collection::vec((any::<bool>(), condition()), 0..3),
        routes in proptest::collection::vec((0..3_usize, condition()), 0..5),
        default in proptest::option::weighted(0.7, 0..3_usize),
    ) {
        let backends = ["a", "b", "c"];
        let mut text = "frontend f\n bind :1\n".to_owned();
        for (accepts, condition) in &content {
            let word = if *accepts { "accept" } else { "reject" };
            text += &format!(" tcp-request content {word} {}\n", written(condition));
        }
        for (to, condition) in &routes {
            text += &format!(" use_backend {} {}\n", backends[*to], written(condition));
        }
        text += &default.map_or_else(String::new, |to| format!(" default_backend {}\n", backends[to]));
        text += &backends.map(|it| format!("backend {it}\n server s {it}:1\n")).concat();
        let found = converted(&text, "haproxy.cfg");
        let loaded = load_str(&found.yaml, Path::new("copal.yaml"), &LoadOptions::default());
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{}", found.yaml));
        let Some(listener) = loaded.config.clusters[0].servers[0].tcp.first() else {
            prop_assert!(!found.left.is_empty());
            return Ok(());
        };
        for client in clients() {
            let refused = content.iter().find(|it| holds(&it.1, &client)).is_some_and(|it| !it.0);
            let to = routes.iter().find(|it| holds(&it.1, &client)).map(|it| it.0).or(default);
            let expected = to.filter(|_| !refused).map(|to| format!("{}:1", backends[to]));
            let sent = chosen(listener, &client);
            // What can't be told is refused, and said.
            let left = sent.is_none() && !found.left.is_empty();
            prop_assert!(sent == expected || left, "{:?}: {:?}, not {:?}\n{}\n{}", client, sent, expected, text, found.yaml);
        }
    }
}
