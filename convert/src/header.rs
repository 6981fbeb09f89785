//! Which headers rules may change.

/// Whose header it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Answer,
}

/// Copal sends them to backends by itself, or they belong to the connection, whatever the file says of them.
const SENT_ANYWAY: [&str; 10] = [
    "connection",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-ssl",
    "x-real-ip",
    "x-request-id",
    "via",
];

/// No rule changes them.
const NOT_CHANGED: [&str; 18] = [
    "connection",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "via",
    "expect",
    "http2-settings",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "x-session-id",
    "x-session-url",
    "date",
    "forwarded",
];

/// Whether nothing has to be said of a header of requests.
pub(crate) fn is_sent_anyway(name: &str) -> bool {
    SENT_ANYWAY.contains(&name.to_ascii_lowercase().as_str())
}

/// The entries of a rule that changes a header.
///
/// # Errors
/// Why there is no such rule.
pub(crate) fn checked(side: Side, name: &str, value: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    let word = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'));
    let ours = ["x-forwarded-", "copal-", "x-copal-"].iter().any(|it| lower.starts_with(it));
    let other = side == Side::Answer && lower == "host" || side == Side::Request && lower == "x-request-id";
    if !word || ours || other || NOT_CHANGED.contains(&lower.as_str()) {
        return Err(format!("rules don't change the header `{name}`"));
    }
    if value.chars().any(|it| !(' '..='~').contains(&it)) || value.len() > 1000 || value.trim() != value {
        return Err("its value is not one of visible ASCII characters".to_owned());
    }
    let authority = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b':');
    if lower == "host"
        && value != "$host"
        && !(crate::value::host_port(value, 80).is_some_and(|it| it.0.is_some())
            && value.bytes().all(authority))
    {
        return Err("`Host` is a name and a port, or what the client has sent".to_owned());
    }
    Ok(())
}
