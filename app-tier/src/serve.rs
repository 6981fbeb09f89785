//! HTTP/1.1 on an authenticated connection of the cluster port: from the request's head to the app that answers it.

use crate::{
    body::{Request, Response},
    error::RequestError,
    hosts::host_name,
    interim::{Interims, WithInterims},
    io::BoundedWrites,
    linger::{Lingering, Unread},
    registry::Registry,
    upgrade::{AppSide, Tunnel},
    upload::Upload,
};
use common::config::{Config, Server};
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, header, request::Parts};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use std::{
    borrow::Cow,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use traces::{Exporter, Kind, RECORDED, Span, TraceContext};

/// The span that a request belongs to.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Memory that a connection's unread and unwritten bytes may take, each; more if `header-max` allows a larger head.
const BUFFER_MIN: usize = 64 * 1024;

/// What a web-tier adds to the fields of a request: bytes and fields.
const ADDED_BYTES: usize = 16 * 1024;
const ADDED_FIELDS: usize = 32;

/// Header fields of a request: as many as any `header-max` of a web-tier allows, which is the one that counts, and those that it adds.
const FIELDS_MAX: usize = 256 + ADDED_FIELDS;

/// Serves connections with the apps of a cluster.
#[derive(Debug)]
pub(crate) struct Front {
    apps: Arc<Registry>,
    traces: Option<Exporter>,
    /// Time-outs of this server.
    pub(crate) keepalive_timeout: Duration,
    pub(crate) request_header_timeout: Duration,
    pub(crate) socket_timeout: Duration,
    /// See [`buffer_max`].
    buffer_max: AtomicUsize,
    /// Cancelled: answers what is in flight, then closes.
    pub(crate) drain: CancellationToken,
    /// Cancelled: closes at once.
    pub(crate) abort: CancellationToken,
}

impl Front {
    /// With the time-outs of `server`.
    pub(crate) fn new(
        apps: Arc<Registry>,
        config: &Config,
        server: &Server,
        traces: Option<Exporter>,
        drain: CancellationToken,
    ) -> Self {
        Self {
            apps,
            traces,
            keepalive_timeout: server.keepalive_timeout,
            request_header_timeout: server.request_header_timeout,
            socket_timeout: server.socket_timeout,
            buffer_max: buffer_max(config).into(),
            drain,
            abort: CancellationToken::new(),
        }
    }

    /// Goes by the limits of another configuration, from the next connection on.
    pub(crate) fn reload(&self, config: &Config) {
        self.buffer_max.store(buffer_max(config), Ordering::Relaxed);
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let front = self.clone();
        let switched = Arc::new(Mutex::new(None));
        let slot = switched.clone();
        let interims = Interims::default();
        let unread = Unread::default();
        let stream = BoundedWrites::new(Lingering::new(stream, unread.clone()), self.socket_timeout);
        let stream = WithInterims::new(stream, interims.clone());
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let (front, slot, interims) = (front.clone(), slot.clone(), interims.clone());
            let unread = unread.clone();
            async move {
                let _open = interims.open();
                request.extensions_mut().insert(interims);
                Ok::<_, Infallible>(front.answer(request, &slot, unread).await)
            }
        });
        // hyper's timer runs from the end of the last answer to the end of the next head, so it has to allow for both.
        let idle = self.keepalive_timeout.max(self.request_header_timeout);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle)
            .max_buf_size(self.buffer_max.load(Ordering::Relaxed))
            .max_headers(FIELDS_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let mut draining = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        };
        if let Err(cause) = ended {
            tracing::debug!(%cause, "connection from a web-tier ended");
        }
        let tunnel = switched.lock().ok().and_then(|mut slot| slot.take());
        let Some(tunnel) = tunnel else { return };
        tokio::select! {
            ended = tunnel.run(self.socket_timeout) => {
                if let Err(cause) = ended {
                    tracing::debug!(%cause, "an upgraded connection ended");
                }
            }
            () = self.abort.cancelled() => {}
        }
    }

    /// Answers a request; what its connection becomes with that goes to `switched`.
    async fn answer(
        &self,
        mut request: http::Request<Incoming>,
        switched: &Mutex<Option<Tunnel>>,
        unread: Unread,
    ) -> Response {
        let client =
            request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let mut response = self.respond(request, unread).await;
        if let (Some(client), Some(app)) = (client, response.extensions_mut().remove::<AppSide>())
            && let Ok(mut slot) = switched.lock()
        {
            *slot = app.tunnel(client);
        }
        response
    }

    async fn respond(&self, request: http::Request<Incoming>, unread: Unread) -> Response {
        let request = request.map(|body| Upload::new(body, self.socket_timeout, unread).boxed_unsync());
        self.route(request).await.unwrap_or_else(|cause| cause.response())
    }

    async fn route(&self, request: Request) -> Result<Response, RequestError> {
        if request.method() == Method::CONNECT {
            return Err(RequestError::MethodNotAllowed);
        }
        let (parts, body) = request.into_parts();
        // `OPTIONS *` is for the server as a whole (RFC 9110 §9.3.7), so for the app at its root.
        let whole = parts.method == Method::OPTIONS && parts.uri.path() == "*";
        let target = if whole { "/" } else { parts.uri.path() };
        decode(target)?;
        let path = decode(&without_parameters(target))?;
        let hosts = self.apps.hosts();
        let deployed = hosts.find(&host_name(&parts), &path).ok_or(RequestError::NotFound)?.clone();
        drop(hosts);
        let method = parts.method.clone();
        let call = |parts| deployed.app.call(&deployed.path, Request::from_parts(parts, body));
        let answered = match self.traces.as_ref().and_then(|traces| begin(traces, &parts, &deployed.name)) {
            Some(span) => traced(span, parts, call).await,
            None => call(parts).await,
        };
        if let Err(cause) = &answered
            && cause.status().is_server_error()
            && !matches!(cause, RequestError::AppStopped { .. })
        {
            tracing::warn!(app = %deployed.name, %cause, %method, status = cause.status().as_u16(), "request failed");
        }
        answered
    }
}

/// The span of a request that the web-tier records.
fn begin(traces: &Exporter, parts: &Parts, app: &str) -> Option<Span> {
    parts.headers.get(RECORDED)?;
    let parent = TraceContext::parse(parts.headers.get(TRACEPARENT)?.as_bytes())?;
    let mut span = traces.under(&parent, Kind::Server, format!("{} {app}", parts.method));
    span.set("http.request.method", parts.method.as_str());
    span.set("copal.app", app);
    Some(span)
}

/// Lets the app answer; it is told to be called from within the span, which lasts until the answer's head.
async fn traced<'a>(
    mut span: Span,
    mut parts: Parts,
    call: impl FnOnce(Parts) -> BoxFuture<'a, Result<Response, RequestError>>,
) -> Result<Response, RequestError> {
    if let Ok(value) = HeaderValue::try_from(span.context().to_string()) {
        parts.headers.insert(TRACEPARENT, value);
    }
    let answered = span.run(call(parts)).await;
    let status = answered.as_ref().map_or_else(RequestError::status, http::Response::status);
    span.set("http.response.status_code", status.as_u16());
    match &answered {
        Err(cause) => span.failed(cause),
        Ok(_) if status.is_server_error() => span.failed(&status),
        Ok(_) => {}
    }
    answered
}

/// Room for the largest head that a web-tier of the file lets pass: what `header-max` says there is said once, for all tiers.
fn buffer_max(config: &Config) -> usize {
    let servers = config.clusters.iter().flat_map(|cluster| &cluster.servers);
    let head = servers.map(|server| server.request_limits.header_bytes).max().unwrap_or_default();
    BUFFER_MIN.max(head.saturating_add(ADDED_BYTES))
}

/// A path without the parameters of its segments (RFC 3986 §3.3): `/shop;jsessionid=1` is for the app at `/shop`, as it is to a web-tier.
fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let names: Vec<_> = path.split('/').map(|it| it.split(';').next().unwrap_or_default()).collect();
    Cow::Owned(names.join("/"))
}

/// A path, percent-decoded once, as it is matched with web-apps and files.
///
/// # Errors
/// [`RequestError::BadTarget`]: not a path, an invalid escape, or NUL.
pub(crate) fn decode(path: &str) -> Result<String, RequestError> {
    if !path.starts_with('/') {
        return Err(RequestError::BadTarget("the target is not a path"));
    }
    let bytes = path.as_bytes();
    let whole =
        |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !whole(at)) {
        return Err(RequestError::BadTarget("invalid percent-escape"));
    }
    // Other encodings are for apps to know: they get the target as it is.
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded.contains('\0') {
        return Err(RequestError::BadTarget("NUL in the path"));
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_no_part_of_a_name() {
        for (path, names) in [
            ("/shop", "/shop"),
            ("/shop;jsessionid=1", "/shop"),
            ("/shop;a=1;b/cart;c/", "/shop/cart/"),
            ("/;jsessionid=1", "/"),
            ("/shop%3Ba", "/shop%3Ba"),
        ] {
            assert_eq!(without_parameters(path), names, "{path}");
        }
    }
}
