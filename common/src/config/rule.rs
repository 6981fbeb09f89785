//! Rewrite rules as the file has them: what a request must be like, and what then happens to it.

use super::{
    access::{BasicAuth, JwtAuth},
    backend_tls::BackendTls,
    condition::Condition,
    cookie_config::CookieConfig,
    error_pages::Maintenance,
    limits::{ConnectionLimit, RateLimit},
    outlier_detection::OutlierDetection,
    request_key::RequestKey,
    rewrite::{Piece, RewriteTarget},
};
use crate::id::ClusterId;
use regex::Regex;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A rewrite rule of `dispatch`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `regexp`: searched in the decoded, normalised path; `None` matches all.
    pub regexp: Option<Regex>,
    /// `if`: what else must hold.
    pub condition: Option<Condition>,
    /// What a matching request does.
    pub action: Action,
    /// `cache` (on): of `load-balance` and `http-proxy`, whether answers may be kept by the cluster's `proxy-cache`.
    pub cache: bool,
    /// `compression` (on): the same of the cluster's `compression`.
    pub compression: bool,
}

impl Rule {
    /// Whether it takes every request.
    pub fn is_unconditional(&self) -> bool {
        self.regexp.is_none() && self.condition.is_none()
    }
}

/// What a rule does.
#[derive(Debug, Clone)]
pub enum Action {
    /// `load-balance`: to a server of a cluster.
    LoadBalance(LoadBalance),
    /// `http-proxy`: to a plain HTTP server that is not ours.
    HttpProxy(Box<HttpProxy>),
    /// `dispatch`: to the host's own web-app.
    Dispatch,
    /// `forward`: the rules begin again with another path; the client does not see it.
    Forward(RewriteTarget),
    /// `redirect` (302), `moved-permanently` (301), `temporary-redirect` (307) and `permanent-redirect` (308).
    Redirect(Redirect),
    /// `forbidden` (403), `not-found` (404) and `send-error`.
    Error(SendError),
    /// `maintenance`: the site is closed.
    Maintenance(Maintenance),
    /// `set-header`, `add-header`, `set-request-header`: the next rules go on.
    Header(HeaderEdit),
    /// What a request has to pass before the next rules' word counts.
    Guard(Guard),
    /// `mirror`: a copy goes to other servers; the next rules go on.
    Mirror(Mirror),
}

/// What a request has to pass, or is answered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// `rate-limit`.
    RateLimit(RateLimit),
    /// `connection-limit`.
    ConnectionLimit(ConnectionLimit),
    /// `basic-auth`.
    BasicAuth(Box<BasicAuth>),
    /// `jwt`.
    Jwt(Box<JwtAuth>),
    /// `forward-auth`.
    ForwardAuth(Box<ForwardAuth>),
}

/// `forward-auth`: an authority is asked about each request. What it answers with 2xx passes; any other answer is the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Who is asked, and how it is reached.
    pub proxy: HttpProxy,
    /// `path` (`/`), with a query if there is one: what is asked for.
    pub path: String,
    /// `copy-headers`, in lower case: fields of its answer that servers get with the request, in place of the client's own.
    pub copy_headers: Vec<String>,
    /// `timeout` (5 s): until it has answered.
    pub timeout: Duration,
}

/// `mirror`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `cluster`: one of its servers gets a copy of the request, and what it answers is thrown away.
    pub cluster: ClusterId,
    /// `percent` (100), in hundredths: of how many requests.
    pub share: u16,
}

impl Action {
    /// The servers that are not ours which it sends requests to.
    pub fn foreign(&self) -> Option<&HttpProxy> {
        match self {
            Self::HttpProxy(proxy) => Some(proxy),
            Self::Guard(Guard::ForwardAuth(auth)) => Some(&auth.proxy),
            _ => None,
        }
    }

    /// Whether the rules after it are not asked any more.
    pub fn ends(&self) -> bool {
        !matches!(self, Self::Header(_) | Self::Guard(_) | Self::Mirror(_))
    }
}

/// `load-balance`.
#[derive(Debug, Clone)]
pub struct LoadBalance {
    /// `cluster`.
    pub cluster: ClusterId,
    /// `strategy`.
    pub strategy: Strategy,
    /// `hash-by`: requests with the same key go to the same server.
    pub hash_by: Option<RequestKey>,
    /// `sticky-sessions` (true): by the prefix of the cluster's session cookie.
    pub sticky_sessions: bool,
    /// `session-url` (false): by `;jsessionid=` in the path too, where there is no cookie.
    pub session_url: bool,
    /// `session-cookie` or `insert-cookie`: for apps that have sessions of their own in memory.
    pub cookie: StickyCookie,
}

/// `strategy`: how a server is chosen for a request without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// By load (the default).
    Adaptive,
    /// The fewest requests in flight.
    LeastConnection,
    /// In turn.
    RoundRobin,
}

/// `http-proxy`: plain HTTP servers that know nothing of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProxy {
    /// `backends`, in file order; at least one.
    pub backends: Vec<Backend>,
    /// `tls`, and what holds without it; `None` where no backend has TLS.
    pub tls: Option<Box<BackendTls>>,
    /// `health-check`: without one a backend is judged by the requests that it gets.
    pub health_check: Option<HealthCheck>,
    /// `outlier-detection`: when a backend whose requests fail is left alone.
    pub outlier_detection: Option<OutlierDetection>,
    /// `resolver`: the name servers that are asked for the names of its backends; the system's if there are none.
    pub resolver: Vec<SocketAddr>,
    /// `proxy-protocol`: each connection begins with a header that says whose it is.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// `session-cookie` or `insert-cookie`.
    pub cookie: StickyCookie,
    /// `strategy`.
    pub strategy: Strategy,
    /// `hash-by`: requests with the same key go to the same backend.
    pub hash_by: Option<RequestKey>,
    /// `warmup-time` (60 s): how long the share of a backend rises after checks have found it up.
    pub warmup_time: Duration,
    /// `connect-timeout` (5 s).
    pub connect_timeout: Duration,
    /// `socket-timeout` (30 s): a wait for a backend in which nothing moves.
    pub socket_timeout: Duration,
    /// `idle-time` (4 s): how long an idle socket is kept.
    pub idle_time: Duration,
    /// `recover-time` (15 s): the longest time a failed backend is left alone.
    pub recover_time: Duration,
    /// `connection-max` (1024): sockets to one backend from one web-tier server.
    pub connection_max: usize,
    /// `queue-timeout` (5 s): how long a request waits for one of them.
    pub queue_timeout: Duration,
}

/// A server of `http-proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where it is, by `address`.
    pub at: BackendAddress,
    /// By the scheme of `address`; [`BackendProtocol::Tcp`] for those of `tcp-proxy`.
    pub protocol: BackendProtocol,
    /// `https://` and `h2://`: with TLS, as [`HttpProxy::tls`] says.
    pub tls: bool,
    /// `weight` (100).
    pub weight: u32,
    /// `backup` (false): it gets requests only while none of the others can take them.
    pub backup: bool,
}

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendAddress {
    /// `http://host:port` and the like.
    Host {
        /// A name or an IP address, without brackets.
        host: String,
        /// 80 without one, with TLS 443.
        port: u16,
    },
    /// `unix:path`: a socket of this machine.
    Socket(PathBuf),
    /// `srv:name`: as many servers as the name has SRV records (RFC 2782).
    Service(String),
}

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendProtocol {
    /// `http://`, `https://`: HTTP/1.1.
    #[default]
    Http1,
    /// `h2c://`: HTTP/2 from the first byte (RFC 9113 §3.3), as gRPC servers do. `h2://`: HTTP/2 over TLS (§3.2).
    Http2,
    /// Of a `tcp-proxy`: whatever its clients speak.
    Tcp,
}

/// Which form of the PROXY protocol a server is told in whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// `v1`: a line of text.
    V1,
    /// `v2`: bytes.
    V2,
}

impl Backend {
    /// What it is called: `host:port`, or `unix:path`.
    pub fn name(&self) -> String {
        match &self.at {
            BackendAddress::Host { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            BackendAddress::Host { host, port } => format!("{host}:{port}"),
            BackendAddress::Socket(path) => format!("unix:{}", path.display()),
            BackendAddress::Service(name) => format!("srv:{name}"),
        }
    }

    /// What it is addressed by in requests of our own (RFC 9110 §7.2): `host:port`. A Unix socket has no name there.
    pub fn authority(&self) -> String {
        match &self.at {
            BackendAddress::Host { .. } => self.name(),
            BackendAddress::Socket(_) => "localhost".to_owned(),
            // Each of its servers has its own.
            BackendAddress::Service(name) => name.clone(),
        }
    }
}

/// `health-check`: a backend is asked again and again how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub question: HealthQuestion,
    /// `port`, in place of the backend's own.
    pub port: Option<u16>,
    /// `interval` (5 s): between two checks of one backend.
    pub interval: Duration,
    /// `timeout` (2 s): of one check.
    pub timeout: Duration,
    /// `rise` (2): good answers in a row that bring it back.
    pub rise: u32,
    /// `fall` (3): bad ones in a row that take it out.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthQuestion {
    /// Nothing: that it can be connected to is well.
    Connect,
    /// In HTTP.
    Http(Box<HttpQuestion>),
    /// What `grpc.health.v1.Health/Check` says is to be `SERVING`.
    Grpc {
        /// `grpc-service`, empty for the server as a whole.
        service: String,
        /// `host`, in place of the backend's.
        host: Option<String>,
    },
}

/// A request that is to be answered well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpQuestion {
    /// `method` (GET): GET, HEAD or OPTIONS.
    pub method: String,
    /// `path` (`/`), with a query if there is one.
    pub path: String,
    /// `host`, in place of the backend's: a name, perhaps with a port.
    pub host: Option<String>,
    /// `headers`, the names in lower case.
    pub headers: Vec<(String, String)>,
    /// `status` (200-399): one of these is well.
    pub status: Vec<StatusRange>,
    /// `body`: an expression that is to be found in the answer's body.
    pub body: Option<String>,
}

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The least.
    pub from: u16,
    /// The most.
    pub to: u16,
}

impl HttpQuestion {
    /// A GET of this path, which is to be answered with 2xx or 3xx.
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: None,
            headers: Vec::new(),
            status: vec![StatusRange { from: 200, to: 399 }],
            body: None,
        }
    }
}

impl HealthQuestion {
    /// The question of [`HttpQuestion::get`].
    pub fn get(path: &str) -> Self {
        Self::Http(Box::new(HttpQuestion::get(path)))
    }
}

/// How a client stays with a server that has its session in its own memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StickyCookie {
    /// By no cookie.
    #[default]
    None,
    /// `session-cookie`: by the server's own cookie of this name.
    Session(String),
    /// `insert-cookie`: by a cookie that the web-tier adds.
    Inserted {
        /// Its name.
        name: String,
        /// Where it is sent, and for how long.
        attributes: CookieConfig,
    },
}

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 307 or 308.
    pub status: u16,
    /// `target`.
    pub target: RewriteTarget,
}

/// An answer without a body of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    /// 400 to 599.
    pub code: u16,
    /// What the answer says, instead of the status's own text.
    pub message: Option<String>,
}

/// A header that a rule changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Which message, and how.
    pub kind: HeaderEditKind,
    /// A valid name, in lower case.
    pub name: String,
    /// A valid value, variables filled in; empty where that means to take the header away.
    pub value: Vec<Piece>,
}

impl HeaderEdit {
    /// The value, if it is the same for every request.
    pub fn fixed(&self) -> Option<&str> {
        match &self.value[..] {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// What happens to a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderEditKind {
    /// `set-header`: on the answer, in place of what is there; an empty value takes it away.
    SetOnAnswer,
    /// `add-header`: on the answer, beside what is there.
    AddToAnswer,
    /// `set-request-header`: on the request that goes to a server, in place of what is there; an empty value takes it away.
    SetOnRequest,
}
