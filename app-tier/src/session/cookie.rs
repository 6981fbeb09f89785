//! The session cookie: read from requests, set and cleared in answers (RFC 6265bis §4.1, §5.6).

use common::{
    config::{CookieConfig, CookieSecure, SameSite},
    session_id::SessionId,
};
use http::{HeaderMap, HeaderValue, header};
use std::fmt::Write;

/// The first value of the cookie `name`, over all `Cookie` fields, that is a session id.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<SessionId> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| key.trim() == name)
        .find_map(|(_, value)| {
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
            SessionId::parse(unquoted)
        })
}

/// `Set-Cookie` that gives the browser this session. `secure`: the request came over TLS.
pub(super) fn set(name: &str, id: &SessionId, config: &CookieConfig, secure: bool) -> Option<HeaderValue> {
    let max_age = config.max_age.map(|age| age.as_secs());
    write(name, id.as_str(), max_age, config, secure)
}

/// `Set-Cookie` that takes it away.
pub(super) fn clear(name: &str, config: &CookieConfig, secure: bool) -> Option<HeaderValue> {
    write(name, "", Some(0), config, secure)
}

fn write(
    name: &str,
    value: &str,
    max_age: Option<u64>,
    config: &CookieConfig,
    secure: bool,
) -> Option<HeaderValue> {
    let mut text = format!("{name}={value}; Path={}", config.path);
    if let Some(domain) = &config.domain {
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(seconds) = max_age {
        let _ = write!(text, "; Max-Age={seconds}");
    }
    let secure = match config.secure {
        CookieSecure::Auto => secure,
        CookieSecure::Always => true,
        CookieSecure::Never => false,
    };
    if secure {
        text.push_str("; Secure");
    }
    if config.http_only {
        text.push_str("; HttpOnly");
    }
    text.push_str(match config.same_site {
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None",
    });
    // The configuration's checks keep control characters out of name, path and domain.
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::session_config;
    use proptest::prelude::*;
    use std::time::Duration;

    fn found(fields: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, field.parse().unwrap());
        }
        read(&headers, "JSESSIONID").map(|id| id.as_str().to_owned())
    }

    #[test]
    fn takes_the_first_valid_value_of_all_fields() {
        assert_eq!(found(&["a=b; JSESSIONID=abc"]).unwrap(), "abc");
        assert_eq!(found(&["JSESSIONID=not valid!; JSESSIONID=abc"]).unwrap(), "abc");
        assert_eq!(found(&["x=1", "JSESSIONID=\"abc\"; JSESSIONID=def"]).unwrap(), "abc");
        assert_eq!(found(&["jsessionid=abc; XJSESSIONID=def; JSESSIONID="]), None);
    }

    #[test]
    fn writes_its_attributes() {
        let id = SessionId::parse("abc").unwrap();
        let mut config = session_config().cookie;
        let text = |value: Option<HeaderValue>| value.unwrap().to_str().unwrap().to_owned();
        assert_eq!(text(set("S", &id, &config, false)), "S=abc; Path=/; HttpOnly; SameSite=Lax");
        config.domain = Some("example.com".to_owned());
        config.max_age = Some(Duration::from_secs(60));
        config.same_site = SameSite::Strict;
        config.http_only = false;
        let secure = "S=abc; Path=/; Domain=example.com; Max-Age=60; Secure; SameSite=Strict";
        assert_eq!(text(set("S", &id, &config, true)), secure);
        config.secure = CookieSecure::Never;
        let cleared = "S=; Path=/; Domain=example.com; Max-Age=0; SameSite=Strict";
        assert_eq!(text(clear("S", &config, true)), cleared);
    }

    proptest! {
        #[test]
        fn any_field_is_read_or_refused(field in "[ -~]{0,80}") {
            found(&[&field]);
            let with = format!("{}; JSESSIONID=abc", field.replace("JSESSIONID", ""));
            prop_assert_eq!(found(&[&with]).unwrap(), "abc");
        }
    }
}
