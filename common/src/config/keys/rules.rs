//! The keys of `dispatch`: of its rules, and of what stands beneath them.

use super::Keys;

pub(in crate::config) static RULE: Keys = Keys {
    what: "a rule of `dispatch`",
    known: &[
        "dispatch",
        "load-balance",
        "http-proxy",
        "forward",
        "redirect",
        "moved-permanently",
        "temporary-redirect",
        "permanent-redirect",
        "forbidden",
        "not-found",
        "send-error",
        "maintenance",
        "rate-limit",
        "connection-limit",
        "basic-auth",
        "jwt",
        "forward-auth",
        "mirror",
        "set-header",
        "add-header",
        "set-request-header",
    ],
    later: &[],
};

pub(in crate::config) static LOAD_BALANCE: Keys = Keys {
    what: "`load-balance`",
    known: &[
        "regexp",
        "if",
        "cluster",
        "strategy",
        "hash-by",
        "sticky-sessions",
        "session-url",
        "session-cookie",
        "insert-cookie",
        "cache",
        "compression",
        "import",
    ],
    later: &[],
};

pub(in crate::config) static HTTP_PROXY: Keys = Keys {
    what: "`http-proxy`",
    known: &[
        "regexp",
        "if",
        "backends",
        "tls",
        "health-check",
        "outlier-detection",
        "proxy-protocol",
        "resolver",
        "session-cookie",
        "insert-cookie",
        "strategy",
        "hash-by",
        "warmup-time",
        "connect-timeout",
        "socket-timeout",
        "idle-time",
        "recover-time",
        "connection-max",
        "queue-timeout",
        "cache",
        "compression",
        "import",
    ],
    later: &[],
};

pub(in crate::config) static INSERT_COOKIE: Keys = Keys {
    what: "`insert-cookie`",
    known: &["name", "path", "domain", "secure", "http-only", "same-site", "max-age", "import"],
    later: &[],
};

/// `tls` of `http-proxy`.
pub(in crate::config) static BACKEND_TLS: Keys = Keys {
    what: "`tls` of `http-proxy`",
    known: &["ca", "cert", "key", "server-name", "verify", "min-version", "import"],
    later: &[],
};

pub(in crate::config) static BACKEND: Keys =
    Keys { what: "a backend of `http-proxy`", known: &["address", "weight", "backup", "import"], later: &[] };

pub(in crate::config) static HEALTH_CHECK: Keys = Keys {
    what: "`health-check`",
    known: &[
        "path",
        "grpc-service",
        "method",
        "host",
        "headers",
        "port",
        "status",
        "body",
        "interval",
        "timeout",
        "rise",
        "fall",
        "import",
    ],
    later: &[],
};

/// Of `headers` of `health-check`.
pub(in crate::config) static HEALTH_HEADER: Keys =
    Keys { what: "a header of `health-check`", known: &["name", "value", "import"], later: &[] };

/// Of redirects and `forward`.
pub(in crate::config) static REWRITE: Keys =
    Keys { what: "a redirect or `forward`", known: &["regexp", "if", "target", "import"], later: &[] };

/// Of rules that need nothing but to match: `dispatch`, `forbidden`, `not-found`.
pub(in crate::config) static PLAIN: Keys =
    Keys { what: "`dispatch`, `forbidden` or `not-found`", known: &["regexp", "if", "import"], later: &[] };

pub(in crate::config) static SEND_ERROR: Keys =
    Keys { what: "`send-error`", known: &["regexp", "if", "code", "message", "import"], later: &[] };

pub(in crate::config) static MAINTENANCE: Keys = Keys {
    what: "`maintenance`",
    known: &["regexp", "if", "file", "status", "retry-after", "import"],
    later: &[],
};

pub(in crate::config) static HEADER_EDIT: Keys = Keys {
    what: "a rule that changes a header",
    known: &["regexp", "if", "name", "value", "import"],
    later: &[],
};

pub(in crate::config) static IF: Keys = Keys {
    what: "an `if`",
    known: &[
        "header",
        "cookie",
        "query-param",
        "method",
        "remote-addr",
        "secure",
        "server-name",
        "local-port",
        "file-exists",
        "cron",
        "share",
        "and",
        "or",
        "not",
        "import",
    ],
    later: &[],
};

/// The condition `share`.
pub(in crate::config) static SHARE: Keys =
    Keys { what: "`share`", known: &["percent", "cookie", "import"], later: &[] };

pub(in crate::config) static RATE_LIMIT: Keys = Keys {
    what: "`rate-limit`",
    known: &["regexp", "if", "rate", "burst", "by", "name", "keys-max", "import"],
    later: &[],
};

pub(in crate::config) static CONNECTION_LIMIT: Keys =
    Keys { what: "`connection-limit`", known: &["regexp", "if", "max", "by", "name", "import"], later: &[] };

/// `hash-by`.
pub(in crate::config) static HASH_BY: Keys =
    Keys { what: "`hash-by`", known: &["header", "cookie", "import"], later: &[] };

/// `by` of both.
pub(in crate::config) static LIMIT_BY: Keys =
    Keys { what: "`by`", known: &["header", "cookie", "import"], later: &[] };

pub(in crate::config) static BASIC_AUTH: Keys = Keys {
    what: "`basic-auth`",
    known: &["regexp", "if", "users", "users-file", "realm", "user-header", "import"],
    later: &[],
};

/// Of `users` of `basic-auth`.
pub(in crate::config) static SITE_USER: Keys =
    Keys { what: "a user of `basic-auth`", known: &["name", "password", "import"], later: &[] };

pub(in crate::config) static JWT: Keys = Keys {
    what: "`jwt`",
    known: &["regexp", "if", "keys", "secret", "issuer", "audience", "leeway", "cookie", "claims", "import"],
    later: &[],
};

/// Of `claims` of `jwt`.
pub(in crate::config) static JWT_CLAIM: Keys =
    Keys { what: "a claim of `jwt`", known: &["claim", "header", "import"], later: &[] };

pub(in crate::config) static FORWARD_AUTH: Keys = Keys {
    what: "`forward-auth`",
    known: &[
        "regexp",
        "if",
        "backends",
        "path",
        "copy-headers",
        "timeout",
        "tls",
        "health-check",
        "strategy",
        "hash-by",
        "warmup-time",
        "connect-timeout",
        "socket-timeout",
        "idle-time",
        "recover-time",
        "connection-max",
        "queue-timeout",
        "import",
    ],
    later: &[],
};

pub(in crate::config) static MIRROR: Keys =
    Keys { what: "`mirror`", known: &["regexp", "if", "cluster", "percent", "import"], later: &[] };

/// Of the conditions `header`, `cookie` and `query-param`.
pub(in crate::config) static NAMED: Keys = Keys {
    what: "a `header`, `cookie` or `query-param` condition",
    known: &["name", "regexp", "import"],
    later: &[],
};

pub(in crate::config) static SERVER_NAME: Keys =
    Keys { what: "a `server-name` condition", known: &["regexp", "import"], later: &[] };
