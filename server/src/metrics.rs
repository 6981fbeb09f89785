//! `metrics` of a server: a plain listener of its own for scrapers (`/metrics`) and probes (`/healthz`, `/readyz`). It tells numbers and
//! names, and takes nothing; few may ask at once, and none for long.

use crate::{handover::takeover::Given, status::Knows};
use admin::{Format, metrics};
use common::config::MetricsListener;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// Connections at once.
const CONNECTIONS: usize = 32;

/// From a connection to the end of its first request's head, and how long one lasts.
const HEAD: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(300);

/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that has not heard the hub for so long should get no traffic.
const HEARD_MAX: Duration = Duration::from_secs(10);

/// A listener that is bound.
#[derive(Debug)]
pub(crate) struct Bound(Option<TcpListener>);

/// What answers there.
#[derive(Debug)]
pub(crate) struct Scraped {
    ready: watch::Sender<bool>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Scraped {
    /// Binds the listener that the file gives to this server, if it does and this process was not given the socket.
    ///
    /// # Errors
    /// The system's, with the address.
    pub(crate) async fn bind(listener: Option<&MetricsListener>, given: &mut Given) -> io::Result<Bound> {
        let Some(MetricsListener { address, port }) = listener else { return Ok(Bound(None)) };
        let bound = given.listener((address.as_str(), *port)).await;
        let told = |cause: io::Error| {
            io::Error::new(cause.kind(), format!("metrics listener {address}:{port} can't be bound: {cause}"))
        };
        Ok(Bound(Some(bound.map_err(told)?)))
    }

    /// Whether this server's apps are ready and it does not stop: at first it is not.
    pub(crate) fn ready(&self) -> &watch::Sender<bool> {
        &self.ready
    }

    /// Accepts no more, as another process does on the same socket.
    pub(crate) fn close(&mut self) {
        self.task = None;
    }
}

impl Bound {
    /// The socket.
    pub(crate) fn socket(&self) -> Option<&TcpListener> {
        self.0.as_ref()
    }

    /// Answers until the result is dropped.
    pub(crate) fn serve(self, knows: &Arc<Knows>) -> Scraped {
        let (ready, is_ready) = watch::channel(false);
        let serve = |listener| tokio::spawn(accept(listener, knows.clone(), is_ready));
        Scraped { ready, task: self.0.map(serve).map(AbortOnDropHandle::new) }
    }
}

async fn accept(listener: TcpListener, knows: Arc<Knows>, ready: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let (knows, ready) = (knows.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            let _late = timeout(LIFE, answer(stream, knows, ready)).await;
        });
    }
}

async fn answer(stream: TcpStream, knows: Arc<Knows>, ready: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (knows, is_ready) = (knows.clone(), *ready.borrow());
        async move { Ok::<_, Infallible>(respond(&request, &knows, is_ready).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    if let Err(cause) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%cause, "a connection of the metrics listener broke");
    }
}

async fn respond(request: &Request<Incoming>, knows: &Knows, ready: bool) -> Response<Full<Bytes>> {
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n");
    }
    match request.uri().path() {
        // Whoever answers lives.
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match why_not_ready(knows, ready) {
            None => text(StatusCode::OK, "ok\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
            let format = Format::of(accept.unwrap_or_default());
            match knows.status().await {
                Ok(status) => told(StatusCode::OK, format.content_type(), metrics(&status, format)),
                Err(cause) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{cause}\n")),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "expected /metrics, /healthz or /readyz\n"),
    }
}

fn why_not_ready(knows: &Knows, ready: bool) -> Option<&'static str> {
    if !ready {
        return Some("its apps are not ready, or it stops\n");
    }
    let heard = knows.heard.age(knows.clock.now());
    heard.is_none_or(|age| age > HEARD_MAX).then_some("it does not hear the hub\n")
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    told(status, "text/plain; charset=utf-8", text.into())
}

fn told(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
