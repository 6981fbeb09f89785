//! `rate-limit` and `connection-limit`: how many requests somebody may make, and have at a time.

use super::{
    check::Facts,
    decode::Fields,
    keys, names,
    quoted::quoted,
    request_key::{self, RequestKey},
};
use std::time::Duration;

/// So many are told apart unless `keys-max` says otherwise.
const KEYS: u64 = 262_144;

/// `rate-limit`: so many requests of one key in a time, else 429 (RFC 6585 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// `name`, in the fields `RateLimit` and `RateLimit-Policy`, on the status page and in metrics. Rules that say the same, by name too,
    /// count together.
    pub name: String,
    /// `by`.
    pub by: RequestKey,
    /// The number of `rate`: requests …
    pub requests: u32,
    /// … in this time.
    pub period: Duration,
    /// `burst` (as many as `rate` says): requests at once, after a time without any.
    pub burst: u32,
    /// `keys-max` (262144): how many keys are told apart. Beyond, those that have been quiet for longest are forgotten.
    pub keys_max: usize,
}

/// `connection-limit`: so many requests of one key at a time, else 429.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// `name`.
    pub name: String,
    /// `by`.
    pub by: RequestKey,
    /// `max`.
    pub max: u32,
}

/// Reads `rate-limit`, but for `regexp` and `if`.
pub(super) fn rate_limit(fields: &Fields<'_>, facts: &mut Facts) -> Option<RateLimit> {
    let context = fields.context;
    let rate = fields.required("rate", "give it as 10/s, 100/m or 1000/h");
    let rate = rate.and_then(|node| context.checked(node, |text| rate_of(text).map(drop)));
    let (name, by) = (name(fields, "rate-limit", facts), by(fields));
    let burst = fields.integer("burst", 1..=1_000_000);
    let keys_max = fields.integer("keys-max", 1024..=16_777_216).unwrap_or(KEYS);
    let (requests, period) = rate_of(&rate?).ok()?;
    let keys_max = usize::try_from(keys_max).ok()?;
    Some(RateLimit { name: name?, by: by?, requests, period, burst: burst.unwrap_or(requests), keys_max })
}

/// Reads `connection-limit`, but for `regexp` and `if`.
pub(super) fn connection_limit(fields: &Fields<'_>, facts: &mut Facts) -> Option<ConnectionLimit> {
    let (name, by) = (name(fields, "connection-limit", facts), by(fields));
    let max = fields.required("max", "give the most requests at a time");
    let max = max.and_then(|_| fields.integer("max", 1..=1_000_000));
    Some(ConnectionLimit { name: name?, by: by?, max: max? })
}

/// `10/s`, `100/m`, `1000/h`.
fn rate_of(text: &str) -> Result<(u32, Duration), String> {
    let refuse = || {
        let found = quoted(text);
        format!("expected a number of requests and a time, such as 10/s, 100/m or 1000/h, found {found}")
    };
    let (number, unit) = text.split_once('/').ok_or_else(refuse)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(refuse()),
    };
    let digits = number.bytes().all(|it| it.is_ascii_digit());
    let number = number.parse().ok().filter(|number| digits && (1..=1_000_000).contains(number));
    Ok((number.ok_or_else(refuse)?, Duration::from_secs(seconds)))
}

fn name(fields: &Fields<'_>, kind: &str, facts: &mut Facts) -> Option<String> {
    match fields.get("name") {
        Some(node) => fields.context.checked(node, names::id),
        None => Some(facts.name_of_limit(kind)),
    }
}

fn by(fields: &Fields<'_>) -> Option<RequestKey> {
    match fields.get("by") {
        Some(node) => request_key::decode(fields.context, node, &keys::LIMIT_BY),
        None => Some(RequestKey::RemoteAddr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate_of("10/s"), Ok((10, Duration::from_secs(1))));
        assert_eq!(rate_of("100/m"), Ok((100, Duration::from_secs(60))));
        assert_eq!(rate_of("1000000/h"), Ok((1_000_000, Duration::from_secs(3600))));
        for wrong in ["", "10", "/s", "10/", "10/d", "0/s", "-1/s", "+1/s", "1.5/s", "1000001/s", "10/s/m"] {
            assert!(rate_of(wrong).is_err(), "{wrong}");
        }
    }
}
