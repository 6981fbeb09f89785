//! Reads `share` of an `if`, and `percent` of a `mirror`: a part of the requests.

use super::super::{
    condition::{Share, ShareBy},
    decode::{Context, Fields},
    keys,
    node::{Node, Value},
    quoted::quoted,
    rule::StickyCookie,
};
use super::sticky;

/// Reads a number of percent alone, or a mapping of `percent` and `cookie`.
pub(super) fn decode(context: Context<'_>, node: &Node) -> Option<Share> {
    if !matches!(node.value, Value::Map(_)) {
        return percent(context, node).map(|share| Share { share, by: ShareBy::RemoteAddr });
    }
    let fields = Fields::open(context, node, &keys::SHARE)?;
    let share = fields.required("percent", "give the part of the users, such as 5 or 0.5");
    let share = share.and_then(|node| percent(context, node));
    let by = match fields.get("cookie") {
        None => Some(ShareBy::RemoteAddr),
        Some(node) => match sticky::inserted(context, node) {
            Some(StickyCookie::Inserted { name, attributes }) => Some(ShareBy::Cookie(name, attributes)),
            _ => None,
        },
    };
    Some(Share { share: share?, by: by? })
}

/// Hundredths of a percent, of 10,000.
pub(super) fn percent(context: Context<'_>, node: &Node) -> Option<u16> {
    let text = context.checked(node, |text| parse(text).map(drop))?;
    parse(&text).ok()
}

fn parse(text: &str) -> Result<u16, String> {
    let refuse =
        || format!("expected percent from 0 to 100, with two decimals at most, found {}", quoted(text));
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    if !is_number(whole, 3) || !is_number(part, 2) {
        return Err(refuse());
    }
    let number = format!("{whole}{part:0<2}").parse::<u16>().map_err(|_| refuse())?;
    if number <= 10_000 { Ok(number) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_in_hundredths() {
        for (text, expected) in
            [("0", 0), ("5", 500), ("0.5", 50), ("12.25", 1225), ("100", 10_000), ("100.0", 10_000)]
        {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for wrong in ["", ".5", "5.", "100.01", "101", "-1", "5%", "1e1", "0.001", "1000"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
