//! Proxies that are trusted, and then are not: what they say is believed request by request.

use super::{
    backend::echo,
    client::{Answer, Client},
    cluster::Cluster,
    reload::file,
};
use common::config::Config;

pub(super) fn trusting(networks: &'static [&'static str]) -> impl Fn(&mut Config) {
    move |config| {
        config.clusters[1].trusted_proxies = networks.iter().map(|it| it.parse().unwrap()).collect();
    }
}

/// `X-Forwarded-For` and `X-Forwarded-Proto`, as the server gets them.
fn told(answer: &Answer) -> (String, String) {
    let field = |name: &str| {
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {}", answer.body)).to_owned()
    };
    (field("x-forwarded-for: "), field("x-forwarded-proto: "))
}

const SAYS: &str = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\n";

#[tokio::test]
async fn a_proxy_that_is_taken_off_the_list_is_not_believed_any_more_on_its_open_connections() {
    let mut cluster = Cluster::start_with([echo("a")], trusting(&["127.0.0.0/8"])).await;
    let mut proxy = cluster.client().await;
    let believed = ("198.51.100.7".to_owned(), "https".to_owned());
    let stranger = ("127.0.0.1".to_owned(), "http".to_owned());
    let answer = proxy.ask("GET /", SAYS).await;
    assert_eq!(told(&answer), believed);
    assert!(answer.body.contains("\nx-request-id: theirs\n"), "{}", answer.body);
    let off = file(&cluster, trusting(&["10.0.0.0/8"]));
    cluster.web.reload(off).await.unwrap();
    let answer = proxy.ask("GET /", SAYS).await;
    assert_eq!(told(&answer), stranger);
    assert!(!answer.body.contains("theirs"), "{}", answer.body);
    let on = file(&cluster, trusting(&["127.0.0.0/8"]));
    cluster.web.reload(on).await.unwrap();
    assert_eq!(told(&proxy.ask("GET /", SAYS).await), believed, "and the other way");
    assert_eq!(cluster.web.totals().connections, 1);
}

/// Whose connection it was, a PROXY header has said at its beginning.
#[tokio::test]
async fn neither_is_what_its_proxy_header_has_said() {
    let listener = |networks| {
        move |config: &mut Config| {
            trusting(networks)(config);
            config.clusters[1].servers[0].http[0].proxy_protocol = true;
        }
    };
    let mut cluster = Cluster::start_with([echo("a")], listener(&["127.0.0.0/8"])).await;
    let mut proxy = Client::connect(cluster.address()).await;
    proxy.send("PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n").await;
    assert_eq!(told(&proxy.ask("GET /", SAYS).await), ("198.51.100.7".to_owned(), "http".to_owned()));
    let off = file(&cluster, listener(&["10.0.0.0/8", "198.51.100.0/24"]));
    cluster.web.reload(off).await.unwrap();
    let answer = proxy.ask("GET /", SAYS).await;
    assert_eq!(
        told(&answer),
        ("127.0.0.1".to_owned(), "http".to_owned()),
        "it names nobody that is trusted either"
    );
}
