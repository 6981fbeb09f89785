//! Clients, servers and those between them that mean harm, or break.

use super::{names::hello, *};
use common::config::{ConnectionLimit, RateLimit, RequestKey};
use socket2::SockRef;

fn limit(max: u32, by: RequestKey) -> ConnectionLimit {
    ConnectionLimit { name: "test".to_owned(), by, max }
}

#[tokio::test]
async fn a_client_hello_that_is_slow_or_does_not_end_holds_nothing_for_long() {
    let port = echo("").await;
    let mut config = listener(Some(servers(&[port])));
    config.routes = vec![route("a.test", port)];
    config.client_hello_timeout = Duration::from_millis(50);
    let cluster = before(config.clone()).await;
    let mut slow = connect(&cluster).await;
    send(&mut slow, &hello("a.test")[..100]).await;
    assert_eq!(rest(&mut slow).await.0, b"");
    until_refused(&cluster, "client-hello", 1).await;
    config.client_hello_timeout = PATIENCE;
    let cluster = before(config).await;
    let mut endless = connect(&cluster).await;
    let record = [&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0][..], &[0; 16_379]].concat();
    send(&mut endless, &record).await;
    let _ = endless.write_all(&record).await;
    assert_eq!(rest(&mut endless).await.0, b"");
    let mut early = connect(&cluster).await;
    send(&mut early, &hello("a.test")[..100]).await;
    early.shutdown().await.unwrap();
    assert_eq!(rest(&mut early).await.0, b"");
    until_refused(&cluster, "client-hello", 2).await;
}

#[tokio::test]
async fn a_flood_is_held_within_its_limits_and_who_leaves_makes_room() {
    let port = echo("x").await;
    let mut config = listener(Some(servers(&[port])));
    config.connection_limits = vec![limit(3, RequestKey::RemoteAddr)];
    let cluster = before(config).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = connect(&cluster).await;
        hear(&mut client, b"x").await;
        open.push(client);
    }
    for _ in 0..10 {
        assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    }
    until_refused(&cluster, "limited", 10).await;
    assert_eq!(cluster.web.limits()[0].refused, 10);
    drop(open.pop());
    until_async(async || counts(&cluster).await.connections_open == 2).await;
    hear(&mut connect(&cluster).await, b"x").await;
}

#[tokio::test]
async fn connections_of_others_leave_a_quarter_to_http() {
    let port = echo("x").await;
    let config = listener(Some(servers(&[port])));
    let mut cluster =
        Cluster::start_limited([super::super::backend::echo("app")], 8, |it| put(it, config)).await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut client = connect(&cluster).await;
        hear(&mut client, b"x").await;
        open.push(client);
    }
    assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    until_refused(&cluster, "full", 1).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 200);
    drop(open);
    cluster.kill(0).await;
}

#[tokio::test]
async fn too_many_in_a_time_and_from_the_wrong_networks_are_refused() {
    let port = echo("x").await;
    let mut config = listener(Some(servers(&[port])));
    config.rate_limits = vec![RateLimit {
        name: "test".to_owned(),
        by: RequestKey::RemoteAddr,
        requests: 2,
        period: Duration::from_secs(3600),
        burst: 2,
        keys_max: 1024,
    }];
    let cluster = before(config.clone()).await;
    for _ in 0..2 {
        hear(&mut connect(&cluster).await, b"x").await;
    }
    assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    until_refused(&cluster, "limited", 1).await;
    config.rate_limits.clear();
    config.deny = vec!["127.0.0.0/8".parse().unwrap()];
    let cluster = before(config.clone()).await;
    assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    until_refused(&cluster, "denied", 1).await;
    config.deny.clear();
    config.allow = vec!["10.0.0.0/8".parse().unwrap()];
    let cluster = before(config).await;
    assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    until_refused(&cluster, "denied", 1).await;
}

#[tokio::test]
async fn a_proxy_header_says_who_the_client_is_if_it_may() {
    let mut server = Server::start().await;
    let mut config = listener(Some(servers(&[server.port])));
    config.proxy_protocol = true;
    config.deny = vec!["198.51.100.9/32".parse().unwrap()];
    let trusting = |networks: &'static [&'static str]| {
        let config = config.clone();
        Cluster::start_with([], move |file| {
            file.clusters[1].trusted_proxies = networks.iter().map(|it| it.parse().unwrap()).collect();
            put(file, config);
        })
    };
    let cluster = trusting(&["127.0.0.0/8"]).await;
    let mut client = connect(&cluster).await;
    send(&mut client, b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\nhello").await;
    hear(&mut server.next().await, b"hello").await;
    let mut client = connect(&cluster).await;
    send(&mut client, b"PROXY TCP4 198.51.100.9 192.0.2.1 40000 80\r\n").await;
    assert_eq!(rest(&mut client).await.0, b"");
    until_refused(&cluster, "denied", 1).await;
    let mut client = connect(&cluster).await;
    send(&mut client, b"hello").await;
    assert_eq!(rest(&mut client).await.0, b"");
    until_refused(&cluster, "proxy-header", 1).await;
    let cluster = trusting(&["10.0.0.0/8"]).await;
    let mut client = connect(&cluster).await;
    let _ = client.write_all(b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n").await;
    assert_eq!(rest(&mut client).await.0, b"");
    until_refused(&cluster, "proxy-header", 1).await;
}

#[tokio::test]
async fn a_reset_passes_in_both_directions() {
    let mut server = Server::start().await;
    let cluster = before(listener(Some(servers(&[server.port])))).await;
    for of_client in [true, false] {
        let (mut client, mut at_server) = (connect(&cluster).await, server.next().await);
        send(&mut client, b"x").await;
        hear(&mut at_server, b"x").await;
        let (gone, mut left) = if of_client { (client, at_server) } else { (at_server, client) };
        SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        assert_eq!(rest(&mut left).await, (Vec::new(), false), "of the client: {of_client}");
    }
}

/// A client may bring a server to reset its connection, by what it says: no other client is to suffer for it.
#[tokio::test]
async fn a_server_that_breaks_at_once_is_left_alone_and_one_that_a_client_has_broken_is_not() {
    let (mut bad, good) = (Server::start().await, echo("good").await);
    let mut config = servers(&[bad.port, good]);
    config.recover_time = PATIENCE;
    let cluster = before(listener(Some(config))).await;
    let view = async || {
        let status = cluster.web.view().status().await;
        let upstream = status.upstreams.iter().find(|it| it.servers.len() == 2).unwrap();
        upstream.servers[0].workers[0]
    };
    let trouble = async || view().await.troubles;
    let mut client = connect(&cluster).await;
    let mut at_server = bad.next().await;
    send(&mut client, b"nonsense").await;
    hear(&mut at_server, b"nonsense").await;
    SockRef::from(&at_server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(at_server);
    assert!(!rest(&mut client).await.1);
    assert_eq!(trouble().await, 0);
    hear(&mut connect(&cluster).await, b"good").await;
    // By its end, too: there are servers that abort on it.
    let mut brief = connect(&cluster).await;
    let mut at_server = bad.next().await;
    brief.shutdown().await.unwrap();
    assert_eq!(rest(&mut at_server).await, (Vec::new(), true));
    SockRef::from(&at_server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(at_server);
    assert!(!rest(&mut brief).await.1);
    assert_eq!(trouble().await, 0);
    hear(&mut connect(&cluster).await, b"good").await;
    // And by silence: servers end connections on which nobody signs in.
    let mut silent = connect(&cluster).await;
    let at_server = bad.next().await;
    until_async(async || view().await.answers == 3).await;
    tokio::time::sleep(crate::tcp::AT_ONCE).await;
    SockRef::from(&at_server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(at_server);
    assert!(!rest(&mut silent).await.1);
    assert_eq!(trouble().await, 0);
    hear(&mut connect(&cluster).await, b"good").await;
    let mut client = connect(&cluster).await;
    let at_server = bad.next().await;
    SockRef::from(&at_server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(at_server);
    until_async(async || trouble().await == 1).await;
    // A reset that comes before the balancer has seen the connection is one that could not be made: then the other serves.
    let _ = client.shutdown().await;
    let (heard, whole) = rest(&mut client).await;
    assert!(!whole || heard == b"good", "{heard:?}");
}

#[tokio::test]
async fn who_does_not_read_stops_the_other_side_and_what_stands_still_ends() {
    let mut server = Server::start().await;
    let mut config = servers(&[server.port]);
    config.socket_timeout = Duration::from_millis(300);
    let cluster = before(listener(Some(config))).await;
    let mut client = connect(&cluster).await;
    let at_server = server.next().await;
    let block = vec![7; 1 << 20];
    let sending = async {
        let mut sent = 0_u64;
        while let Ok(count) = client.write(&block).await {
            sent += count as u64;
        }
        sent
    };
    let sent = timeout(PATIENCE, sending).await.expect("it ends");
    // What is in buffers of the kernel, and at most one of ours: far from what would be sent in that time.
    assert!(sent < 64 << 20, "{sent}");
    let counts = counts(&cluster).await;
    assert_eq!((counts.timed_out, counts.connections_open), (1, 0));
    drop(at_server);
}
