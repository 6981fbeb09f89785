//! `X-Request-Id`: unique in the cluster, made without asking anyone and without an allocation.

use crate::http1::{Fields, Name, hex};
use std::cell::Cell;

/// 16 hexadecimal digits of the worker's random prefix, then 16 of a counter.
const LENGTH: usize = 32;

/// The longest id that is taken over.
const GIVEN_MAX: usize = 128;

/// The id that a request came with, for requests from a proxy that is trusted: there is one, up to 128 bytes long, of letters,
/// digits and `-_.:=+/@`. Anything else is as good as none.
pub(crate) fn given(fields: &Fields) -> Option<&[u8]> {
    let mut lines = fields.all(Name::RequestId);
    let only = lines.next().filter(|_| lines.next().is_none())?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/@".contains(byte);
    ((1..=GIVEN_MAX).contains(&only.len()) && only.iter().all(plain)).then_some(only)
}

/// A worker's source of request ids.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: [u8; LENGTH / 2],
    next: Cell<u64>,
}

impl RequestIds {
    /// A source with a new random prefix.
    pub(crate) fn new() -> Self {
        Self { prefix: hex(rand::random()), next: Cell::new(0) }
    }

    /// The next id.
    pub(crate) fn next(&self) -> [u8; LENGTH] {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let mut id = [0; LENGTH];
        let (prefix, count) = id.split_at_mut(LENGTH / 2);
        prefix.copy_from_slice(&self.prefix);
        count.copy_from_slice(&hex(number));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_within_and_between_workers() {
        let workers = [RequestIds::new(), RequestIds::new()];
        let ids: HashSet<_> =
            workers.iter().flat_map(|worker| (0..1000).map(|_| worker.next()).collect::<Vec<_>>()).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == LENGTH));
    }

    #[test]
    fn one_plain_id_is_taken_over() {
        let taken = |values: &[&str]| {
            let mut fields = Fields::default();
            values.iter().for_each(|it| fields.push(Name::RequestId, b"X-Request-Id", it.as_bytes()));
            given(&fields).map(|id| String::from_utf8(id.to_vec()).unwrap())
        };
        for good in ["x", "0b7e-_.:=+/@", &"a".repeat(128)] {
            assert_eq!(taken(&[good]).as_deref(), Some(good));
        }
        for bad in ["", "a b", "a\"b", "a,b", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(taken(&[bad]), None, "{bad}");
        }
        assert_eq!(taken(&[]), None);
        assert_eq!(taken(&["a", "b"]), None);
    }
}
