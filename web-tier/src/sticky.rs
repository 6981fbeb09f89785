//! The session of a request: the value of the cluster's session cookie, without an allocation.

use http::{HeaderMap, header::COOKIE};

/// The value of the cookie `name`, the first one if there are several (RFC 6265 §4.2); `None` when there is none, or it is empty.
pub(crate) fn session<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(COOKIE).iter().find_map(|line| value(line.to_str().ok()?, name))
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(';').find_map(|pair| {
        let value = pair.trim_start().strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
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
    fn a_line_that_is_not_text_hides_no_other() {
        assert_eq!(of(&["x=\u{fc}", "JSESSIONID=aaX"]).as_deref(), Some("aaX"));
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ -~]{0,80}", id in "[a-zA-Z0-9_-]{1,40}") {
            value(&line, "JSESSIONID");
            let around = format!("x=1; JSESSIONID={id}; {line}");
            let around = around.as_str();
            prop_assert_eq!(value(around, "JSESSIONID"), Some(id.as_str()));
        }
    }
}
