//! Cookies: reads `Cookie` (RFC 6265 §4.2) as leniently as servers do, and writes the attributes of `Set-Cookie`.

use crate::config::{CookieConfig, CookieSecure, SameSite};
use std::fmt::Write;

/// So many values of one name are looked at. A browser sends one for each path and domain above a page that has set one.
pub const VALUES_MAX: usize = 16;

/// The values of the cookie `name` in one `Cookie` field: in order, without quotes, none of them empty. Which of several is the one
/// that a server has set is for it to find out: their order says nothing (RFC 6265 §4.2.2).
///
/// Works on bytes: a cookie of another app that is not UTF-8 must not hide those beside it. Values that are not ASCII are left out.
pub fn values<'a>(field: &'a [u8], name: &str) -> impl Iterator<Item = &'a str> {
    field.split(|byte| *byte == b';').filter_map(move |pair| value(pair, name.as_bytes()))
}

fn value<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let value =
        pair.trim_ascii().strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
    str::from_utf8(value).ok().filter(|value| !value.is_empty() && value.is_ascii())
}

/// The attributes of a `Set-Cookie` (RFC 6265bis §4.1.2), each with `; ` before it. `secure`: the client came over TLS.
pub fn attributes(config: &CookieConfig, secure: bool) -> String {
    let mut text = format!("; Path={}", config.path);
    if let Some(domain) = &config.domain {
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(age) = config.max_age {
        let _ = write!(text, "; Max-Age={}", age.as_secs());
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn of(line: &[u8]) -> Vec<&str> {
        values(line, "JSESSIONID").collect()
    }

    #[test]
    fn finds_a_cookie_among_others_and_each_of_its_values() {
        assert_eq!(of(b"JSESSIONID=aaX"), ["aaX"]);
        assert_eq!(of(b"a=b; JSESSIONID=baX; c=d"), ["baX"]);
        assert_eq!(of(b"a=b;JSESSIONID=\"caX\""), ["caX"]);
        assert_eq!(of(b"JSESSIONID=first; JSESSIONID=second;JSESSIONID=first"), ["first", "second", "first"]);
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
            "JSESSIONID=\"\"",
            "a=JSESSIONID=b",
        ] {
            assert_eq!(of(line.as_bytes()), [] as [&str; 0], "{line:?}");
        }
    }

    #[test]
    fn a_cookie_that_is_not_ascii_hides_no_other() {
        assert_eq!(of("x=\u{fc}; JSESSIONID=aaX".as_bytes()), ["aaX"]);
        assert_eq!(of("JSESSIONID=\u{fc}; JSESSIONID=aaX".as_bytes()), ["aaX"]);
        assert_eq!(of(b"x=\xff\xfe; JSESSIONID=\xff; JSESSIONID=aaX"), ["aaX"]);
    }

    #[test]
    fn every_attribute_is_written() {
        let mut config = CookieConfig::default();
        assert_eq!(attributes(&config, false), "; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(attributes(&config, true), "; Path=/; Secure; HttpOnly; SameSite=Lax");
        config.domain = Some("example.com".to_owned());
        config.max_age = Some(Duration::from_secs(60));
        config.same_site = SameSite::None;
        config.http_only = false;
        config.secure = CookieSecure::Always;
        let all = "; Path=/; Domain=example.com; Max-Age=60; Secure; SameSite=None";
        assert_eq!(attributes(&config, false), all);
        config.secure = CookieSecure::Never;
        config.same_site = SameSite::Strict;
        assert_eq!(attributes(&config, true), "; Path=/; Domain=example.com; Max-Age=60; SameSite=Strict");
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ -~]{0,80}", id in "[a-zA-Z0-9_-]{1,40}") {
            let _ = of(line.as_bytes());
            let around = format!("x=1; JSESSIONID={id}; {line}");
            let first = of(around.as_bytes()).first().map(|it| (*it).to_owned());
            prop_assert_eq!(first, Some(id));
        }
    }
}
