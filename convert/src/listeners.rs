//! The addresses that the file listens on.

use crate::yaml::{Yaml, quoted};
use std::{fmt::Write, net::IpAddr};

/// A public address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listener {
    /// `None`: all of them over IPv4.
    pub(crate) address: Option<String>,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// Certificates and keys.
    pub(crate) certificates: Vec<(String, String)>,
    pub(crate) proxy_protocol: bool,
    pub(crate) h2c: bool,
    pub(crate) http3: bool,
}

impl Listener {
    /// Whether it listens there, and nowhere else.
    pub(crate) fn is_at(&self, address: Option<&str>, port: u16) -> bool {
        self.port == port && canonical(self.address.as_deref()) == canonical(address)
    }

    /// Whether nobody else can listen there beside it.
    pub(crate) fn collides(&self, address: Option<&str>, port: u16) -> bool {
        self.port == port && collide(self.address.as_deref(), address)
    }
}

/// One spelling an address.
fn canonical(address: Option<&str>) -> String {
    match address {
        None => "0.0.0.0".to_owned(),
        Some(name) if name.eq_ignore_ascii_case("localhost") => "127.0.0.1".to_owned(),
        Some(text) => text.parse::<IpAddr>().map_or_else(|_| text.to_lowercase(), |ip| ip.to_string()),
    }
}

/// Whether two addresses can't both be listened on. `::` is IPv6 alone; a name may be of either.
pub(crate) fn collide(one: Option<&str>, other: Option<&str>) -> bool {
    let (one, other) = (canonical(one), canonical(other));
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    let everywhere = |it: Option<IpAddr>| it.is_some_and(|ip| ip.is_unspecified());
    let families_differ =
        matches!((ip(&one), ip(&other)), (Some(one), Some(other)) if one.is_ipv4() != other.is_ipv4());
    one == other || (everywhere(ip(&one)) || everywhere(ip(&other))) && !families_differ
}

/// All of them, each address once.
#[derive(Debug, Default)]
pub(crate) struct Listeners(pub(crate) Vec<Listener>);

impl Listeners {
    /// Adds one; what is known of its address is put together. `first`: its certificates are for clients that name no host.
    pub(crate) fn add(&mut self, new: Listener, first: bool) {
        let address = canonical(new.address.as_deref());
        let same = |it: &&mut Listener| it.port == new.port && canonical(it.address.as_deref()) == address;
        let Some(known) = self.0.iter_mut().find(same) else {
            self.0.push(new);
            return;
        };
        known.tls |= new.tls;
        known.proxy_protocol |= new.proxy_protocol;
        known.h2c |= new.h2c;
        for certificate in
            new.certificates.into_iter().filter(|it| !known.certificates.contains(it)).collect::<Vec<_>>()
        {
            let at = if first { 0 } else { known.certificates.len() };
            known.certificates.insert(at, certificate);
        }
    }

    /// Has a listener with TLS speak HTTP/3, too. `false`: there is none that can.
    pub(crate) fn speak_http3(&mut self, address: Option<&str>, port: u16) -> bool {
        let mut all = self.0.iter_mut();
        let Some(found) = all.find(|it| it.is_at(address, port) && it.tls && !it.proxy_protocol) else {
            return false;
        };
        found.http3 = true;
        true
    }

    /// The ports, each once.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.0.iter().map(|it| it.port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    pub(crate) fn write(&self) -> String {
        let mut out = String::new();
        if !self.0.is_empty() {
            out.push_str("        http:\n");
        }
        for listener in &self.0 {
            let mut entries = vec![("port", Yaml::plain(listener.port))];
            entries.extend(listener.address.as_ref().map(|it| ("address", Yaml::text(it))));
            if listener.h2c && !listener.tls {
                entries.push(("h2c", Yaml::plain(true)));
            }
            // One of them alone, whichever was first.
            if listener.http3 && !listener.proxy_protocol {
                entries.push(("http3", Yaml::plain(true)));
            }
            if listener.proxy_protocol {
                entries.push(("proxy-protocol", Yaml::plain(true)));
            }
            if !listener.tls {
                let _ = writeln!(out, "          - {}", Yaml::Map(entries).inline());
                continue;
            }
            for (at, (key, value)) in entries.iter().enumerate() {
                let _ =
                    writeln!(out, "          {} {key}: {}", if at == 0 { "-" } else { " " }, value.inline());
            }
            out.push_str("            tls:\n              certs:\n");
            for (cert, key) in &listener.certificates {
                let _ = writeln!(out, "                - {{cert: {}, key: {}}}", quoted(cert), quoted(key));
            }
        }
        out
    }
}
