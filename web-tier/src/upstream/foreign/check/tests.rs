//! Tests of checks, against servers of a few lines.

use super::{
    super::{addresses::Addresses, dial::Place},
    *,
};
use common::config;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers its first request in this way, and then waits for the client to end.
async fn says(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, task)
}

fn to(port: u16) -> Way {
    Way { place: Place::Network(Addresses::new("127.0.0.1", port)), tls: None, proxy_protocol: None }
}

fn asks(asked: &HttpQuestion) -> Question {
    Question::Http1(http1::Question::new(asked, "backend"), Expected::new(asked))
}

fn get() -> Question {
    asks(&HttpQuestion::get("/"))
}

async fn asked(answer: &'static [u8]) -> Result<(), String> {
    let (address, _task) = says(answer).await;
    let way = to(address.port());
    let asked = ask((&way, None), &get(), PATIENCE).await;
    asked.map(drop).map_err(|cause| cause.to_string())
}

#[tokio::test]
async fn good_and_redirecting_answers_are_well() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.0 204 No Content\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(asked(answer).await, Ok(()), "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn any_other_answer_is_not_and_says_why() {
    for (answer, why) in [
        (&b"HTTP/1.1 500 Broken\r\n\r\n"[..], "status 500, expected 2xx or 3xx"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404, expected 2xx or 3xx"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "status 101, expected 2xx or 3xx"),
        (b"", "the connection ended before an answer"),
        (b"HTTP/1.1 200 OK\r\n", "the connection ended before an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "invalid answer: only HTTP"),
        (b"HTTP/1.1 200 OK\nx: y\n\n", "invalid answer: a line ends with LF alone"),
    ] {
        let cause = asked(answer).await.unwrap_err();
        let alike =
            cause == why || (cause.starts_with("invalid answer: ") && why.starts_with("invalid answer: "));
        assert!(alike, "{}: {cause}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_who_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = to(listener.local_addr().unwrap().port());
    let within = Duration::from_millis(50);
    let cause = ask((&way, None), &get(), within).await.unwrap_err();
    assert_eq!(cause.to_string(), "no answer within 50ms");
    drop(listener);
    let cause = ask((&way, None), &get(), PATIENCE).await.unwrap_err();
    assert!(cause.to_string().starts_with("no connection: 127.0.0.1:"), "{cause}");
}

#[tokio::test]
async fn an_endless_head_is_not_read_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = to(listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").await.is_ok() {}
    });
    let cause = ask((&way, None), &get(), PATIENCE).await.unwrap_err();
    assert!(matches!(cause, CheckError::Invalid(HeadError::TooLarge)), "{cause}");
    task.await.unwrap();
}

#[test]
fn the_request_names_the_backend_as_the_rule_does() {
    let check = HealthCheck { question: HealthQuestion::get("/healthz?deep=1"), ..HealthCheck::default() };
    let host = |host: &str, port, tls| {
        let backend = Backend {
            at: config::BackendAddress::Host { host: host.to_owned(), port },
            protocol: BackendProtocol::Http1,
            tls,
            weight: 100,
            backup: false,
        };
        let Question::Http1(question, _) = Checks::new(&check, &backend).question else { panic!("HTTP/1.1") };
        let request = String::from_utf8(question.0.into_vec()).unwrap();
        assert!(request.starts_with("GET /healthz?deep=1 HTTP/1.1\r\nhost: "), "{request}");
        request.lines().nth(1).unwrap()["host: ".len()..].to_owned()
    };
    assert_eq!(host("legacy.example.com", 80, false), "legacy.example.com");
    assert_eq!(host("10.1.0.5", 8080, false), "10.1.0.5:8080");
    assert_eq!(host("::1", 80, false), "[::1]");
    assert_eq!(host("legacy.example.com", 443, true), "legacy.example.com");
    assert_eq!(host("legacy.example.com", 80, true), "legacy.example.com:80");
    let socket = Backend {
        at: config::BackendAddress::Socket("/run/app.sock".into()),
        protocol: BackendProtocol::Http1,
        tls: false,
        weight: 100,
        backup: false,
    };
    let Question::Http1(question, _) = Checks::new(&check, &socket).question else { panic!("HTTP/1.1") };
    assert!(String::from_utf8_lossy(&question.0).contains("\r\nhost: localhost\r\n"));
}

#[tokio::test]
async fn what_is_asked_and_expected_is_as_the_rule_has_it() {
    let asked = HttpQuestion {
        method: "OPTIONS".to_owned(),
        host: None,
        headers: vec![("x-probe".to_owned(), "1".to_owned()), ("user-agent".to_owned(), "mine".to_owned())],
        status: vec![StatusRange { from: 401, to: 401 }, StatusRange { from: 200, to: 299 }],
        body: Some("\"state\": *\"up\"".to_owned()),
        ..HttpQuestion::get("/health")
    };
    let chunked = b"HTTP/1.1 401 Unauthorized\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"state\r\n6\r\n\":\"up\"\r\n0\r\n\r\n";
    let plain = b"HTTP/1.1 200 OK\r\n\r\n{\"state\": \"up\"}";
    let down = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"state\":\"down\"}";
    for (answer, expected) in [
        (&chunked[..], Ok(())),
        (plain, Err("the connection ended before an answer")),
        (down, Err("the body is not as expected")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Err("the body is not as expected")),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", Err("status 302, expected 401, 200 to 299")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Err("invalid answer: ")),
    ] {
        let (address, task) = says(answer).await;
        // One that ends with its connection is whole when that ends.
        let ends = answer == plain;
        let way = to(address.port());
        let question = asks(&asked);
        let result = ask((&way, None), &question, PATIENCE).await.map(drop).map_err(|it| it.to_string());
        match expected {
            _ if ends => assert_eq!(result, Ok(())),
            Ok(()) => assert_eq!(result, Ok(())),
            Err(why) => assert!(result.as_ref().is_err_and(|it| it.starts_with(why)), "{result:?}"),
        }
        let request = task.await.unwrap();
        assert!(request.starts_with("OPTIONS /health HTTP/1.1\r\nhost: backend\r\n"), "{request}");
        assert!(
            request.contains("\r\nx-probe: 1\r\n") && request.contains("\r\nuser-agent: mine\r\n"),
            "{request}"
        );
        assert!(!request.contains("copal-health-check"), "{request}");
    }
}

#[tokio::test]
async fn another_port_may_be_asked() {
    let (address, _task) = says(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    ask((&to(nobody.port()), Some(address.port())), &get(), PATIENCE).await.unwrap();
}
