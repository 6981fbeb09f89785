//! `session-memory-max` and its kin: how much memory of the hub's servers sessions may take.

use super::{bounds::WAIT, decode::Fields, defaults::DEFAULTS, model::SessionMemory};

/// Less would be full with a few thousand sessions.
const LEAST: u64 = 1 << 20;

/// Reads the file's keys.
pub(super) fn decode(fields: &Fields<'_>) -> SessionMemory {
    let size = |key| fields.size::<u64>(key, LEAST..=1 << 50);
    let (max, app_max) = (size("session-memory-max"), size("app-session-memory-max"));
    if let (Some(max), Some(app_max)) = (max, app_max)
        && app_max > max
    {
        let message = format!(
            "`app-session-memory-max` ({app_max}) is above `session-memory-max` ({max}), which is for all apps"
        );
        fields.context.error(fields.span("app-session-memory-max"), message);
    }
    let first_timeout =
        fields.duration("session-first-timeout", WAIT).unwrap_or(DEFAULTS.session_first_timeout);
    SessionMemory { max, app_max, first_timeout }
}
