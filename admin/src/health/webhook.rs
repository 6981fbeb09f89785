//! Tells others of problems: a signed POST, tried again for a while, one after the other for each webhook.

use super::{Counts, HealthView};
use bytes::Bytes;
use common::{
    backoff::Backoff,
    clock::Clock,
    config::{Secret, Webhook, WebhookUrl},
    tls_files::{authorities, system_authorities},
};
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use sha2::Sha256;
use std::{fmt::Write, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// Words that wait for one webhook; further ones are dropped, and counted.
const QUEUE: usize = 100;

/// Waits between tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// `begins` or `ends`.
    pub(super) event: &'static str,
    /// Names it: a receiver that gets it twice knows.
    pub(super) delivery: String,
    /// The problem's key, for who writes down what became of it.
    pub(super) key: String,
    /// JSON.
    pub(super) body: Bytes,
}

/// Who is told what became of a word: the webhook without its path, the word, and the outcome.
pub(super) type Told = Arc<dyn Fn(String, &Word, String) + Send + Sync>;

/// The webhooks, each with a task of its own that sends one word after the other.
pub(super) struct Webhooks {
    view: HealthView,
    clock: Arc<dyn Clock>,
    told: Told,
    workers: Vec<(Webhook, mpsc::Sender<Word>)>,
}

impl Webhooks {
    pub(super) fn new(view: HealthView, clock: Arc<dyn Clock>, told: Told) -> Self {
        Self { view, clock, told, workers: Vec::new() }
    }

    /// Forgets webhooks that the file has no more; what waits for them is still sent.
    pub(super) fn keep(&mut self, webhooks: &[Webhook]) {
        self.workers.retain(|(it, _)| webhooks.contains(it));
    }

    /// Tells one of them, in its turn. Waits for nobody.
    pub(super) fn tell(&mut self, webhook: &Webhook, word: &Word) {
        let known = self.workers.iter().position(|(it, _)| it == webhook);
        let place = known.unwrap_or_else(|| {
            let (sender, words) = mpsc::channel(QUEUE);
            let (webhook, told) = (webhook.clone(), self.told.clone());
            tokio::spawn(work(webhook.clone(), words, (self.view.clone(), self.clock.clone(), told)));
            self.workers.push((webhook, sender));
            self.workers.len() - 1
        });
        if self.workers[place].1.try_send(word.clone()).is_err() {
            Counts::add(&self.view.counts().dropped);
            let to = webhook.url.shown();
            tracing::warn!(
                to,
                problem = word.key,
                "{QUEUE} words wait for a webhook already: this one is dropped"
            );
            (self.told)(to, word, format!("dropped: {QUEUE} words wait already"));
        }
    }
}

async fn work(
    webhook: Webhook,
    mut words: mpsc::Receiver<Word>,
    (view, clock, told): (HealthView, Arc<dyn Clock>, Told),
) {
    while let Some(word) = words.recv().await {
        let to = webhook.url.shown();
        let outcome = deliver(&webhook, &word, &*clock).await;
        let counts = view.counts();
        Counts::add(if outcome.is_ok() { &counts.delivered } else { &counts.failed });
        let outcome = match outcome {
            Ok(()) => "delivered".to_owned(),
            Err(why) => {
                tracing::warn!(to, problem = word.key, why, "a webhook could not be told");
                format!("failed: {why}")
            }
        };
        told(to, &word, outcome);
    }
}

/// # Errors
/// Why the last try has failed.
async fn deliver(webhook: &Webhook, word: &Word, clock: &dyn Clock) -> Result<(), String> {
    let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
    let mut tries = 0;
    loop {
        let tried = timeout(webhook.timeout, post(webhook, word, clock.unix_ms() / 1000)).await;
        let why = match tried {
            Ok(Ok(status)) if status.is_success() => return Ok(()),
            Ok(Ok(status)) if is_final(status) => return Err(format!("it answers {}", status.as_u16())),
            Ok(Ok(status)) => format!("it answers {}", status.as_u16()),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {:?}", webhook.timeout),
        };
        if tries == webhook.retries {
            return Err(why);
        }
        tries += 1;
        sleep(backoff.wait(rand::random())).await;
    }
}

/// Whether the same request would get the same answer.
fn is_final(status: StatusCode) -> bool {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !later.contains(&status)
}

/// One try; redirects are not followed.
async fn post(webhook: &Webhook, word: &Word, now_s: u64) -> Result<StatusCode, String> {
    let WebhookUrl { tls, host, port, .. } = &webhook.url;
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|cause| cause.to_string())?;
    if !tls {
        return send(webhook, word, now_s, stream).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|cause| cause.to_string())?;
    let ca = webhook.ca.clone();
    // Read anew each time: it may have changed.
    let config = tokio::task::spawn_blocking(move || client_config(ca.as_ref().map(|it| it.path.as_path())));
    let config = config.await.map_err(|cause| cause.to_string())??;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    send(webhook, word, now_s, stream.map_err(|cause| cause.to_string())?).await
}

fn client_config(ca: Option<&std::path::Path>) -> Result<ClientConfig, String> {
    let file = ca.map(std::path::Path::to_owned).or_else(system_authorities);
    let file =
        file.ok_or("this machine has no list of authorities that is known here: give the webhook a `ca`")?;
    let certificates = authorities(&file).map_err(|cause| format!("{}: {cause}", file.display()))?;
    let mut roots = RootCertStore::empty();
    // A machine's list may hold some that are too old to be understood.
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(format!("{} holds no certificate (PEM) of an authority", file.display()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|cause| cause.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn send(
    webhook: &Webhook,
    word: &Word,
    now_s: u64,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<StatusCode, String> {
    let said = |cause: hyper::Error| cause.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    // It ends with the sender.
    tokio::spawn(connection);
    let request = Request::post(&webhook.url.path)
        .header(header::HOST, webhook.url.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("copal/", env!("CARGO_PKG_VERSION")))
        .header("x-copal-event", word.event)
        .header("x-copal-delivery", &word.delivery)
        .header("x-copal-timestamp", now_s)
        .header("x-copal-signature", signature(&webhook.secret, now_s, &word.body))
        .body(Full::new(word.body.clone()));
    let request = request.map_err(|cause| cause.to_string())?;
    Ok(sender.send_request(request).await.map_err(said)?.status())
}

/// HMAC-SHA256 over `TIMESTAMP.BODY`, as `sha256=HEX`: the time is signed too, so that nobody can play an old word back.
fn signature(secret: &Secret, now_s: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{now_s}.").as_bytes());
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
