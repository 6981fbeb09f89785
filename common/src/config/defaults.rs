//! The value of every key that a file leaves out, in one place.

use super::{
    access_log::AccessLogFormat,
    cookie_config::{CookieConfig, CookieSecure, SameSite},
    model::{RequestLimits, ServicesMemory},
    rule::{HealthCheck, HealthQuestion, HttpProxy, StickyCookie, Strategy},
    session_config::{OnHubLoss, SaveMode, SessionConfig},
};
use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

/// The defaults of the file's own, a cluster's and a server's keys; sessions' are [`SessionConfig::default`].
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) data_dir: &'static str,
    pub(super) heartbeat_interval: Duration,
    pub(super) session_first_timeout: Duration,
    pub(super) session_cookie: &'static str,
    pub(super) workers: Option<NonZeroUsize>,
    pub(super) access_log_format: AccessLogFormat,
    pub(super) port: u16,
    pub(super) http_address: &'static str,
    pub(super) alt_svc_age: Duration,
    pub(super) metrics_address: &'static str,
    pub(super) connect_timeout: Duration,
    pub(super) balance_socket_timeout: Duration,
    pub(super) balance_idle_time: Duration,
    pub(super) recover_time: Duration,
    pub(super) busy_recover_time: Duration,
    pub(super) warmup_time: Duration,
    pub(super) weight: u32,
    pub(super) connection_max: usize,
    pub(super) queue_timeout: Duration,
    pub(super) keepalive_timeout: Duration,
    pub(super) socket_timeout: Duration,
    pub(super) request_header_timeout: Duration,
    pub(super) request_limits: RequestLimits,
    pub(super) shutdown_wait_max: Duration,
    pub(super) health_interval: Duration,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) prepare_timeout: Duration,
    pub(super) services_memory: ServicesMemory,
}

/// The defaults.
pub(super) const DEFAULTS: Defaults = Defaults {
    data_dir: "/var/lib/copal",
    heartbeat_interval: Duration::from_secs(10),
    session_first_timeout: Duration::from_secs(120),
    session_cookie: "JSESSIONID",
    workers: None,
    access_log_format: AccessLogFormat::Combined,
    port: 6800,
    http_address: "0.0.0.0",
    alt_svc_age: Duration::from_secs(24 * 3600),
    metrics_address: "127.0.0.1",
    connect_timeout: Duration::from_secs(5),
    balance_socket_timeout: Duration::from_secs(600),
    balance_idle_time: Duration::from_secs(5),
    recover_time: Duration::from_secs(15),
    busy_recover_time: Duration::from_secs(15),
    warmup_time: Duration::from_secs(60),
    weight: 100,
    connection_max: 1024,
    queue_timeout: Duration::from_secs(5),
    keepalive_timeout: Duration::from_secs(15),
    socket_timeout: Duration::from_secs(65),
    request_header_timeout: Duration::from_secs(10),
    request_limits: RequestLimits {
        header_count: 100,
        header_bytes: 32 * 1024,
        uri: 16 * 1024,
        body: None,
        // That of ASP.NET: a tenth of what the slowest mobile network brings.
        rate_min: NonZeroU32::new(240),
        keepalive: None,
    },
    shutdown_wait_max: Duration::from_secs(15),
    health_interval: Duration::from_secs(5),
    start_timeout: Duration::from_secs(30),
    stop_timeout: Duration::from_secs(15),
    prepare_timeout: Duration::from_secs(300),
    services_memory: ServicesMemory { caches: 512 << 20, queues: 512 << 20 },
};

impl Default for RequestLimits {
    fn default() -> Self {
        DEFAULTS.request_limits
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            use_persistent_store: true,
            always_save_session: false,
            session_timeout: Duration::from_secs(30 * 60),
            session_max: 8192,
            save_mode: SaveMode::BeforeResponse,
            reuse_session_id: true,
            save_timeout: Duration::from_secs(2),
            on_hub_loss: OnHubLoss::Serve,
            cookie: CookieConfig::default(),
        }
    }
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            domain: None,
            secure: CookieSecure::Auto,
            http_only: true,
            same_site: SameSite::Lax,
            max_age: None,
        }
    }
}

/// No backends yet, and everything else as Resin's `HttpProxy` has it.
impl Default for HttpProxy {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            tls: None,
            health_check: None,
            outlier_detection: None,
            resolver: Vec::new(),
            proxy_protocol: None,
            cookie: StickyCookie::None,
            strategy: Strategy::Adaptive,
            hash_by: None,
            warmup_time: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            socket_timeout: Duration::from_secs(30),
            // Below the 5 s of Node, uvicorn and Apache: who closes first must be us.
            idle_time: Duration::from_secs(4),
            recover_time: Duration::from_secs(15),
            connection_max: DEFAULTS.connection_max,
            queue_timeout: DEFAULTS.queue_timeout,
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            question: HealthQuestion::get("/"),
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}
