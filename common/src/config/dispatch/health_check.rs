//! Reads `health-check`: how backends are asked how they are.

use super::super::{
    bounds::TIMEOUT,
    decode::{Context, Fields},
    keys, names,
    node::Node,
    quoted::quoted,
    rule::{
        Backend, BackendAddress, BackendProtocol, HealthCheck, HealthQuestion, HttpQuestion, StatusRange,
    },
    units::format_duration,
};
use super::{backend_address, changeable};
use crate::config::HeaderEditKind;
use std::{ops::RangeInclusive, time::Duration};

/// How often backends are asked.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// The most headers of a question.
const HEADERS_MAX: usize = 32;

/// The keys of a question in HTTP that one in gRPC does not have.
const OF_HTTP: [&str; 5] = ["path", "method", "headers", "status", "body"];

pub(super) fn decode(context: Context<'_>, node: &Node, backends: &[Backend]) -> Option<HealthCheck> {
    let fields = Fields::open(context, node, &keys::HEALTH_CHECK)?;
    let asked = question(&fields, backends);
    Some(check(&fields, asked.unwrap_or(HealthCheck::default().question), backends))
}

/// The same of a `tcp-proxy`: a connection is all that is asked for, unless there is a `path`.
pub(in crate::config) fn decode_of_tcp(
    context: Context<'_>,
    node: &Node,
    backends: &[Backend],
) -> Option<HealthCheck> {
    let fields = Fields::open(context, node, &keys::HEALTH_CHECK)?;
    if fields.get("grpc-service").is_some() {
        let message =
            "a health check of `tcp-proxy` connects, or asks in HTTP/1.1: `grpc-service` is of `http-proxy`";
        context.error(fields.span("grpc-service"), message);
        return None;
    }
    let host = host(&fields);
    let question =
        http(&fields, host).map_or(HealthQuestion::Connect, |it| HealthQuestion::Http(Box::new(it)));
    if fields.get("path").is_some() {
        return Some(check(&fields, question, backends));
    }
    for key in ["method", "host", "headers", "status", "body"] {
        if let Some(node) = fields.get(key) {
            let message = format!("`{key}` is of a question in HTTP: give its `path` too");
            context.error(node.span, message);
        }
    }
    Some(check(&fields, HealthQuestion::Connect, backends))
}

fn check(fields: &Fields<'_>, question: HealthQuestion, backends: &[Backend]) -> HealthCheck {
    let (context, defaults) = (fields.context, HealthCheck::default());
    let interval = fields.duration("interval", INTERVAL).unwrap_or(defaults.interval);
    let check = HealthCheck {
        question,
        port: fields.integer("port", 1..=65_535),
        interval,
        timeout: fields.duration("timeout", TIMEOUT).unwrap_or(defaults.timeout.min(interval)),
        rise: fields.integer("rise", 1..=1000).unwrap_or(defaults.rise),
        fall: fields.integer("fall", 1..=1000).unwrap_or(defaults.fall),
    };
    let socket = backends.iter().find(|it| matches!(it.at, BackendAddress::Socket(_)));
    if let (Some(socket), Some(port)) = (socket, fields.get("port")) {
        let message =
            format!("`port` of a health check: the backend {} has none, it is a Unix socket", socket.name());
        context.error(port.span, message);
    }
    if check.timeout > check.interval {
        let given =
            fields.get("timeout").or(fields.get("interval")).map_or(fields.node.span, |node| node.span);
        let message = format!(
            "`timeout` ({}) of a health check must not be above its `interval` ({})",
            format_duration(check.timeout),
            format_duration(check.interval)
        );
        context.error(given, message);
    }
    check
}

fn host(fields: &Fields<'_>) -> Option<String> {
    let check = |text: &str| backend_address::authority(text).map(drop);
    fields.get("host").and_then(|node| fields.context.checked(node, check))
}

fn question(fields: &Fields<'_>, backends: &[Backend]) -> Option<HealthQuestion> {
    let context = fields.context;
    let host = host(fields);
    let Some(service) = fields.get("grpc-service") else {
        return http(fields, host).map(|it| HealthQuestion::Http(Box::new(it)));
    };
    for key in OF_HTTP.into_iter().filter(|key| fields.get(key).is_some()) {
        let message = format!("`{key}` and `grpc-service` are of two kinds of questions: give one of them");
        context.error(service.span, message);
    }
    if let Some(other) = backends.iter().find(|it| it.protocol != BackendProtocol::Http2) {
        let name = other.name();
        let scheme = match (&other.at, other.tls) {
            (BackendAddress::Service(_), true) => "h2+",
            (BackendAddress::Service(_) | BackendAddress::Socket(_), _) => "h2c+",
            (BackendAddress::Host { .. }, true) => "h2://",
            (BackendAddress::Host { .. }, false) => "h2c://",
        };
        let message = format!(
            "`grpc-service` asks in HTTP/2, and the backend {name} speaks HTTP/1.1: give it as {scheme}{name}"
        );
        context.error(service.span, message);
    }
    let service = context.checked(service, names::grpc_service)?;
    Some(HealthQuestion::Grpc { service, host })
}

fn http(fields: &Fields<'_>, host: Option<String>) -> Option<HttpQuestion> {
    let context = fields.context;
    let path = fields.get("path").map(|node| context.checked(node, names::request_target));
    let methods = [("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS")];
    let method = fields.choice("method", &methods).unwrap_or("GET");
    let body = fields.get("body").map(|node| context.regexp(node));
    if method == "HEAD" && body.is_some() {
        context.error(
            fields.span("body"),
            "an answer to HEAD has no body: take `method: GET`, or leave `body` out",
        );
    }
    let status = fields.get("status").map(|node| {
        let read: Vec<_> = context.one_or_more(node).iter().map(|item| status(context, item)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let path = match path {
        Some(path) => path?,
        None => "/".to_owned(),
    };
    let question = HttpQuestion {
        method: method.to_owned(),
        headers: headers(fields)?,
        host,
        ..HttpQuestion::get(&path)
    };
    let status = match status {
        Some(status) => status?,
        None => question.status.clone(),
    };
    let body = match body {
        Some(body) => body?.0.map(|it| it.as_str().to_owned()),
        None => None,
    };
    Some(HttpQuestion { status, body, ..question })
}

/// `headers`: a list of names and values.
fn headers(fields: &Fields<'_>) -> Option<Vec<(String, String)>> {
    let (context, items) = (fields.context, fields.items("headers"));
    if let Some(beyond) = items.get(HEADERS_MAX) {
        context.error(beyond.span, format!("a health check has at most {HEADERS_MAX} headers"));
    }
    let read = items.iter().take(HEADERS_MAX).map(|item| {
        let header = Fields::open(context, item, &keys::HEALTH_HEADER)?;
        let check = |text: &str| {
            changeable(text, HeaderEditKind::SetOnRequest)?;
            if text.eq_ignore_ascii_case("host") {
                Err("`Host` has a key of its own, `host`".to_owned())
            } else {
                Ok(())
            }
        };
        let name = header.required("name", "name the header");
        let name = name.and_then(|node| context.checked(node, check));
        let value = header.required("value", "give the header's value");
        let value = value.and_then(|node| {
            // What servers are told may be what they trust its teller by.
            context.report.hide(node.span);
            context.checked(node, names::header_value)
        });
        Some((name?.to_ascii_lowercase(), value?))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

/// `200`, `2xx` or `200-399`.
fn status(context: Context<'_>, node: &Node) -> Option<StatusRange> {
    let text = context.checked(node, |text| range(text).map(drop))?;
    range(&text).ok()
}

fn range(text: &str) -> Result<StatusRange, String> {
    let refuse = || format!("expected a status such as 200, 2xx or 200-399, found {}", quoted(text));
    let number =
        |text: &str| text.parse::<u16>().ok().filter(|it| text.len() == 3 && (200..=599).contains(it));
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (number(from), number(to)),
        None if text.ends_with("xx") => {
            let class = text.strip_suffix("xx").unwrap_or_default();
            (number(&format!("{class}00")), number(&format!("{class}99")))
        }
        None => (number(text), number(text)),
    };
    match (from, to) {
        (Some(from), Some(to)) if from <= to => Ok(StatusRange { from, to }),
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (text, from, to) in
            [("200", 200, 200), ("2xx", 200, 299), ("200-399", 200, 399), ("404", 404, 404)]
        {
            assert_eq!(range(text), Ok(StatusRange { from, to }), "{text}");
        }
        for wrong in ["", "xx", "1xx", "20", "600", "0200", "399-200", "2xx-3xx", "-", "2XX", "+20"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
