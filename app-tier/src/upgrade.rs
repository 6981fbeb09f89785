//! Connections that become something else (RFC 9110 §7.8), WebSockets above all: the app answers 101, and from then on bytes pass
//! both ways, as they come, until a side ends or the server stops.

use crate::{body::Request, io::BoundedWrites};
use http::{HeaderMap, HeaderValue, Version, header};
use http_body::Body;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{
    any::Any,
    fmt, io,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

/// A tunnel's buffer, each way, while little passes, and when it is filled at once.
const SMALL: usize = 2 * 1024;
const LARGE: usize = 32 * 1024;

/// What a request wants its connection to become: the value of its `Upgrade`, if it can. Requests with a body can't, for it would have to
/// be read before; nor can HTTP/2 begin this way, past what the tiers know of each request (RFC 9113 §3.1 has dropped it).
pub(crate) fn wanted(request: &Request) -> Option<HeaderValue> {
    let headers = request.headers();
    let protocol = headers.get(header::UPGRADE)?;
    let one = headers.get_all(header::UPGRADE).iter().nth(1).is_none();
    let named = has_token(headers, &header::CONNECTION, "upgrade");
    let able = request.version() == Version::HTTP_11 && request.body().is_end_stream();
    (one && named && able && !has_token(headers, &header::UPGRADE, "h2c")).then(|| protocol.clone())
}

/// Whether a list of tokens has this one.
pub(crate) fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let mut tokens =
        headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    tokens.any(|it| it.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Says to the next hop that the connection becomes this.
pub(crate) fn announce(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// The app's side of a tunnel, on its way to the client's connection in the extensions of a 101.
#[derive(Clone)]
pub(crate) struct AppSide(Arc<Mutex<Option<Held>>>);

/// What becomes the app's connection, and what is kept until its end.
type Held = (OnUpgrade, Box<dyn Any + Send>);

impl AppSide {
    /// `held` is dropped when the tunnel has ended.
    pub(crate) fn new(app: OnUpgrade, held: Box<dyn Any + Send>) -> Self {
        Self(Arc::new(Mutex::new(Some((app, held)))))
    }

    /// `held` as well is dropped when the tunnel has ended.
    pub(crate) fn keep(&self, held: Box<dyn Any + Send>) {
        if let Ok(mut slot) = self.0.lock()
            && let Some((app, before)) = slot.take()
        {
            *slot = Some((app, Box::new((before, held))));
        }
    }

    /// The tunnel to `client`. `None`: it has been made already.
    pub(crate) fn tunnel(&self, client: OnUpgrade) -> Option<Tunnel> {
        let (app, held) = self.0.lock().ok()?.take()?;
        Some(Tunnel { client, app, _held: held })
    }
}

impl fmt::Debug for AppSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSide").finish_non_exhaustive()
    }
}

/// A connection on both sides, to be joined when the 101 has left.
pub(crate) struct Tunnel {
    client: OnUpgrade,
    app: OnUpgrade,
    _held: Box<dyn Any + Send>,
}

impl Tunnel {
    /// Runs until it has ended; dropped, both sides are closed. It may be idle for ever, but a side that takes nothing for `limit`
    /// breaks it; so does one that stays when the other has ended, and sends nothing for `limit`.
    ///
    /// # Errors
    /// A side broke.
    pub(crate) async fn run(self, limit: Duration) -> io::Result<()> {
        let sides = async { tokio::try_join!(self.client, self.app) };
        let (client, app) =
            timeout(limit, sides).await.map_err(|_| stalled(limit))?.map_err(io::Error::other)?;
        let bounded = |side: Upgraded| BoundedWrites::new(TokioIo::new(side), limit);
        join(bounded(client), bounded(app), limit).await
    }
}

async fn join(
    client: impl AsyncRead + AsyncWrite,
    app: impl AsyncRead + AsyncWrite,
    limit: Duration,
) -> io::Result<()> {
    let ((from_client, to_client), (from_app, to_app)) = (split(client), split(app));
    let passed = AtomicU64::new(0);
    let mut up = pin!(pass(from_client, to_app, &passed));
    let mut down = pin!(pass(from_app, to_client, &passed));
    tokio::select! {
        ended = &mut up => {
            ended?;
            while_it_passes(down, &passed, limit).await
        }
        ended = &mut down => {
            ended?;
            while_it_passes(up, &passed, limit).await
        }
    }
}

/// Passes bytes on as they come, to their end, and then the end.
async fn pass(from: impl AsyncRead, to: impl AsyncWrite, passed: &AtomicU64) -> io::Result<()> {
    let (mut from, mut to) = (pin!(from), pin!(to));
    let mut buffer = vec![0; SMALL];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        passed.fetch_add(1, Relaxed);
        // Most tunnels are idle most of the time.
        if length == buffer.len() && length < LARGE {
            buffer.resize(LARGE, 0);
        } else if length <= SMALL && buffer.len() > SMALL {
            buffer = vec![0; SMALL];
        }
    }
}

/// The other direction, when one has ended.
async fn while_it_passes(
    mut pass: impl Future<Output = io::Result<()>> + Unpin,
    passed: &AtomicU64,
    limit: Duration,
) -> io::Result<()> {
    loop {
        let before = passed.load(Relaxed);
        match timeout(limit, &mut pass).await {
            Ok(ended) => return ended,
            Err(_) if passed.load(Relaxed) == before => return Err(stalled(limit)),
            Err(_) => {}
        }
    }
}

fn stalled(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing passed for {limit:?}"))
}

#[cfg(test)]
mod tests;
