//! The addresses that the file listens on.

use crate::yaml::{Yaml, quoted};
use std::fmt::Write;

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
}

/// All of them, each address once.
#[derive(Debug, Default)]
pub(crate) struct Listeners(pub(crate) Vec<Listener>);

impl Listeners {
    /// Adds one; what is known of its address is put together. `first`: its certificates are for clients that name no host.
    pub(crate) fn add(&mut self, new: Listener, first: bool) {
        let same = |it: &&mut Listener| it.port == new.port && it.address == new.address;
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
