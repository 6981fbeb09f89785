//! `X-Request-Id`: unique in the cluster, made without asking anyone and almost without an allocation.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use std::cell::{Cell, RefCell};

/// 16 hexadecimal digits of the worker's random prefix, then 16 of a counter.
const LENGTH: usize = 32;

/// Ids are cut from blocks of this many, so that one allocation serves them all.
const BLOCK: usize = 128;

/// A worker's source of request ids.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: [u8; LENGTH / 2],
    next: Cell<u64>,
    block: RefCell<BytesMut>,
}

impl RequestIds {
    /// A source with a new random prefix.
    pub(crate) fn new() -> Self {
        Self { prefix: hex(rand::random()), next: Cell::new(0), block: RefCell::default() }
    }

    /// The number of the next id.
    pub(crate) fn next(&self) -> u64 {
        self.next.replace(self.next.get().wrapping_add(1))
    }

    /// The id with this number.
    pub(crate) fn id(&self, number: u64) -> HeaderValue {
        let mut block = self.block.borrow_mut();
        if block.capacity() < LENGTH {
            *block = BytesMut::with_capacity(LENGTH * BLOCK);
        }
        block.extend_from_slice(&self.prefix);
        block.extend_from_slice(&hex(number));
        let id: Bytes = block.split().freeze();
        HeaderValue::from_maybe_shared(id).expect("hexadecimal digits are a header value")
    }
}

fn hex(number: u64) -> [u8; LENGTH / 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|place| DIGITS[(number >> (60 - 4 * place)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_within_and_between_workers() {
        let workers = [RequestIds::new(), RequestIds::new()];
        let ids: HashSet<_> = workers
            .iter()
            .flat_map(|worker| (0..1000).map(|_| worker.id(worker.next())).collect::<Vec<_>>())
            .collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == LENGTH));
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(&hex(0x0123_4567_89ab_cdef), b"0123456789abcdef");
    }
}
