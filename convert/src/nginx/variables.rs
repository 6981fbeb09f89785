//! nginx's variables in texts.

/// What nginx calls it, and what Copal does.
const NAMES: [(&str, &str); 9] = [
    ("host", "$host"),
    ("http_host", "$host"),
    ("scheme", "$scheme"),
    ("uri", "$path"),
    ("document_uri", "$path"),
    ("args", "$query"),
    ("query_string", "$query"),
    ("request_uri", "$request-uri"),
    ("remote_addr", "$remote-addr"),
];

/// A text with Copal's variables. `groups`: of an expression that `$1` … stand for.
///
/// # Errors
/// The name of a variable that there is not.
pub(super) fn translated(text: &str, groups: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        let (name, after) = match behind.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some(found) => found,
            None => {
                let digit = behind.starts_with(|it: char| it.is_ascii_digit());
                let part = |it: char| it.is_ascii_alphanumeric() || it == '_';
                let end = if digit { 1 } else { behind.find(|it| !part(it)).unwrap_or(behind.len()) };
                behind.split_at(end)
            }
        };
        match name.parse::<usize>() {
            Ok(group) if (1..=groups).contains(&group) => out.push_str(&format!("${group}")),
            _ if name.is_empty() => out.push_str("$$"),
            _ => {
                let known = NAMES.iter().find(|(theirs, _)| *theirs == name);
                out.push_str(known.ok_or_else(|| format!("${name}"))?.1);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
