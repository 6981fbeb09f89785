//! Time without a hub is nobody's idleness.

use super::*;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A hub whose servers read everything, with a session of a minute, at `START_MS`.
fn hub() -> State {
    let mut state = State::default();
    state.apply(Batch { version: TELLS_AWAY, time_ms: START_MS, commands: Vec::new() });
    write(&mut state, START_MS, save("s", 0, 1, "a", 60_000));
    state
}

const START_MS: u64 = 1_000_000_000;

/// The leader's marks and its duty, for so long.
fn lives(state: &mut State, ms: u64) {
    for _ in 0..ms / 1000 {
        expire(state, state.time_ms() + 1000, 10);
    }
}

fn returns_after(state: &mut State, ms: u64) {
    assert_eq!(expire(state, state.time_ms() + ms, 10), [], "after {ms} ms");
}

#[test]
fn what_passes_without_a_hub_does_not_count() {
    let mut state = hub();
    lives(&mut state, 50_000);
    returns_after(&mut state, DAY_MS);
    // Ten seconds are left, and ten are given to those who have something to say of it.
    lives(&mut state, 19_000);
    assert!(state.session(&key("s")).is_some());
    assert_eq!(state.next_deadline_ms(), Some(state.time_ms() + 1000));
    lives(&mut state, 1000);
    assert!(state.session(&key("s")).is_none());
    assert_eq!(state.session_count(), 0);
}

/// The sessions' clock goes back a little then: one may be used at the very millisecond in which it was made, after it was used before.
#[test]
fn who_is_as_old_again_as_when_it_was_made_is_counted_as_by_a_server_that_begins_with_a_snapshot() {
    let mut state = hub();
    let use_it = |state: &mut State| {
        let now_ms = state.time_ms();
        write(state, now_ms, Write::Touch(TouchSession { key: Some(key("s")) }));
        let record = state.session(&key("s")).unwrap().record(key("s"));
        assert_eq!(*state.memory(), *through_a_snapshot(state, 100).memory());
        record.accessed_ms - record.created_ms
    };
    lives(&mut state, 2000);
    assert_eq!(use_it(&mut state), 2000);
    returns_after(&mut state, DAY_MS);
    lives(&mut state, 8000);
    assert_eq!(use_it(&mut state), 0);
    lives(&mut state, 1000);
    assert_eq!(use_it(&mut state), 1000);
}

#[test]
fn a_use_that_is_told_then_counts_from_then() {
    let mut state = hub();
    lives(&mut state, 59_000);
    returns_after(&mut state, DAY_MS);
    lives(&mut state, 10_000);
    let now_ms = state.time_ms();
    assert_eq!(
        write(&mut state, now_ms, Write::Touch(TouchSession { key: Some(key("s")) })).0,
        Outcome::Version(1)
    );
    lives(&mut state, 59_000);
    assert!(state.session(&key("s")).is_some());
    lives(&mut state, 1000);
    assert!(state.session(&key("s")).is_none());
}

#[test]
fn each_absence_gives_its_length_and_the_grace_and_no_more() {
    let mut state = hub();
    for _ in 0..5 {
        lives(&mut state, 11_000);
        returns_after(&mut state, AWAY_MS + 1);
    }
    lives(&mut state, 60_000 - 5 * 11_000 + 5 * GRACE_MS - 1000);
    assert!(state.session(&key("s")).is_some());
    lives(&mut state, 1000);
    assert!(state.session(&key("s")).is_none());
}

#[test]
fn an_election_is_no_absence_and_a_leader_that_leads_says_so_in_time() {
    let mut state = hub();
    const { assert!(MARK_MS * 2 < AWAY_MS) };
    assert_eq!(state.unmarked_ms(START_MS + MARK_MS), Some(MARK_MS));
    for _ in 0..59_000 / AWAY_MS {
        returns_after(&mut state, AWAY_MS);
    }
    assert_eq!(expire(&mut state, START_MS + 60_000, 10).len(), 1);
    assert_eq!(state.unmarked_ms(START_MS + DAY_MS), None, "nothing depends on it");
}

#[test]
fn it_is_not_counted_before_all_servers_read_the_version_that_brought_it() {
    let mut state = State::default();
    write(&mut state, START_MS, save("s", 0, 1, "a", 60_000));
    state.apply(Batch { version: TELLS_AWAY, time_ms: START_MS + DAY_MS, commands: Vec::new() });
    assert!(state.session(&key("s")).is_none(), "no mark was written before");
}

#[test]
fn the_minute_in_which_nothing_is_created_again_stands_still_too() {
    let mut state = hub();
    write(&mut state, START_MS, Write::Remove(RemoveSession { key: Some(key("s")) }));
    // A save that creates it waits at a server that could not reach the hub.
    let (outcome, _) = write(&mut state, START_MS + DAY_MS, save("s", 0, 1, "a", 0));
    assert!(matches!(outcome, Outcome::Missing(_)));
    assert_eq!(through_a_snapshot(&state, 1), state);
}
