//! Connection ids that name the worker that has the connection: a packet that comes to another one, because the client has a new
//! address and the kernel goes by that, is passed on (docs/decisions/0026-http3.md).
//!
//! An id is `nonce ‖ worker ‖ tag`, and the last two are covered by a hash of the nonce under a key of the process: who watches can't
//! tell the workers apart, nor two ids of one connection (RFC 9000 §9.5).

use quinn::{ConnectionId, ConnectionIdGenerator};
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const NONCE: usize = 5;
const WORKER: usize = 2;
const TAG: usize = 2;

/// How long an id is.
pub(super) const LENGTH: usize = NONCE + WORKER + TAG;

/// The ids of one worker.
#[derive(Debug, Clone)]
pub(super) struct ConnectionIds {
    key: RandomState,
    worker: u16,
}

impl ConnectionIds {
    /// Of a `worker` of those that share the `key`.
    pub(super) fn new(key: RandomState, worker: u16) -> Self {
        Self { key, worker }
    }

    /// Whether they are this worker's.
    pub(super) fn are_of(&self, worker: u16) -> bool {
        self.worker == worker
    }

    /// Whose connection's id it is, if it is one that these workers have made.
    pub(super) fn worker_of(&self, id: &[u8]) -> Option<u16> {
        let (nonce, rest) = id.split_first_chunk::<NONCE>()?;
        let [worker @ .., t0, t1] = *<&[u8; WORKER + TAG]>::try_from(rest).ok()?;
        let cover = self.cover(*nonce);
        let worker = u16::from_be_bytes([worker[0] ^ cover[0], worker[1] ^ cover[1]]);
        ([t0, t1] == cover[2..]).then_some(worker)
    }

    fn cover(&self, nonce: [u8; NONCE]) -> [u8; WORKER + TAG] {
        let hash = self.key.hash_one(nonce).to_be_bytes();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

/// Any id may be one of a process before this one: what comes for it is answered with a reset, so that nothing is to `validate`.
impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let nonce: [u8; NONCE] = rand::random();
        let [w0, w1] = self.worker.to_be_bytes();
        let [c0, c1, t0, t1] = self.cover(nonce);
        let mut id = [0; LENGTH];
        id[..NONCE].copy_from_slice(&nonce);
        id[NONCE..].copy_from_slice(&[w0 ^ c0, w1 ^ c1, t0, t1]);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The id of the connection that a packet is for, if it may be one of ours (RFC 8999 §5).
pub(super) fn destination(packet: &[u8]) -> Option<&[u8]> {
    match packet {
        [first, rest @ ..] if first & 0x80 == 0 => rest.get(..LENGTH),
        [_, _, _, _, _, length, rest @ ..] if usize::from(*length) == LENGTH => rest.get(..LENGTH),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_worker_to_those_who_know_the_key() {
        let key = RandomState::new();
        for worker in [0, 1, 7, 300, u16::MAX] {
            let mut ids = ConnectionIds::new(key.clone(), worker);
            let (one, other) = (ids.generate_cid(), ids.generate_cid());
            assert_eq!((one.len(), one == other), (LENGTH, false));
            let at_another = ConnectionIds::new(key.clone(), 1);
            assert_eq!(at_another.worker_of(&one), Some(worker));
            assert_eq!(at_another.worker_of(&one[1..]), None);
        }
        let mut ids = ConnectionIds::new(key, 3);
        let foreign = ConnectionIds::new(RandomState::new(), 3);
        let known = (0..1000).filter(|_| foreign.worker_of(&ids.generate_cid()).is_some()).count();
        assert!(known < 5, "one in 65,536 looks like one of ours, not {known} of 1,000");
    }

    #[test]
    fn where_a_packet_goes() {
        let id = [7; LENGTH];
        let short = [&[0x40][..], &id, b"rest"].concat();
        assert_eq!(destination(&short), Some(&id[..]));
        let long = [&[0xc0, 0, 0, 0, 1, 9][..], &id, b"rest"].concat();
        assert_eq!(destination(&long), Some(&id[..]));
        assert_eq!(destination(&[&[0xc0, 0, 0, 0, 1, 8][..], &id].concat()), None, "a client's own");
        for cut in [0, 1, 5, 9] {
            assert_eq!(destination(&short[..cut]), None);
            assert_eq!(destination(&long[..cut]), None);
        }
    }
}
