//! The cookies that carry a sticky token to the browser (RFC 6265): one of the web tier's own, or a companion of the
//! backend's.

use common::{config::CookieConfig, cookie};

/// What a companion's name adds to the name of the backend's cookie.
const COMPANION: &str = ".srv";

/// Attributes of the backend's cookie that its companion shares: both have to live, be sent and be partitioned alike.
const SHARED: [&str; 7] = ["path", "domain", "max-age", "expires", "secure", "samesite", "partitioned"];

/// The name of the companion of `cookie`.
pub(crate) fn companion_name(cookie: &str) -> String {
    format!("{cookie}{COMPANION}")
}

/// The cookie of `insert-cookie`: all but its value is written once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InsertedCookie {
    name: Box<str>,
    /// Its attributes, for clients without TLS and with it.
    attributes: [Box<str>; 2],
    expires: bool,
}

impl InsertedCookie {
    /// As the file has it.
    pub(crate) fn new(name: &str, config: &CookieConfig) -> Self {
        Self {
            name: name.into(),
            attributes: [false, true].map(|secure| cookie::attributes(config, secure).into()),
            expires: config.max_age.is_some(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it ends by itself: then each answer sets it anew, so that its age counts from the last use.
    pub(crate) fn expires(&self) -> bool {
        self.expires
    }

    /// The value of a `Set-Cookie`. `secure`: the client came over TLS.
    pub(crate) fn value(&self, token: &str, secure: bool) -> Vec<u8> {
        let mut out = Vec::new();
        put_pair(&mut out, self.name.as_bytes(), token);
        out.extend_from_slice(self.attributes[usize::from(secure)].as_bytes());
        out
    }
}

/// Appends the value of a `Set-Cookie` for the companion of what `set_cookie`, the value of the backend's own, sets; false, and
/// nothing, when that is another cookie than `name`. Where the backend deletes its cookie, the companion goes with it.
pub(crate) fn put_companion(out: &mut Vec<u8>, set_cookie: &[u8], name: &str, token: &str) -> bool {
    let mut parts = set_cookie.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { return false };
    if pair[..equals].trim_ascii() != name.as_bytes() {
        return false;
    }
    put_pair(out, companion_name(name).as_bytes(), token);
    for attribute in parts.map(<[u8]>::trim_ascii) {
        let key = attribute.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        if SHARED.iter().any(|shared| key.eq_ignore_ascii_case(shared.as_bytes())) {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(attribute);
        }
    }
    // No script has any use for it.
    out.extend_from_slice(b"; HttpOnly");
    true
}

fn put_pair(out: &mut Vec<u8>, name: &[u8], token: &str) {
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend_from_slice(token.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn companion(set_cookie: &str) -> Option<String> {
        let mut out = Vec::new();
        let put = put_companion(&mut out, set_cookie.as_bytes(), "PHPSESSID", "TOKEN");
        assert_eq!(put, !out.is_empty());
        put.then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_inserted_cookie_is_for_the_whole_site_and_not_for_scripts() {
        let cookie = InsertedCookie::new("SRV", &CookieConfig::default());
        assert_eq!(cookie.value("TOKEN", false), b"SRV=TOKEN; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(cookie.value("TOKEN", true), b"SRV=TOKEN; Path=/; Secure; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn a_companion_lives_as_long_and_goes_as_far_as_its_cookie() {
        let set = "PHPSESSID=abc==; path=/shop; Domain=example.com; expires=Wed, 21 Oct 2026 07:28:00 GMT; \
                   Max-Age=60;secure; HttpOnly; SameSite=None; Partitioned; Priority=High; Comment=\"x\"";
        assert_eq!(
            companion(set).unwrap(),
            "PHPSESSID.srv=TOKEN; path=/shop; Domain=example.com; expires=Wed, 21 Oct 2026 07:28:00 GMT; \
             Max-Age=60; secure; SameSite=None; Partitioned; HttpOnly"
        );
        assert_eq!(companion("PHPSESSID=").unwrap(), "PHPSESSID.srv=TOKEN; HttpOnly");
        let deleted = companion(" PHPSESSID = deleted ; Max-Age=0").unwrap();
        assert_eq!(deleted, "PHPSESSID.srv=TOKEN; Max-Age=0; HttpOnly");
    }

    #[test]
    fn other_cookies_have_no_companion() {
        for other in [
            "",
            "PHPSESSID",
            "phpsessid=a",
            "XPHPSESSID=a",
            "a=PHPSESSID=b",
            "a=b; PHPSESSID=c",
            "PHPSESSID; a=b",
        ] {
            assert_eq!(companion(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_has_a_companion_of_one_line_or_none(value in "[ -~]{0,60}") {
            if let Some(companion) = companion(&format!("PHPSESSID={value}")) {
                prop_assert!(companion.starts_with("PHPSESSID.srv=TOKEN; "));
                prop_assert!(companion.len() <= value.len() + 60 && companion.is_ascii());
            }
        }
    }
}
