//! Times, sizes and addresses as the peers write them.

use std::net::IpAddr;

/// A duration of nginx's (`30s`, `1m30s`, `500ms`, `60`: seconds) as Copal writes it.
pub(crate) fn nginx_duration(text: &str) -> Option<String> {
    duration(text, 1000)
}

/// The same of HAProxy's, where a bare number is milliseconds, and none of them is for ever.
pub(crate) fn haproxy_duration(text: &str) -> Option<String> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    if !digits.is_empty() && digits.bytes().all(|it| it == b'0') {
        return Some(LONGEST.to_owned());
    }
    duration(text, 1)
}

/// The longest time-out that there is.
pub(crate) const LONGEST: &str = "1D";

/// How many milliseconds a duration is that was read here.
pub(crate) fn milliseconds(text: &str) -> u64 {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let number: u64 = digits.parse().unwrap_or(0);
    match &text[digits.len()..] {
        "ms" => number,
        "D" => number * 86_400_000,
        _ => number * 1000,
    }
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
        Some((host, port)) if !port.contains(']') => (host, number(port)?),
        _ if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) => ("", number(text)?),
        _ => (text, default),
    };
    if port == 0 {
        return None;
    }
    if matches!(host, "" | "*") {
        return Some((None, port));
    }
    let bracketed = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let host = bracketed.filter(|it| it.contains(':')).unwrap_or(host);
    is_host(host).then(|| (Some(host.to_owned()), port))
}

fn number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|_| digits.bytes().all(|it| it.is_ascii_digit()))
}

/// Whether a text is an IP address, or a name that Copal takes for one of a host.
pub(crate) fn is_host(text: &str) -> bool {
    let mistyped = text.rsplit('.').next().is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()));
    text.parse::<IpAddr>().is_ok() || is_name(text) && !mistyped
}

/// Whether a text is made of labels of letters, digits, `-` and `_`, with dots between.
pub(crate) fn is_name(text: &str) -> bool {
    let label = |it: &str| {
        (1..=63).contains(&it.len())
            && it.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
            && !it.starts_with('-')
            && !it.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether a text is an address or a network that Copal takes.
pub(crate) fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(it, prefix)| (it, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let Some(prefix) = prefix else { return true };
    let Ok(prefix) = prefix.parse::<u32>() else { return false };
    let (bits, width) = match address {
        IpAddr::V4(it) => (u128::from(it.to_bits()), 32),
        IpAddr::V6(it) => (it.to_bits(), 128),
    };
    // Bits beyond the prefix are an error there.
    prefix <= width && (prefix == width || bits & (u128::MAX >> (128 - (width - prefix))) == 0)
}
