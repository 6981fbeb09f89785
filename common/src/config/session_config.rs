//! `session-config`, complete: how the sessions of an app are kept.

use super::cookie_config::CookieConfig;
use std::time::Duration;

/// `session-config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// `use-persistent-store` (true): sessions are saved on the hub.
    pub use_persistent_store: bool,
    /// `always-save-session` (false): save all attributes at the end of each request.
    pub always_save_session: bool,
    /// `session-timeout` (30 min); zero = never.
    pub session_timeout: Duration,
    /// `session-max` (8192): sessions in a server's memory; the hub keeps the rest.
    pub session_max: usize,
    /// `save-mode`.
    pub save_mode: SaveMode,
    /// `reuse-session-id` (true): an unknown id in a cookie may become a session's.
    pub reuse_session_id: bool,
    /// `save-timeout` (2 s): how long an answer waits for the hub.
    pub save_timeout: Duration,
    /// `on-hub-loss`.
    pub on_hub_loss: OnHubLoss,
    /// `cookie`.
    pub cookie: CookieConfig,
}

/// `save-mode`: when a session's changes go to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveMode {
    /// Before the answer leaves (the default): an answered change is safe.
    BeforeResponse,
    /// After the answer has left (Resin's default): faster, the last change can be lost.
    AfterRequest,
    /// When the server stops.
    OnShutdown,
}

/// `on-hub-loss`: what an answer does when the hub can't be reached within `save-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHubLoss {
    /// It leaves; the change stays in memory and is sent when the hub is back (the default).
    Serve,
    /// It becomes a 503.
    Fail,
}
