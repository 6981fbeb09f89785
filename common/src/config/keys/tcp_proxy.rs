//! The keys of `tcp-proxy`.

use super::Keys;

/// Those that say who the servers are and how they are reached, of a listener and of its routes.
pub(in crate::config) const TCP_SERVERS: [&str; 12] = [
    "backends",
    "tls",
    "health-check",
    "send-proxy-protocol",
    "strategy",
    "hash-by",
    "warmup-time",
    "connect-timeout",
    "idle-timeout",
    "recover-time",
    "connection-max",
    "queue-timeout",
];

pub(in crate::config) static TCP_PROXY: Keys = Keys {
    what: "a `tcp-proxy` listener",
    known: &[
        "address",
        "port",
        "proxy-protocol",
        "allow",
        "deny",
        "rate-limit",
        "connection-limit",
        "client-hello-timeout",
        "routes",
        "backends",
        "tls",
        "health-check",
        "send-proxy-protocol",
        "strategy",
        "hash-by",
        "warmup-time",
        "connect-timeout",
        "idle-timeout",
        "recover-time",
        "connection-max",
        "queue-timeout",
        "import",
    ],
    later: &[],
};

pub(in crate::config) static TCP_ROUTE: Keys = Keys {
    what: "a route of `tcp-proxy`",
    known: &[
        "server-name",
        "alpn",
        "backends",
        "tls",
        "health-check",
        "send-proxy-protocol",
        "strategy",
        "hash-by",
        "warmup-time",
        "connect-timeout",
        "idle-timeout",
        "recover-time",
        "connection-max",
        "queue-timeout",
        "import",
    ],
    later: &[],
};

pub(in crate::config) static TCP_BACKEND: Keys =
    Keys { what: "a backend of `tcp-proxy`", known: &["address", "weight", "backup", "import"], later: &[] };

pub(in crate::config) static TCP_RATE_LIMIT: Keys = Keys {
    what: "`rate-limit` of `tcp-proxy`",
    known: &["rate", "burst", "by", "name", "keys-max", "import"],
    later: &[],
};

pub(in crate::config) static TCP_CONNECTION_LIMIT: Keys =
    Keys { what: "`connection-limit` of `tcp-proxy`", known: &["max", "by", "name", "import"], later: &[] };
