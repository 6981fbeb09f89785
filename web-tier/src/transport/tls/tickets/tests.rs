//! Tickets by themselves; `tls/tests/resumption.rs` has them in handshakes.

use super::*;
use common::clock::ManualClock;
use proptest::prelude::*;

const NONE: Context = [0; 32];
const V13: &[u8] = b"\x01\x04host\x03\x04 the rest of a session";
const V12: &[u8] = b"\x01\x04host\x03\x03 the rest of a session";

fn secret() -> Secret {
    Secret::from(b"0123456789abcdef0123456789abcdef".as_slice())
}

/// Keys, and the clock that they go by, which stands in the middle of an epoch.
fn keys(secret: &Secret) -> (TicketKeys, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(60_000 * EPOCH.as_secs() * 1000 + EPOCH.as_secs() * 500));
    (TicketKeys::new(secret, clock.clone()), clock)
}

#[test]
fn any_server_of_the_cluster_opens_a_ticket() {
    let ((one, _), (other, _)) = (keys(&secret()), keys(&secret()));
    let ticket = one.seal(&NONE, V13).unwrap();
    assert_eq!(other.open(&NONE, &ticket).as_deref(), Some(V13));
    let (stranger, _) = keys(&Secret::from(b"another key of 16 bytes or more".as_slice()));
    assert_eq!(stranger.open(&NONE, &ticket), None);
    assert_ne!(one.seal(&NONE, V13), one.seal(&NONE, V13), "each has a salt of its own");
}

#[test]
fn a_ticket_is_good_for_this_epoch_and_the_next() {
    for session in [V13, V12] {
        let (keys, clock) = keys(&secret());
        let ticket = keys.seal(&NONE, session).unwrap();
        clock.advance(EPOCH);
        assert_eq!(keys.open(&NONE, &ticket).as_deref(), Some(session));
        let newer = keys.seal(&NONE, session).unwrap();
        clock.advance(EPOCH);
        assert_eq!(keys.open(&NONE, &ticket), None);
        assert_eq!(keys.open(&NONE, &newer).as_deref(), Some(session));
        clock.advance(EPOCH * 5);
        assert_eq!(keys.open(&NONE, &newer), None);
    }
}

#[test]
fn a_clock_that_is_ahead_on_one_server_does_no_harm() {
    let ((early, _), (late, clock)) = (keys(&secret()), keys(&secret()));
    clock.advance(EPOCH);
    let ticket = late.seal(&NONE, V13).unwrap();
    assert_eq!(early.open(&NONE, &ticket).as_deref(), Some(V13));
    clock.advance(EPOCH);
    let ticket = late.seal(&NONE, V13).unwrap();
    assert_eq!(early.open(&NONE, &ticket), None);
}

#[test]
fn tls12_sessions_are_never_under_the_clusters_key() {
    let ((one, _), (other, _)) = (keys(&secret()), keys(&secret()));
    for session in [V12, b"\x00\x03\x03 rest", b"\x02\x03\x04", b"", b"\x01", b"\x01\xff\x03\x04"] {
        let ticket = one.seal(&NONE, session).unwrap();
        assert_eq!(ticket[0], LOCAL);
        assert_eq!(one.open(&NONE, &ticket).as_deref(), Some(session));
        assert_eq!(other.open(&NONE, &ticket), None);
    }
    assert_eq!(one.seal(&NONE, b"\x00\x03\x04 rest").unwrap()[0], SHARED);
}

#[test]
fn without_a_cluster_key_tickets_are_of_one_process() {
    let ((one, clock), (other, _)) = (keys(&Secret::default()), keys(&Secret::default()));
    let ticket = one.seal(&NONE, V13).unwrap();
    clock.advance(EPOCH);
    assert_eq!(one.open(&NONE, &ticket).as_deref(), Some(V13));
    assert_eq!(other.open(&NONE, &ticket), None);
    assert_eq!(format!("{one:?}"), "TicketKeys(of this process)");
}

#[test]
fn a_ticket_of_a_listener_that_asks_nobody_opens_no_other() {
    let (keys, _) = keys(&secret());
    for session in [V13, V12] {
        let ticket = keys.seal(&NONE, session).unwrap();
        assert_eq!(keys.open(&[1; 32], &ticket), None);
    }
}

#[test]
fn a_ticket_that_was_changed_is_none() {
    let (keys, _) = keys(&secret());
    for session in [V13, V12] {
        let ticket = keys.seal(&NONE, session).unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open(&NONE, &changed), None, "byte {at}");
            assert_eq!(keys.open(&NONE, &ticket[..at]), None, "{at} bytes");
        }
        assert_eq!(keys.open(&NONE, &[ticket.as_slice(), &[0]].concat()), None);
    }
    assert_eq!(keys.open(&NONE, &vec![1; TICKET_MAX + 1]), None);
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..4) {
        let (keys, clock) = keys(&secret());
        let forged = [&[kind], &epoch(&*clock).to_be_bytes()[..], &bytes].concat();
        prop_assert_eq!(keys.open(&NONE, &bytes), None);
        prop_assert_eq!(keys.open(&NONE, &forged), None);
    }
}
