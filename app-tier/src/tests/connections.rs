//! What one sees on a connection from a web-tier: upgrades, expectations and trailers, byte by byte.

use super::{HEALTH, LIMIT, Tier, start};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

async fn well() -> Tier {
    let tier = start("well", HEALTH).unwrap();
    tier.tier.ready(LIMIT).await.unwrap();
    tier
}

/// Sends a request's head (and what follows it).
async fn send(tier: &Tier, text: &str) -> DuplexStream {
    let mut stream = tier.connection();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads to the end of a head, in small letters.
async fn head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    };
    timeout(LIMIT, reading).await.expect("a head");
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

async fn rest(stream: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut all)).await.expect("the connection's end").unwrap();
    String::from_utf8(all).unwrap()
}

async fn exactly(stream: &mut DuplexStream, expected: &str) {
    let mut got = vec![0; expected.len()];
    timeout(LIMIT, stream.read_exact(&mut got)).await.expect("all of it").unwrap();
    assert_eq!(String::from_utf8_lossy(&got), expected);
}

#[tokio::test]
async fn who_is_refused_while_still_sending_hears_why() {
    let tier = well().await;
    let mut stream = send(&tier, "PUT /%zz HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n").await;
    let sent = timeout(LIMIT, stream.write_all(&vec![0; 4_000_000])).await.expect("it is taken");
    sent.expect("nobody breaks it off");
    assert!(head(&mut stream).await.starts_with("http/1.1 400 "));
    assert!(rest(&mut stream).await.contains("400 Bad Request"));
    tier.tier.stop().await;
}

const SWITCH: &str = "GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: capitals\r\n\r\n";

#[tokio::test]
async fn interim_answers_of_an_app_come_before_its_answer_and_as_early() {
    let tier = well().await;
    for _ in 0..2 {
        let mut stream = send(&tier, "POST /hints HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await;
        for _ in 0..2 {
            assert_eq!(head(&mut stream).await, "http/1.1 103 early hints\r\nlink: </a.css>\r\n\r\n");
        }
        // The app answers when the body is there.
        stream.write_all(b"ok").await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("http/1.1 200 ok\r\n") && !answer.contains("link"), "{answer}");
        exactly(&mut stream, "styled\n").await;
    }
    let expects = "POST /hints HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = send(&tier, expects).await;
    let mut interim = [head(&mut stream).await, head(&mut stream).await, head(&mut stream).await];
    interim.sort();
    assert!(
        interim[0].starts_with("http/1.1 100 ") && interim[1].starts_with("http/1.1 103 "),
        "{interim:?}"
    );
    stream.write_all(b"ok").await.unwrap();
    assert!(head(&mut stream).await.starts_with("http/1.1 200 ok\r\n"));
    tier.tier.stop().await;
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel_until_a_side_ends() {
    let tier = well().await;
    // The first bytes may come with the request.
    let mut stream = send(&tier, &format!("{SWITCH}early")).await;
    let switched = head(&mut stream).await;
    assert!(switched.starts_with("http/1.1 101 "), "{switched}");
    for line in ["connection: upgrade\r\n", "upgrade: capitals\r\n"] {
        assert!(switched.contains(line), "{line:?} in {switched}");
    }
    exactly(&mut stream, "EARLY").await;
    for _ in 0..3 {
        stream.write_all(b"more").await.unwrap();
        exactly(&mut stream, "MORE").await;
    }
    let many = "many ".repeat(20_000);
    let mut sent = vec![0; many.len()];
    {
        let (mut reading, mut writing) = tokio::io::split(&mut stream);
        let passed =
            async { tokio::join!(writing.write_all(many.as_bytes()), reading.read_exact(&mut sent)) };
        let (written, read) = timeout(LIMIT, passed).await.expect("it all passes");
        written.unwrap();
        read.unwrap();
    }
    assert!(sent == many.to_ascii_uppercase().as_bytes());
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "FAREWELL");
    tier.tier.stop().await;
}

#[tokio::test]
async fn what_was_not_asked_for_or_not_given_is_no_tunnel() {
    let tier = well().await;
    // An app that does not switch answers, and the connection goes on.
    let refused = SWITCH.replace("/switch", "/refuse");
    let mut stream = send(&tier, &refused).await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("http/1.1 401 ") && !answer.contains("upgrade"), "{answer}");
    exactly(&mut stream, "no\n").await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.starts_with("http/1.1 200 "));
    // An app that switches unasked is refused; HTTP/2 is not asked for.
    for asked in
        ["", "Connection: keep-alive\r\nUpgrade: capitals\r\n", "Connection: upgrade\r\nUpgrade: h2c\r\n"]
    {
        let mut stream = send(&tier, &format!("GET /switch HTTP/1.1\r\nHost: a\r\n{asked}\r\n")).await;
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("http/1.1 502 "), "{asked:?}: {answer}");
    }
    // Nor does a request with a body become anything else.
    let text = "POST /headers HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi";
    let seen = rest(&mut send(&tier, text).await).await;
    assert!(seen.starts_with("HTTP/1.1 200 ") && !seen.contains("upgrade: x"), "{seen}");
    tier.tier.stop().await;
}

#[tokio::test]
async fn a_tunnel_ends_with_its_app_and_with_its_server() {
    let tier = well().await;
    let (mut first, before) = (send(&tier, SWITCH).await, tier.pids());
    head(&mut first).await;
    assert_eq!(tier.get("/die").await.0, 502);
    assert_eq!(rest(&mut first).await, "");
    tier.restarted(&before).await;
    let mut second = send(&tier, SWITCH).await;
    head(&mut second).await;
    let began = tokio::time::Instant::now();
    tier.tier.stop().await;
    assert!(began.elapsed() >= Duration::from_secs(2), "it may go on for shutdown-wait-max");
    assert_eq!(rest(&mut second).await, "");
}

#[tokio::test]
async fn a_body_waits_until_the_app_wants_it() {
    let tier = well().await;
    let expecting = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    };
    // Reads the body, then answers.
    let mut stream = send(&tier, &expecting("/trailers")).await;
    assert_eq!(head(&mut stream).await, "http/1.1 100 continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert!(head(&mut stream).await.starts_with("http/1.1 200 "));
    exactly(&mut stream, "4\r\nbody\r\n").await;
    // Begins to answer, and goes on with what it reads.
    let mut stream = send(&tier, &expecting("/echo")).await;
    while !head(&mut stream).await.starts_with("http/1.1 200 ") {}
    stream.write_all(b"body").await.unwrap();
    exactly(&mut stream, "body").await;
    // One that answers without it never asks the client for it.
    let mut stream = send(&tier, &expecting("/refuse")).await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("http/1.1 401 "), "{answer}");
    assert_eq!(rest(&mut stream).await, "no\n", "and the connection ends: what follows could be the body");
    assert_eq!(tier.get("/healthz").await.0, 200);
    tier.tier.stop().await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let tier = well().await;
    for method in ["POST", "GET"] {
        let text = format!(
            "{method} /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\nTrailer: x-sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"
        );
        let answer = rest(&mut send(&tier, &text).await).await;
        assert!(answer.contains("\r\n4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"), "{method}: {answer}");
    }
    tier.tier.stop().await;
}

/// `header-max` is the web-tier's word: what it lets pass the app gets, and its answer comes back whole.
#[tokio::test]
async fn as_many_fields_as_any_web_tier_lets_pass_reach_the_app_and_come_back() {
    let tier = well().await;
    for (count, length) in [(250, 5), (10, 3000)] {
        let fields: String = (0..count).map(|n| format!("X-{n}: {}\r\n", "v".repeat(length))).collect();
        let mut stream = send(&tier, &format!("GET /many-fields HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
        assert_eq!(answer.matches("set-cookie: c").count(), 240);
    }
    tier.tier.stop().await;
}

#[tokio::test]
async fn options_for_the_whole_server_are_for_the_app_at_its_root() {
    let tier = well().await;
    let mut stream = send(&tier, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    exactly(&mut stream, "OPTIONS for all\n").await;
    let mut stream = send(&tier, "GET * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("http/1.1 400 "), "{answer}");
    tier.tier.stop().await;
}
