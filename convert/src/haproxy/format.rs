//! Texts with `%[…]` in them.

/// What HAProxy calls it, and what Copal does.
const FETCHES: [(&str, &str); 9] = [
    ("src", "$remote-addr"),
    ("req.hdr(host)", "$host"),
    ("hdr(host)", "$host"),
    ("path", "$path"),
    ("query", "$query"),
    ("pathq", "$request-uri"),
    ("url", "$request-uri"),
    ("capture.req.uri", "$request-uri"),
    ("hdr(Host)", "$host"),
];

/// A text with Copal's variables.
///
/// # Errors
/// What has no counterpart.
pub(super) fn translated(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at].replace('$', "$$"));
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some((fetch, after)) = behind.strip_prefix('[').and_then(|it| it.split_once(']')) {
            let known = FETCHES.iter().find(|(theirs, _)| *theirs == fetch.trim());
            out.push_str(known.ok_or_else(|| format!("%[{fetch}]"))?.1);
            rest = after;
        } else if let Some(after) = behind.strip_prefix("ci") {
            out.push_str("$remote-addr");
            rest = after;
        } else {
            return Err(behind.chars().take(12).fold("%".to_owned(), |mut text, it| {
                text.push(it);
                text
            }));
        }
    }
    out.push_str(&rest.replace('$', "$$"));
    Ok(out)
}
