//! URLs that an operator writes, as requests for them are.

use super::path::{Path, normalise};
use http_cache::url::split_authority;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What a request's target may have as it is: what is no ASCII is escaped, as browsers do.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'?')
    .remove(b'%')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b';')
    .remove(b':')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b'[')
    .remove(b']')
    .remove(b'\\')
    .remove(b'|')
    .remove(b'{')
    .remove(b'}')
    .remove(b'^');

/// `http://host/path?query`, or `/path?query`: without a fragment, the path in its normal form.
///
/// # Errors
/// No request has such a path.
pub(crate) fn normal_url(url: &str) -> Result<String, String> {
    let url = url.trim().split('#').next().unwrap_or_default();
    let (_, target) = split_authority(url);
    let origin = &url[..url.len() - target.len()];
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !path.starts_with('/') {
        // It is for the caller to say what is wrong with it.
        return Ok(url.to_owned());
    }
    let escaped = |text: &str| percent_encode(text.as_bytes(), KEPT).to_string();
    let path = escaped(path);
    let path = match normalise(&path, true).map_err(|cause| format!("{}: `{path}`", cause.text()))? {
        Path::Same => path,
        Path::Other(path) => path,
    };
    let query = query.map(|it| format!("?{}", escaped(it))).unwrap_or_default();
    Ok(format!("{origin}{path}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        for (url, expected) in [
            ("http://h/p/%7Eu", "http://h/p/~u"),
            ("/p/a%2fb", "/p/a%2Fb"),
            ("/p/é?ü", "/p/%C3%A9?%C3%BC"),
            ("//h/p//y", "//h/p/y"),
            ("/p/z/../y#frag", "/p/y"),
            ("/a?b=%2f&c", "/a?b=%2f&c"),
            ("http://h", "http://h"),
            ("shop", "shop"),
        ] {
            assert_eq!(normal_url(url).as_deref(), Ok(expected), "{url}");
        }
        for wrong in ["/%zz", "/../a", "/a%00"] {
            assert!(normal_url(wrong).is_err(), "{wrong}");
        }
    }
}
