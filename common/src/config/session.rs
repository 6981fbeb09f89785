//! `session-config`, in the cluster file and in an app's own.

use super::{
    bounds::TIMEOUT,
    cookie_config::{CookieSecure, SameSite},
    decode::{Context, Fields},
    keys::{self, Keys},
    names,
    node::Node,
    session_config::{OnHubLoss, SaveMode},
    session_overrides::{CookieOverrides, SessionOverrides},
};
use std::{ops::RangeInclusive, time::Duration};

/// Zero, which means never, to ten years.
const LIFETIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3650 * 86_400);

/// A cookie with `Max-Age=0` would be deleted as it arrives (RFC 6265 §5.2.2).
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=*LIFETIME.end();

/// Reads the keys that are there.
pub(super) fn decode(context: Context<'_>, node: &Node, keys: &'static Keys) -> Option<SessionOverrides> {
    let fields = Fields::open(context, node, keys)?;
    let save_modes = [
        ("before-response", SaveMode::BeforeResponse),
        ("after-request", SaveMode::AfterRequest),
        ("on-shutdown", SaveMode::OnShutdown),
    ];
    let cookie = fields.get("cookie").and_then(|node| cookie(context, node));
    Some(SessionOverrides {
        use_persistent_store: fields.boolean("use-persistent-store"),
        always_save_session: fields.boolean("always-save-session"),
        session_timeout: fields.duration("session-timeout", LIFETIME),
        session_max: fields.integer("session-max", 1..=100_000_000),
        save_mode: fields.choice("save-mode", &save_modes),
        reuse_session_id: fields.boolean("reuse-session-id"),
        save_timeout: fields.duration("save-timeout", TIMEOUT),
        on_hub_loss: fields.choice("on-hub-loss", &[("serve", OnHubLoss::Serve), ("fail", OnHubLoss::Fail)]),
        cookie: cookie.unwrap_or_default(),
    })
}

fn cookie(context: Context<'_>, node: &Node) -> Option<CookieOverrides> {
    Fields::open(context, node, &keys::COOKIE).map(|fields| cookie_attributes(&fields))
}

/// The attributes of a cookie that are there.
pub(super) fn cookie_attributes(fields: &Fields<'_>) -> CookieOverrides {
    let context = fields.context;
    let secure =
        [("auto", CookieSecure::Auto), ("true", CookieSecure::Always), ("false", CookieSecure::Never)];
    let same_site = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    let given = |key| fields.get(key).map(|node| Some(node).filter(|node| !node.is_null()));
    let overrides = CookieOverrides {
        path: fields.get("path").and_then(|node| context.checked(node, names::cookie_path)),
        domain: given("domain").map(|node| context.checked(node?, names::cookie_domain)),
        secure: fields.choice("secure", &secure),
        http_only: fields.boolean("http-only"),
        same_site: fields.choice("same-site", &same_site),
        max_age: given("max-age").map(|node| context.duration(node?, MAX_AGE)),
    };
    if overrides.same_site == Some(SameSite::None) && overrides.secure == Some(CookieSecure::Never) {
        let message =
            "browsers refuse a cookie with `same-site: none` that is not secure: the session would be lost";
        context.error(fields.span("same-site"), message);
    }
    overrides
}
