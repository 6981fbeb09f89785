//! Why directives are not translated, and what to use. What a later version of Copal can do is changed here.

/// Done by Copal anyway, or of no meaning to it.
const NOTHING_TO_DO: [&str; 63] = [
    "access_log",
    "add_header",
    "alias",
    "allow",
    "client_max_body_size",
    "client_header_timeout",
    "default_type",
    "deny",
    "directio",
    "events",
    "gzip",
    "gzip_buffers",
    "gzip_comp_level",
    "gzip_disable",
    "gzip_http_version",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
    "http2",
    "index",
    "keepalive_requests",
    "keepalive_timeout",
    "listen",
    "location",
    "log_format",
    "open_file_cache",
    "open_file_cache_errors",
    "open_file_cache_min_uses",
    "open_file_cache_valid",
    "pid",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_cache",
    "proxy_cache_path",
    "proxy_cache_lock",
    "proxy_connect_timeout",
    "proxy_http_version",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_request_buffering",
    "proxy_send_timeout",
    "proxy_set_header",
    "real_ip_header",
    "real_ip_recursive",
    "root",
    "return",
    "rewrite",
    "sendfile",
    "server",
    "server_name",
    "server_names_hash_bucket_size",
    "set_real_ip_from",
    "ssl_certificate",
    "ssl_certificate_key",
    "tcp_nodelay",
    "tcp_nopush",
    "try_files",
    "upstream",
    "user",
    "worker_processes",
];

/// Further ones of that kind.
const ALSO_NOTHING: [&str; 15] = [
    "client_body_buffer_size",
    "client_body_timeout",
    "error_log",
    "include",
    "large_client_header_buffers",
    "merge_slashes",
    "server_tokens",
    "ssl_ciphers",
    "ssl_prefer_server_ciphers",
    "ssl_protocols",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "types_hash_max_size",
    "worker_rlimit_nofile",
];

/// Restrictions: what they protect is closed in the translation.
pub(super) const GUARDS: [&str; 13] = [
    "auth_basic",
    "auth_jwt",
    "auth_request",
    "internal",
    "limit_except",
    "satisfy",
    "secure_link",
    "secure_link_md5",
    "ssl_verify_client",
    "valid_referers",
    "access_by_lua_block",
    "access_by_lua_file",
    "js_access",
];

/// Why a directive is left; `None`: it is translated elsewhere, or there is nothing to do.
pub(super) fn why(name: &str) -> Option<&'static str> {
    if NOTHING_TO_DO.contains(&name) || ALSO_NOTHING.contains(&name) {
        return None;
    }
    Some(match name {
        "gzip_static" => "always on: a `.gz` or `.br` file beside a file is used by itself",
        "brotli" | "brotli_types" | "zstd" => {
            "write `encodings` under `compression`: all three codings are on without it"
        }
        "expires" => "no rule makes dates: use `add-header: {name: Cache-Control, value: 'max-age=…'}`",
        "error_page" => "write `error-pages` of the host, with files of this server",
        "autoindex" => "folders are not listed",
        "if" => "only a `return` under a simple condition can be translated: write a rule with `if`",
        "split_clients" => "write `if` with a `share`",
        "set" | "map" | "geo" => "there are no variables of your own: write rules with `if`",
        "auth_basic" | "auth_basic_user_file" => {
            "write `basic-auth` with a `users-file`; its hashes are bcrypt or Argon2id"
        }
        "auth_jwt" => "write `jwt`",
        "auth_request" => "write `forward-auth`",
        "internal" => {
            "a path that only the server itself asks for is not known: `forbidden` closes it to clients"
        }
        "limit_req" | "limit_req_zone" => "write `rate-limit`",
        "limit_conn" | "limit_conn_zone" => "write `connection-limit`",
        "limit_except" => "write `forbidden` with `if: {not: {method: […]}}`",
        "ssl_verify_client" | "ssl_client_certificate" => {
            "write `client-ca` and `client-auth` under `tls` of the listener"
        }
        "ssl_dhparam" => "TLS has no such setting: what is chosen is safe without it",
        "ssl_ecdh_curve" => "write `curves` under `tls` of the listener",
        // Answers about certificates are stapled, and looked at, without a word.
        "ssl_stapling" | "ssl_stapling_verify" | "ssl_trusted_certificate" => return None,
        "fastcgi_pass" | "uwsgi_pass" | "scgi_pass" | "memcached_pass" => {
            "backends speak HTTP: put a server that does before it, or run it as an app"
        }
        "proxy_redirect" | "proxy_cookie_path" | "proxy_cookie_domain" | "sub_filter" => {
            "answers are not rewritten: tell the app its public address"
        }
        "proxy_hide_header" => "write `set-header` with an empty value",
        "proxy_cache_valid"
        | "proxy_cache_use_stale"
        | "proxy_cache_key"
        | "proxy_cache_bypass"
        | "proxy_no_cache" => {
            "how long answers are kept their headers say: see `cache-mapping` and `stale-if-error` in caching.md"
        }
        "proxy_next_upstream" | "proxy_next_upstream_tries" | "proxy_next_upstream_timeout" => {
            "what may be sent again is (balancing.md), without a setting"
        }
        "proxy_ssl_verify" | "proxy_ssl_name" | "proxy_ssl_server_name" | "proxy_ssl_trusted_certificate" => {
            return None;
        }
        "mail" => {
            "`tcp-proxy` passes connections on as they are, and does not read mail: write one for each port"
        }
        "load_module" => "there are no modules",
        "resolver" => "write `resolver` at the rule, or leave it to the system's",
        "mirror" => "write `mirror`, with a cluster of its own",
        _ => "there is nothing like it, or it is not known here: look it up in configuration.md",
    })
}

/// Done by `tcp-proxy` anyway, translated elsewhere, or of no meaning to it.
const NOTHING_TO_DO_IN_STREAM: [&str; 36] = [
    "access_log",
    "allow",
    "deny",
    "error_log",
    "js_import",
    "js_path",
    "listen",
    "log_format",
    "map",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "open_log_file_cache",
    "preread_buffer_size",
    "preread_timeout",
    "proxy_buffer_size",
    "proxy_connect_timeout",
    "proxy_half_close",
    "proxy_next_upstream",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "proxy_pass",
    "proxy_protocol",
    "proxy_requests",
    "proxy_responses",
    "proxy_socket_keepalive",
    "proxy_ssl",
    "proxy_ssl_name",
    "proxy_ssl_server_name",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_verify",
    "proxy_timeout",
    "server",
    "ssl_preread",
    "tcp_nodelay",
    "upstream",
    "variables_hash_bucket_size",
];

/// Why a directive of `stream` is left.
pub(super) fn of_stream(name: &str) -> Option<&'static str> {
    if NOTHING_TO_DO_IN_STREAM.contains(&name) || GUARDS.contains(&name) {
        return None;
    }
    Some(match name {
        "limit_conn" | "limit_conn_zone" => "write `connection-limit` at the listener",
        "proxy_bind" => {
            "the system chooses from which address backends are connected to: `send-proxy-protocol` says who the client is"
        }
        "proxy_download_rate" | "proxy_upload_rate" => "how fast bytes pass is not limited",
        "proxy_ssl_certificate" | "proxy_ssl_certificate_key" => "write `cert` and `key` under `tls`",
        "proxy_ssl_protocols" => "write `min-version` under `tls`",
        "resolver" | "resolver_timeout" => {
            "names are looked up again by themselves, by the system's resolver"
        }
        "set_real_ip_from" => "write `trusted-proxies`, and `proxy-protocol: true` at the listener",
        "server_name" => "a listener has routes: write a route with this `server-name`",
        "geo" | "set" | "split_clients" => {
            "there are no variables of your own: routes go by names and protocols"
        }
        // Of listeners that end TLS, where that is told.
        _ if name.starts_with("ssl_") => return None,
        _ => "there is nothing like it, or it is not known here: look it up in configuration.md",
    })
}
