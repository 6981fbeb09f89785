//! The servers behind the proxies, over plain HTTP/1.1, over TLS, over HTTP/2 and behind the cluster port's handshake, from one program, so that
//! every proxy has the same backend. It does as little as it can: what it costs is not what is measured.

use anyhow::Context;
use bytes::Bytes;
use cluster_port::{Acceptor, ClusterKey, Credentials, Port, Protocol, Rights, Roster};
use common::config::{ClusterEncryption, Secret};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{io, path::PathBuf, rc::Rc, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use tokio_rustls::TlsAcceptor;

/// Paths, and the bytes that they are answered with; any other path is answered as `/`.
const ANSWERS: [(&str, usize); 3] = [("/", 100), ("/10k", 10 * 1024), ("/1m", 1024 * 1024)];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Plain HTTP/1.1 listens at this address
    #[arg(long)]
    plain: Vec<String>,
    /// HTTP/1.1 over TLS listens at this address
    #[arg(long, requires = "cert", requires = "key")]
    tls: Vec<String>,
    /// The certificate for it, in PEM
    #[arg(long)]
    cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long)]
    key: Option<PathBuf>,
    /// HTTP/2 without TLS listens at this address, and answers calls in gRPC
    #[arg(long)]
    h2c: Vec<String>,
    /// A cluster port, as ID=ADDRESS
    #[arg(long)]
    cluster: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let answers: Rc<[(&'static str, Vec<u8>)]> = ANSWERS.map(|(path, size)| (path, answer(size))).into();
        for address in &arguments.plain {
            let listener = TcpListener::bind(address).await.with_context(|| format!("--plain {address}"))?;
            let answers = answers.clone();
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    spawn_local(serve(stream, answers.clone()));
                }
            });
        }
        serve_tls(arguments, &answers).await?;
        for address in &arguments.h2c {
            let listener = TcpListener::bind(address).await.with_context(|| format!("--h2c {address}"))?;
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    spawn_local(serve_calls(stream));
                }
            });
        }
        for server in &arguments.cluster {
            let Some((id, address)) = server.split_once('=') else {
                anyhow::bail!("--cluster {server}: expected ID=ADDRESS");
            };
            let listener = TcpListener::bind(address).await.with_context(|| format!("--cluster {server}"))?;
            let roster: Roster = [("web-a".into(), Rights::ALL)].into_iter().collect();
            let port = Port {
                me: id.into(),
                address: address.to_owned(),
                // Whether connections are encrypted is for the proxy's configuration to say.
                credentials: Credentials::new(
                    ClusterKey::new(&Secret::default()),
                    ClusterEncryption::Optional,
                ),
                roster: roster.fixed(),
            };
            let mut acceptor = Acceptor::start(listener, port);
            let answers = answers.clone();
            spawn_local(async move {
                while let Some(accepted) = acceptor.next().await {
                    if accepted.peer.protocol == Protocol::Http1 {
                        spawn_local(serve(accepted.stream, answers.clone()));
                    }
                }
            });
        }
        std::future::pending().await
    }))
}

/// Serves at the addresses of `--tls`.
async fn serve_tls(arguments: &Arguments, answers: &Rc<[(&'static str, Vec<u8>)]>) -> anyhow::Result<()> {
    for address in &arguments.tls {
        let acceptor = acceptor(arguments)?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("--tls {address}"))?;
        let answers = answers.clone();
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (accepting, answers) = (acceptor.accept(stream), answers.clone());
                spawn_local(async move {
                    if let Ok(stream) = accepting.await {
                        serve(stream, answers).await;
                    }
                });
            }
        });
    }
    Ok(())
}

/// What TLS is accepted with.
fn acceptor(arguments: &Arguments) -> anyhow::Result<TlsAcceptor> {
    let cert = arguments.cert.as_ref().context("--cert")?;
    let key = arguments.key.as_ref().context("--key")?;
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// An answer with a body of this size, head and all.
fn answer(size: usize) -> Vec<u8> {
    let mut text =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    text.resize(text.len() + size, b'x');
    text
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answers: Rc<[(&str, Vec<u8>)]>) {
    // A proxy that gives up is none of the backend's business.
    let _ = serve_requests(stream, &answers).await;
}

async fn serve_requests(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &[(&str, Vec<u8>)],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(16 * 1024);
    while stream.read_buf(&mut bytes).await? > 0 {
        while let Some(request) = Request::read(&bytes)? {
            let (_, answer) = answers.iter().find(|(path, _)| *path == request.path).unwrap_or(&answers[0]);
            stream.write_all(answer).await?;
            stream.flush().await?;
            let length = request.length;
            bytes.drain(..length);
        }
    }
    Ok(())
}

/// Answers calls with a message of 100 bytes.
async fn serve_calls(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut message = vec![0, 0, 0, 0, 100];
    message.resize(message.len() + 100, b'x');
    let message = Bytes::from(message);
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 26);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        spawn_local(serve_call(request, respond, message.clone()));
    }
}

async fn serve_call(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    message: Bytes,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let mut head = http::Response::new(());
    head.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    let mut answer = respond.send_response(head, false)?;
    answer.send_data(message, false)?;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    answer.send_trailers(trailers)
}

/// A complete request.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    path: &'a str,
    /// Of head and body.
    length: usize,
}

impl<'a> Request<'a> {
    /// The request that `bytes` begin with, if all of it is there. Bodies have a `Content-Length`, as all the proxies send it for
    /// a client that does.
    fn read(bytes: &'a [u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
        let path = head.split(' ').nth(1).unwrap_or("/");
        let mut length = end + 4;
        if !head.starts_with("GET ") {
            length += content_length(head).unwrap_or(0);
        }
        Ok((bytes.len() >= length).then_some(Self { path, length }))
    }
}

/// What the head of a message says of its body's length.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    let name = "content-length:";
    head.split("\r\n").find_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_it_is_complete() {
        let post = b"POST /10k HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\nabcGET";
        for end in 0..post.len() - 3 {
            assert_eq!(Request::read(&post[..end]).unwrap(), None);
        }
        assert_eq!(Request::read(post).unwrap(), Some(Request { path: "/10k", length: post.len() - 3 }));
        let get = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(Request::read(get).unwrap(), Some(Request { path: "/a", length: get.len() }));
    }

    #[test]
    fn answers_have_their_size() {
        let text = String::from_utf8(answer(10)).unwrap();
        assert!(text.ends_with("\r\n\r\nxxxxxxxxxx") && content_length(&text) == Some(10), "{text}");
    }
}
