//! Clients that say their last before they have their answer: `printf 'GET / HTTP/1.0\r\n\r\n' | nc -N host 80`.

use super::{
    backend::{OnConnection, echo, raw},
    cluster::Cluster,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends all, says that this was all, and reads to the end.
async fn say(cluster: &Cluster, text: &str) -> String {
    let mut client = cluster.client().await;
    client.send(text).await;
    client.0.shutdown().await.unwrap();
    client.rest().await
}

#[tokio::test]
async fn a_request_whose_client_has_said_its_last_is_answered() {
    let cluster = Cluster::start([echo("a")]).await;
    // The first has its socket dialled, the others find it.
    for request in [
        "GET /x HTTP/1.0\r\n\r\n",
        "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let text = say(&cluster, request).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains(" /x\n"), "{request:?}: {text:?}");
        assert_eq!(text.ends_with("\nhello"), request.contains("hello"), "{text:?}");
    }
    let text = say(&cluster, &"GET /x HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20)).await;
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 20, "{text}");
    assert_eq!(cluster.web.totals().requests_active, 0);
}

#[tokio::test]
async fn a_request_that_is_cut_off_is_not() {
    let cluster = Cluster::start([echo("a")]).await;
    for request in [
        "GET /x HTTP/1.1\r\nHost: h\r\n",
        "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let text = say(&cluster, request).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{request:?}: {text:?}");
    }
}

#[tokio::test]
async fn an_answer_that_takes_its_time_comes_whole() {
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let opened = gate.clone();
    let slow = raw(move |_, mut stream| {
        let (gate, asked) = (opened.clone(), asked.clone());
        async move {
            asked.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for _ in 0..3 {
                asked.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
                let _ = stream.write_all(b"4\r\nmore\r\n").await;
            }
            let _ = stream.write_all(b"0\r\n\r\n").await;
        }
    });
    let cluster = Cluster::start([slow]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    client.0.shutdown().await.unwrap();
    // The web tier has seen the end by the time that others have been answered.
    let mut other = cluster.client().await;
    for _ in 0..5 {
        assert_eq!(other.ask("GET http://h/%00", "").await.status, 400);
        other = cluster.client().await;
    }
    for _ in 0..3 {
        gate.add_permits(1);
        timeout(PATIENCE, was_asked.recv()).await.unwrap().unwrap();
    }
    gate.add_permits(1);
    let text = client.rest().await;
    assert!(text.ends_with("4\r\nmore\r\n4\r\nmore\r\n4\r\nmore\r\n0\r\n\r\n"), "{text:?}");
}

/// A server that says nothing, and tells when it was asked (`false`) and when the connection ended (`true`).
fn silent() -> (OnConnection, mpsc::UnboundedReceiver<bool>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = raw(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(false).unwrap();
            let _ = stream.read_u8().await;
            tell.send(true).unwrap();
        }
    });
    (server, told)
}

#[tokio::test]
async fn who_resets_the_connection_is_gone_and_the_server_hears_of_it() {
    let (server, mut told) = silent();
    let cluster = Cluster::start([server]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(told.recv().await, Some(false));
    client.reset();
    assert_eq!(timeout(PATIENCE, told.recv()).await.expect("it hears in time"), Some(true));
}

#[tokio::test]
async fn who_has_said_its_last_and_hears_nothing_for_socket_timeout_is_taken_for_gone() {
    let (server, mut told) = silent();
    let cluster = Cluster::start_with([server], |config| {
        config.clusters[1].servers[0].socket_timeout = Duration::from_millis(300);
    })
    .await;
    let (mut stays, mut goes) = (cluster.client().await, cluster.client().await);
    for client in [&mut stays, &mut goes] {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(told.recv().await, Some(false));
    }
    goes.0.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, told.recv()).await.expect("it hears in time"), Some(true));
    assert_eq!(goes.rest().await, "");
    assert!(told.try_recv().is_err(), "who has not is waited for");
}
