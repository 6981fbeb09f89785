//! `bind`: where clients come in.

use super::parse::{Line as Words, Section};
use crate::{left::Remarks, listeners::Listener, value::host_port};

/// Words that restrict who may connect, and have no counterpart: such a listener is not opened for more.
const RESTRICT: [&str; 3] = ["interface", "namespace", "accept-netscaler-cip"];

/// The listeners of a section; for those that can't be there are remarks in `left`.
pub(super) fn listeners(
    section: &Section,
    is_http: bool,
    remarks: &mut Remarks,
    left: &mut Vec<String>,
) -> Vec<(Listener, Words)> {
    let mut found = Vec::new();
    for line in section.lines.iter().filter(|it| it.word(0) == "bind") {
        let mut leave = |what: &str, why: &str| {
            let name = format!("bind {what}");
            left.push(remarks.leave(&line.place, name.trim_end(), why));
        };
        if let Some((what, why)) = refusal(line, is_http) {
            leave(what, why);
            continue;
        }
        let certificates = certificates(line);
        if certificates.iter().any(|(it, _)| it.ends_with('/') || !it.contains('.')) {
            leave("crt", "a folder of certificates is not read: list each file under `certs`");
        }
        let tls = line.says("ssl");
        for text in line.word(1).split(',') {
            let Some((addresses, port)) = addresses(text, line.says("v4v6")) else {
                leave(text, why_not(text));
                continue;
            };
            for address in addresses {
                let listener = Listener {
                    address,
                    port,
                    tls,
                    certificates: certificates.clone(),
                    h2c: line.after("proto") == Some("h2") && !tls,
                    ..Listener::default()
                };
                found.push((listener, line.clone()));
            }
        }
    }
    found
}

/// One file has both the certificate and the key.
fn certificates(line: &Words) -> Vec<(String, String)> {
    let named = line.words.windows(2).filter(|it| it[0] == "crt" && line.says("ssl"));
    named.map(|it| (it[1].clone(), it[1].clone())).collect()
}

/// Why a line opens no listener: the word, and what is said of it.
fn refusal(line: &Words, is_http: bool) -> Option<(&str, &'static str)> {
    if let Some(word) = RESTRICT.into_iter().find(|it| line.says(it)) {
        return Some((
            word,
            "a listener has an address, and nothing more chooses who may connect: it is left out",
        ));
    }
    if line.says("ssl") && !is_http {
        return Some((
            "ssl",
            "`tcp-proxy` passes TLS on and does not end it: the listener is left out. Let the backends end it, or, if they speak HTTP, write an `http` listener with `tls`",
        ));
    }
    if line.says("ssl") && !line.says("crt") {
        return Some(("ssl", "it has no `crt`: the listener is left out"));
    }
    if line.says("ca-file") || line.says("verify") {
        return Some((
            "ca-file",
            "write `client-ca` and `client-auth` under `tls`: the listener is left out",
        ));
    }
    if line.says("accept-proxy") {
        return Some((
            "accept-proxy",
            "`proxy-protocol` needs to know whom to believe: write it, and `trusted-proxies`; the listener is left out",
        ));
    }
    None
}

fn why_not(text: &str) -> &'static str {
    if text.starts_with("quic") {
        "write `http3: true` at the listener that has the certificate"
    } else {
        "listeners are addresses and single ports of TCP"
    }
}

/// The addresses that a text stands for, and the port. `None`: all of IPv4.
fn addresses(text: &str, both: bool) -> Option<(Vec<Option<String>>, u16)> {
    let (six, text) = match text.strip_prefix("ipv6@") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("ipv4@").unwrap_or(text)),
    };
    let (address, port) = host_port(text, 0)?;
    let address = address.or(six.then(|| "::".to_owned())).filter(|it| it != "0.0.0.0");
    let four = both && address.as_deref() == Some("::");
    Some((if four { vec![None, address] } else { vec![address] }, port))
}
