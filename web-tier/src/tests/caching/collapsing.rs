//! Many requests for one answer ask once, and nobody is held by who asks.

use super::{cached, start, status_of, with};
use crate::tests::{
    backend::{OnConnection, raw},
    client::Client,
    cluster::Cluster,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

/// A server that tells of each request, and answers in steps: a piece for each permit.
struct Steps {
    asked: mpsc::UnboundedReceiver<()>,
    step: Arc<Semaphore>,
    count: Arc<AtomicUsize>,
}

fn in_steps(pieces: Vec<Vec<u8>>) -> (OnConnection, Steps) {
    let (tell, asked) = mpsc::unbounded_channel();
    let (step, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (steps, counts) = (step.clone(), count.clone());
    let pieces = Arc::new(pieces);
    let backend = raw(move |_, mut stream| {
        let (tell, steps, counts, pieces) = (tell.clone(), steps.clone(), counts.clone(), pieces.clone());
        async move {
            let mut buffer = [0; 4096];
            // One request at a time, each in one piece; the first has been read.
            let mut count = 1;
            while count > 0 {
                counts.fetch_add(1, SeqCst);
                let _ = tell.send(());
                for piece in pieces.iter() {
                    steps.acquire().await.unwrap().forget();
                    if piece.is_empty() || stream.write_all(piece).await.is_err() {
                        return;
                    }
                }
                count = stream.read(&mut buffer).await.unwrap_or(0);
            }
        }
    });
    (backend, Steps { asked, step, count })
}

fn head(length: usize, control: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nCache-Control: {control}\r\n\r\n").into_bytes()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";

async fn asking(cluster: &Cluster) -> Client {
    let mut client = cluster.client().await;
    client.send(GET).await;
    client
}

/// Waits until so many requests wait for another one's answer.
async fn collapsed(cluster: &Cluster, count: u64) {
    super::super::foreign::until(|| cluster.web.totals().cache.collapsed >= count).await;
}

#[tokio::test]
async fn a_stampede_asks_once() {
    let (backend, mut steps) = in_steps(vec![head(5, "max-age=60"), b"hello".to_vec()]);
    let cluster = start(backend).await;
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let mut client = asking(&cluster).await;
        clients.spawn(async move { client.answer().await.body });
    }
    steps.asked.recv().await.unwrap();
    collapsed(&cluster, 999).await;
    steps.step.add_permits(2);
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap(), "hello");
    }
    assert_eq!(steps.count.load(SeqCst), 1);
}

#[tokio::test]
async fn who_waits_reads_along() {
    let (backend, mut steps) = in_steps(vec![head(6, "max-age=60"), b"abc".to_vec(), b"def".to_vec()]);
    let cluster = start(backend).await;
    let _leader = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    let mut follower = asking(&cluster).await;
    collapsed(&cluster, 1).await;
    steps.step.add_permits(2);
    let mut text = String::new();
    while !text.ends_with("abc") {
        text.push(follower.0.read_u8().await.unwrap().into());
    }
    steps.step.add_permits(1);
    let mut rest = [0; 3];
    follower.0.read_exact(&mut rest).await.unwrap();
    assert_eq!((&rest, steps.count.load(SeqCst)), (b"def", 1));
}

#[tokio::test]
async fn a_client_that_leaves_takes_nothing_with_it() {
    // Before the answer's head: the other asks itself.
    let (backend, mut steps) = in_steps(vec![head(3, "max-age=60"), b"abc".to_vec()]);
    let cluster = start(backend).await;
    let leader = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    let mut follower = asking(&cluster).await;
    collapsed(&cluster, 1).await;
    leader.reset();
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(8);
    assert_eq!(follower.answer().await.body, "abc");
    // Behind it: the answer is read to its end, and kept.
    let (backend, mut steps) = in_steps(vec![head(6, "max-age=60"), b"abc".to_vec(), b"def".to_vec()]);
    let cluster = start(backend).await;
    let mut leader = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(2);
    leader.0.read_u8().await.unwrap();
    leader.reset();
    steps.step.add_permits(1);
    super::super::foreign::until_async(async || status_of(&cluster.ask("GET /", "").await).contains("hit"))
        .await;
    assert_eq!((cluster.ask("GET /", "").await.body.as_str(), steps.count.load(SeqCst)), ("abcdef", 1));
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_nobody() {
    let length = 1 << 20;
    let (backend, mut steps) = in_steps(vec![head(length, "max-age=60"), vec![b'x'; length]]);
    let cluster = start(backend).await;
    let _leader = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(2);
    let answer = cluster.ask("GET /", "").await;
    assert_eq!((answer.body.len(), steps.count.load(SeqCst)), (length, 1));
}

#[tokio::test]
async fn answers_that_are_not_for_all_come_side_by_side() {
    let (backend, mut steps) = in_steps(vec![head(3, "private"), b"abc".to_vec()]);
    let cluster = start(backend).await;
    let mut clients = Vec::new();
    clients.push(asking(&cluster).await);
    steps.asked.recv().await.unwrap();
    for _ in 0..9 {
        clients.push(asking(&cluster).await);
    }
    collapsed(&cluster, 9).await;
    // The first answer lets all others ask at once.
    steps.step.add_permits(2);
    for _ in 0..9 {
        steps.asked.recv().await.unwrap();
    }
    // Now it is known: a further one does not wait for another one.
    clients.push(asking(&cluster).await);
    steps.asked.recv().await.unwrap();
    clients.push(asking(&cluster).await);
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(100);
    for client in &mut clients {
        assert_eq!(client.answer().await.body, "abc");
    }
}

#[tokio::test]
async fn who_asks_for_long_is_not_waited_for() {
    let (backend, mut steps) = in_steps(vec![head(3, "max-age=60"), b"abc".to_vec()]);
    let change = with(|it| it.collapse_timeout = std::time::Duration::from_millis(50));
    let cluster = Cluster::start_with([backend], change).await;
    let mut leader = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    let mut follower = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(4);
    assert_eq!(
        (leader.answer().await.body, follower.answer().await.body),
        ("abc".to_owned(), "abc".to_owned())
    );
}

#[tokio::test]
async fn what_breaks_off_is_never_kept() {
    let (backend, mut steps) = in_steps(vec![head(6, "max-age=60"), b"abc".to_vec(), Vec::new()]);
    let cluster = start(backend).await;
    let mut leader = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(3);
    assert!(leader.rest().await.ends_with("abc"));
    let mut again = asking(&cluster).await;
    steps.asked.recv().await.unwrap();
    steps.step.add_permits(3);
    assert!(again.rest().await.ends_with("abc"));
    assert_eq!(steps.count.load(SeqCst), 2);
}

#[tokio::test]
async fn an_answer_of_unknown_length_is_kept_if_it_turns_out_short_and_else_passed_on() {
    let chunked = |control: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: {control}\r\n\r\n")
            .into_bytes()
    };
    let long = 3 << 20;
    for (length, kept) in [(10, true), (long, false)] {
        let body =
            [format!("{length:x}\r\n").into_bytes(), vec![b'y'; length], b"\r\n0\r\n\r\n".to_vec()].concat();
        let (backend, steps) = in_steps(vec![chunked("max-age=60"), body]);
        let cluster = Cluster::start_with([backend], cached).await;
        for number in 1..3 {
            steps.step.add_permits(2);
            let mut client = cluster.client().await;
            client.send("GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n").await;
            let text = client.rest().await;
            assert_eq!(text.split("\r\n\r\n").nth(1).unwrap().len(), length);
            assert_eq!(steps.count.load(SeqCst), if kept { 1 } else { number });
        }
    }
}
