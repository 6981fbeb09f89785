//! Servers of an app tier, as small as a test needs them.

use bytes::Bytes;
use cluster_port::{Acceptor, Port, Rights, Roster, Stream};
use common::config::ClusterEncryption;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a backend does with a connection.
pub(crate) type OnConnection = Arc<dyn Fn(Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A server behind a cluster port.
pub(crate) struct Backend {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Backend {
    /// Starts `id` on a port of the system's choice, or on `port`.
    pub(crate) async fn start(id: &str, port: u16, on_connection: OnConnection) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = Port {
            me: id.into(),
            address: address.to_string(),
            // Whether connections are encrypted is for the web tier to say.
            credentials: super::cluster::credentials(ClusterEncryption::Optional),
            roster: [("web-a".into(), Rights::ALL)].into_iter().collect::<Roster>().fixed(),
        };
        let port = address.port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut acceptor = Acceptor::start(listener, own);
            let mut tasks = tokio::task::JoinSet::new();
            while let Some(accepted) = acceptor.next().await {
                count.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(on_connection(accepted.stream));
            }
        });
        Self { port, connections, accepting }
    }

    /// Starts a server that is not ours, on a port of the system's choice or on `port`: HTTP at once.
    pub(crate) async fn plain(port: u16, on_connection: OnConnection) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(on_connection(Stream::Plain(stream)));
            }
        });
        Self { port, connections, accepting }
    }

    /// The same with TLS. Who can't shake hands is hung up on, and not counted.
    pub(crate) async fn secured(tls: Arc<ServerConfig>, on_connection: OnConnection) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, count, on_connection) = (tls.clone(), count.clone(), on_connection.clone());
                tasks.spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    on_connection(Stream::Encrypted(Box::new(stream.into()))).await;
                });
            }
        });
        Self { port, connections, accepting }
    }

    /// As `kill -9` does: listener and connections are gone when it returns.
    pub(crate) async fn kill(self) -> u16 {
        self.accepting.abort();
        let _ = self.accepting.await;
        // The acceptor's own task ends a moment later: wait until nobody listens.
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        self.port
    }
}

/// A backend that answers HTTP.
pub(crate) fn http<F, R>(answer: F) -> OnConnection
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let answer = Arc::new(answer);
    Arc::new(move |stream| {
        let answer = answer.clone();
        Box::pin(async move {
            let service = service_fn(move |request| {
                let answering = answer(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
    })
}

/// A backend that answers HTTP/2 from the first byte.
pub(crate) fn http2<F, R, B>(answer: F) -> OnConnection
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let answer = Arc::new(answer);
    Arc::new(move |stream| {
        let answer = answer.clone();
        Box::pin(async move {
            let service = service_fn(move |request| {
                let answering = answer(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
    })
}

/// Answers with its name, then the request line and headers, then the body.
pub(crate) fn echo(name: &'static str) -> OnConnection {
    http(move |request| async move { Response::new(Full::from(seen(name, request).await)) })
}

/// The same in HTTP/2.
pub(crate) fn echo2(name: &'static str) -> OnConnection {
    http2(move |request| async move { Response::new(Full::from(seen(name, request).await)) })
}

async fn seen(name: &str, request: Request<Incoming>) -> String {
    let (head, body) = request.into_parts();
    let mut text = format!("{name}\n{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    text.push_str(&String::from_utf8_lossy(&body));
    text
}

/// A backend that says when it is asked, and answers `ok` for each permit that the gate is given, on a connection for each request.
pub(crate) fn gated() -> (OnConnection, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let gate = Arc::new(Semaphore::new(0));
    let (asked, was_asked) = mpsc::unbounded_channel();
    let opened = gate.clone();
    let backend = raw(move |_, mut stream| {
        let (gate, asked) = (opened.clone(), asked.clone());
        async move {
            asked.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    });
    (backend, gate, was_asked)
}

/// A backend that works on the raw connection, with the first request's head read.
pub(crate) fn raw<F, R>(answer: F) -> OnConnection
where
    F: Fn(String, Stream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let answer = Arc::new(answer);
    Arc::new(move |mut stream| {
        let answer = answer.clone();
        Box::pin(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            answer(String::from_utf8(head).unwrap(), stream).await;
        })
    })
}

/// A backend that sends `answer` and closes.
pub(crate) fn says(answer: &'static str) -> OnConnection {
    raw(move |_, mut stream| async move {
        let _ = stream.write_all(answer.as_bytes()).await;
    })
}
