//! HTTP/2 from clients: over TLS, and without it where a listener allows that.

use super::{
    backend::{OnConnection, echo, http, raw},
    cluster::Cluster,
};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use proto::hub::v1::MemberState;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn plain(backends: impl IntoIterator<Item = OnConnection>) -> Cluster {
    Cluster::start_with(backends, |config| config.clusters[1].servers[0].http[0].h2c = true).await
}

/// A client's connection, driven by a task of its own.
pub(super) async fn connect<S>(stream: S) -> SendRequest<Bytes>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (client, connection) = h2::client::Builder::new().handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client.ready().await.unwrap()
}

pub(super) async fn client(cluster: &Cluster) -> SendRequest<Bytes> {
    connect(TcpStream::connect(cluster.address()).await.unwrap()).await
}

pub(super) fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://shop.example{path}"))
}

/// Status, fields, body, trailers.
pub(super) async fn ask(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[&'static str],
) -> Result<(Response<()>, String, HeaderMap), h2::Error> {
    let asking = async {
        let (response, mut send) = client.send_request(request, body.is_empty())?;
        for (place, piece) in body.iter().enumerate() {
            send.send_data(Bytes::from_static(piece.as_bytes()), place + 1 == body.len())?;
        }
        let (head, mut body) = response.await?.into_parts();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            let data = data?;
            text.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok((Response::from_parts(head, ()), String::from_utf8(text).unwrap(), trailers))
    };
    timeout(PATIENCE, asking).await.expect("an answer in time")
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_as_those_of_http_1() {
    let cluster = plain([echo("a"), echo("b")]).await;
    let mut client = client(&cluster).await;
    let request =
        get("/x/../y?q=1").header("cookie", "a=1").header("cookie", "JSESSIONID=baX").body(()).unwrap();
    let (head, seen, _) = ask(&mut client, request, &[]).await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert!(head.headers().contains_key("date") && head.headers()["via"] == "1.1 copal", "{head:?}");
    assert!(seen.starts_with("b\nGET /y?q=1\n"), "{seen}");
    for line in
        ["host: shop.example", "via: 2.0 copal", "x-forwarded-proto: http", "cookie: a=1; JSESSIONID=baX"]
    {
        assert!(seen.lines().any(|it| it == line), "{line} in {seen}");
    }
    let post = |length: Option<u32>| {
        let request = Request::post("http://shop.example/");
        match length {
            Some(length) => request.header("content-length", length),
            None => request,
        }
    };
    let (_, seen, _) = ask(&mut client, post(Some(5)).body(()).unwrap(), &["he", "llo"]).await.unwrap();
    assert!(seen.contains("content-length: 5\n") && seen.ends_with("\nhello"), "{seen}");
    let (_, seen, _) = ask(&mut client, post(None).body(()).unwrap(), &["he", "llo"]).await.unwrap();
    assert!(seen.contains("transfer-encoding: chunked\n") && seen.ends_with("\nhello"), "{seen}");
    let (head, text, _) =
        ask(&mut client, Request::head("http://shop.example/").body(()).unwrap(), &[]).await.unwrap();
    assert!(head.headers().contains_key("content-length") && text.is_empty());
}

#[tokio::test]
async fn many_streams_at_once() {
    let cluster = plain([echo("a")]).await;
    let client = client(&cluster).await;
    let asked = (0..100).map(|number| {
        let mut client = client.clone();
        tokio::spawn(async move {
            client = client.ready().await.unwrap();
            let (_, seen, _) =
                ask(&mut client, get(&format!("/{number}")).body(()).unwrap(), &[]).await.unwrap();
            assert!(seen.starts_with(&format!("a\nGET /{number}\n")), "{seen}");
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
    assert_eq!((cluster.web.totals().requests, cluster.web.totals().connections), (100, 1));
}

#[tokio::test]
async fn a_long_answer_and_trailers_pass() {
    let long = "0123456789abcdef".repeat(64 * 1024);
    let body = long.clone();
    let large = http(move |_| {
        let body = body.clone();
        async move { Response::new(Full::from(body)) }
    });
    let cluster = plain([large]).await;
    let mut asking = client(&cluster).await;
    let (_, text, _) = ask(&mut asking, get("/").body(()).unwrap(), &[]).await.unwrap();
    assert!(text == long, "{} bytes of {}", text.len(), long.len());

    let grpc = raw(|head, mut stream| async move {
        assert!(head.contains("te: trailers\r\n"), "{head}");
        let words = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\nhost: h\r\n\r\n";
        stream.write_all(words.as_bytes()).await.unwrap();
        let _ = stream.read_u8().await;
    });
    let cluster = plain([grpc]).await;
    let mut asking = client(&cluster).await;
    let (_, text, trailers) =
        ask(&mut asking, get("/").header("te", "trailers").body(()).unwrap(), &[]).await.unwrap();
    assert_eq!((text.as_str(), trailers.len(), &trailers["grpc-status"]), ("ok", 1, &"0".parse().unwrap()));
}

#[tokio::test]
async fn errors_are_answers_and_the_connection_goes_on() {
    let cluster = plain([echo("a")]).await;
    let mut client = client(&cluster).await;
    for (request, status) in [
        (get("/%00"), 400),
        (get("/../x"), 400),
        (Request::builder().method(Method::TRACE).uri("http://h/"), 405),
        (Request::connect("h:80"), 405),
        (get("/").header("host", "other.example"), 400),
        (get("/").header("expect", "the-worst"), 417),
    ] {
        let (head, _, _) = ask(&mut client, request.body(()).unwrap(), &[]).await.unwrap();
        assert_eq!(head.status().as_u16(), status);
    }
    assert_eq!(ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap().0.status(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_complete() {
    let broken = raw(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    });
    let cluster = plain([broken]).await;
    let mut client = client(&cluster).await;
    let error = ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
}

#[tokio::test]
async fn a_stream_that_waits_for_a_server_that_is_down_hears_of_it() {
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let frozen = raw(move |_, mut stream| {
        asked.send(()).unwrap();
        async move {
            let _ = stream.read_u8().await;
        }
    });
    let cluster = plain([frozen]).await;
    let mut client = client(&cluster).await;
    let waiting = tokio::spawn(async move { ask(&mut client, get("/").body(()).unwrap(), &[]).await });
    was_asked.recv().await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    assert!(waiting.await.unwrap().unwrap().0.status().is_server_error());
}

#[tokio::test]
async fn a_server_that_is_silent_is_a_504_on_its_stream_alone() {
    let silent = raw(|_, mut stream| async move {
        let _ = stream.read_u8().await;
    });
    let cluster = Cluster::start_with([silent], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        config.clusters[0].servers[0].balance_socket_timeout = Duration::from_millis(100);
    })
    .await;
    let mut client = client(&cluster).await;
    for _ in 0..2 {
        let (head, _, _) = ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap();
        assert_eq!(head.status(), 504);
    }
}

#[tokio::test]
async fn a_websocket_over_http_2_is_an_upgrade_behind() {
    let backend = raw(|head, mut stream| async move {
        assert!(
            head.starts_with("GET /ws HTTP/1.1\r\n") && head.contains("sec-websocket-version: 13\r\n"),
            "{head}"
        );
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-key: "), "{head}");
        let yes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(yes).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        heard.reverse();
        stream.write_all(&heard).await.unwrap();
    });
    let cluster = plain([backend]).await;
    let mut client = client(&cluster).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = Request::connect("http://shop.example/ws").header("sec-websocket-version", "13");
    request = request.extension(h2::ext::Protocol::from_static("websocket"));
    let (head, text, _) = ask(&mut client, request.body(()).unwrap(), &["abc", "def"]).await.unwrap();
    assert_eq!((head.status().as_u16(), text.as_str()), (200, "fedcba"));
    assert!(!head.headers().contains_key("upgrade"), "{head:?}");
}

#[tokio::test]
async fn http_1_is_still_spoken_where_http_2_begins_without_tls_and_the_other_way_not() {
    let cluster = plain([echo("a")]).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 200);
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 505 "));
}
