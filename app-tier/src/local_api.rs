//! The local API: what app processes call, by HTTP with JSON or by gRPC, on a Unix socket (`COPAL_HUB`) and on a loopback port (`COPAL_API`). Both
//! are up before the first process is. A token says which app calls (docs/local-api.md).

mod answer;
mod app;
mod caches;
mod calls;
mod grpc;
mod input;
mod jobs;
mod leases;
mod openapi;
mod pipelines;
mod queues;
mod route;
mod sessions;
mod topics;

use crate::{
    cache::Caches,
    error::AppTierError,
    lease::Leases,
    queue::Queues,
    registry::{Registry, Running},
    topic::Topics,
};
use answer::Problem;
use calls::{Answer, Call, Counted, UnderWay};
use grpc::InFlight;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Body as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt;

/// Calls at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 1024;

/// A call takes at most this long; what it waits for inside has shorter bounds.
const CALL_MAX: Duration = Duration::from_secs(90);

/// Window of a stream, and of a connection: large enough for a session in one round trip.
const WINDOW: u32 = 1024 * 1024;

/// A request's head is there within this, or its connection is closed; so is one on which nothing is asked.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// Memory of a connection for a head.
const HEAD_BYTES: usize = 64 << 10;

/// Connections on the socket, and on the port, where any user of the machine can connect; one more waits until another has ended.
const UNIX_MAX: usize = 4096;
const TCP_MAX: usize = 1024;

/// A connection has shown a token within this, or it is closed.
const TOKEN_MAX: Duration = Duration::from_secs(10);

/// One on which nothing was asked for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// When this server stops, calls under way have this long.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What tokens come in: gRPC's metadata, or as a bearer (RFC 6750).
const TOKEN: &str = "copal-token";
const BEARER: &[u8] = b"Bearer ";

/// Where apps find it.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// `COPAL_HUB`.
    pub(crate) socket: PathBuf,
    /// Where `COPAL_API` leads.
    pub(crate) tcp: SocketAddr,
}

/// The places where apps call, taken before they are started.
#[derive(Debug)]
pub(crate) struct Bound {
    unix: UnixListener,
    tcp: TcpListener,
    addresses: Addresses,
}

impl Bound {
    /// Takes a new socket at `path`, and a loopback port that the system chooses.
    ///
    /// # Errors
    /// [`AppTierError::Io`]: one of them can't be had.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, AppTierError> {
        let failed = |what, path: &PathBuf| {
            let path = path.clone();
            move |cause: io::Error| AppTierError::Io { what, path, cause }
        };
        let unix = UnixListener::bind(&path).and_then(|listener| {
            // Who may enter its folder may connect; a call needs an app's token.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        });
        let unix = unix.map_err(failed("binding the local API's socket", &path))?;
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((TcpListener::from_std(listener)?, address))
        });
        let (tcp, address) =
            tcp.map_err(failed("binding a loopback port for the local API beside", &path))?;
        Ok(Self { unix, tcp, addresses: Addresses { socket: path, tcp: address } })
    }

    /// Where that is.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

/// What is called.
#[derive(Debug, Clone)]
pub(crate) struct LocalApi {
    apps: Arc<Registry>,
    leases: Option<Leases>,
    caches: Option<Caches>,
    queues: Option<Queues>,
    topics: Option<Topics>,
}

impl LocalApi {
    /// For the apps that there are, by their tokens; without a hub there is none of the others.
    pub(crate) fn new(
        apps: Arc<Registry>,
        leases: Option<Leases>,
        caches: Option<Caches>,
        (queues, topics): (Option<Queues>, Option<Topics>),
    ) -> Self {
        Self { apps, leases, caches, queues, topics }
    }

    /// Serves calls until `stop` is cancelled; streams of gRPC end when `drain` is.
    pub(crate) fn serve(self, bound: Bound, drain: CancellationToken, stop: CancellationToken) {
        let Bound { unix, tcp, .. } = bound;
        let grpc = grpc::routes(&self);
        let server = Arc::new(Server { api: self, grpc, calls: Arc::default(), drain, stop });
        let (unix_room, tcp_room) = (Arc::new(Semaphore::new(UNIX_MAX)), Arc::new(Semaphore::new(TCP_MAX)));
        let over_unix = server.clone();
        tokio::spawn(async move {
            while let Some(room) = over_unix.room(&unix_room).await {
                let accepted = over_unix.stop.run_until_cancelled(unix.accept()).await;
                over_unix.accepted(accepted.map(|it| it.map(|(stream, _)| stream)), room).await;
            }
        });
        tokio::spawn(async move {
            while let Some(room) = server.room(&tcp_room).await {
                let accepted = server.stop.run_until_cancelled(tcp.accept()).await;
                let accepted = accepted.map(|it| {
                    it.map(|(stream, _)| {
                        // The frames of a stream are small, and come when they come. Without it they come later.
                        let _slower = stream.set_nodelay(true);
                        stream
                    })
                });
                server.accepted(accepted, room).await;
            }
        });
    }

    /// The app that calls. Every token is compared, to its end: how long it takes tells nothing.
    fn caller(&self, headers: &HeaderMap) -> Option<Running> {
        let bearer = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let bearer = bearer.and_then(|it| it.split_at_checked(BEARER.len()));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER)).map(|(_, token)| token);
        let token = headers.get(TOKEN).map(HeaderValue::as_bytes).or(bearer).unwrap_or_default();
        let apps = self.apps.running();
        let found =
            apps.iter().fold(
                None,
                |found, known| {
                    if is_same(known.token.as_bytes(), token) { Some(known) } else { found }
                },
            );
        found.cloned()
    }
}

/// The app that calls, in the extensions of its requests.
#[derive(Debug, Clone)]
struct Caller(Running);

/// What serves the connections.
#[derive(Debug)]
struct Server {
    api: LocalApi,
    grpc: Routes,
    calls: Arc<UnderWay>,
    drain: CancellationToken,
    stop: CancellationToken,
}

/// What a connection is doing.
#[derive(Debug)]
struct Activity {
    /// It has shown a token.
    is_known: AtomicBool,
    calls: AtomicUsize,
    last: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        let (is_known, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { is_known, calls, last: Mutex::new(Instant::now()) }
    }

    /// Waits until it has been of no use for too long.
    async fn is_useless(&self) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = if self.is_known.load(Relaxed) { IDLE_MAX } else { TOKEN_MAX };
            let is_idle = self.calls.load(Relaxed) == 0 || !self.is_known.load(Relaxed);
            if is_idle && last.elapsed() >= limit {
                return;
            }
            tokio::time::sleep(limit.saturating_sub(last.elapsed()).clamp(Duration::from_secs(1), TOKEN_MAX))
                .await;
        }
    }

    fn begin(self: &Arc<Self>) -> Active {
        self.is_known.store(true, Relaxed);
        self.calls.fetch_add(1, Relaxed);
        Active(self.clone())
    }
}

/// A call on a connection.
#[derive(Debug)]
struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

impl Server {
    /// Waits for room for another connection. `None`: it stops.
    async fn room(&self, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        self.stop.run_until_cancelled(room.clone().acquire_owned()).await?.ok()
    }

    async fn accepted<S>(self: &Arc<Self>, accepted: Option<io::Result<S>>, room: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match accepted {
            Some(Ok(stream)) => drop(tokio::spawn(self.clone().connection(stream, room))),
            // Out of file descriptors: not a reason to spin.
            Some(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            None => {}
        }
    }

    /// Serves one connection to its end.
    async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        _room: OwnedSemaphorePermit,
    ) {
        let (server, stop, activity) = (self.clone(), self.stop.clone(), Arc::new(Activity::new()));
        let seen = activity.clone();
        let service = service_fn(move |request| server.clone().answer(request, seen.clone()));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(HEAD_MAX)
            .keep_alive_timeout(HEAD_MAX);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = activity.is_useless() => return,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(DRAIN_MAX, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(cause) = ended {
            tracing::debug!(cause, "a connection of the local API broke");
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        activity: Arc<Activity>,
    ) -> Result<Response<Body>, Infallible> {
        let is_grpc = grpc::is_grpc(request.headers());
        let answered = self.answered(request, is_grpc, activity).await;
        Ok(answered.unwrap_or_else(|problem| match is_grpc {
            true => Status::from(problem).into_http(),
            false => problem.into_response(),
        }))
    }

    async fn answered(
        &self,
        mut request: Request<Incoming>,
        is_grpc: bool,
        activity: Arc<Activity>,
    ) -> Result<Response<Body>, Problem> {
        // Before its message is read: nobody's is kept without a token.
        let caller = self.api.caller(request.headers()).ok_or_else(|| {
            let text = "the value of COPAL_TOKEN is missing, or another one";
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
        })?;
        let time = if is_grpc { grpc::time(request.headers())? } else { None };
        // Of gRPC it is counted as it comes: its length is not known before.
        let body = if is_grpc { Some(0) } else { request.body().size_hint().upper() };
        let call = Arc::new(Call::begin(&self.calls, caller.app.sessions.app(), body, activity.begin())?);
        let in_flight = InFlight::new(call.clone(), time, [&self.drain, &self.stop]);
        request.extensions_mut().insert(Caller(caller.clone()));
        let answered = async {
            if is_grpc {
                let is_counted = grpc::is_counted(request.uri().path());
                request.extensions_mut().insert(in_flight);
                let request = request.map(|body| Counted::new(body, is_counted.then(|| call.clone())));
                let Ok(response) = self.grpc.clone().oneshot(request).await;
                return grpc::told(response);
            }
            request.extensions_mut().insert(activity.clone());
            let response = route::answer(&self.api, &caller, request).await?;
            Ok(Answer::of(response, call.clone()))
        };
        let limit = time.unwrap_or(CALL_MAX).min(CALL_MAX);
        tokio::time::timeout(limit, answered).await.unwrap_or_else(|_| Err(grpc::late()))
    }
}

/// In a time that depends on the lengths alone.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let differing =
        known.iter().zip(given).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    known.len() == given.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_same(b"abc", b"abc"));
        for given in [&b"abd"[..], b"ab", b"abcd", b"", b"bbc"] {
            assert!(!is_same(b"abc", given), "{given:?}");
        }
    }
}
