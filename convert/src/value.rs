//! Times, sizes and addresses as the peers write them.

/// A duration of nginx's (`30s`, `1m30s`, `500ms`, `60`: seconds) as Copal writes it.
pub(crate) fn nginx_duration(text: &str) -> Option<String> {
    duration(text, 1000)
}

/// The same of HAProxy's, where a bare number is milliseconds.
pub(crate) fn haproxy_duration(text: &str) -> Option<String> {
    duration(text, 1)
}

fn duration(text: &str, bare: u64) -> Option<String> {
    let (mut total, mut rest) = (0_u64, text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let scale = match unit {
            "" if behind.is_empty() => bare,
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = behind;
    }
    // A day is the most that a time-out may be.
    let total = total.clamp(1, 86_400_000);
    Some(if total % 1000 == 0 { format!("{}s", total / 1000) } else { format!("{total}ms") })
}

/// A size (`8k`, `1m`, `1g`) in bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A size as Copal writes it.
pub(crate) fn size_text(bytes: u64) -> String {
    let fits = [(30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    fits.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// `host:port`, `[::1]:port`, `*:port`, `:port` or one of the two: the host, if it says one, and the port.
pub(crate) fn host_port(text: &str, default: u16) -> Option<(Option<String>, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) => ("", text.parse().ok()?),
        _ => (text, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let known =
        host.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_' | b':' | b'*'));
    if !known || port == 0 {
        return None;
    }
    Some((Some(host).filter(|it| !matches!(*it, "" | "*")).map(str::to_owned), port))
}

/// Whether a text is an address or a network that Copal takes.
pub(crate) fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(it, prefix)| (it, Some(prefix)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let Some(prefix) = prefix else { return true };
    let Ok(prefix) = prefix.parse::<u32>() else { return false };
    let (bits, width) = match address {
        std::net::IpAddr::V4(it) => (u128::from(it.to_bits()), 32),
        std::net::IpAddr::V6(it) => (it.to_bits(), 128),
    };
    // Bits beyond the prefix are an error there.
    prefix <= width && (prefix == width || bits & (u128::MAX >> (128 - (width - prefix))) == 0)
}
