//! One HTTP request to the administration, with a time-out for each step.

use crate::{
    ca,
    progress::Counter,
    target::{SignIn, Target},
};
use anyhow::{Context as _, anyhow, bail};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header, response::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::UnsyncBoxBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// To connect and shake hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the whole answer: longer than the server waits for the hub and for the web-tiers together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// For a request that brings much along, and its answer, which comes when all is on disk.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1800);

/// The largest answer, in bytes.
const ANSWER_MAX: usize = 32 << 20;

/// How much of an answer that is no JSON an error repeats, in characters.
const TEXT_MAX: usize = 200;

/// A good answer, which is JSON.
#[derive(Debug)]
pub(crate) struct Answer(String);

impl Answer {
    /// As it came.
    pub(crate) fn text(&self) -> &str {
        self.0.trim_end()
    }

    /// # Errors
    /// It is something else: perhaps another version's.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.0).context("the answer is not what this version of deploy-tool expects")
    }
}

/// What a refusal says.
#[derive(Debug, Deserialize)]
struct Told {
    error: String,
}

/// What a request brings along.
#[derive(Debug)]
pub(crate) struct Body {
    content: UnsyncBoxBody<Bytes, Infallible>,
    content_type: Option<&'static str>,
    /// For the whole exchange.
    timeout: Duration,
}

impl Body {
    pub(crate) fn none() -> Self {
        Self { content: Empty::new().boxed_unsync(), content_type: None, timeout: ANSWER_TIMEOUT }
    }

    pub(crate) fn text(text: String) -> Self {
        let content = Full::new(Bytes::from(text)).boxed_unsync();
        Self { content, content_type: Some("text/plain; charset=utf-8"), timeout: UPLOAD_TIMEOUT }
    }

    /// # Errors
    /// It can't be written as JSON.
    pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<Self> {
        let content = Full::new(Bytes::from(serde_json::to_vec(value)?)).boxed_unsync();
        // What begins a rollout waits for the hub to have the objects verified.
        Ok(Self { content, content_type: Some("application/json"), timeout: UPLOAD_TIMEOUT })
    }

    /// A pack, as its chunks come.
    pub(crate) fn chunks(chunks: mpsc::Receiver<Bytes>, counter: Counter) -> Self {
        let content = Chunks { chunks, counter }.boxed_unsync();
        Self { content, content_type: Some("application/x-git-pack"), timeout: UPLOAD_TIMEOUT }
    }
}

struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    counter: Counter,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = std::task::ready!(self.chunks.poll_recv(cx));
        chunk.iter().for_each(|chunk| self.counter.add(chunk.len()));
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// The connection ended before the answer had come.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut")]
struct Cut(#[source] hyper::Error);

/// Whether an error is a connection's end, so that trying again may help.
pub(crate) fn was_cut(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Cut>() || cause.is::<std::io::Error>())
}

/// A file's content.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn bytes(target: &Target, path: &str) -> anyhow::Result<Bytes> {
    let (head, content) = exchange(target, Method::GET, path, Body::none()).await?;
    if head.status == StatusCode::OK {
        return Ok(content);
    }
    Err(refusal(target, head.status, &String::from_utf8_lossy(&content), is_json(&head)))
}

/// Asks for `path`, below the administration's own.
///
/// # Errors
/// It can't be reached, takes too long, or refuses: with its words.
pub(crate) async fn ask(target: &Target, method: Method, path: &str, body: Body) -> anyhow::Result<Answer> {
    let (head, content) = exchange(target, method, path, body).await?;
    let json = is_json(&head);
    let text = String::from_utf8_lossy(&content).into_owned();
    if matches!(head.status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED) && json {
        return Ok(Answer(text));
    }
    if let Some(to) = head.headers.get(header::LOCATION).filter(|_| head.status.is_redirection()) {
        bail!("{} has moved: give --url {}", target.url(), String::from_utf8_lossy(to.as_bytes()));
    }
    Err(refusal(target, head.status, &text, json))
}

fn is_json(head: &Parts) -> bool {
    let content_type = head.headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/json"))
}

async fn exchange(target: &Target, method: Method, path: &str, body: Body) -> anyhow::Result<(Parts, Bytes)> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((target.host.as_str(), target.port))).await;
    let stream = stream
        .map_err(|_| anyhow!("no connection within {CONNECT_TIMEOUT:?}"))
        .and_then(|connected| connected.map_err(Into::into))
        .with_context(|| {
            format!("can't connect to {} (is a server up there, and is --url right?)", target.url())
        })?;
    let _ = stream.set_nodelay(true);
    if !target.tls {
        return send(target, stream, method, path, body).await;
    }
    let connector = TlsConnector::from(Arc::new(tls(target)?));
    let name = ServerName::try_from(target.host.clone())
        .with_context(|| format!("{:?} is no name that a certificate could be for", target.host))?;
    let shaken = timeout(CONNECT_TIMEOUT, connector.connect(name, stream)).await;
    let stream = shaken
        .map_err(|_| anyhow!("no TLS handshake within {CONNECT_TIMEOUT:?}"))
        .and_then(|shaken| shaken.map_err(Into::into))
        .with_context(|| format!("no TLS with {} (--ca-file names authorities to believe)", target.url()))?;
    send(target, stream, method, path, body).await
}

fn tls(target: &Target) -> anyhow::Result<ClientConfig> {
    let roots = ca::authorities(target.ca_file.as_deref())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn send(
    target: &Target,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    body: Body,
) -> anyhow::Result<(Parts, Bytes)> {
    let credentials = match &target.sign_in {
        SignIn::Password { user, password } => {
            format!("Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes()))
        }
        SignIn::Token(token) => format!("Bearer {token}"),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", target.path))
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("deploy-tool/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, credentials);
    if let Some(content_type) = body.content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let request = request.body(body.content)?;
    let unsure = if request.method() == Method::GET {
        ""
    } else {
        ": it may have been done all the same, `status` and `list` tell"
    };
    let exchanged = timeout(body.timeout, async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Cut)?;
        // It ends with the sender.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(Cut)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|cause| anyhow!(cause))?;
        anyhow::Ok((head, body.to_bytes()))
    });
    let exchanged = exchanged.await.map_err(|_| anyhow!("no answer within {:?}", body.timeout));
    exchanged.and_then(|it| it).with_context(|| format!("{} gave no whole answer{unsure}", target.url()))
}

/// What a refusal means for the user of the command line.
fn refusal(target: &Target, status: StatusCode, text: &str, json: bool) -> anyhow::Error {
    let told = serde_json::from_str::<Told>(text).ok().filter(|_| json);
    match told {
        Some(told) if status == StatusCode::UNAUTHORIZED => {
            anyhow!("{} ({}, 401)", told.error, target.sign_in.who())
        }
        Some(told) => anyhow!("{} ({})", told.error, status.as_u16()),
        None => {
            let line = text.trim().lines().next().unwrap_or_default();
            let line: String = line.chars().filter(|it| !it.is_control()).take(TEXT_MAX).collect();
            anyhow!(
                "{} is no administration of Copal, it answered {status} ({line:?}): is there a web-app with `admin: true`, and \
                 do the rules lead there?",
                target.url()
            )
        }
    }
}
