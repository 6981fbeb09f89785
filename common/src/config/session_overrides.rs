//! `session-config` as written: only the keys that are there, so that an app's own can be put beneath the cluster file's.

use super::{
    cookie_config::{CookieConfig, CookieSecure, SameSite},
    session_config::{OnHubLoss, SaveMode, SessionConfig},
};
use std::time::Duration;

/// The keys of a `session-config` that were given; see [`SessionConfig`] for what each means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionOverrides {
    /// `use-persistent-store`.
    pub use_persistent_store: Option<bool>,
    /// `always-save-session`.
    pub always_save_session: Option<bool>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `session-max`.
    pub session_max: Option<usize>,
    /// `save-mode`.
    pub save_mode: Option<SaveMode>,
    /// `reuse-session-id`.
    pub reuse_session_id: Option<bool>,
    /// `save-timeout`.
    pub save_timeout: Option<Duration>,
    /// `on-hub-loss`.
    pub on_hub_loss: Option<OnHubLoss>,
    /// `cookie`.
    pub cookie: CookieOverrides,
}

/// The keys of a `cookie` that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CookieOverrides {
    /// `path`.
    pub path: Option<String>,
    /// `domain`: `Some(None)` when given as none, which takes an app's away.
    pub domain: Option<Option<String>>,
    /// `secure`.
    pub secure: Option<CookieSecure>,
    /// `http-only`.
    pub http_only: Option<bool>,
    /// `same-site`.
    pub same_site: Option<SameSite>,
    /// `max-age`: `Some(None)` when given as none, which takes an app's away.
    pub max_age: Option<Option<Duration>>,
}

impl SessionOverrides {
    /// `base` with the given keys replaced.
    pub fn apply(&self, base: &SessionConfig) -> SessionConfig {
        SessionConfig {
            use_persistent_store: self.use_persistent_store.unwrap_or(base.use_persistent_store),
            always_save_session: self.always_save_session.unwrap_or(base.always_save_session),
            session_timeout: self.session_timeout.unwrap_or(base.session_timeout),
            session_max: self.session_max.unwrap_or(base.session_max),
            save_mode: self.save_mode.unwrap_or(base.save_mode),
            reuse_session_id: self.reuse_session_id.unwrap_or(base.reuse_session_id),
            save_timeout: self.save_timeout.unwrap_or(base.save_timeout),
            on_hub_loss: self.on_hub_loss.unwrap_or(base.on_hub_loss),
            cookie: self.cookie.apply(&base.cookie),
        }
    }
}

impl CookieOverrides {
    /// `base` with the given keys replaced.
    pub fn apply(&self, base: &CookieConfig) -> CookieConfig {
        CookieConfig {
            path: self.path.clone().unwrap_or_else(|| base.path.clone()),
            domain: self.domain.clone().unwrap_or_else(|| base.domain.clone()),
            secure: self.secure.unwrap_or(base.secure),
            http_only: self.http_only.unwrap_or(base.http_only),
            same_site: self.same_site.unwrap_or(base.same_site),
            max_age: self.max_age.unwrap_or(base.max_age),
        }
    }
}
