//! The session cookie: read from requests, set and cleared in answers (RFC 6265bis §4.1, §5.6).

use common::{config::CookieConfig, cookie, session_id::SessionId};
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// So many session ids of one request are looked up. A user has more than one if another site of the domain, or an app at a shorter path,
/// has a cookie of the same name.
pub(super) const IDS_MAX: usize = 4;

/// The different session ids among the values of the cookie `name`, over all `Cookie` fields: those first that look like ours, and of
/// the others as many as there is room for. Their order says nothing (RFC 6265 §4.2.2).
pub(super) fn read(headers: &HeaderMap, name: &str) -> Vec<SessionId> {
    let fields = headers.get_all(header::COOKIE).iter();
    let values = fields.flat_map(|field| cookie::values(field.as_bytes(), name)).take(cookie::VALUES_MAX);
    let mut ids: Vec<SessionId> = Vec::new();
    for id in values.filter_map(SessionId::parse) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.sort_by_key(|id| !id.is_like_ours());
    ids.truncate(IDS_MAX);
    ids
}

/// `Set-Cookie` that gives the browser this session. `secure`: the request came over TLS.
pub(super) fn set(name: &str, id: &SessionId, config: &CookieConfig, secure: bool) -> Option<HeaderValue> {
    write(name, id.as_str(), config, secure)
}

/// `Set-Cookie` that takes it away.
pub(super) fn clear(name: &str, config: &CookieConfig, secure: bool) -> Option<HeaderValue> {
    write(name, "", &CookieConfig { max_age: Some(Duration::ZERO), ..config.clone() }, secure)
}

fn write(name: &str, value: &str, config: &CookieConfig, secure: bool) -> Option<HeaderValue> {
    // The configuration's checks keep control characters out of name, path and domain.
    HeaderValue::try_from(format!("{name}={value}{}", cookie::attributes(config, secure))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::session_config;
    use common::config::{CookieSecure, SameSite};
    use proptest::prelude::*;

    fn found(fields: &[&[u8]]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        read(&headers, "JSESSIONID").iter().map(|id| id.as_str().to_owned()).collect()
    }

    #[test]
    fn takes_every_valid_value_of_all_fields_once() {
        assert_eq!(found(&[b"a=b; JSESSIONID=abc"]), ["abc"]);
        assert_eq!(found(&[b"JSESSIONID=not valid!; JSESSIONID=abc"]), ["abc"]);
        assert_eq!(
            found(&[b"x=1", b"JSESSIONID=\"abc\"; JSESSIONID=def", b"JSESSIONID=abc"]),
            ["abc", "def"]
        );
        assert_eq!(found(&[b"jsessionid=abc; XJSESSIONID=def; JSESSIONID="]), [""; 0]);
        assert_eq!(found(&[b"theme=\xfc; JSESSIONID=abc"]), ["abc"], "another app's is not text");
    }

    #[test]
    fn those_that_look_like_ours_come_first_and_there_are_not_many() {
        let ours = "aa3456789012345678901234";
        let many: Vec<_> = (0..9).map(|n| format!("JSESSIONID=other{n}")).collect();
        let line = format!("{}; JSESSIONID={ours}", many.join("; "));
        assert_eq!(found(&[line.as_bytes()]), [ours, "other0", "other1", "other2"]);
        let flood = "JSESSIONID=x; ".repeat(cookie::VALUES_MAX) + "JSESSIONID=beyond";
        assert_eq!(found(&[flood.as_bytes()]), ["x"]);
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
            found(&[field.as_bytes()]);
            let with = format!("{}; JSESSIONID=abc", field.replace("JSESSIONID", ""));
            prop_assert_eq!(found(&[with.as_bytes()]), ["abc"]);
        }
    }
}
