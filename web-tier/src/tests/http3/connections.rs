//! Connections: other addresses, other certificates, more than there may be, and their ends.

use super::{
    client::{Client, PATIENCE, answer, config, dial, dial_from, get},
    site::{HOST, Site, start},
};
use crate::{
    Inherited,
    tests::{
        backend::{echo, gated},
        cluster::Cluster,
    },
};
use quinn::Endpoint;
use std::{
    net::UdpSocket,
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
};
use tokio::time::timeout;

#[tokio::test]
async fn a_client_that_comes_from_another_address_goes_on() {
    let (backend, gate, mut was_asked) = gated();
    let (cluster, certificate, _files) = start([backend], |config| {
        // Most of the addresses that it comes from are another worker's by the kernel's choice.
        config.clusters[1].workers = NonZeroUsize::new(4);
        config.clusters[0].servers[0].connection_max = 64;
    })
    .await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    for _ in 0..12 {
        let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
        was_asked.recv().await.unwrap();
        client.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        gate.add_permits(1);
        let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("an answer in time").unwrap();
        assert_eq!(answer.text, "ok");
    }
    let totals = cluster.web.totals();
    assert_eq!((totals.quic_connections, totals.requests), (1, 12), "it is one connection");
    assert!(client.quic.close_reason().is_none());
}

#[tokio::test]
async fn an_address_that_has_not_shaken_hands_names_nobody() {
    let (cluster, certificate, _files) = start([echo("a")], |config| {
        config.clusters[1].trusted_proxies = vec!["127.0.0.9".parse().unwrap()];
    })
    .await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    // On a packet whoever sends it can write any of these.
    for other in ["127.0.0.7:0", "127.0.0.9:0"] {
        client.endpoint.rebind(UdpSocket::bind(other).unwrap()).unwrap();
        let get = get("/").header("x-forwarded-for", "192.0.2.7").body(()).unwrap();
        let seen = client.ask(get, &[]).await.unwrap().text;
        assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{other}: {seen}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let site = Site::new();
    let first = site.renew();
    let cluster = site.start([echo("a")], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &first).await;
    assert_eq!(client.get("/").await.head.status(), 200);
    let second = site.renew();
    cluster.web.reload_certificates();
    assert!(dial(cluster.address(), &first).await.is_err(), "it is not shown any more");
    let mut other = Client::connect(cluster.address(), &second).await;
    assert_eq!(other.get("/").await.head.status(), 200);
    assert_eq!(client.get("/").await.head.status(), 200, "who was there stays");
}

#[tokio::test]
async fn a_reload_begins_and_ends_it() {
    let site = Site::new();
    let certificate = site.renew();
    let mut cluster =
        site.start([echo("a")], |config| config.clusters[1].servers[0].http[0].http3 = None).await;
    let ports: Vec<_> = cluster.backends.iter().flatten().map(|it| it.port).collect();
    let with = |http3: bool| {
        let mut config = crate::tests::cluster::config(&ports);
        let mut listener = site.listener(0);
        if !http3 {
            listener.http3 = None;
        }
        config.clusters[1].servers[0].http = vec![listener];
        Arc::new(config)
    };
    let to = cluster.address();
    for _ in 0..2 {
        assert!(UdpSocket::bind(to).is_ok(), "nobody is at the port of UDP");
        let changes = cluster.web.reload(with(true)).await.unwrap().to_string();
        assert!(changes.contains("listeners changed"), "{changes}");
        let mut client = Client::connect(to, &certificate).await;
        assert_eq!(client.get("/").await.head.status(), 200);
        cluster.web.reload(with(false)).await.unwrap();
        let why = timeout(PATIENCE, client.driver).await.expect("its connections end").unwrap();
        assert!(why.contains("NO_ERROR"), "{why}");
        client.endpoint.close(0_u32.into(), b"");
        while UdpSocket::bind(to).is_err() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_stop_says_goodbye_and_finishes_what_is_in_flight() {
    let (backend, gate, mut was_asked) = gated();
    let (cluster, certificate, _files) = start([backend], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let idle = Client::connect(cluster.address(), &certificate).await;
    let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
    was_asked.recv().await.unwrap();
    let stopping = tokio::spawn(cluster.web.stop(PATIENCE));
    let why = timeout(PATIENCE, idle.driver).await.expect("an idle one ends").unwrap();
    assert!(why.contains("NO_ERROR"), "{why}");
    // Once it has heard of it, nothing more is asked here.
    let refused = async {
        while let Ok(mut stream) = client.h3.send_request(get("/").body(()).unwrap()).await {
            let _ = stream.finish().await;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("GOAWAY");
    gate.add_permits(1000);
    let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("an answer in time").unwrap();
    assert_eq!(answer.text, "ok");
    assert_eq!(stopping.await.unwrap(), 0);
}

#[tokio::test]
async fn a_stop_with_nobody_but_idle_clients_tells_them() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    assert_eq!(client.get("/").await.head.status(), 200);
    assert_eq!(cluster.web.stop(PATIENCE).await, 0);
    let why = timeout(PATIENCE, client.driver).await.expect("it is told").unwrap();
    assert!(why.contains("NO_ERROR"), "{why}");
}

#[tokio::test]
async fn after_so_many_requests_a_connection_ends_and_none_is_lost() {
    let (cluster, certificate, _files) = start([echo("a")], |config| {
        config.clusters[1].servers[0].request_limits.keepalive = NonZeroU64::new(3);
    })
    .await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.head.status(), 200);
    }
    let why = timeout(PATIENCE, client.driver).await.expect("it ends").unwrap();
    assert!(why.contains("NO_ERROR"), "{why}");
}

#[tokio::test]
async fn a_process_that_takes_over_speaks_it_when_the_former_one_has_ended() {
    let site = Site::new();
    let certificate = site.renew();
    let (backend, gate, mut was_asked) = gated();
    let former = site.start([backend], |_| {}).await;
    let to = former.address();
    let mut inherited = Inherited::default();
    for listener in former.web.listening_sockets().await.unwrap() {
        listener.sockets.iter().for_each(|it| inherited.add(it, Some(listener.asked)).unwrap());
    }
    let mut client = Client::connect(to, &certificate).await;
    let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
    was_asked.recv().await.unwrap();
    let next = Cluster::start_on(inherited, [echo("a")], usize::MAX, |config| {
        config.clusters[1].servers[0].http = vec![site.listener(0)];
    })
    .await;
    assert_eq!(next.address(), to);
    let retiring = tokio::spawn(former.web.retire(PATIENCE));
    gate.add_permits(1);
    let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("an answer in time").unwrap();
    assert_eq!(answer.text, "ok");
    assert_eq!(retiring.await.unwrap(), 0, "nothing was cut");
    // A packet that nobody gets is sent again within this.
    let mut other = timeout(PATIENCE, Client::connect(to, &certificate)).await.expect("it is spoken again");
    assert_eq!(other.get("/").await.head.status(), 200);
    assert_eq!(next.web.totals().quic_connections, 1);
}

#[tokio::test]
async fn where_many_shake_hands_addresses_are_to_be_proved() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    // First packets that are sent on from elsewhere: nobody is there to answer what comes back.
    let nowhere = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config(&certificate));
    let (mut packet, mut silent) = (vec![0; 2000], Vec::new());
    while cluster.web.totals().quic_retries == 0 {
        assert!(silent.len() < 500, "nobody is asked");
        let connecting = endpoint.connect(nowhere.local_addr().unwrap(), HOST).unwrap();
        let length = timeout(PATIENCE, nowhere.recv(&mut packet)).await.unwrap().unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        from.send_to(&packet[..length], cluster.address()).unwrap();
        silent.push((connecting, from));
    }
    let mut client = Client::connect(cluster.address(), &certificate).await;
    assert_eq!(client.get("/").await.head.status(), 200, "who proves it is served");
}

/// Its address is its own, and it stops in the middle of the handshake.
#[tokio::test]
async fn one_client_cannot_take_up_all_handshakes() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let (mut packet, mut stuck) = (vec![0; 2000], 0);
    while cluster.web.totals().connections_refused == 0 {
        assert!(stuck < 500, "nobody is refused");
        let socket = || tokio::net::UdpSocket::bind("127.0.0.1:0");
        let (to_client, to_server) = (socket().await.unwrap(), socket().await.unwrap());
        to_server.connect(cluster.address()).await.unwrap();
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config(&certificate));
        let _connecting = endpoint.connect(to_client.local_addr().unwrap(), HOST).unwrap();
        // Up to what follows a Retry (RFC 9000 §17.2.5): that is not passed on.
        let mut answer = vec![0; 2000];
        let between = async {
            loop {
                tokio::select! {
                    length = to_client.recv(&mut packet) => {
                        to_server.send(&packet[..length.unwrap()]).await.unwrap();
                    }
                    length = to_server.recv(&mut answer) => {
                        let answer = &answer[..length.unwrap()];
                        if answer[0] >> 4 != 0xf {
                            return;
                        }
                        to_client.send_to(answer, endpoint.local_addr().unwrap()).await.unwrap();
                    }
                }
            }
        };
        timeout(PATIENCE, between).await.unwrap();
        stuck += 1;
    }
    assert!(stuck > 100, "{stuck}");
    assert!(dial(cluster.address(), &certificate).await.is_err(), "it has its share");
    let other = dial_from([127, 0, 0, 2], cluster.address(), &certificate).await.unwrap();
    let mut other = Client::over(other).await;
    assert_eq!(other.get("/").await.head.status(), 200, "others are served");
}
