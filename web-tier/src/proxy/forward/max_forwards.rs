//! `Max-Forwards`: how many proxies a request may still pass (RFC 9110 §7.6.2).

use crate::http1::{Name, RequestHead};
use http::Method;

const MAX_FORWARDS: &str = "max-forwards";

/// Takes one off; false when none is left, so that the answer is ours. It has a meaning for OPTIONS, and for TRACE, which is refused
/// in any case; what is no number has none.
pub(crate) fn may_go_on(head: &mut RequestHead) -> bool {
    if head.method != Method::OPTIONS {
        return true;
    }
    let Some(left) = head.fields.named(MAX_FORWARDS).next().and_then(decimal) else { return true };
    let Some(left) = left.checked_sub(1) else { return false };
    head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(MAX_FORWARDS.as_bytes()));
    let mut text = itoa::Buffer::new();
    head.fields.push(Name::Other, MAX_FORWARDS.as_bytes(), text.format(left).as_bytes());
    true
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    #[test]
    fn each_proxy_takes_one() {
        let passed = |method: &str, value: &str| {
            let text = format!("{method} * HTTP/1.1\r\nMAX-Forwards: {value}\r\n\r\n");
            let mut head = RequestHead::default();
            head.parse(text.as_bytes(), &HeadLimits { count: 10, bytes: 1000, target: 100 })
                .unwrap()
                .unwrap();
            let goes_on = may_go_on(&mut head);
            let left = head.fields.named(MAX_FORWARDS).next().unwrap();
            goes_on.then(|| String::from_utf8(left.to_vec()).unwrap())
        };
        assert_eq!(passed("OPTIONS", "0"), None);
        assert_eq!(passed("OPTIONS", "000"), None);
        for (value, left) in
            [("1", "0"), ("010", "9"), ("", ""), ("-1", "-1"), ("+1", "+1"), ("1, 2", "1, 2")]
        {
            assert_eq!(passed("OPTIONS", value).as_deref(), Some(left), "{value}");
        }
        assert_eq!(passed("POST", "0").as_deref(), Some("0"), "it has no meaning there");
    }
}
