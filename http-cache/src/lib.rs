//! What RFC 9111 (caching), RFC 5861 (stale answers), RFC 9211 (`Cache-Status`) and RFC 9213 (targeted fields) say of a shared cache:
//! may an answer be stored, may a stored one be used, which one, and what is said of it. Pure: the time is an argument, nothing is kept,
//! and fields are whatever has names and values.
//!
//! | module | what it knows |
//! |---|---|
//! | [`directives`] | `Cache-Control` of answers and requests, `Pragma`, targeted fields |
//! | [`freshness`] | how old an answer is, and how long it is fresh |
//! | [`store`] | whether an answer may be stored, and what is left out |
//! | [`reuse`] | whether a stored answer may be used for a request |
//! | [`validate`] | entity tags, conditional requests, what a 304 brings |
//! | [`vary`] | which fields of a request an answer depends on |
//! | [`range`] | parts of an answer |
//! | [`tags`] | names by which answers can be purged |
//! | [`url`] | references to answers |

mod date;
pub mod directives;
pub mod freshness;
pub mod range;
pub mod reuse;
pub mod store;
pub mod tags;
pub mod url;
pub mod validate;
pub mod vary;

pub use date::date;

/// The fields of a message, in their order.
pub trait Fields {
    /// Calls `each` with every name and value.
    fn each<'a>(&'a self, each: &mut dyn FnMut(&'a [u8], &'a [u8]));
}

impl Fields for [(&str, &str)] {
    fn each<'a>(&'a self, each: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        for (name, value) in self {
            each(name.as_bytes(), value.as_bytes());
        }
    }
}

impl<const N: usize> Fields for [(&str, &str); N] {
    fn each<'a>(&'a self, each: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        self.as_slice().each(each);
    }
}

/// The members of a list (RFC 9110 §5.6.1), without white space around them; commas in quoted strings part nothing.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = value.split(move |byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    });
    parts.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parted_at_commas_outside_of_quotes() {
        let parts: Vec<&[u8]> = members(b" a , b=\"c, d\\\", e\" ,, f").collect();
        assert_eq!(parts, [&b"a"[..], b"b=\"c, d\\\", e\"", b"f"]);
        assert_eq!(members(b"").count(), 0);
        assert_eq!(members(b"\"open, for ever").count(), 1);
    }
}
