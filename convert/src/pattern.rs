//! Expressions about paths.

use regex::Regex;

/// An expression that finds `prefix` at the start.
pub(crate) fn prefix(text: &str) -> String {
    format!("^{}", escape(text))
}

/// A text that is found as it is.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for it in text.chars() {
        if r"\.+*?()|[]{}^$".contains(it) {
            escaped.push('\\');
        }
        escaped.push(it);
    }
    escaped
}

/// An expression of PCRE's, if it means the same here.
pub(crate) fn checked(text: &str, any_case: bool) -> Result<String, String> {
    let text = if any_case { format!("(?i){text}") } else { text.to_owned() };
    match Regex::new(&text) {
        Ok(_) => Ok(text),
        Err(_) => {
            Err("the expression is not one of linear time (look-around, back references): write it without"
                .to_owned())
        }
    }
}

/// The same expression, but what it finds is the whole path.
pub(crate) fn whole(regexp: &str) -> String {
    if regexp.starts_with('^') && regexp.ends_with('$') && !regexp.ends_with("\\$") && !regexp.contains('|') {
        return regexp.to_owned();
    }
    // One that says where it begins goes on to the end.
    if regexp.starts_with('^') && !regexp.contains(['|', '$']) {
        return format!("{regexp}(?s:.*)$");
    }
    let (flags, rest) = regexp.strip_prefix("(?i)").map_or(("", regexp), |rest| ("(?i)", rest));
    format!("{flags}^(?s:.*)(?:{rest})(?s:.*)$")
}

/// One expression for two that both have to be found; `None`: it can't be said.
pub(crate) fn both(one: &str, two: &str) -> Option<String> {
    let literal =
        |it: &str| it.starts_with('^') && !it[1..].contains(['(', '|', '$', '^', '[', '*', '+', '?', '.']);
    let folders = |it: &str| {
        it.starts_with("^/") && it.ends_with('/') && literal(it)
            || it.strip_prefix("^(?:").and_then(|it| it.strip_suffix(')')).is_some_and(|it| {
                !it.contains(['(', ')', '['])
                    && it.split('|').all(|it| it.starts_with('/') && it.ends_with('/'))
            })
    };
    let ending = |it: &str| {
        it.ends_with('$') && !it.ends_with("\\$") && !it.contains(['^', '/', '|']) && !it.starts_with("(?i)")
    };
    match (one, two) {
        _ if one == two => Some(one.to_owned()),
        _ if literal(one) && literal(two) && two.starts_with(one) => Some(two.to_owned()),
        _ if literal(one) && literal(two) && one.starts_with(two) => Some(one.to_owned()),
        // What ends with a slash and what has none can't overlap.
        _ if folders(one) && ending(two) => Some(format!("{one}(?s:.*){two}")),
        _ if folders(two) && ending(one) => Some(format!("{two}(?s:.*){one}")),
        _ => None,
    }
}

/// Whether what `regexp` makes of a path is found by it again, so that it would never end.
pub(crate) fn circles(regexp: &str, target: &str) -> bool {
    let filled: String = target.split('?').next().unwrap_or_default().replace(['$'], "x");
    Regex::new(regexp).is_ok_and(|it| it.is_match(&filled))
}
