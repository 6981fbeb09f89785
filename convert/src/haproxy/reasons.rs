//! Why lines are not translated, and what to use. What a later version of Copal can do is changed here.

/// Done by Copal anyway, translated elsewhere, or of no meaning to it: keywords, or two words.
const NOTHING_TO_DO: [&str; 58] = [
    "acl",
    "backlog",
    "balance",
    "bind",
    "ca-base",
    "chroot",
    "cookie",
    "crt-base",
    "daemon",
    "default-server",
    "default_backend",
    "description",
    "group",
    "hard-stop-after",
    "http-check expect",
    "http-check send",
    "http-check connect",
    "http-request",
    "http-response",
    "http-reuse",
    "id",
    "log",
    "log-format",
    "log-tag",
    "master-worker",
    "maxconn",
    "mode",
    "monitor-uri",
    "nbproc",
    "nbthread",
    "node",
    "option abortonclose",
    "option contstats",
    "option dontlognull",
    "option forwardfor",
    "option http-keep-alive",
    "option http-server-close",
    "option httpchk",
    "option httplog",
    "option log-health-checks",
    "option logasap",
    "option redispatch",
    "option tcpka",
    "pidfile",
    "redirect",
    "retries",
    "server",
    "server-state-file",
    "ssl-default-bind-ciphers",
    "ssl-default-bind-ciphersuites",
    "ssl-default-bind-options",
    "timeout",
    "tune.ssl.default-dh-param",
    "ulimit-n",
    "unique-id-format",
    "unique-id-header",
    "use_backend",
    "user",
];

/// Of TCP, where `defaults` are for both.
const OF_TCP: [&str; 9] = [
    "option clitcpka",
    "option splice-auto",
    "option splice-request",
    "option splice-response",
    "option srvtcpka",
    "option tcp-check",
    "option tcp-smart-accept",
    "option tcp-smart-connect",
    "option tcplog",
];

/// Why a line is left; `None`: it is translated elsewhere, or there is nothing to do.
pub(super) fn why(name: &str) -> Option<&'static str> {
    let first = name.split(' ').next().unwrap_or_default();
    if NOTHING_TO_DO.contains(&name)
        || OF_TCP.contains(&name)
        || NOTHING_TO_DO.contains(&first) && !matches!(first, "option" | "http-check")
    {
        return None;
    }
    Some(match name {
        "stick-table" | "stick" => {
            "there are no tables of clients: `rate-limit` counts requests, `hash-by` and `insert-cookie` keep a client with its backend"
        }
        "tcp-request connection"
        | "tcp-request content"
        | "tcp-request session"
        | "tcp-request inspect-delay" => return None,
        "compression algo" | "compression type" => "write `compression` for the cluster",
        "errorfile" | "errorfiles" | "http-error" => {
            "write `error-pages` of the host, with files of this server"
        }
        "stats enable" | "stats uri" | "stats socket" | "stats auth" | "stats refresh" | "stats timeout"
        | "stats admin" => "write a web-app with `admin: true`: the status page",
        "capture" | "option capture" => "write a `format` for the `access-log` (access-log.md)",
        "monitor" => "write `metrics`: it answers /healthz",
        "http-check" | "option mysql-check" => "a check asks a path: write `health-check`",
        "option forceclose" | "option httpclose" => "connections are kept: `keepalive-timeout` says how long",
        "option nolinger" | "option accept-invalid-http-request" => {
            "requests that are not well formed are refused"
        }
        "email-alert" => "write `webhooks` under `health`",
        "lua-load" | "filter" | "use-service" => "there are no modules",
        "rspadd" | "rspdel" | "reqadd" | "reqdel" => "write `set-header` or `set-request-header`",
        _ => "there is nothing like it, or it is not known here: look it up in configuration.md",
    })
}

/// Why a line is left where nothing but TCP is balanced.
pub(super) fn of_tcp(first: &str, second: &str, name: &str) -> Option<&'static str> {
    let is_check = first == "option" && (second.ends_with("check") || second.ends_with("chk"));
    match (first, second) {
        // What can't be translated of these is told where they are.
        ("tcp-request" | "tcp-check" | "http-check", _) => None,
        ("timeout", "client-fin" | "server-fin") => {
            Some("`idle-timeout` counts for connections that are half closed, too")
        }
        ("timeout", "check") => Some("write `timeout` under `health-check`"),
        ("maxconn", _) => {
            Some("write `connection-limit: {max: …, by: all}` at the listener: more are closed")
        }
        ("use-server", _) => Some("a route has all of its backends alike: write a route for these"),
        ("stick-table" | "stick", _) => Some(
            "there are no tables of clients: `hash-by: remote-addr` keeps a client with its backend, `rate-limit` and `connection-limit` count",
        ),
        ("tcp-response", _) => Some("what backends send is passed on as it is"),
        ("email-alert", _) => Some("write `webhooks` under `health`"),
        _ if is_check => None,
        _ => why(name),
    }
}

/// Why a section is left.
pub(super) fn of_section(kind: &str) -> &'static str {
    match kind {
        "resolvers" => "write `resolver` at the rule, or leave it to the system's",
        "userlist" => "write `basic-auth` with the users' hashes, Argon2id or bcrypt",
        "cache" => "write `proxy-cache`",
        "http-errors" => "write `error-pages` of the host, with files of this server",
        "mailers" => "write `webhooks` under `health`",
        "fcgi-app" => "backends speak HTTP: put a server that does before it, or run it as an app",
        _ => "there is nothing like this section",
    }
}
