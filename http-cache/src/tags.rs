//! The names by which an answer can be purged: `Surrogate-Key` with white space between, `Cache-Tag` with commas.

use crate::Fields;

/// The most names of an answer.
const COUNT_MAX: usize = 256;

/// The longest name, in bytes.
const LENGTH_MAX: usize = 256;

/// The names of an answer; `None`: more or longer ones than are kept, or one that is no UTF-8. It could not be purged by all of them.
pub fn tags(fields: &(impl Fields + ?Sized)) -> Option<Box<[Box<str>]>> {
    let mut tags: Vec<Box<str>> = Vec::new();
    let mut is_known = true;
    fields.each(&mut |name, value| {
        let by_comma = name.eq_ignore_ascii_case(b"cache-tag");
        if !by_comma && !name.eq_ignore_ascii_case(b"surrogate-key") {
            return;
        }
        let parts = value.split(|it| if by_comma { *it == b',' } else { it.is_ascii_whitespace() });
        for part in parts.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty()) {
            match str::from_utf8(part) {
                Ok(tag) if tag.len() <= LENGTH_MAX && tags.len() < COUNT_MAX => tags.push(tag.into()),
                _ => is_known = false,
            }
        }
    });
    is_known.then(|| tags.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parted_by_white_space_or_commas() {
        let fields =
            [("Surrogate-Key", "a  b"), ("Cache-Tag", "c d, ,e"), ("X-Tag", "f"), ("surrogate-key", "g")];
        assert_eq!(
            tags(&fields).unwrap().iter().map(|it| &**it).collect::<Vec<_>>(),
            ["a", "b", "c d", "e", "g"]
        );
        assert_eq!(tags(&[("date", "x")]).unwrap().len(), 0);
    }

    #[test]
    fn an_answer_with_names_that_are_not_kept_has_none() {
        let many = |count: usize| (0..count).map(|it| it.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(tags(&[("surrogate-key", &*many(COUNT_MAX))]).unwrap().len(), COUNT_MAX);
        assert_eq!(tags(&[("surrogate-key", &*many(COUNT_MAX + 1))]), None);
        assert_eq!(tags(&[("cache-tag", &*"x".repeat(LENGTH_MAX + 1))]), None);
    }
}
