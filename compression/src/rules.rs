//! Which answers are worth an encoding, and what is to be said of those that get one.

use common::config::{Compression, Encoding};
use http_cache::{Fields, members, vary::Encodings};

/// The encoding for a client that takes these.
pub fn choose(rules: &Compression, taken: Encodings) -> Option<Encoding> {
    rules.encodings.iter().copied().find(|it| match it {
        Encoding::Zstd => taken.zstd,
        Encoding::Br => taken.br,
        Encoding::Gzip => taken.gzip,
    })
}

/// Whether an answer is worth it: a whole one, of a type that is named, that is long enough if its `length` is known, and that nobody
/// has said is to stay as it is.
pub fn is_worth(
    rules: &Compression,
    status: u16,
    fields: &(impl Fields + ?Sized),
    length: Option<u64>,
) -> bool {
    if !is_whole(status) || length.is_some_and(|it| it < rules.min_size) {
        return false;
    }
    let (mut kind, mut is_fixed) = (None, false);
    fields.each(&mut |name, value| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name.len() {
            12 if is("content-type") => kind = Some(value),
            13 if is("cache-control") => {
                is_fixed |= members(value).any(|it| it.eq_ignore_ascii_case(b"no-transform"));
            }
            // It has one, or is a part.
            16 if is("content-encoding") => is_fixed = true,
            13 if is("content-range") => is_fixed = true,
            // What is said of its bytes would not be so any more.
            11 if is("content-md5") || is("repr-digest") => is_fixed = true,
            14 if is("content-digest") => is_fixed = true,
            6 if is("digest") => is_fixed = true,
            _ => {}
        }
    });
    let Some(kind) = kind.filter(|_| !is_fixed) else { return false };
    let kind = kind.split(|it| *it == b';').next().unwrap_or_default().trim_ascii();
    let Some(slash) = kind.iter().position(|it| *it == b'/') else { return false };
    let (main, sub) = (&kind[..slash], &kind[slash + 1..]);
    rules.types.iter().any(|it| it.has(main, sub))
}

/// Answers whose body is a whole one of the server's, or a page that says what is wrong.
fn is_whole(status: u16) -> bool {
    matches!(status, 200..=203) || (400..600).contains(&status)
}

/// The tag of an answer that is encoded: the bytes are others, what they say is the same (RFC 9110 §8.8.1).
pub fn weakened(tag: &[u8]) -> Vec<u8> {
    if tag.starts_with(b"W/") { tag.to_vec() } else { [b"W/", tag].concat() }
}

/// Whether answers with these values of `Vary` are known to depend on `Accept-Encoding` already.
pub fn says_vary<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> bool {
    lines.any(|line| members(line).any(|it| it == b"*" || it.eq_ignore_ascii_case(b"accept-encoding")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::MediaRange;

    fn rules(kind: &str) -> Compression {
        Compression { types: vec![MediaRange::of(kind).unwrap()], ..Compression::default() }
    }

    #[test]
    fn what_is_short_or_to_stay_as_it_is_is_not_worth_it() {
        let rules = rules("text/plain");
        let plain = ("content-type", "text/plain");
        assert!(is_worth(&rules, 200, &[("Content-Type", "TEXT/plain; charset=utf-8")], None));
        let worth = |status, more: (&str, &str), length| is_worth(&rules, status, &[plain, more], length);
        let none = ("x", "y");
        assert!(worth(200, none, Some(1024)) && worth(404, none, None) && worth(200, none, None));
        assert!(!worth(200, none, Some(1023)));
        for status in [204, 206, 226, 301, 304, 101] {
            assert!(!worth(status, none, None), "{status}");
        }
        for more in [
            ("Content-Encoding", "br"),
            ("content-encoding", "identity"),
            ("Cache-Control", "max-age=5, No-Transform"),
            ("Content-Range", "bytes 0-1/2"),
            ("Content-MD5", "x"),
            ("Repr-Digest", "x"),
            ("Content-Digest", "x"),
            ("Digest", "x"),
        ] {
            assert!(!worth(200, more, None), "{more:?}");
        }
        assert!(!is_worth(&rules, 200, &[none], None));
    }

    #[test]
    fn the_first_that_the_client_takes_is_taken() {
        let rules = rules("text/plain");
        let choose =
            |rules: &Compression, text: &str| choose(rules, Encodings::of([text.as_bytes()].into_iter()));
        assert_eq!(choose(&rules, "gzip, deflate, br, zstd"), Some(Encoding::Zstd));
        assert_eq!(choose(&rules, "gzip, br;q=0.1, zstd;q=0"), Some(Encoding::Br));
        assert_eq!(choose(&rules, "*"), Some(Encoding::Gzip));
        assert_eq!(choose(&rules, "deflate"), None);
        let gzip = Compression { encodings: vec![Encoding::Gzip], ..rules };
        assert_eq!(choose(&gzip, "br, zstd"), None);
    }

    #[test]
    fn tags_become_weak() {
        assert_eq!(weakened(b"\"a\""), b"W/\"a\"");
        assert_eq!(weakened(b"W/\"a\""), b"W/\"a\"");
        assert!(
            says_vary([&b"Cookie, accept-Encoding"[..]].into_iter()) && says_vary([&b"*"[..]].into_iter())
        );
        assert!(!says_vary([&b"Accept-Encodings"[..]].into_iter()));
    }
}
