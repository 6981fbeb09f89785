//! A value as an error repeats it: short, on one line and escaped.

/// The longest value that an error repeats, in characters.
const VALUE_SHOWN: usize = 60;

/// A value as an error repeats it.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(VALUE_SHOWN).flat_map(escaped).collect();
    if text.chars().count() > VALUE_SHOWN {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn escaped(it: char) -> Vec<char> {
    if matches!(it, '\'' | '"' | '\\') { vec![it] } else { it.escape_debug().collect() }
}
