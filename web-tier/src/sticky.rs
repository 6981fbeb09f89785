//! The session of a request: the value of the cluster's session cookie, without an allocation.

use crate::http1::{Fields, Name};

/// The value of the cookie `name`, the first one if there are several (RFC 6265 §4.2); `None` when there is none, or it is empty.
pub(crate) fn session<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.all(Name::Cookie).find_map(|line| value(line, name.as_bytes()))
}

/// Works on bytes: a cookie of another app that is not UTF-8 must not hide the session beside it.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let value =
            pair.trim_ascii().strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
        str::from_utf8(value).ok().filter(|value| !value.is_empty() && value.is_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(lines: &[&str]) -> Option<String> {
        let mut headers = Fields::default();
        for line in lines {
            headers.push(Name::Cookie, b"cookie", line.as_bytes());
        }
        session(&headers, "JSESSIONID").map(str::to_owned)
    }

    #[test]
    fn finds_the_cookie_among_others() {
        assert_eq!(of(&["JSESSIONID=aaX"]).as_deref(), Some("aaX"));
        assert_eq!(of(&["a=b; JSESSIONID=baX; c=d"]).as_deref(), Some("baX"));
        assert_eq!(of(&["a=b", "JSESSIONID=caX"]).as_deref(), Some("caX"));
        assert_eq!(of(&["a=b;JSESSIONID=\"caX\""]).as_deref(), Some("caX"));
        assert_eq!(of(&["JSESSIONID=first; JSESSIONID=second"]).as_deref(), Some("first"));
    }

    #[test]
    fn other_cookies_are_not_mistaken_for_it() {
        for line in [
            "",
            "XJSESSIONID=a",
            "JSESSIONIDX=a",
            "jsessionid=a",
            "JSESSIONID",
            "JSESSIONID=",
            "a=JSESSIONID=b",
        ] {
            assert_eq!(of(&[line]), None, "{line:?}");
        }
    }

    #[test]
    fn a_cookie_that_is_not_ascii_hides_no_other() {
        assert_eq!(of(&["x=\u{fc}; JSESSIONID=aaX"]).as_deref(), Some("aaX"));
        assert_eq!(of(&["JSESSIONID=\u{fc}", "JSESSIONID=aaX"]).as_deref(), Some("aaX"));
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ -~]{0,80}", id in "[a-zA-Z0-9_-]{1,40}") {
            value(line.as_bytes(), b"JSESSIONID");
            let around = format!("x=1; JSESSIONID={id}; {line}");
            prop_assert_eq!(value(around.as_bytes(), b"JSESSIONID"), Some(id.as_str()));
        }
    }
}
