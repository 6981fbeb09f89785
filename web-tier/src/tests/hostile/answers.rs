//! Hostile and broken servers: their answers are refused or seen to break off, and their sockets never serve again.

use super::verdict::Answers;
use crate::tests::{backend::raw, client::Client, cluster::Cluster};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// What a client must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// A 502, perhaps after some 1xx.
    Refused,
    /// A 502, or an answer that is not complete.
    Broken,
    /// The answer, and not a byte more.
    Whole,
}

/// A cluster whose server says `bad` to the first request, then `ok` on other connections; counts the requests that came on a
/// connection that had said `bad`.
async fn before_a_bad_server(bad: Vec<u8>, then_ends: bool) -> (Cluster, Arc<AtomicUsize>) {
    let again = Arc::new(AtomicUsize::new(0));
    let bad = Arc::new(Mutex::new(Some(bad)));
    let counted = again.clone();
    let server = raw(move |_, mut stream| {
        let (bad, counted) = (bad.lock().unwrap().take(), counted.clone());
        async move {
            let Some(bad) = bad else {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright").await;
                let _ = stream.read_u8().await;
                return;
            };
            let _ = stream.write_all(&bad).await;
            if !then_ends && stream.read_u8().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let cluster = Cluster::start_with([server], |config| {
        // A server that stops in the middle is given up soon.
        config.clusters[0].servers[0].balance_socket_timeout = Duration::from_secs(2);
        config.clusters[0].servers[0].recover_time = Duration::ZERO;
    })
    .await;
    (cluster, again)
}

async fn check(answer: &[u8], method: &str, want: Want) -> Result<(), String> {
    let ends = want == Want::Broken;
    let (cluster, again) = before_a_bad_server(answer.to_vec(), ends).await;
    let mut client = cluster.client().await;
    client
        .send(&format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
        .await;
    let text = client.rest().await;
    let outcome = judge(text.as_bytes(), method, want);
    // Whoever asks next gets the right answer, on another socket.
    let next = cluster.ask("GET /", "").await;
    let next = match (next.status, next.body.as_str()) {
        (200, "right") => Ok(()),
        (status, body) => Err(format!("the next request is answered {status} {body:?}")),
    };
    let pooled = match again.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ => Err("its socket is used again".to_owned()),
    };
    outcome.and(next).and(pooled)
}

fn judge(text: &[u8], method: &str, want: Want) -> Result<(), String> {
    let shown = || format!("the client got {:?}", String::from_utf8_lossy(text));
    let read = Answers::read(text, method == "HEAD");
    let last = read.as_ref().ok().and_then(|answers| answers.statuses().last().copied());
    let chunked = String::from_utf8_lossy(text).contains("transfer-encoding: chunked");
    let met = match want {
        Want::Refused => last == Some(502),
        Want::Broken if chunked => !text.ends_with(b"0\r\n\r\n"),
        Want::Broken => last.is_none_or(|status| status == 502),
        Want::Whole => !String::from_utf8_lossy(text).contains("evil") && text.starts_with(b"HTTP/1.1 "),
    };
    if met { Ok(()) } else { Err(shown()) }
}

async fn check_all(method: &str, want: Want, answers: &[Vec<u8>]) {
    let mut failures = Vec::new();
    for answer in answers {
        if let Err(why) = check(answer, method, want).await {
            failures.push(format!("{}: {why}", super::page::shown(answer)));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), answers.len(), failures.join("\n"));
}

fn ok(headers: &str, body: &str) -> Vec<u8> {
    super::wire(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}"))
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_a_502() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let answers = [
        ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunked),
        ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked),
        ok("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
        ok("Content-Length: 5, 6\r\n", "hello"),
        ok("Content-Length: +5\r\n", "hello"),
        ok("Content-Length: -5\r\n", "hello"),
        ok("Content-Length: 0x5\r\n", "hello"),
        ok("Content-Length:\r\n", "hello"),
        ok("Content-Length: 5x\r\n", "hello"),
        ok("Content-Length: 18446744073709551621\r\n", "hello"),
        ok("Transfer-Encoding: xchunked\r\n", chunked),
        ok("Transfer-Encoding: chunked, identity\r\n", chunked),
        ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
        ok("Transfer-Encoding: \u{b}chunked\r\n", chunked),
        ok("Transfer-Encoding : chunked\r\n", chunked),
        ok("X: 1\r\n Content-Length: 5\r\n", "hello"),
    ];
    check_all("POST", Want::Refused, &answers).await;
}

#[tokio::test]
async fn a_head_that_is_none_is_a_502() {
    let many = "X: 1\r\n".repeat(2000);
    let big = format!("X: {}\r\n", "a".repeat(300_000));
    let zero = "Content-Length: 0\r\n";
    let answers = [
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        ok(&format!("{zero}X : 1\r\n"), ""),
        ok(&format!("{zero}X\r\n"), ""),
        ok(&format!("{zero}: 1\r\n"), ""),
        ok(&format!("{zero}X: a\0\r\n"), ""),
        ok(&format!("{zero}X: a\rSet-Cookie: evil=1\r\n"), ""),
        ok(&format!("{zero}X: a\r\n folded\r\n"), ""),
        ok(&format!("{zero}X\u{1}: a\r\n"), ""),
        ok(&format!("{zero}{many}"), ""),
        ok(&format!("{zero}{big}"), ""),
        "a".repeat(300_000).into_bytes(),
    ];
    check_all("POST", Want::Refused, &answers).await;
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_and_a_flood_of_interim_answers_are_a_502() {
    let end = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let flood = |status: &str| format!("HTTP/1.1 {status}\r\n\r\n").repeat(10_000) + end;
    let big = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "a".repeat(300_000));
    let answers = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nevil".to_vec(),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec(),
        flood("100 Continue").into_bytes(),
        flood("102 Processing").into_bytes(),
        flood("103 Early Hints").into_bytes(),
        (big + end).into_bytes(),
    ];
    check_all("POST", Want::Refused, &answers).await;
}

#[tokio::test]
async fn a_body_that_is_not_complete_is_never_taken_for_a_whole_one() {
    let chunked = |body: &str| ok("Transfer-Encoding: chunked\r\n", body);
    let answers = [
        ok("Content-Length: 10\r\n", ""),
        ok("Content-Length: 10\r\n", "hello"),
        chunked(""),
        chunked("5"),
        chunked("5\r\nhel"),
        chunked("5\r\nhello"),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhello\r\n0"),
        chunked("5\r\nhello\r\n0\r\n"),
        chunked("5\r\nhelloX\r\n0\r\n\r\n"),
        chunked("5\r\nhello0\r\n\r\n"),
        chunked("5\nhello\r\n0\r\n\r\n"),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("+5\r\nhello\r\n0\r\n\r\n"),
        chunked("5_\r\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello\r\n10000000000000000\r\n0\r\n\r\n"),
        chunked("FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
        chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(100_000))),
        b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".to_vec(),
    ];
    check_all("POST", Want::Broken, &answers).await;
}

#[tokio::test]
async fn what_follows_an_answer_is_not_the_next_answer() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let answers = [
        ok("Content-Length: 2\r\n", &format!("ok{evil}")),
        ok("Content-Length: 2\r\n", "ok\r\n"),
        ok("Content-Length: 0\r\n", evil),
        ok("Transfer-Encoding: chunked\r\n", &format!("2\r\nok\r\n0\r\n\r\n{evil}")),
        format!("HTTP/1.1 204 No Content\r\n\r\n{evil}").into_bytes(),
        format!("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n{evil}").into_bytes(),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{evil}").into_bytes(),
    ];
    check_all("POST", Want::Whole, &answers).await;
    let to_head = [
        ok("Content-Length: 4\r\n", evil),
        ok("Content-Length: 4\r\n", "evil"),
        ok("Transfer-Encoding: chunked\r\n", "4\r\nevil\r\n0\r\n\r\n"),
    ];
    check_all("HEAD", Want::Whole, &to_head).await;
}

#[tokio::test]
async fn what_a_server_says_unasked_answers_nobody() {
    let (said, mut was_said) = mpsc::unbounded_channel();
    let (speak, may_speak) = mpsc::unbounded_channel::<()>();
    let may_speak = Arc::new(tokio::sync::Mutex::new(may_speak));
    let server = raw(move |head, mut stream| {
        let (said, may_speak) = (said.clone(), may_speak.clone());
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright").await;
            if head.starts_with("GET /first ") {
                may_speak.lock().await.recv().await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
                said.send(()).unwrap();
            }
            let _ = stream.read_u8().await;
        }
    });
    let cluster = Cluster::start([server]).await;
    let mut client = Client::connect(cluster.address()).await;
    assert_eq!(client.ask("GET /first", "").await.body, "right");
    speak.send(()).unwrap();
    was_said.recv().await.unwrap();
    for method in ["POST", "GET", "POST"] {
        let answer = client.ask(&format!("{method} /"), "Content-Length: 0\r\n").await;
        let right = answer.status == 502 || (answer.status == 200 && answer.body == "right");
        assert!(right, "{} {}", answer.status, answer.body);
    }
}
