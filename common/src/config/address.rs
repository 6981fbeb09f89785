//! What the text of an address tells: whether it leaves its machine, and which two are the same or collide.

use std::net::IpAddr;

/// Whether both can't be listened on. `::` is IPv6 alone, so that a file can list `0.0.0.0` beside it; a name may be of either.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let is_ipv4 = |address: &str| address.parse::<IpAddr>().ok().map(|ip| ip.is_ipv4());
    let families_differ = matches!((is_ipv4(one), is_ipv4(other)), (Some(one), Some(other)) if one != other);
    one == other || ((is_wildcard(one) || is_wildcard(other)) && !families_differ)
}

pub(super) fn is_wildcard(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Whether an address stays on its machine, whoever resolves it.
pub(super) fn is_loopback(address: &str) -> bool {
    address.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// One spelling an address.
pub(super) fn canonical(address: &str) -> String {
    if address.eq_ignore_ascii_case("localhost") {
        return "127.0.0.1".to_owned();
    }
    address.parse::<IpAddr>().map_or_else(|_| address.to_lowercase(), |ip| ip.to_string())
}
