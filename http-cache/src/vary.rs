//! Which fields of a request an answer depends on (RFC 9111 §4.1), and what of their values counts.

use crate::{Fields, members};

/// The most fields that an answer may depend on.
pub const FIELDS_MAX: usize = 8;

/// The longest value that counts, in bytes; requests with a longer one are not answered from the cache.
pub const VALUE_MAX: usize = 1024;

/// Fields of requests, in lower case, each once, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vary(Vec<Box<str>>);

impl Vary {
    /// Those that an answer names; `None`: it depends on more, or on more than [`FIELDS_MAX`].
    pub fn of(fields: &(impl Fields + ?Sized)) -> Option<Self> {
        let (mut names, mut any) = (Vec::new(), false);
        fields.each(&mut |name, value| {
            if name.eq_ignore_ascii_case(b"vary") {
                for member in members(value) {
                    // What is no name is no reason to take it for none.
                    any |= member == b"*" || !member.is_ascii();
                    names.push(String::from_utf8_lossy(member).to_ascii_lowercase().into_boxed_str());
                }
            }
        });
        names.sort_unstable();
        names.dedup();
        (!any && names.len() <= FIELDS_MAX).then_some(Self(names))
    }

    /// Whether it depends on none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it depends on the encodings alone that the client takes, or on nothing.
    pub fn is_encoding_alone(&self) -> bool {
        self.0.iter().all(|it| &**it == "accept-encoding")
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|it| &**it)
    }

    /// Those of which `is_known` is false.
    #[must_use]
    pub fn without(&self, is_known: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|it| !is_known(it)).cloned().collect())
    }

    /// Both.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let mut names: Vec<Box<str>> = self.0.iter().chain(&other.0).cloned().collect();
        names.sort_unstable();
        names.dedup();
        (names.len() <= FIELDS_MAX).then_some(Self(names))
    }

    /// Appends what counts of a request's fields, each value behind its length, so that no two requests that differ have the same; false if a
    /// value is too long.
    pub fn put_values(&self, request: &(impl Fields + ?Sized), out: &mut Vec<u8>) -> bool {
        for wanted in &self.0 {
            let start = out.len();
            out.extend_from_slice(&[0; 3]);
            let mut lines: Vec<&[u8]> = Vec::new();
            request.each(&mut |name, value| {
                if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                    lines.push(value);
                }
            });
            if lines.iter().map(|it| it.len()).sum::<usize>() > VALUE_MAX {
                return false;
            }
            match &**wanted {
                "accept-encoding" => {
                    out.extend_from_slice(Encodings::of(lines.iter().copied()).text().as_bytes());
                }
                "accept-language" => match languages(lines.iter().copied()) {
                    Some(text) => out.extend_from_slice(text.as_bytes()),
                    None => put_members(&lines, out),
                },
                // Lines and white space between members say nothing (RFC 9110 §5.3).
                _ => put_members(&lines, out),
            }
            let length = u16::try_from(out.len() - start - 3).unwrap_or(u16::MAX).to_be_bytes();
            // Who takes no encoding that is known here says as much as who says nothing: servers see the same.
            let is_there = !lines.is_empty() && (&**wanted != "accept-encoding" || out.len() > start + 3);
            out[start] = u8::from(is_there);
            out[start + 1..start + 3].copy_from_slice(&length);
        }
        true
    }
}

/// Members with what is between them, but for white space: empty ones count.
fn put_members(lines: &[&[u8]], out: &mut Vec<u8>) {
    for line in lines {
        let (mut quoted, mut escaped) = (false, false);
        let parts = line.split(move |byte| {
            let parts = *byte == b',' && !quoted;
            if !escaped && *byte == b'"' {
                quoted = !quoted;
            }
            escaped = quoted && !escaped && *byte == b'\\';
            parts
        });
        for part in parts {
            out.extend_from_slice(part.trim_ascii());
            out.push(b',');
        }
    }
}

/// The languages that a client wants, as servers are asked for them in its place: in its order, as many servers take the first of what is wanted
/// equally, in lower case. `None`: it says something else, which is left as it is.
pub fn languages<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut text = String::new();
    for member in lines.flat_map(members) {
        let member = std::str::from_utf8(member).ok()?.to_ascii_lowercase();
        let (name, weight) = match member.split_once(';') {
            Some((name, weight)) => (name.trim(), Some(weight.trim().strip_prefix("q=")?)),
            None => (member.as_str(), None),
        };
        let is_name = (1..=35).contains(&name.len())
            && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'*'));
        let is_weight = |it: &str| {
            let (whole, part) = it.split_once('.').unwrap_or((it, ""));
            matches!(whole, "0" | "1") && part.len() <= 3 && part.bytes().all(|it| it.is_ascii_digit())
        };
        if !is_name || !weight.is_none_or(is_weight) {
            return None;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name);
        if let Some(weight) = weight {
            text.push_str(";q=");
            text.push_str(weight);
        }
    }
    Some(text)
}

/// A member's name, before its parameters.
fn name(member: &[u8]) -> &[u8] {
    member.split(|it| *it == b';').next().unwrap_or_default().trim_ascii()
}

/// A member's weight (RFC 9110 §12.4.2), in thousandths.
fn weight(member: &[u8]) -> u32 {
    let parameters = member.split(|it| *it == b';').skip(1).map(<[u8]>::trim_ascii);
    let mut weights = parameters.filter_map(|it| it.strip_prefix(b"q=").or(it.strip_prefix(b"Q=")));
    let Some(text) = weights.next() else { return 1000 };
    let number: f64 = std::str::from_utf8(text).ok().and_then(|it| it.parse().ok()).unwrap_or(0.0);
    (number.clamp(0.0, 1.0) * 1000.0) as u32
}

/// The encodings that a client takes, of those that are compressed here or that servers use most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Encodings {
    /// `zstd`.
    pub zstd: bool,
    /// `br`.
    pub br: bool,
    /// `gzip`.
    pub gzip: bool,
}

impl Encodings {
    /// By the values of `Accept-Encoding` (RFC 9110 §12.5.3). Others say nothing here: they are not asked for.
    pub fn of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut found, mut refused, mut any) = (Self::default(), Self::default(), false);
        for member in lines.flat_map(members) {
            let name = name(member).to_ascii_lowercase();
            let wanted = weight(member) > 0;
            let place = if wanted { &mut found } else { &mut refused };
            match &*name {
                b"zstd" => place.zstd = true,
                b"br" => place.br = true,
                b"gzip" | b"x-gzip" => place.gzip = true,
                b"*" => any = wanted,
                _ => {}
            }
        }
        Self {
            zstd: found.zstd,
            br: found.br,
            // Whoever takes anything takes this for certain.
            gzip: found.gzip || (any && !refused.gzip),
        }
    }

    /// What is asked of servers in the client's place.
    pub fn text(self) -> &'static str {
        match (self.zstd, self.br, self.gzip) {
            (true, true, true) => "zstd, br, gzip",
            (true, true, false) => "zstd, br",
            (true, false, true) => "zstd, gzip",
            (true, false, false) => "zstd",
            (false, true, true) => "br, gzip",
            (false, true, false) => "br",
            (false, false, true) => "gzip",
            (false, false, false) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(vary: &str, request: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Vary::of(&[("Vary", vary)]).unwrap().put_values(request, &mut out));
        out
    }

    #[test]
    fn what_says_the_same_has_the_same_key() {
        let same = |vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]| {
            assert_eq!(key(vary, one), key(vary, other));
        };
        same("Foo", &[("foo", "1, 2")], &[("Foo", "1"), ("fOO", " 2 ")]);
        same("Foo, Bar", &[("foo", "1"), ("x", "a")], &[("foo", "1"), ("x", "b")]);
        same(
            "Accept-Language",
            &[("accept-language", "de, en;q=0.5")],
            &[("accept-language", "DE ,en ; q=0.5")],
        );
        same(
            "accept-encoding",
            &[("Accept-Encoding", "gzip, deflate, br")],
            &[("accept-encoding", "br;q=1.0, x-gzip;q=0.5")],
        );
        same("accept-encoding", &[], &[("accept-encoding", "identity")]);
    }

    #[test]
    fn what_differs_has_another_key() {
        let differ = |vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]| {
            assert_ne!(key(vary, one), key(vary, other));
        };
        differ("Foo", &[("foo", "1")], &[("foo", "2")]);
        differ("Foo", &[("foo", "")], &[]);
        differ("Foo, Bar", &[("foo", "1")], &[("bar", "1")]);
        differ("Foo, Bar", &[("foo", "a"), ("bar", "b")], &[("foo", "ab"), ("bar", "")]);
        differ("Foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")]);
        differ("accept-encoding", &[("accept-encoding", "gzip")], &[("accept-encoding", "gzip;q=0")]);
        differ("accept-language", &[("accept-language", "en, de;q=0.5")], &[("accept-language", "en, de")]);
        differ("accept-language", &[("accept-language", "en, de")], &[("accept-language", "de, en")]);
        differ("accept-language", &[("accept-language", "en;<script>")], &[("accept-language", "en")]);
        differ("accept-language", &[("accept-language", "en;q=nan")], &[("accept-language", "en;q=0")]);
        differ("Foo", &[("foo", "a,,b")], &[("foo", "a, b")]);
    }

    #[test]
    fn what_depends_on_all_or_on_much_has_no_key() {
        assert_eq!(Vary::of(&[("Vary", "a, *")]), None);
        assert_eq!(Vary::of(&[("Vary", "a,b,c,d"), ("Vary", "e,f,g,h,i")]), None);
        let (long, mut out) = ("x".repeat(VALUE_MAX + 1), Vec::new());
        assert!(!Vary::of(&[("Vary", "a")]).unwrap().put_values(&[("A", long.as_str())], &mut out));
    }

    proptest! {
        /// No two requests whose values differ share a key, however the values are cut.
        #[test]
        fn keys_are_never_shared(one in "[a-c,]{0,6}", two in "[a-c,]{0,6}", three in "[a-c,]{0,6}", four in "[a-c,]{0,6}") {
            let normal = |it: &str| it.to_owned();
            let keys = (key("x, y", &[("x", &one), ("y", &two)]), key("x, y", &[("x", &three), ("y", &four)]));
            let same = normal(&one) == normal(&three) && normal(&two) == normal(&four);
            prop_assert_eq!(keys.0 == keys.1, same);
        }
    }
}
