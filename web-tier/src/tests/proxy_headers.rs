//! `proxy-protocol` of an `http-proxy`: backends hear whose each connection is, and no client has another one's.

use super::{
    backend::{OnConnection, echo, says},
    backend_tls::{Authority, secured},
    client::{Answer, Client},
    cluster::Cluster,
    foreign::{proxy, put, until, until_async},
    reload::file,
    trust::trusting,
};
use crate::transport::proxy_protocol::{Source, read_header};
use cluster_port::Stream;
use common::config::{Config, HealthCheck, HealthQuestion, HttpProxy, ProxyProtocolVersion};
use rustls::ServerConfig;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that wants to hear whose its connections are.
struct Hearing {
    port: u16,
    /// What it has heard, connection by connection.
    heard: Arc<Mutex<Vec<Source>>>,
    accepting: JoinHandle<()>,
}

impl Hearing {
    async fn start(tls: Option<Arc<ServerConfig>>, on_connection: OnConnection) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = heard.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut stream, peer)) = listener.accept().await {
                let (tls, heard, on_connection) = (tls.clone(), hearing.clone(), on_connection.clone());
                tokio::spawn(async move {
                    let trusted = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
                    let source = read_header(&mut stream, peer.ip(), &trusted, PATIENCE).await.unwrap();
                    heard.lock().unwrap().push(source);
                    match tls {
                        None => on_connection(Stream::Plain(stream)).await,
                        Some(tls) => {
                            let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                            on_connection(Stream::Encrypted(Box::new(stream.into()))).await;
                        }
                    }
                });
            }
        });
        Self { port, heard, accepting }
    }

    fn heard(&self) -> Vec<Source> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn telling(version: ProxyProtocolVersion, ports: &[u16]) -> HttpProxy {
    HttpProxy { proxy_protocol: Some(version), ..proxy(ports) }
}

async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config| put(config, proxy)).await
}

fn of(client: &Client, cluster: &Cluster) -> Source {
    Source::Client { from: client.0.local_addr().unwrap(), to: cluster.address() }
}

fn client_at(from: &str, to: SocketAddr) -> Source {
    Source::Client { from: from.parse().unwrap(), to }
}

#[track_caller]
fn good(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.head);
}

#[tokio::test]
async fn a_socket_is_one_clients_and_serves_it_again() {
    for version in [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2] {
        let backend = Hearing::start(None, echo("a")).await;
        let cluster = before(telling(version, &[backend.port])).await;
        let (mut one, mut other) = (cluster.client().await, cluster.client().await);
        for _ in 0..3 {
            for client in [&mut one, &mut other] {
                good(&client.ask("POST /", "Content-Length: 2\r\n\r\nhi").await);
            }
        }
        assert_eq!(backend.heard(), [of(&one, &cluster), of(&other, &cluster)], "{version:?}");
        let mut third = cluster.client().await;
        good(&third.ask("GET /", "").await);
        assert_eq!(backend.heard().len(), 3, "idle sockets of others are no use to it");
    }
}

#[tokio::test]
async fn checks_say_that_they_are_nobodys() {
    let check = HealthCheck {
        question: HealthQuestion::get("/"),
        port: None,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        rise: 1,
        fall: 1,
    };
    for version in [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2] {
        let backend = Hearing::start(None, echo("a")).await;
        let rule = HttpProxy { health_check: Some(check.clone()), ..telling(version, &[backend.port]) };
        let cluster = before(rule).await;
        until(|| cluster.web.health()[0].last.as_ref().is_some_and(|it| it.result.is_ok())).await;
        assert!(backend.heard().iter().all(|it| *it == Source::Proxy) && !backend.heard().is_empty());
    }
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let authority = Authority::new();
    let tls = authority.server("api.test", "http/1.1", false);
    let backend = Hearing::start(Some(tls), echo("a")).await;
    let rule = secured(&[backend.port], &authority.path("ca.pem"));
    let cluster = before(HttpProxy { proxy_protocol: Some(ProxyProtocolVersion::V2), ..rule }).await;
    let mut client = cluster.client().await;
    for _ in 0..2 {
        good(&client.ask("GET /", "").await);
    }
    assert_eq!(backend.heard(), [of(&client, &cluster)]);
}

#[tokio::test]
async fn of_a_client_behind_a_trusted_proxy_the_address_is_said() {
    let backend = Hearing::start(None, echo("a")).await;
    let cluster = Cluster::start_with([], |config| {
        trusting(&["127.0.0.0/8"])(config);
        put(config, telling(ProxyProtocolVersion::V2, &[backend.port]));
    })
    .await;
    let mut proxy = cluster.client().await;
    for address in ["198.51.100.7", "198.51.100.8", "198.51.100.7"] {
        let answer = proxy.ask("GET /", &format!("X-Forwarded-For: {address}\r\n")).await;
        good(&answer);
        assert!(answer.body.contains(&format!("\nx-forwarded-for: {address}\n")), "{}", answer.body);
    }
    good(&proxy.ask("GET /", "").await);
    let to = cluster.address();
    let said = [client_at("198.51.100.7:0", to), client_at("198.51.100.8:0", to), of(&proxy, &cluster)];
    assert_eq!(backend.heard(), said, "each has a socket of its own, on one connection of the proxy");
}

#[tokio::test]
async fn a_stranger_is_who_it_is_whatever_it_says() {
    let backend = Hearing::start(None, echo("a")).await;
    let cluster = before(telling(ProxyProtocolVersion::V1, &[backend.port])).await;
    let mut client = cluster.client().await;
    good(&client.ask("GET /", "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Port: 1\r\n").await);
    assert_eq!(backend.heard(), [of(&client, &cluster)]);
}

#[tokio::test]
async fn what_a_header_has_said_to_us_is_said_on() {
    let backend = Hearing::start(None, echo("a")).await;
    let cluster = Cluster::start_with([], |config| {
        trusting(&["127.0.0.0/8"])(config);
        config.clusters[1].servers[0].http[0].proxy_protocol = true;
        put(config, telling(ProxyProtocolVersion::V2, &[backend.port]));
    })
    .await;
    let mut proxy = cluster.client().await;
    proxy.send("PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n").await;
    good(&proxy.ask("GET /", "").await);
    let said = client_at("[2001:db8::7]:40000", "[2001:db8::1]:443".parse().unwrap());
    assert_eq!(backend.heard(), [said]);
}

#[tokio::test]
async fn a_socket_that_the_backend_has_closed_is_replaced_by_one_of_the_same_client() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let backend = Hearing::start(None, says(answer)).await;
    let cluster = before(telling(ProxyProtocolVersion::V2, &[backend.port])).await;
    let mut client = cluster.client().await;
    for _ in 0..4 {
        good(&client.ask("GET /", "").await);
    }
    assert_eq!(backend.heard(), [of(&client, &cluster); 4]);
}

#[tokio::test]
async fn idle_sockets_of_some_keep_nobody_out() {
    let backend = Hearing::start(None, echo("a")).await;
    let rule = HttpProxy {
        connection_max: 2,
        idle_time: Duration::from_secs(1),
        ..telling(ProxyProtocolVersion::V2, &[backend.port])
    };
    let cluster = before(rule).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(cluster.client().await);
        good(&clients.last_mut().unwrap().ask("GET /", "").await);
    }
    assert_eq!(backend.heard().len(), 6);
    let idle = async || {
        let status = cluster.web.view().status().await;
        status.upstreams.iter().flat_map(|it| &it.servers).map(|it| it.workers[0].idle).sum::<u32>()
    };
    assert!(idle().await <= 2);
    drop(clients);
    until_async(async || idle().await == 0).await;
}

#[tokio::test]
async fn a_reload_that_turns_it_on_is_heard_by_new_connections_to_the_backend() {
    let backend = Hearing::start(None, echo("a")).await;
    let plain = super::backend::Backend::plain(0, echo("plain")).await;
    let mut cluster = before(proxy(&[plain.port])).await;
    let mut client = cluster.client().await;
    good(&client.ask("GET /", "").await);
    let port = backend.port;
    let config = file(&cluster, move |config: &mut Config| {
        put(config, telling(ProxyProtocolVersion::V2, &[port]));
    });
    cluster.web.reload(config).await.unwrap();
    good(&client.ask("GET /", "").await);
    // Where it had connected to was of no interest then: the port is known, by its listener.
    let from = client.0.local_addr().unwrap();
    let to = SocketAddr::from(([0, 0, 0, 0], cluster.address().port()));
    assert_eq!(backend.heard(), [Source::Client { from, to }]);
    let mut new = cluster.client().await;
    good(&new.ask("GET /", "").await);
    assert_eq!(backend.heard()[1], of(&new, &cluster));
}
