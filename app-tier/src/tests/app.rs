//! The app of the tests: this test binary, started by the app-tier as a process of its own.

use crate::interim::{Interims, WithInterims};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proto::app::v1::{LoadRequest, UpdateRequest, sessions_client::SessionsClient};
use std::{collections::HashMap, convert::Infallible, env, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
};
use tonic::transport::{Channel, Endpoint};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Not a test of its own but the process that the others start: without `APP_MODE` there is nothing to be.
#[tokio::test]
#[allow(clippy::exit, reason = "it is an app that can fail")]
async fn app() {
    match env::var("APP_MODE").as_deref() {
        Ok("well") => {}
        Ok("dies") => {
            println!("no database");
            std::process::exit(7);
        }
        Ok("deaf") => std::future::pending().await,
        _ => return,
    }
    if let Ok(port) = env::var("PORT") {
        let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).await.unwrap();
        loop {
            speak(listener.accept().await.unwrap().0);
        }
    }
    let listener = UnixListener::bind(env::var("SOCKET").unwrap()).unwrap();
    loop {
        speak(listener.accept().await.unwrap().0);
    }
}

fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let interims = Interims::default();
    let stream = WithInterims::new(stream, interims.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let open = interims.open();
        request.extensions_mut().insert(interims.clone());
        async move {
            let _open = open;
            Ok::<_, Infallible>(answer(request).await)
        }
    });
    tokio::spawn(async move {
        // A client that goes away is no failure.
        let _ = http1::Builder::new()
            .max_headers(300)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
    });
}

#[allow(clippy::exit, reason = "it is an app that can fail")]
async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/healthz" => plain("ok\n"),
        "/hints" => {
            let mut hints = HeaderMap::new();
            hints.insert("link", HeaderValue::from_static("</a.css>"));
            for _ in 0..2 {
                request.extensions().get::<Interims>().unwrap().put(StatusCode::EARLY_HINTS, &hints);
            }
            let _ = request.into_body().collect().await;
            plain("styled\n")
        }
        "/count" => plain(count(&request, &env::var("COPAL_TOKEN").unwrap()).await.unwrap()),
        "/wrong-token" => plain(format!(
            "{:?}",
            count(&request, "0123456789abcdef0123456789abcdef").await.unwrap_err().code()
        )),
        "/headers" => {
            let lines = request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
            let mut response = plain(lines.collect::<String>());
            response.headers_mut().insert("copal-not-processed", "1".parse().unwrap());
            response
        }
        "/many-fields" => {
            let mut response = plain(format!("{} fields\n", request.headers().len()));
            for number in 0..240 {
                response.headers_mut().append("set-cookie", format!("c{number}={number}").parse().unwrap());
            }
            response
        }
        "/echo" => {
            let body = request.into_body().map_err(|cause| panic!("{cause}"));
            Response::new(body.boxed_unsync())
        }
        "/switch" => switch(&mut request),
        "/refuse" => {
            let mut response = plain("no\n");
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response
        }
        "/trailers" => {
            let collected = request.into_body().collect().await.unwrap();
            let sum = collected.trailers().map_or(HeaderValue::from_static("none"), |it| it["x-sum"].clone());
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", sum);
            let frames = [Ok(Frame::data(collected.to_bytes())), Ok(Frame::trailers(trailers))];
            let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
            response
        }
        "/half" => {
            let mut response = Response::new(half());
            response.headers_mut().insert("content-length", 200_000.into());
            response
        }
        "/half-chunked" => Response::new(half()),
        "/slow" => {
            std::fs::write("slow", "seen").unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            plain("slow\n")
        }
        _ => std::process::exit(1),
    }
}

/// Becomes an echo in capitals, which says farewell when its client has ended.
fn switch(request: &mut Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut *request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(length) => {
                    buffer[..length].make_ascii_uppercase();
                    let _ = stream.write_all(&buffer[..length]).await;
                }
                Err(_) => return,
            }
        }
        let _ = stream.write_all(b"FAREWELL").await;
        let _ = stream.shutdown().await;
    });
    let mut response = plain("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let unnamed = HeaderValue::from_static("capitals");
    let protocol = request.headers().get("upgrade").cloned().unwrap_or(unnamed);
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", protocol);
    response
}

/// Half of the body, then the process dies.
#[allow(clippy::exit, reason = "it is an app that can fail")]
fn half() -> Body {
    let pieces = stream::unfold(0, |sent| async move {
        if sent == 1 {
            // The first half has to reach the other side before.
            tokio::time::sleep(Duration::from_millis(100)).await;
            std::process::exit(1);
        }
        Some((Ok(Frame::data(Bytes::from(vec![b'h'; 100_000]))), sent + 1))
    });
    StreamBody::new(pieces).boxed_unsync()
}

async fn count(request: &Request<Incoming>, token: &str) -> Result<String, tonic::Status> {
    let connect = tower::service_fn(|_| async {
        UnixStream::connect(env::var("COPAL_HUB").unwrap()).await.map(TokioIo::new)
    });
    let channel: Channel = Endpoint::from_static("http://copal").connect_with_connector_lazy(connect);
    let mut client = SessionsClient::new(channel);
    let header = |name| request.headers()[name].to_str().unwrap().to_owned();
    let session_id = header("x-session-id");
    let load = call(LoadRequest { session_id: session_id.clone() }, token, &header("x-copal-request"));
    let loaded = client.load(load).await?.into_inner();
    let count: u64 = loaded
        .attributes
        .get("count")
        .map_or(0, |bytes| std::str::from_utf8(bytes).unwrap().parse().unwrap())
        + 1;
    let set = HashMap::from([("count".to_owned(), Bytes::from(count.to_string()))]);
    let update = UpdateRequest { session_id, set, removed: Vec::new() };
    client.update(call(update, token, &header("x-copal-request"))).await?;
    Ok(format!("count {count} on {}\n", env::var("COPAL_SERVER").unwrap()))
}

fn call<T>(message: T, token: &str, handle: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("copal-token", token.parse().unwrap());
    request.metadata_mut().insert("copal-request", handle.parse().unwrap());
    request
}

fn plain(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed_unsync())
}
