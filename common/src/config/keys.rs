//! The keys that exist, mapping by mapping, those that the design names and this version lacks, and what is said of any
//! other.

mod app_yaml;
mod rules;
mod tcp_proxy;

pub(super) use app_yaml::{
    APP, CACHE, DAEMON, DECLARATIONS, HEALTH, JOB, PIPELINE, QUEUE, RETRY, STEP, TOPIC,
};
pub(super) use rules::*;
pub(super) use tcp_proxy::*;

/// The keys of a kind of mapping.
#[derive(Debug)]
pub(super) struct Keys {
    /// What the mapping is, with its article.
    pub(super) what: &'static str,
    /// The keys that do something.
    pub(super) known: &'static [&'static str],
    /// The keys that a later version will have.
    pub(super) later: &'static [&'static str],
}

pub(super) static ROOT: Keys = Keys {
    what: "the file",
    known: &[
        "cluster-key",
        "cluster-key-also",
        "cluster-encryption",
        "cluster-tls",
        "triad",
        "data-dir",
        "heartbeat-interval",
        "dependency-check-interval",
        "session-memory-max",
        "app-session-memory-max",
        "cache-memory-max",
        "queue-memory-max",
        "session-first-timeout",
        "app-users",
        "traces",
        "admin",
        "health",
        "deploy-service",
        "stage",
        "keep-versions",
        "clusters",
        "cluster-default",
        "server-default",
        "host-default",
        "web-app-default",
        "import",
    ],
    later: &["triad-heal-after"],
};

pub(super) static TRACES: Keys = Keys { what: "`traces`", known: &["otlp", "sample", "import"], later: &[] };

pub(super) static CLUSTER_KEY: Keys = Keys { what: "`cluster-key`", known: &["file"], later: &[] };

pub(super) static CLUSTER_TLS: Keys =
    Keys { what: "`cluster-tls`", known: &["ca", "cert", "key", "import"], later: &[] };

pub(super) static ADMIN: Keys = Keys { what: "`admin`", known: &["users", "import"], later: &[] };

pub(super) static ADMIN_USER: Keys =
    Keys { what: "a user of `admin`", known: &["name", "password", "roles", "import"], later: &[] };

pub(super) static HEALTH_CHECKS: Keys = Keys {
    what: "`health`",
    known: &[
        "interval",
        "for",
        "off",
        "disk-free-min",
        "memory-free-min",
        "files-open-max",
        "load-max",
        "cpu-max",
        "clock-skew-max",
        "hub-silent-max",
        "hub-lag-max",
        "error-rate-max",
        "error-requests-min",
        "certificate-days",
        "webhooks",
        "restart-apps",
        "import",
    ],
    later: &[],
};

pub(super) static WEBHOOK: Keys = Keys {
    what: "a webhook",
    known: &["webhook-url", "secret", "severity", "checks", "timeout", "retries", "ca", "import"],
    later: &[],
};

pub(super) static CLUSTER: Keys = Keys {
    what: "a cluster",
    known: &[
        "id",
        "servers",
        "session-cookie",
        "workers",
        "access-log",
        "trusted-proxies",
        "acme",
        "proxy-cache",
        "compression",
        "outlier-detection",
        "caches",
        "hosts",
        "server-default",
        "host-default",
        "web-app-default",
        "import",
    ],
    later: &["elastic"],
};

pub(super) static OUTLIER_DETECTION: Keys = Keys {
    what: "`outlier-detection`",
    known: &[
        "error-rate-max",
        "requests-min",
        "window",
        "eject-time",
        "eject-time-max",
        "ejected-max",
        "import",
    ],
    later: &[],
};

pub(super) static ACCESS_LOG: Keys = Keys {
    what: "`access-log`",
    known: &["path", "format", "syslog", "sample", "slow", "errors", "import"],
    later: &[],
};

pub(super) static SYSLOG: Keys =
    Keys { what: "`syslog`", known: &["address", "facility", "app-name", "import"], later: &[] };

/// `errors` of `access-log`.
pub(super) static ERROR_LOG: Keys =
    Keys { what: "`errors` of `access-log`", known: &["path", "import"], later: &[] };

pub(super) static COMPRESSION: Keys = Keys {
    what: "`compression`",
    known: &["enable", "types", "min-size", "encodings", "import"],
    later: &[],
};

pub(super) static PROXY_CACHE: Keys = Keys {
    what: "`proxy-cache`",
    known: &[
        "enable",
        "memory-size",
        "disk-size",
        "path",
        "max-entry-size",
        "enable-range",
        "rewrite-vary-as-private",
        "store-set-cookie",
        "ignore-request-directives",
        "error-max-age",
        "stale-if-error",
        "stale-keep",
        "collapse-timeout",
        "cache-mapping",
        "import",
    ],
    later: &["entries"],
};

pub(super) static CACHE_MAPPING: Keys = Keys {
    what: "a mapping of `cache-mapping`",
    known: &["regexp", "max-age", "heuristic", "heuristic-max", "ignore-query", "import"],
    later: &[],
};

pub(super) static SERVER: Keys = Keys {
    what: "a server",
    known: &[
        "id",
        "address",
        "port",
        "http",
        "tcp-proxy",
        "load-balance-connect-timeout",
        "load-balance-socket-timeout",
        "load-balance-idle-time",
        "load-balance-recover-time",
        "load-balance-busy-recover-time",
        "load-balance-warmup-time",
        "load-balance-weight",
        "load-balance-connection-max",
        "load-balance-queue-timeout",
        "keepalive-timeout",
        "socket-timeout",
        "request-header-timeout",
        "keepalive-max",
        "header-max",
        "uri-max",
        "body-max",
        "request-rate-min",
        "shutdown-wait-max",
        "metrics",
        "import",
    ],
    later: &[],
};

pub(super) static METRICS: Keys =
    Keys { what: "`metrics`", known: &["address", "port", "import"], later: &[] };

pub(super) static HEADER_MAX: Keys =
    Keys { what: "`header-max`", known: &["count", "bytes", "import"], later: &[] };

pub(super) static HTTP: Keys = Keys {
    what: "an `http` listener",
    known: &[
        "address",
        "port",
        "tls",
        "http3",
        "alt-svc-port",
        "alt-svc-age",
        "proxy-protocol",
        "h2c",
        "import",
    ],
    later: &[],
};

pub(super) static TLS: Keys = Keys {
    what: "`tls`",
    known: &[
        "certs",
        "acme",
        "client-ca",
        "client-auth",
        "min-version",
        "ciphers",
        "curves",
        "ocsp-stapling",
        "import",
    ],
    later: &[],
};

pub(super) static CERTIFICATE: Keys =
    Keys { what: "a certificate of `certs`", known: &["cert", "key", "import"], later: &[] };

pub(super) static ACME: Keys = Keys {
    what: "`acme` of a cluster",
    known: &["directory", "ca", "contact", "challenge", "key-type", "external-account", "domains", "import"],
    later: &[],
};

pub(super) static EXTERNAL_ACCOUNT: Keys =
    Keys { what: "`external-account`", known: &["key-id", "hmac-key", "import"], later: &[] };

pub(super) static HOST: Keys = Keys {
    what: "a host",
    known: &[
        "id",
        "aliases",
        "regexp",
        "merge-slashes",
        "error-pages",
        "error-pages-for",
        "web-apps",
        "dispatch",
        "web-app-default",
        "import",
    ],
    later: &[],
};

pub(super) static WEB_APP: Keys = Keys {
    what: "a web-app",
    known: &[
        "id",
        "root-directory",
        "admin",
        "deploy",
        "versioning",
        "old-version-timeout",
        "user",
        "group",
        "confine",
        "memory-max",
        "processes-max",
        "open-files-max",
        "session-config",
        "import",
    ],
    later: &["caches"],
};

pub(super) static CONFINE: Keys = Keys { what: "`confine`", known: &["read", "write", "import"], later: &[] };

pub(super) static SESSION: Keys = Keys {
    what: "`session-config`",
    known: &[
        "use-persistent-store",
        "always-save-session",
        "session-timeout",
        "session-max",
        "save-mode",
        "reuse-session-id",
        "cookie",
        "save-timeout",
        "on-hub-loss",
        "import",
    ],
    later: &[],
};

pub(super) static COOKIE: Keys = Keys {
    what: "`cookie`",
    known: &["path", "domain", "secure", "http-only", "same-site", "max-age", "import"],
    later: &[],
};

/// Every kind of mapping; the [`CLUSTER_FILE`] first ones are the cluster file's.
pub(super) static ALL: [&Keys; 68] = [
    &ROOT,
    &CLUSTER,
    &SERVER,
    &HEADER_MAX,
    &METRICS,
    &HTTP,
    &HOST,
    &WEB_APP,
    &CONFINE,
    &SESSION,
    &COOKIE,
    &RULE,
    &LOAD_BALANCE,
    &ACCESS_LOG,
    &SYSLOG,
    &ERROR_LOG,
    &TLS,
    &ACME,
    &EXTERNAL_ACCOUNT,
    &CERTIFICATE,
    &HTTP_PROXY,
    &OUTLIER_DETECTION,
    &INSERT_COOKIE,
    &BACKEND,
    &BACKEND_TLS,
    &HEALTH_CHECK,
    &HEALTH_HEADER,
    &REWRITE,
    &PLAIN,
    &SEND_ERROR,
    &MAINTENANCE,
    &HEADER_EDIT,
    &IF,
    &SHARE,
    &RATE_LIMIT,
    &CONNECTION_LIMIT,
    &LIMIT_BY,
    &HASH_BY,
    &BASIC_AUTH,
    &SITE_USER,
    &JWT,
    &JWT_CLAIM,
    &FORWARD_AUTH,
    &MIRROR,
    &NAMED,
    &SERVER_NAME,
    &TCP_PROXY,
    &TCP_ROUTE,
    &TCP_BACKEND,
    &TCP_RATE_LIMIT,
    &TCP_CONNECTION_LIMIT,
    &CLUSTER_KEY,
    &CLUSTER_TLS,
    &ADMIN,
    &ADMIN_USER,
    &APP,
    &HEALTH,
    &HEALTH_CHECKS,
    &WEBHOOK,
    &DAEMON,
    &CACHE,
    &QUEUE,
    &JOB,
    &TOPIC,
    &PIPELINE,
    &DECLARATIONS,
    &STEP,
    &RETRY,
];

const CLUSTER_FILE: usize = 51;

impl Keys {
    /// What is said of a key that is not known here: not in this version, misspelt, misplaced, or the keys that there are.
    pub(super) fn refuse(&self, key: &str) -> String {
        let what = self.what;
        if self.later.contains(&key) {
            return format!("this version does not have `{key}` yet (in {what})");
        }
        if std::ptr::eq(self, &RULE) && matches!(key, "if" | "regexp" | "target") {
            return format!("`{key}` belongs inside of a rule, beneath its kind, not beside it");
        }
        let (here, kinds) = (std::ptr::from_ref(self), &ALL[..CLUSTER_FILE]);
        // Of `domain` for `domains` it matters little that another mapping has a `domain`.
        let is_plural =
            |known: &&str| known.strip_prefix(key) == Some("s") || key.strip_prefix(*known) == Some("s");
        if let Some(near) = self.known.iter().copied().find(is_plural) {
            return format!("unknown key `{key}` in {what}: did you mean `{near}`?");
        }
        let elsewhere = kinds.iter().find(|keys| keys.known.contains(&key));
        if let Some(keys) = elsewhere.filter(|_| kinds.iter().any(|keys| std::ptr::eq(*keys, here))) {
            return format!("`{key}` belongs in {}, not in {what}", keys.what);
        }
        let unknown = format!("unknown key `{key}` in {what}");
        match nearest(key, self.known.iter().copied()) {
            Some(near) => format!("{unknown}: did you mean `{near}`?"),
            None => format!("{unknown}: expected {}", alternatives(self.known.iter().copied())),
        }
    }
}

/// The name that `text` may be a slip of.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text: String = text.chars().take(64).collect::<String>().to_lowercase().replace('_', "-");
    let distance = |name: &str| strsim::damerau_levenshtein(&text, &name.to_lowercase());
    let near = names.take(1000).map(|name| (distance(name), name)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, name)| *distance <= name.chars().count().div_ceil(4)).map(|(_, name)| name)
}

/// `a`, `b` or `c`.
pub(super) fn alternatives<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}
