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

/// Why a line is left; `None`: it is translated elsewhere, or there is nothing to do.
pub(super) fn why(name: &str) -> Option<&'static str> {
    let first = name.split(' ').next().unwrap_or_default();
    if NOTHING_TO_DO.contains(&name)
        || NOTHING_TO_DO.contains(&first) && !matches!(first, "option" | "http-check")
    {
        return None;
    }
    Some(match name {
        "stick-table" | "stick" => {
            "there are no tables of clients: `rate-limit` counts requests, `hash-by` and `insert-cookie` keep a client with its backend"
        }
        "tcp-request connection" | "tcp-request content" | "tcp-request inspect-delay" => {
            "only HTTP is looked at: write rules"
        }
        "compression algo" | "compression type" => "write `compression` for the cluster",
        "errorfile" | "errorfiles" | "http-error" => {
            "answers of errors have no pages of your own: use `send-error` with a `message`"
        }
        "stats enable" | "stats uri" | "stats socket" | "stats auth" | "stats refresh" | "stats timeout"
        | "stats admin" => "write a web-app with `admin: true`: the status page",
        "capture" | "option capture" => "the access log has fixed fields (access-log.md)",
        "monitor" => "write `metrics`: it answers /healthz",
        "http-check" | "option mysql-check" | "option tcp-check" => {
            "a check asks a path: write `health-check`"
        }
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
