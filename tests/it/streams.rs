//! Bodies stream: 2 GB each way in bounded memory, and what breaks is seen to be broken.

use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{Request, StatusCode, body::Frame, header::HOST};
use std::{convert::Infallible, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SIZE: u64 = 2 << 30;

/// What a process may grow by while 2 GB pass through it.
const GROWTH_MAX: u64 = 100 << 20;

/// For a 2 GB transfer through an unoptimised build on a busy machine.
const LONG: Duration = Duration::from_secs(240);

fn memory(cluster: &Cluster) -> Vec<(String, u64)> {
    cluster
        .configuration
        .servers()
        .into_iter()
        .map(|id| (id.clone(), cluster.process(&id).memory()))
        .collect()
}

fn assert_bounded(before: &[(String, u64)], after: &[(String, u64)]) {
    for ((id, before), (_, after)) in before.iter().zip(after) {
        let growth = after.saturating_sub(*before);
        tell(&format!("{id}: {} MB, grew by {} MB", after >> 20, growth >> 20));
        assert!(growth < GROWTH_MAX, "{id} grew from {before} to {after} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gigabytes_up_and_down_in_bounded_memory() {
    let cluster = Cluster::start(1).await;
    let web = cluster.web();
    cluster.user().get("/").await;
    let before = memory(&cluster);

    let chunk = Bytes::from(vec![7; 64 << 10]);
    let chunks = (0..SIZE / chunk.len() as u64).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone())));
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let mut connection = connect(&web).await;
    let request = Request::post("/upload").header(HOST, &web).body(body).unwrap();
    let answer = timeout(LONG, connection.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let counted = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(String::from_utf8_lossy(&counted).trim(), format!("uploaded {SIZE} bytes"));
    assert_bounded(&before, &memory(&cluster));

    let mut connection = connect(&web).await;
    let request =
        Request::get(format!("/bytes?n={SIZE}")).header(HOST, &web).body(Full::<Bytes>::default()).unwrap();
    let mut body = connection.send_request(request).await.unwrap().into_body();
    let mut received = 0;
    let download = async {
        while let Some(frame) = body.frame().await {
            received += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
        }
    };
    timeout(LONG, download).await.unwrap();
    assert_eq!(received, SIZE);
    assert_bounded(&before, &memory(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_no_memory_and_one_that_goes_away_harms_nobody() {
    let cluster = Cluster::start(1).await;
    cluster.user().get("/").await;
    let before = memory(&cluster);
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(cluster.web()).await.unwrap();
        stream
            .write_all(format!("GET /bytes?n={SIZE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut first = [0; 1024];
        stream.read_exact(&mut first).await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(cluster.user().count().await.0, 1);
    assert_bounded(&before, &memory(&cluster));
    drop(stalled);
    assert_eq!(cluster.user().count().await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_middle_of_a_body_breaks_it_visibly() {
    let ways = [(None, ""), (None, "&chunked=1"), (Some("true"), ""), (Some("true"), "&chunked=1")];
    for (encryption, chunked) in ways {
        let path = format!("/bytes?n={SIZE}{chunked}");
        let mut cluster = Cluster::start_with(1, |it| it.encryption = encryption).await;
        let web = cluster.web();
        let mut connection = connect(&web).await;
        let request = Request::get(&path).header(HOST, &web).body(Full::<Bytes>::default()).unwrap();
        let mut body = connection.send_request(request).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        cluster.kill("app-a").await;
        let rest = async {
            loop {
                match body.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(broken)) => return broken,
                    None => panic!("{path}: a short body that looks complete"),
                }
            }
        };
        timeout(PATIENCE, rest).await.expect("the break is noticed");
    }
}
