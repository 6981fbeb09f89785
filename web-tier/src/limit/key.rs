//! Whose requests are counted together.

use crate::{http1::Fields, upstream::pool::Owner, upstream::sticky};
use common::config::RequestKey;
use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
};

/// The longest text that is kept of a key, in bytes.
const SHOWN_MAX: usize = 64;

/// A request, as far as limits look at it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The client, seen through trusted proxies.
    pub(crate) remote: IpAddr,
    /// Normalised.
    pub(crate) path: &'a str,
    pub(crate) fields: &'a Fields,
}

/// Hashes keys so that nobody outside can tell which of them meet.
#[derive(Debug, Clone, Default)]
pub(super) struct Hasher(RandomState);

impl Hasher {
    /// The hash of a request's key; `None`: it has none.
    pub(super) fn hash(&self, by: &RequestKey, subject: Subject<'_>) -> Option<u64> {
        Some(match by {
            RequestKey::RemoteAddr => self.0.hash_one(Owner::from(subject.remote)),
            RequestKey::Path => self.0.hash_one(subject.path),
            RequestKey::All => 0,
            RequestKey::Header(name) => self.0.hash_one(header(subject.fields, name)?),
            RequestKey::Cookie(name) => self.0.hash_one(sticky::values(subject.fields, name).next()?),
        })
    }
}

/// A request's key as all web-tiers have it; `None`: it has none.
pub(crate) fn text<'a>(by: &'a RequestKey, subject: Subject<'a>) -> Option<Cow<'a, str>> {
    Some(match by {
        RequestKey::RemoteAddr => Cow::Owned(network(subject.remote)),
        RequestKey::Path => Cow::Borrowed(subject.path),
        RequestKey::All => Cow::Borrowed(""),
        RequestKey::Header(name) => String::from_utf8_lossy(header(subject.fields, name)?),
        RequestKey::Cookie(name) => Cow::Borrowed(sticky::values(subject.fields, name).next()?),
    })
}

fn header<'a>(fields: &'a Fields, name: &'a str) -> Option<&'a [u8]> {
    fields.named(name).next().filter(|value| !value.is_empty())
}

/// A request's key for people. The values of headers and cookies may be secrets: of them no more than the beginning is shown.
pub(super) fn shown(by: &RequestKey, subject: Subject<'_>) -> String {
    let text = match by {
        RequestKey::RemoteAddr => Cow::Owned(network(subject.remote)),
        RequestKey::Path => Cow::Borrowed(subject.path),
        RequestKey::All => Cow::Borrowed("all"),
        RequestKey::Header(name) => header(subject.fields, name).map_or(Cow::Borrowed(""), beginning),
        RequestKey::Cookie(name) => sticky::values(subject.fields, name)
            .next()
            .map_or(Cow::Borrowed(""), |it| beginning(it.as_bytes())),
    };
    let is_plain = |it: &char| !it.is_control();
    text.chars().filter(is_plain).take(SHOWN_MAX).collect()
}

fn beginning(value: &[u8]) -> Cow<'static, str> {
    let shown = value.len().min(8).min(value.len().div_ceil(2));
    Cow::Owned(format!("{}…", String::from_utf8_lossy(&value[..shown])))
}

/// An IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            format!("{}/64", Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Name;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.push(Name::of(name.as_bytes()), name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn subject<'a>(remote: &str, path: &'a str, fields: &'a Fields) -> Subject<'a> {
        Subject { remote: remote.parse().unwrap(), path, fields }
    }

    #[test]
    fn a_customer_with_a_network_is_one() {
        let (hasher, none) = (Hasher::default(), Fields::default());
        let of = |remote| hasher.hash(&RequestKey::RemoteAddr, subject(remote, "/", &none)).unwrap();
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(shown(&RequestKey::RemoteAddr, subject("2001:db8::1", "/", &none)), "2001:db8::/64");
        assert_eq!(shown(&RequestKey::RemoteAddr, subject("::ffff:192.0.2.1", "/", &none)), "192.0.2.1");
    }

    #[test]
    fn who_has_no_such_header_is_not_counted_and_secrets_are_not_shown() {
        let hasher = Hasher::default();
        let by = RequestKey::Header("x-api-key".to_owned());
        let none = fields(&[("x-api-key", ""), ("cookie", "a=1")]);
        assert_eq!(hasher.hash(&by, subject("192.0.2.1", "/", &none)), None);
        let key = fields(&[("X-Api-Key", "0123456789abcdef"), ("cookie", "u=\u{7f}x; v=abc")]);
        let subject = subject("192.0.2.1", "/", &key);
        assert!(hasher.hash(&by, subject).is_some());
        assert_eq!(shown(&by, subject), "01234567…");
        assert!(hasher.hash(&RequestKey::Cookie("v".to_owned()), subject).is_some());
        assert_eq!(shown(&RequestKey::Cookie("v".to_owned()), subject), "ab…");
        assert_eq!(hasher.hash(&RequestKey::Cookie("w".to_owned()), subject), None);
    }
}
