//! The attributes of a cookie that Copal sets: a session's, or one that keeps a client with its server.

use std::time::Duration;

/// `cookie`: the session cookie's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieConfig {
    /// `path`: `/`.
    pub path: String,
    /// `domain`: none.
    pub domain: Option<String>,
    /// `secure`: `auto` = when the request came over TLS.
    pub secure: CookieSecure,
    /// `http-only`: true.
    pub http_only: bool,
    /// `same-site`: lax.
    pub same_site: SameSite,
    /// `max-age`: none, a session cookie of the browser.
    pub max_age: Option<Duration>,
}

/// The cookie's `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieSecure {
    /// Set when the request came over TLS.
    Auto,
    /// Always set.
    Always,
    /// Never set.
    Never,
}

/// The cookie's `SameSite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `Lax`.
    Lax,
    /// `Strict`.
    Strict,
    /// `None`.
    None,
}
