//! What the file says, once it has been read, merged and checked: plain data, complete with every default.

use super::{
    access_log::AccessLog,
    acme::Acme,
    app_rights::AppRights,
    caches::DeclaredCache,
    compression::Compression,
    deployment::{Deployments, Versioning},
    encryption::{ClusterEncryption, ClusterTls},
    error_pages::ErrorPages,
    file_path::{CertificateFiles, FilePath},
    health_checks::HealthChecks,
    outlier_detection::OutlierDetection,
    proxy_cache::ProxyCache,
    rule::Rule,
    secret::Secret,
    session_config::SessionConfig,
    session_overrides::SessionOverrides,
    tcp_proxy::TcpListener,
    tls_choices::TlsChoices,
};
use crate::{
    cidr::Cidr,
    id::{ClusterId, ServerId, ServerIndex},
    password::{PasswordHash, PasswordUser},
};
use regex::Regex;
use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Where spans of requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// `http://host:port` of a collector, which takes OTLP over gRPC.
    pub otlp: String,
    /// New traces of a million that are recorded.
    pub sampled_ppm: u32,
}

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// What it says, as YAML: imports, variables and the file's own defaults in it, secrets hidden.
    pub effective: Arc<str>,
    /// `cluster-key`; without one every address is loopback.
    pub cluster_key: Secret,
    /// `cluster-key-also`: a key that is taken as well, while the key is changed; empty when there is none.
    pub cluster_key_also: Secret,
    /// `cluster-encryption`: which connections between servers are encrypted (those to addresses that are not loopback).
    pub cluster_encryption: ClusterEncryption,
    /// `cluster-tls`: the servers' certificates, for who has a PKI.
    pub cluster_tls: Option<ClusterTls>,
    /// Variables of the environment that secrets of the file come from: see `ServersOwn`.
    pub secret_variables: Arc<BTreeSet<String>>,
    /// `triad`, or the file's first three servers (fewer when there are fewer): the hub's members, in order.
    pub triad: Vec<ServerId>,
    /// `data-dir`: each server keeps its data in a folder of it that bears the server's id.
    pub data_dir: PathBuf,
    /// `heartbeat-interval`: every server tells the hub that it lives (10 s); down after three missed.
    pub heartbeat_interval: Duration,
    /// `dependency-check-interval`: how often the file and those that it imports are looked at, to be read again when they have
    /// changed; `None`: never.
    pub dependency_check_interval: Option<Duration>,
    /// How much memory of the hub's servers sessions may take.
    pub session_memory: SessionMemory,
    /// What caches and messages of apps may take on each server of the hub.
    pub services_memory: ServicesMemory,
    /// `app-users`: users of the system that an `app.yaml` may choose; nobody unless given.
    pub app_users: Vec<String>,
    /// `traces`: where spans of requests go; nowhere unless given.
    pub traces: Option<Traces>,
    /// Files that may hold secrets of this server: its own file, those that it imports, those of cluster keys.
    pub private_files: Vec<PathBuf>,
    /// `admin`, `users`: who may administrate the cluster; nobody unless given.
    pub admin_users: Vec<AdminUser>,
    /// `health`: health checks, and what is done about problems.
    pub health: HealthChecks,
    /// `deploy-service` and what goes with it.
    pub deployments: Deployments,
    /// `clusters`, in file order.
    pub clusters: Vec<Cluster>,
}

/// What apps' services may take on each server of the hub, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicesMemory {
    /// `cache-memory-max` (512M): the caches of all apps.
    pub caches: u64,
    /// `queue-memory-max` (512M): the messages of all queues.
    pub queues: u64,
}

/// How much memory of the hub's servers sessions may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionMemory {
    /// `session-memory-max`: bytes of all sessions, beyond which no new one is made; `None`: a quarter of the memory that the server
    /// may use. The least of the hub's servers counts.
    pub max: Option<u64>,
    /// `app-session-memory-max`: bytes of one app's; `None`: three quarters of that.
    pub app_max: Option<u64>,
    /// `session-first-timeout` (2 min): when half of it is taken, sessions that were not used again for so long after they were made are
    /// ended; zero = never.
    pub first_timeout: Duration,
}

/// A user of `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUser {
    /// `name`, unique.
    pub name: String,
    /// `password`: its hash.
    pub password: PasswordHash,
    /// `roles`, each once.
    pub roles: Vec<Role>,
}

impl PasswordUser for AdminUser {
    fn name(&self) -> &str {
        &self.name
    }

    fn password(&self) -> &PasswordHash {
        &self.password
    }
}

/// What a user of `admin` may do. Any of them may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look.
    View,
    /// Deploy apps.
    Deploy,
    /// Change what runs: enable and disable servers.
    Operate,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::View, Self::Deploy, Self::Operate];

    /// As the file has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Deploy => "deploy",
            Self::Operate => "operate",
        }
    }
}

/// A cluster: servers that play the same part.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `id`, unique in the file.
    pub id: ClusterId,
    /// `servers`, in file order; a server's place here is its index.
    pub servers: Vec<Server>,
    /// `session-cookie`: `JSESSIONID`.
    pub session_cookie: String,
    /// `workers`: data-path threads of a web-tier server; `None` = `auto`, one a core.
    pub workers: Option<NonZeroUsize>,
    /// `access-log`: where its servers with listeners write their requests down.
    pub access_log: Option<AccessLog>,
    /// `acme`: certificates that its servers get by themselves; none unless given.
    pub acme: Option<Acme>,
    /// `trusted-proxies`: whose `X-Forwarded-*` and PROXY headers are believed; nobody's unless given.
    pub trusted_proxies: Vec<Cidr>,
    /// `proxy-cache`: answers that its servers keep for all clients; none unless given, or with `enable: false`.
    pub proxy_cache: Option<ProxyCache>,
    /// `compression`: answers that its servers compress for clients that take it; none unless given, or with `enable: false`.
    pub compression: Option<Compression>,
    /// `outlier-detection`: when a web-tier leaves one of its servers alone whose requests fail.
    pub outlier_detection: Option<OutlierDetection>,
    /// `caches`: caches of its apps that are not as the defaults, whatever an app says.
    pub caches: Vec<DeclaredCache>,
    /// `hosts`: virtual hosts, in file order; the default host is the one with the empty id.
    pub hosts: Vec<Host>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct Server {
    /// `id`, unique in the file.
    pub id: ServerId,
    /// Its place in its cluster.
    pub index: ServerIndex,
    /// `address`: an IP address or a host name, where the others reach it.
    pub address: String,
    /// `port`: the cluster port (6800).
    pub port: u16,
    /// `http`: public listeners.
    pub http: Vec<HttpListener>,
    /// `tcp-proxy`: listeners whose connections are passed on as they are.
    pub tcp: Vec<TcpListener>,
    /// `load-balance-connect-timeout` (5 s): TCP connect and cluster handshake.
    pub connect_timeout: Duration,
    /// `load-balance-socket-timeout` (600 s): a wait for this server that makes no progress.
    pub balance_socket_timeout: Duration,
    /// `load-balance-idle-time` (5 s): how long a web-tier keeps an idle socket to this server; below `keepalive_timeout`.
    pub balance_idle_time: Duration,
    /// `load-balance-recover-time` (15 s): the longest fail window.
    pub recover_time: Duration,
    /// `load-balance-busy-recover-time` (15 s): the longest time that one which answers 503 gets nothing new.
    pub busy_recover_time: Duration,
    /// `load-balance-warmup-time` (60 s): how long the share of one that has just come rises; zero = no warm-up.
    pub warmup_time: Duration,
    /// `load-balance-connection-max` (1024): sockets to this server from one web-tier server.
    pub connection_max: usize,
    /// `load-balance-queue-timeout` (5 s): how long a request waits for one of them, then another server or 503.
    pub queue_timeout: Duration,
    /// `load-balance-weight` (100).
    pub weight: u32,
    /// `keepalive-timeout` (15 s): how long this server keeps an idle connection for a new request.
    pub keepalive_timeout: Duration,
    /// `socket-timeout` (65 s): a read or write that makes no progress.
    pub socket_timeout: Duration,
    /// `request-header-timeout` (10 s): from the first byte of a request to the end of its head.
    pub request_header_timeout: Duration,
    /// What a client's requests may be.
    pub request_limits: RequestLimits,
    /// `shutdown-wait-max` (15 s): how long a graceful stop waits for requests in flight.
    pub shutdown_wait_max: Duration,
    /// `metrics`: where scrapers and probes ask; nowhere unless given.
    pub metrics: Option<MetricsListener>,
}

/// `metrics` of a server: a plain listener of its own, without sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsListener {
    /// `address`: this machine alone (`127.0.0.1`) unless given.
    pub address: String,
    /// `port`.
    pub port: u16,
}

/// What a client's requests may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// `header-max`, `count` (100): header fields; beyond it 431.
    pub header_count: usize,
    /// `header-max`, `bytes` (32K): from the request line to the empty line; beyond it 431.
    pub header_bytes: usize,
    /// `uri-max` (16K): bytes of the request target; beyond it 414.
    pub uri: usize,
    /// `body-max` (none): bytes of a body; beyond it 413.
    pub body: Option<NonZeroU64>,
    /// `request-rate-min` (240): bytes a second at which a client sends a body, or takes an answer, at least; one that is
    /// `socket-timeout` behind gets 408.
    pub rate_min: Option<NonZeroU32>,
    /// `keepalive-max` (none): requests that one connection serves.
    pub keepalive: Option<NonZeroU64>,
}

/// A public HTTP listener.
#[derive(Debug, Clone)]
pub struct HttpListener {
    /// `address`: all interfaces (`0.0.0.0`) unless given.
    pub address: String,
    /// `port`.
    pub port: u16,
    /// `tls`: HTTPS; plain HTTP without it.
    pub tls: Option<ListenerTls>,
    /// `proxy-protocol` (false): each connection begins with a PROXY header, version 1 or 2, and comes from one of the
    /// cluster's `trusted-proxies`.
    pub proxy_protocol: bool,
    /// `h2c` (false): HTTP/2 without TLS, for clients that begin with it (prior knowledge).
    pub h2c: bool,
    /// `http3` (false): HTTP/3 too, at the same port of UDP; only with `tls`.
    pub http3: Option<Http3>,
}

/// What answers in HTTP/1.1 and HTTP/2 say of HTTP/3 (`Alt-Svc`, RFC 7838).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http3 {
    /// `alt-svc-port`: the listener's port unless given. Another one where a router before the server has another.
    pub alt_svc_port: u16,
    /// `alt-svc-age` (1 day): how long clients remember it.
    pub alt_svc_age: Duration,
}

impl HttpListener {
    /// A listener without TLS and PROXY protocol.
    pub fn plain(address: &str, port: u16) -> Self {
        Self { address: address.to_owned(), port, tls: None, proxy_protocol: false, h2c: false, http3: None }
    }
}

/// `tls` of a listener. The files that it names are read by the server that listens, not by the loader: the others have the
/// same configuration, and need not have the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// `certs`, at least one without `acme`; the first is for clients that name no host, or none that a certificate covers.
    pub certificates: Vec<CertificateFiles>,
    /// `acme` (false): those that the cluster gets by itself, after these.
    pub acme: bool,
    /// `client-ca`: who signs client certificates.
    pub client_ca: Option<FilePath>,
    /// `client-auth`: `required` with a `client-ca`, else `none`.
    pub client_auth: ClientAuth,
    /// `min-version` (1.2).
    pub min_version: TlsVersion,
    /// `ocsp-stapling` (true): what a certificate's responder says of it is shown with it.
    pub ocsp_stapling: bool,
    /// `ciphers` and `curves`.
    pub choices: TlsChoices,
}

impl ListenerTls {
    /// With these certificates, and all else as it is without a word.
    pub fn of(certificates: Vec<CertificateFiles>) -> Self {
        Self {
            certificates,
            acme: false,
            client_ca: None,
            client_auth: ClientAuth::None,
            min_version: TlsVersion::Tls12,
            ocsp_stapling: true,
            choices: TlsChoices::default(),
        }
    }
}

/// `client-auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    None,
    /// They are asked, and may have none; one that is not valid is refused.
    Optional,
    /// No handshake without one.
    Required,
}

/// `min-version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// A virtual host.
#[derive(Debug, Clone)]
pub struct Host {
    /// `id`: the empty default host, or a name, compared without case.
    pub id: String,
    /// `aliases`: further names.
    pub aliases: Vec<String>,
    /// `regexp`: searched in the host name.
    pub regexp: Option<Regex>,
    /// `merge-slashes` (true): several slashes in a row are one.
    pub merge_slashes: bool,
    /// `web-apps`: the longest `id` that is a prefix of the path wins.
    pub web_apps: Vec<WebApp>,
    /// `session-config` of the defaults that hold here, for apps that are deployed to this host without a web-app of their own.
    pub session_default: SessionOverrides,
    /// What the same defaults say of their processes' rights.
    pub rights_default: AppRights,
    /// What the same defaults say of their versions.
    pub versioning_default: Versioning,
    /// `error-pages` and `error-pages-for`.
    pub error_pages: ErrorPages,
    /// `dispatch`: rewrite rules; the first that matches is taken.
    pub dispatch: Vec<Rule>,
}

/// The default host, without anything.
impl Default for Host {
    fn default() -> Self {
        Self {
            id: String::new(),
            aliases: Vec::new(),
            regexp: None,
            merge_slashes: true,
            error_pages: ErrorPages::default(),
            web_apps: Vec::new(),
            session_default: SessionOverrides::default(),
            rights_default: AppRights::default(),
            versioning_default: Versioning::default(),
            dispatch: Vec::new(),
        }
    }
}

/// A web-app: an app at a path.
#[derive(Debug, Clone)]
pub struct WebApp {
    /// `id`: the path prefix without a trailing slash; empty for the root.
    pub id: String,
    /// What answers there.
    pub content: Content,
    /// Of a deployed app: how several versions of it are used.
    pub versioning: Versioning,
    /// What its processes may do on the machine.
    pub rights: AppRights,
    /// `session-config`, complete.
    pub session: SessionConfig,
    /// The keys of `session-config` that the file gives; an app's own settings go beneath them
    /// ([`WebApp::session_with`]).
    pub session_explicit: SessionOverrides,
}

/// What a web-app is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `root-directory`: an app's folder, static unless it has an `app.yaml` with a command (design/APPS.md).
    Folder(PathBuf),
    /// `admin`: the cluster's administration.
    Admin,
    /// `deploy`: the deployed app of this name.
    Deploy(String),
}

impl Config {
    /// The server with this id, and its cluster.
    pub fn server(&self, id: &ServerId) -> Option<(&Cluster, &Server)> {
        self.clusters
            .iter()
            .find_map(|cluster| Some((cluster, cluster.servers.iter().find(|it| it.id == *id)?)))
    }

    /// The cluster with this id.
    pub fn cluster(&self, id: &ClusterId) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.id == *id)
    }

    /// Every server of the file, in file order.
    pub fn servers(&self) -> impl Iterator<Item = (&Cluster, &Server)> {
        self.clusters.iter().flat_map(|cluster| cluster.servers.iter().map(move |server| (cluster, server)))
    }

    /// The clusters with public listeners, or that of the server `only` if it has some.
    pub fn web_tiers<'a>(&'a self, only: Option<&'a ServerId>) -> impl Iterator<Item = &'a Cluster> {
        let is_it = move |server: &Server| server.listens() && only.is_none_or(|only| server.id == *only);
        self.clusters.iter().filter(move |cluster| cluster.servers.iter().any(is_it))
    }

    /// The hub's members with their addresses, in order.
    pub fn hub(&self) -> Vec<&Server> {
        self.triad.iter().filter_map(|id| self.server(id)).map(|(_, server)| server).collect()
    }
}

impl Server {
    /// `address:port` of the cluster port, as a connect takes it.
    pub fn cluster_address(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }
}

impl WebApp {
    /// The session settings of an app that is served here and whose `app.yaml` has `session: app`: the cluster file's
    /// explicit keys win, then the app's, then the defaults.
    pub fn session_with(&self, app: &SessionOverrides) -> SessionConfig {
        self.session_explicit.apply(&app.apply(&SessionConfig::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CookieOverrides;

    #[test]
    fn the_cluster_file_wins_over_the_app_and_the_app_over_the_defaults() {
        let explicit = SessionOverrides {
            session_timeout: Some(Duration::from_secs(1800)),
            cookie: CookieOverrides { domain: Some(None), ..CookieOverrides::default() },
            ..SessionOverrides::default()
        };
        let app = SessionOverrides {
            session_timeout: Some(Duration::from_secs(60)),
            session_max: Some(7),
            cookie: CookieOverrides { domain: Some(Some("a.b".to_owned())), ..CookieOverrides::default() },
            ..SessionOverrides::default()
        };
        let web_app = WebApp {
            id: String::new(),
            versioning: Default::default(),
            content: Content::Folder("/srv".into()),
            rights: AppRights::default(),
            session: explicit.apply(&SessionConfig::default()),
            session_explicit: explicit,
        };
        let session = web_app.session_with(&app);
        assert_eq!(session.session_timeout, Duration::from_secs(1800));
        assert_eq!(session.session_max, 7);
        assert_eq!(session.cookie.domain, None);
        assert_eq!(session.save_timeout, Duration::from_secs(2));
        assert_eq!(web_app.session_with(&SessionOverrides::default()), web_app.session);
    }
}
