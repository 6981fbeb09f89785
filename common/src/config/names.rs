//! What ids, addresses, host names and cookie names may look like; each check says what was expected.

use super::quoted::quoted;
use crate::id::{ID_MAX, is_id};
use std::net::{IpAddr, Ipv6Addr};

/// The longest host name (RFC 1035 §2.3.4).
const HOST_MAX: usize = 253;

/// The id of a server or cluster: it is part of paths, metrics and the handshake.
pub(super) fn id(text: &str) -> Result<(), String> {
    if is_id(text) {
        return Ok(());
    }
    Err(format!("expected a name of 1 to {ID_MAX} characters of A-Z a-z 0-9 . _ -, found {}", quoted(text)))
}

/// The name of a user: it has no colon, which ends it in an `Authorization` header (RFC 7617 §2).
pub(super) fn user(text: &str) -> Result<(), String> {
    let characters = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-@+".contains(&it));
    if (1..=ID_MAX).contains(&text.len()) && characters {
        return Ok(());
    }
    Err(format!(
        "expected a name of 1 to {ID_MAX} characters of A-Z a-z 0-9 . _ - @ +, found {}",
        quoted(text)
    ))
}

/// Where a server is reached, or a listener listens.
pub(super) fn address(text: &str, listen: bool) -> Result<(), String> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<IpAddr>().ok(),
    };
    match ip {
        Some(ip) if ip.is_unspecified() && !listen => Err(format!(
            "{} means every interface: give the address where the other servers reach this one",
            quoted(text)
        )),
        Some(_) => Ok(()),
        None if is_host_name(text) && !numeric_end(text) => Ok(()),
        None => {
            Err(format!("expected an IP address or a host name, found {}{}", quoted(text), port_hint(text)))
        }
    }
}

fn port_hint(text: &str) -> &'static str {
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { ": the port has a key of its own, `port`" } else { "" }
}

/// A name whose last label is a number can only be a mistyped IPv4 address (WHATWG URL, "ends in a number").
fn numeric_end(text: &str) -> bool {
    text.rsplit('.').next().is_some_and(|last| last.bytes().all(|it| it.is_ascii_digit()))
}

/// Labels of letters, digits, `-` and `_`, with dots between.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= HOST_MAX && text.split('.').all(label)
}

/// The id or alias of a virtual host: empty for the default host, a name or an IP address, without a port.
pub(super) fn host(text: &str) -> Result<(), String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if text.is_empty() || is_host_name(text) || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let hint = if text.contains('*') {
        ": for several names use `regexp`"
    } else if text.contains(':') {
        ": a host has no port or scheme"
    } else if !text.is_ascii() {
        ": write it in its ASCII form (xn--…)"
    } else {
        ""
    };
    Err(format!("expected a host name, found {}{hint}", quoted(text)))
}

/// The id of a web-app: empty or `/` for the root, else a normalised path prefix without a slash at its end.
pub(super) fn web_app(text: &str) -> Result<(), String> {
    if text.is_empty() || text == "/" {
        return Ok(());
    }
    let problem = if !text.starts_with('/') {
        format!("must begin with a slash: write `/{text}`")
    } else if text.ends_with('/') {
        format!("must not end with a slash: write `{}`", text.trim_end_matches('/'))
    } else if text[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        "must have no empty, `.` or `..` part".to_owned()
    } else if text.chars().any(|it| it.is_control() || it.is_whitespace() || "?#%\\;".contains(it)) {
        "must be a decoded path: no white space, control characters or any of ? # % \\ ;".to_owned()
    } else {
        return Ok(());
    };
    Err(format!("the path {} of a web-app {problem}", quoted(text)))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    (1..=128).contains(&text.len()) && text.bytes().all(token)
}

/// The name of a header.
pub(super) fn header_name(text: &str) -> Result<(), String> {
    if is_token(text) {
        return Ok(());
    }
    Err(format!("expected a header's name (letters, digits and !#$%&'*+-.^_`|~), found {}", quoted(text)))
}

/// The value of a header: nothing in it that could end it (RFC 9110 §5.5).
pub(super) fn header_value(text: &str) -> Result<(), String> {
    if text.len() > 4096 {
        return Err(format!("a header's value has at most 4096 bytes, this one has {}", text.len()));
    }
    if text.chars().any(|it| it.is_control() && it != '\t') {
        return Err(format!(
            "a header's value has no control characters or line breaks, found {}",
            quoted(text)
        ));
    }
    if text.trim() != text {
        return Err(format!("a header's value has no white space at its ends, found {}", quoted(text)));
    }
    Ok(())
}

/// A method of HTTP; they are compared with case.
pub(super) fn method(text: &str) -> Result<(), String> {
    if !is_token(text) {
        return Err(format!("expected a method such as GET, found {}", quoted(text)));
    }
    let upper = text.to_ascii_uppercase();
    if text != upper {
        return Err(format!("methods are compared with case: write {upper} instead of {}", quoted(text)));
    }
    Ok(())
}

/// A path with or without a query, as it stands in a request line.
pub(super) fn request_target(text: &str) -> Result<(), String> {
    if text.starts_with('/')
        && text.len() <= 4096
        && text.bytes().all(|it| it.is_ascii_graphic() && it != b'#')
    {
        return Ok(());
    }
    Err(format!("expected a path that begins with a slash, percent-encoded, found {}", quoted(text)))
}

/// The full name of a gRPC service, or nothing for a server as a whole.
pub(super) fn grpc_service(text: &str) -> Result<(), String> {
    let word =
        |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if text.is_empty() || (text.len() <= 256 && text.split('.').all(word)) {
        return Ok(());
    }
    Err(format!(
        "expected the name of a service such as shop.v1.Orders, or \"\" for the whole server, found {}",
        quoted(text)
    ))
}

/// A decoded path of a host, as conditions name files.
pub(super) fn file_path(text: &str) -> Result<(), String> {
    let parts =
        text.strip_prefix('/').map(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if parts == Some(true) && !text.contains(['\0', '\\']) {
        return Ok(());
    }
    Err(format!(
        "expected `true`, `false`, or the path of a file such as /maintenance.txt, found {}",
        quoted(text)
    ))
}

/// What an error page says: one line.
pub(super) fn message(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 1000 || text.chars().any(char::is_control) {
        return Err(format!("expected one line of 1 to 1000 bytes, found {}", quoted(text)));
    }
    Ok(())
}

/// The name of a cookie (RFC 6265 §4.1.1: a token).
pub(super) fn cookie_name(text: &str) -> Result<(), String> {
    if is_token(text) {
        return Ok(());
    }
    Err(format!("expected a cookie's name (letters, digits and !#$%&'*+-.^_`|~), found {}", quoted(text)))
}

/// The path of a cookie (RFC 6265 §4.1.2.4).
pub(super) fn cookie_path(text: &str) -> Result<(), String> {
    let allowed = |it: u8| (0x20..0x7f).contains(&it) && it != b';';
    if text.starts_with('/') && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("expected a path that begins with a slash, without semicolon, found {}", quoted(text)))
}

/// The domain of a cookie; a dot before it is allowed and means nothing (RFC 6265 §5.2.3).
pub(super) fn cookie_domain(text: &str) -> Result<(), String> {
    let name = text.strip_prefix('.').unwrap_or(text);
    if is_host_name(name) { Ok(()) } else { Err(format!("expected a domain name, found {}", quoted(text))) }
}
