//! The names that a certificate is for (RFC 9525), and whether they cover a host.

use std::net::{IpAddr, Ipv6Addr};
use x509::X509;

/// A certificate's names, in lower case. The common name is none of them (RFC 9525 §2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    exact: Box<[Box<str>]>,
    /// What stands after `*.`.
    wildcards: Box<[Box<str>]>,
    addresses: Box<[IpAddr]>,
}

impl Names {
    pub(super) fn new(certificate: &X509<'_>) -> Self {
        let lower = |name: &str| name.trim_end_matches('.').to_ascii_lowercase().into_boxed_str();
        let (wildcards, exact): (Vec<&str>, Vec<&str>) =
            certificate.dns_names.iter().partition(|name| name.starts_with("*."));
        Self {
            exact: exact.into_iter().map(lower).collect(),
            wildcards: wildcards.into_iter().map(|name| lower(&name[2..])).collect(),
            addresses: certificate.addresses.iter().copied().collect(),
        }
    }

    /// Whether it has no name at all: no client that checks takes such a certificate.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    /// The names as they are.
    pub(super) fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(|name| &**name)
    }

    /// The names after `*.`: each is for one label before it.
    pub(super) fn wildcards(&self) -> impl Iterator<Item = &str> {
        self.wildcards.iter().map(|name| &**name)
    }

    /// Whether a host is one of them: a name or an IP address without a port, in any case. A `*` is one whole label.
    pub(super) fn cover(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let address = match bare {
            Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            None => host.parse().ok(),
        };
        if let Some(address) = address {
            return self.addresses.contains(&address);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let is = |name: &&str| name.eq_ignore_ascii_case(host);
        self.exact().any(|name| is(&name))
            || parent(host)
                .is_some_and(|parent| self.wildcards().any(|name| name.eq_ignore_ascii_case(parent)))
    }
}

/// What stands after the first label; `None` for a name of one label, or one that begins with a dot.
pub(super) fn parent(host: &str) -> Option<&str> {
    host.split_once('.')
        .filter(|(label, parent)| !label.is_empty() && !parent.is_empty())
        .map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dns_names: &[&'static str], addresses: &[&str]) -> Names {
        Names::new(&X509 {
            serial: &[],
            issuer: &[],
            subject: &[],
            not_before: 0,
            not_after: 0,
            dns_names: dns_names.to_vec(),
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        })
    }

    #[test]
    fn a_star_is_one_whole_label() {
        let names = names(&["Example.com", "*.EXAMPLE.com", "mail.example.org."], &["192.0.2.1", "::1"]);
        for host in [
            "example.com",
            "EXAMPLE.COM",
            "example.com.",
            "www.example.com",
            "*.example.com",
            "mail.example.org",
            "192.0.2.1",
            "[::1]",
            "::1",
        ] {
            assert!(names.cover(host), "{host}");
        }
        for host in [
            "",
            ".",
            "com",
            "example.org",
            "a.b.example.com",
            ".example.com",
            "www.example.com.evil",
            "xexample.com",
            "www.example.org",
            "192.0.2.2",
            "[::2]",
            "[192.0.2.1]",
            "example.com..",
            "mail.example.org:443",
        ] {
            assert!(!names.cover(host), "{host}");
        }
        assert!(!names.is_empty() && Names::default().is_empty() && !Names::default().cover(""));
    }
}
