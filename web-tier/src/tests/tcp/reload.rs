//! What a reload, a stop and an upgrade make of connections.

use super::{super::reload::file, *};
use crate::Inherited;

async fn reload(cluster: &mut Cluster, change: impl FnOnce(&mut Config)) -> String {
    let config = file(cluster, change);
    cluster.web.reload(config).await.unwrap().to_string()
}

#[tokio::test]
async fn a_new_file_holds_for_new_connections_and_the_old_ones_go_on() {
    let (a, b) = (echo("a").await, echo("b").await);
    let mut cluster = before(listener(Some(servers(&[a])))).await;
    let at = address(&cluster);
    let mut old = connect(&cluster).await;
    hear(&mut old, b"a").await;
    let said = reload(&mut cluster, |config| put(config, listener(Some(servers(&[b]))))).await;
    assert_eq!(said, "tcp-proxy");
    assert_eq!(address(&cluster), at);
    hear(&mut connect(&cluster).await, b"b").await;
    send(&mut old, b"still").await;
    hear(&mut old, b"still").await;
    assert_eq!(counts(&cluster).await.connections, 2, "it counts on");
    assert_eq!(
        reload(&mut cluster, |config| put(config, listener(Some(servers(&[b]))))).await,
        "nothing has changed"
    );
    // Without its listener, too.
    assert_eq!(reload(&mut cluster, |_| {}).await, format!("listeners removed tcp://{at}; tcp-proxy"));
    assert!(TcpStream::connect(at).await.is_err());
    send(&mut old, b"still").await;
    hear(&mut old, b"still").await;
    let said = reload(&mut cluster, |config| put(config, listener(Some(servers(&[a]))))).await;
    assert_eq!(said, format!("listeners added tcp://{}; tcp-proxy", address(&cluster)));
    hear(&mut connect(&cluster).await, b"a").await;
}

#[tokio::test]
async fn a_stop_waits_for_connections_to_end_and_cuts_those_that_do_not() {
    let port = echo("a").await;
    let cluster = before(listener(Some(servers(&[port])))).await;
    let mut client = connect(&cluster).await;
    hear(&mut client, b"a").await;
    let at = address(&cluster);
    let stopping = tokio::spawn(cluster.web.stop(PATIENCE));
    until_async(async || TcpStream::connect(at).await.is_err()).await;
    send(&mut client, b"last").await;
    hear(&mut client, b"last").await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, (Vec::new(), true));
    assert_eq!(stopping.await.unwrap(), 0, "nothing was cut");

    let cluster = before(listener(Some(servers(&[port])))).await;
    let mut client = connect(&cluster).await;
    hear(&mut client, b"a").await;
    assert_eq!(cluster.web.stop(Duration::from_millis(30)).await, 1);
    // Nobody takes that for a whole answer.
    assert_eq!(rest(&mut client).await, (Vec::new(), false));
}

#[tokio::test]
async fn another_process_takes_the_listener_over() {
    let port = echo("a").await;
    let alone = async |inherited| {
        let change = |file: &mut Config| {
            file.clusters[1].servers[0].http.clear();
            put(file, listener(Some(servers(&[port]))));
        };
        Cluster::start_on(inherited, [], usize::MAX, change).await
    };
    let cluster = alone(Inherited::default()).await;
    let at = cluster.address();
    let mut client = TcpStream::connect(at).await.unwrap();
    hear(&mut client, b"a").await;
    let mut inherited = Inherited::default();
    for listener in cluster.web.listening_sockets().await.unwrap() {
        for socket in listener.sockets {
            inherited.add(&socket, Some(listener.asked)).unwrap();
        }
    }
    let next = alone(inherited).await;
    assert_eq!(next.address(), at);
    let retiring = tokio::spawn(cluster.web.retire(PATIENCE));
    until_async(async || {
        let _heard = hear(&mut TcpStream::connect(at).await.unwrap(), b"a").await;
        counts(&next).await.connections > 0
    })
    .await;
    send(&mut client, b"old").await;
    hear(&mut client, b"old").await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, (Vec::new(), true));
    assert_eq!(retiring.await.unwrap(), 0, "nothing was cut");
}
