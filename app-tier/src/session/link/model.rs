//! The witness protocol (docs/witness.md), explored exhaustively: a hub whose leader changes, an app server that has a session in
//! memory, another one that may take it over, a web-tier, links that are cut and heal, and what is under way on them. What decides
//! is the code itself: the server's [`State`](super::State), the watchers' [`Pulse`](triad_client::Pulse), the rules of
//! [`Times`]. Time is discrete and short, so that seconds of a real cluster are a few ticks here.
//!
//! Each fault that the protocol guards against is put back once, and has to be found.

mod search;
mod step;
mod world;

use common::witness::Times;
use search::{Explored, explore};
use std::time::Duration;
use step::{LINKS, Link};
use world::{Rules, World};

const fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks)
}

/// As short as they can be.
static SHORT: Times = Times {
    ask: ticks(1),
    confirmed: ticks(1),
    believed: ticks(1),
    election: ticks(3),
    silence: ticks(2),
    ahead: ticks(1),
    fail_over: ticks(5),
    fresh: ticks(1),
    decisive: ticks(7),
};

/// What the cluster does.
const REAL: Rules = Rules {
    times: &SHORT,
    links: &LINKS,
    unconfirmed_counts: false,
    signs_count_when_they_come: false,
    answers_hide_their_age: false,
    copies_outlive_missed_events: false,
};

/// What it takes that a leader is deposed, and an app server cut off with it.
const LEADERS: &[Link] = &[Link::Hub, Link::AppOld, Link::AppNew];

/// What it takes that an app server misses something, and the hub then dies.
const DEATHS: &[Link] = &[Link::AppOld, Link::All];

fn explored(rules: Rules, cuts: u8) -> Explored {
    // Long enough that a server goes on alone, and is found out; with what it has missed before, a little longer.
    let horizon = if rules.links == DEATHS { 11 } else { 9 };
    explore(World::new(rules, cuts), horizon)
}

/// The shortest way to a wrong answer, which has to exist.
fn wrong(rules: Rules, cuts: u8) -> String {
    let explored = explored(rules, cuts);
    explored.wrong.unwrap_or_else(|| panic!("not found among {} states", explored.states))
}

#[test]
fn nobody_sees_an_older_value_than_was_answered() {
    assert!(SHORT.are_safe());
    for (links, cuts) in [(&LINKS[..], 2), (LEADERS, 3), (DEATHS, 3)] {
        let explored = explored(Rules { links, ..REAL }, cuts);
        assert!(explored.wrong.is_none(), "{}", explored.wrong.unwrap_or_default());
        // What is never reached is not checked.
        let Explored { alone, refused, kept_back, .. } = explored;
        assert!(alone.min(refused).min(kept_back) > 0, "{links:?}: {alone}, {refused}, {kept_back}");
    }
}

#[test]
fn a_model_in_which_words_of_an_unconfirmed_leader_count_finds_the_loss() {
    let way = wrong(Rules { unconfirmed_counts: true, links: LEADERS, ..REAL }, 2);
    assert!(way.contains("from memory"), "{way}");
}

#[test]
fn a_model_in_which_signs_count_from_when_they_come_finds_a_read_that_is_too_old() {
    let way = wrong(Rules { signs_count_when_they_come: true, ..REAL }, 2);
    assert!(way.contains("believes"), "{way}");
}

#[test]
fn a_model_in_which_answers_do_not_bear_their_age_finds_the_loss() {
    let way = wrong(Rules { answers_hide_their_age: true, links: LEADERS, ..REAL }, 3);
    assert!(way.contains("from memory"), "{way}");
}

#[test]
fn a_model_in_which_copies_outlive_missed_events_finds_the_loss() {
    let way = wrong(Rules { copies_outlive_missed_events: true, links: DEATHS, ..REAL }, 3);
    assert!(way.contains("from memory"), "{way}");
}

#[test]
fn a_model_with_unsafe_times_finds_the_loss() {
    static HASTY: Times = Times { decisive: ticks(4), ..SHORT };
    static GULLIBLE: Times = Times { confirmed: ticks(3), ..SHORT };
    for times in [&HASTY, &GULLIBLE] {
        assert!(!times.are_safe(), "{times:?}");
        wrong(Rules { times, links: LEADERS, ..REAL }, 3);
    }
}
