//! Reads `dispatch`: a host's rewrite rules.

mod backend_address;
mod conditions;
mod forward_auth;
pub(super) mod health_check;
mod http_proxy;
mod share;
mod sticky;

pub(super) use backend_address::{authority, decode as backend_address};

use super::{
    access,
    check::Facts,
    decode::{Context, Fields, Regexp},
    error_pages,
    keys::{self, Keys},
    limits, names,
    node::{Entry, Node},
    quoted::quoted,
    request_key::{self, RequestKey},
    rewrite::{self, Piece, RewriteTarget, Variable},
    rule::{
        Action, Guard, HeaderEdit, HeaderEditKind, LoadBalance, Mirror, Redirect, Rule, SendError,
        StickyCookie, Strategy,
    },
};
use crate::id::ClusterId;

/// The names of the strategies.
pub(super) const STRATEGIES: [(&str, Strategy); 3] = [
    ("adaptive", Strategy::Adaptive),
    ("least-connection", Strategy::LeastConnection),
    ("round-robin", Strategy::RoundRobin),
];

/// Headers that belong to a connection, or that the proxy itself sets.
const UNTOUCHABLE: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Reads the rules of a host.
pub(super) fn decode(fields: &Fields<'_>, has_web_apps: bool, facts: &mut Facts) -> Vec<Rule> {
    let context = fields.context;
    let mut rules = Vec::new();
    let mut caught_all = false;
    for item in fields.items("dispatch") {
        facts.rule();
        if caught_all {
            context
                .report
                .warning(item.span, "this rule is never reached: the one before it takes every request");
            caught_all = false;
        }
        let Some(rule) = rule(context, item, facts) else { continue };
        if matches!(rule.action, Action::Dispatch) && !has_web_apps && !context.in_default {
            let message = "this host has no web-apps: what `dispatch` takes is answered 404";
            context.report.warning(item.span, message);
        }
        caught_all = rule.is_unconditional() && rule.action.ends();
        rules.push(rule);
    }
    rules
}

fn rule(context: Context<'_>, node: &Node, facts: &mut Facts) -> Option<Rule> {
    Fields::open(context, node, &keys::RULE)?;
    let [Entry { key, value, .. }] = node.entries().unwrap_or_default() else {
        let count = node.entries().map_or(0, <[Entry]>::len);
        context.error(node.span, format!("a rule of `dispatch` has exactly one key, this one has {count}"));
        return None;
    };
    let fields = Fields::open(context, value, keys_of(key)?)?;
    let regexp = match fields.get("regexp") {
        Some(node) => context.regexp(node),
        None => Some(Regexp(None)),
    };
    let condition = match fields.get("if") {
        Some(node) => conditions::decode(context, node).map(Some),
        None => Some(None),
    };
    let action = match key.as_str() {
        "load-balance" => Some(Action::LoadBalance(load_balance(&fields, facts))),
        "http-proxy" => http_proxy::decode(&fields).map(|it| Action::HttpProxy(Box::new(it))),
        "dispatch" => Some(Action::Dispatch),
        "forward" => forward(&fields, regexp.as_ref()),
        "redirect" => redirect(&fields, regexp.as_ref(), 302),
        "moved-permanently" => redirect(&fields, regexp.as_ref(), 301),
        "temporary-redirect" => redirect(&fields, regexp.as_ref(), 307),
        "permanent-redirect" => redirect(&fields, regexp.as_ref(), 308),
        "forbidden" => Some(Action::Error(SendError { code: 403, message: None })),
        "not-found" => Some(Action::Error(SendError { code: 404, message: None })),
        "send-error" => send_error(&fields),
        "rate-limit" => limits::rate_limit(&fields, facts).map(|it| Action::Guard(Guard::RateLimit(it))),
        "connection-limit" => {
            limits::connection_limit(&fields, facts).map(|it| Action::Guard(Guard::ConnectionLimit(it)))
        }
        "basic-auth" => access::basic_auth(&fields).map(|it| Action::Guard(Guard::BasicAuth(Box::new(it)))),
        "jwt" => access::jwt(&fields).map(|it| Action::Guard(Guard::Jwt(Box::new(it)))),
        "forward-auth" => {
            forward_auth::decode(&fields).map(|it| Action::Guard(Guard::ForwardAuth(Box::new(it))))
        }
        "mirror" => mirror(&fields, facts).map(Action::Mirror),
        "maintenance" => error_pages::maintenance(&fields).map(Action::Maintenance),
        "set-header" => header(&fields, HeaderEditKind::SetOnAnswer, regexp.as_ref()),
        "add-header" => header(&fields, HeaderEditKind::AddToAnswer, regexp.as_ref()),
        _ => header(&fields, HeaderEditKind::SetOnRequest, regexp.as_ref()),
    };
    let proxies = matches!(key.as_str(), "load-balance" | "http-proxy");
    let is_on = |key: &str| proxies && fields.choice(key, &[("on", true), ("off", false)]).unwrap_or(true);
    let (cache, compression) = (is_on("cache"), is_on("compression"));
    // A rule whose expression or condition is wrong must not be taken for one that takes everything.
    Some(Rule { regexp: regexp?.0, condition: condition?, action: action?, cache, compression })
}

/// The keys of a kind of rule; `None` for an unknown kind, which is told already.
fn keys_of(kind: &str) -> Option<&'static Keys> {
    Some(match kind {
        "load-balance" => &keys::LOAD_BALANCE,
        "http-proxy" => &keys::HTTP_PROXY,
        "forward" | "redirect" | "moved-permanently" | "temporary-redirect" | "permanent-redirect" => {
            &keys::REWRITE
        }
        "dispatch" | "forbidden" | "not-found" => &keys::PLAIN,
        "send-error" => &keys::SEND_ERROR,
        "rate-limit" => &keys::RATE_LIMIT,
        "connection-limit" => &keys::CONNECTION_LIMIT,
        "basic-auth" => &keys::BASIC_AUTH,
        "jwt" => &keys::JWT,
        "forward-auth" => &keys::FORWARD_AUTH,
        "mirror" => &keys::MIRROR,
        "maintenance" => &keys::MAINTENANCE,
        "set-header" | "add-header" | "set-request-header" => &keys::HEADER_EDIT,
        _ => return None,
    })
}

fn load_balance(fields: &Fields<'_>, facts: &mut Facts) -> LoadBalance {
    let cluster = cluster(fields, "name the cluster whose servers answer", facts);
    let sticky_sessions = fields.boolean("sticky-sessions").unwrap_or(true);
    let session_url = fields.boolean("session-url").unwrap_or(false);
    if session_url && !sticky_sessions {
        let message = "`session-url` has no effect without `sticky-sessions`: leave one of them out";
        fields.context.error(fields.span("session-url"), message);
    }
    let cookie = sticky::decode(fields);
    if cookie != StickyCookie::None {
        check_own_sessions(fields, sticky_sessions, session_url);
    }
    LoadBalance {
        cluster: cluster.unwrap_or_else(|| ClusterId::from(String::new())),
        strategy: fields.choice("strategy", &STRATEGIES).unwrap_or(Strategy::Adaptive),
        hash_by: hash_by(fields),
        sticky_sessions,
        session_url,
        cookie,
    }
}

fn mirror(fields: &Fields<'_>, facts: &mut Facts) -> Option<Mirror> {
    let cluster = cluster(fields, "name the cluster whose servers get copies of requests", facts);
    let share = fields.get("percent").map(|node| share::percent(fields.context, node));
    Some(Mirror { cluster: cluster?, share: share.unwrap_or(Some(10_000))? })
}

/// `cluster`, which the file must have.
fn cluster(fields: &Fields<'_>, hint: &str, facts: &mut Facts) -> Option<ClusterId> {
    let node = fields.required("cluster", hint)?;
    let cluster = fields.context.checked(node, names::id)?;
    facts.balance(&cluster, node.span);
    Some(ClusterId::from(cluster))
}

/// `hash-by`: `None` without one.
fn hash_by(fields: &Fields<'_>) -> Option<RequestKey> {
    let node = fields.get("hash-by")?;
    let key = request_key::decode(fields.context, node, &keys::HASH_BY)?;
    if fields.get("strategy").is_some() {
        let message = "`hash-by` chooses the server, and so does `strategy`: leave one of them out";
        fields.context.error(node.span, message);
    }
    if key == RequestKey::All {
        let message = "`all` would send every request to one server: expected `remote-addr`, `path`, or a header or cookie";
        fields.context.error(node.span, message);
    }
    Some(key)
}

/// What goes with a cookie for apps that have sessions of their own.
fn check_own_sessions(fields: &Fields<'_>, sticky_sessions: bool, session_url: bool) {
    let key = if fields.get("insert-cookie").is_some() { "insert-cookie" } else { "session-cookie" };
    if !sticky_sessions {
        let message = format!("`{key}` has no effect without `sticky-sessions`: leave one of them out");
        fields.context.error(fields.span(key), message);
    }
    if session_url {
        let message = format!(
            "`session-url` is for sessions on the hub, `{key}` for apps that have their own in memory: leave one of them out"
        );
        fields.context.error(fields.span("session-url"), message);
    }
}

fn redirect(fields: &Fields<'_>, regexp: Option<&Regexp>, status: u16) -> Option<Action> {
    target(fields, regexp).map(|target| Action::Redirect(Redirect { status, target }))
}

fn forward(fields: &Fields<'_>, regexp: Option<&Regexp>) -> Option<Action> {
    let target = target(fields, regexp)?;
    let elsewhere = match (&target.origin, &target.fragment) {
        (Some(_), _) => "a `forward` stays on its host: give a path, or take `redirect` or `http-proxy`",
        (None, Some(_)) => "a `forward` has no fragment: only browsers know them",
        (None, None) => return Some(Action::Forward(target)),
    };
    fields.context.error(fields.span("target"), elsewhere);
    None
}

/// The target, checked against the expression; `regexp` is `None` when that is wrong itself.
fn target(fields: &Fields<'_>, regexp: Option<&Regexp>) -> Option<RewriteTarget> {
    let node = fields.required("target", "give the path or URL that takes the place of what matched")?;
    let groups = groups(regexp);
    let anchored = match regexp {
        None => false,
        Some(Regexp(None)) => true,
        Some(Regexp(Some(regexp))) => regexp.as_str().starts_with('^'),
    };
    let parse = |text: &str| RewriteTarget::parse(text, groups, anchored);
    let text = fields.context.checked(node, |text| parse(text).map(drop))?;
    parse(&text).ok()
}

/// The groups that a rule's values may name: `$0` is always there.
fn groups(regexp: Option<&Regexp>) -> usize {
    match regexp {
        None => 100,
        Some(Regexp(None)) => 1,
        Some(Regexp(Some(regexp))) => regexp.captures_len(),
    }
}

fn send_error(fields: &Fields<'_>) -> Option<Action> {
    let code = fields.required("code", "give the status, 400 to 599");
    let code = code.and_then(|_| fields.integer("code", 400..=599));
    let message = fields.get("message").map(|node| fields.context.checked(node, names::message));
    Some(Action::Error(SendError { code: code?, message: message.flatten() }))
}

fn header(fields: &Fields<'_>, kind: HeaderEditKind, regexp: Option<&Regexp>) -> Option<Action> {
    let context = fields.context;
    let groups = groups(regexp);
    let name = fields.required("name", "name the header");
    let name = name.and_then(|node| context.checked(node, |text| changeable(text, kind)));
    let is_host = name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("host"));
    let value = fields.required("value", "give the header's value");
    let value = value.and_then(|node| {
        // What servers are told may be what they trust its teller by.
        if kind == HeaderEditKind::SetOnRequest {
            context.report.hide(node.span);
        }
        context.checked(node, |text| {
            let pieces = rewrite::header_value(text, groups)?;
            if kind == HeaderEditKind::AddToAnswer && text.is_empty() {
                return Err(
                    "expected a value, found nothing: an empty `set-header` takes a header away".to_owned()
                );
            }
            let is_own = pieces == [Piece::Variable(Variable::Host)];
            if is_host && !is_own { authority(text).map(drop) } else { Ok(()) }
        })
    });
    let value = rewrite::header_value(&value?, groups).ok()?;
    Some(Action::Header(HeaderEdit { kind, name: name?.to_ascii_lowercase(), value }))
}

pub(super) fn changeable(text: &str, kind: HeaderEditKind) -> Result<(), String> {
    names::header_name(text)?;
    let name = text.to_ascii_lowercase();
    let ours = match kind {
        HeaderEditKind::SetOnRequest => {
            name.starts_with("x-forwarded-")
                || matches!(name.as_str(), "forwarded" | "x-real-ip" | "x-session-id" | "x-request-id")
        }
        HeaderEditKind::SetOnAnswer | HeaderEditKind::AddToAnswer => name == "host",
    };
    if ours || UNTOUCHABLE.contains(&name.as_str()) || name.starts_with("copal-") {
        return Err(format!(
            "{} belongs to the connection or is set by the web-tier itself: a rule can't change it",
            quoted(text)
        ));
    }
    Ok(())
}
