//! References to answers (RFC 3986), as far as a cache reads them.

/// The authority of a reference, if it has one, and what follows it: `http://host/path?query`, `//host`, `/path`.
pub fn split_authority(reference: &str) -> (Option<&str>, &str) {
    let starts =
        |scheme: &&str| reference.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let Some(scheme) = ["http://", "https://", "//"].into_iter().find(starts) else {
        return (None, reference);
    };
    let rest = &reference[scheme.len()..];
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (Some(authority), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_ends_at_path_or_query() {
        for (reference, expected) in [
            ("http://a.b:80/c?d", (Some("a.b:80"), "/c?d")),
            ("HTTPS://a?d", (Some("a"), "?d")),
            ("//a", (Some("a"), "")),
            ("/a//b", (None, "/a//b")),
            ("é", (None, "é")),
            ("", (None, "")),
        ] {
            assert_eq!(split_authority(reference), expected, "{reference}");
        }
    }
}
