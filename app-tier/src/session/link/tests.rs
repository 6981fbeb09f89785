//! What is believed when.

use super::*;
use common::clock::ManualClock;
use futures_util::FutureExt;
use proto::hub::v1::{Alive, SessionMoved, Snapshot};

fn link() -> (Arc<ManualClock>, Link) {
    let clock = Arc::new(ManualClock::new(0));
    (clock.clone(), Link::new(clock, true))
}

fn alive(link: &Link) -> Option<u64> {
    link.heard(&event::Event::Alive(Alive {}));
    link.current()
}

const STEP: Duration = Pulse::INTERVAL;
const CURRENT: Duration = Pulse::CURRENT;
const NOBODY: Witness = Witness { at: None, hears: false };

#[test]
fn is_current_while_alives_come() {
    let (clock, link) = link();
    assert_eq!(alive(&link), None, "the first may have waited in a buffer");
    clock.advance(STEP);
    assert_eq!(alive(&link), Some(0));
    clock.advance(CURRENT);
    assert_eq!(link.current(), Some(0));
    clock.advance(Duration::from_millis(1));
    assert_eq!(link.current(), None);
}

#[test]
fn a_snapshot_starts_a_new_epoch() {
    let (clock, link) = link();
    alive(&link);
    link.heard(&event::Event::Snapshot(Snapshot::default()));
    clock.advance(STEP);
    assert_eq!(alive(&link), Some(1));
    assert_eq!(link.epoch(), 1);
}

#[test]
fn after_a_stop_the_buffered_alives_do_not_count() {
    let (clock, link) = link();
    alive(&link);
    clock.advance(STEP);
    assert_eq!(alive(&link), Some(0));
    clock.advance(Duration::from_secs(60));
    for _ in 0..5 {
        assert_eq!(alive(&link), None);
    }
    clock.advance(STEP);
    assert_eq!(
        alive(&link),
        Some(1),
        "this one came live; what others did while there was no hub is to be asked for"
    );
}

#[test]
fn an_alive_that_comes_late_vouches_from_when_it_may_have_been_sent() {
    let (clock, link) = link();
    alive(&link);
    clock.advance(STEP);
    assert_eq!(alive(&link), Some(0));
    // A stall of 250 ms: two more that waited come with the first.
    clock.advance(Duration::from_millis(250));
    for _ in 0..3 {
        assert_eq!(alive(&link), Some(0));
    }
    clock.advance(Duration::from_millis(150));
    assert_eq!(link.current(), Some(0), "100 + 300 ms after the one that came on time");
    clock.advance(Duration::from_millis(1));
    assert_eq!(link.current(), None);
    assert_eq!(alive(&link), Some(0));
}

#[test]
fn other_events_do_not_hide_an_alive() {
    let (clock, link) = link();
    alive(&link);
    clock.advance(STEP);
    link.heard(&event::Event::SessionMoved(SessionMoved::default()));
    assert_eq!(alive(&link), Some(0));
}

#[test]
fn a_lost_hub_is_tried_again_or_heard_again() {
    let (clock, link) = link();
    link.unanswered(false);
    assert!(link.is_lost() && !link.may_wait(NOBODY));
    clock.advance(LOST);
    assert!(link.may_wait(NOBODY), "the first tries");
    assert!(!link.may_wait(NOBODY), "and the others do not wait for it");
    link.unanswered(false);
    link.answered();
    assert!(!link.is_lost());
    link.unanswered(false);
    alive(&link);
    clock.advance(STEP);
    alive(&link);
    assert!(!link.is_lost());
}

#[test]
fn a_return_is_told_once_and_only_after_a_loss() {
    let (clock, link) = link();
    let returned = || link.returned().now_or_never().is_some();
    link.answered();
    alive(&link);
    clock.advance(STEP);
    alive(&link);
    assert!(!returned(), "it was never lost");
    clock.advance(LOST);
    link.unanswered(false);
    assert!(!returned());
    link.answered();
    assert!(returned() && !returned());
    clock.advance(LOST);
    link.unanswered(false);
    alive(&link);
    clock.advance(STEP);
    alive(&link);
    assert!(returned() && !returned());
}

#[test]
fn a_slow_call_says_nothing_while_the_hub_is_heard() {
    let (clock, link) = link();
    alive(&link);
    clock.advance(STEP);
    alive(&link);
    link.unanswered(false);
    assert!(!link.is_lost());
    clock.advance(CURRENT + Duration::from_millis(1));
    link.unanswered(false);
    assert!(link.is_lost());
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A link that was current, then heard nothing for this long.
fn silent_for(silence: Duration) -> (Arc<ManualClock>, Link) {
    let (clock, link) = link();
    alive(&link);
    clock.advance(STEP);
    alive(&link);
    clock.advance(silence);
    (clock, link)
}

#[test]
fn a_web_tier_that_hears_more_outlives_this_servers_word() {
    for (silence, age, outlived) in [
        (300, 0, false),
        (301, 0, false),
        (400, 0, false),
        (401, 0, true),
        (1000, 600, false),
        (1000, 599, true),
        (60_000, 59_700, false),
        (60_000, 50, true),
        (60_000, 70_000, false),
    ] {
        let (_, link) = silent_for(ms(silence));
        let witness = link.witness(Some(ms(age)));
        assert_eq!(link.is_outlived(witness), outlived, "silent for {silence} ms, the web-tier for {age} ms");
    }
    let (_, link) = silent_for(ms(60_000));
    assert!(!link.is_outlived(link.witness(None)));
}

#[test]
fn a_server_that_never_heard_the_hub_knows_as_much_as_when_it_began() {
    let (clock, link) = link();
    clock.advance(ms(5_000));
    assert!(!link.is_outlived(link.witness(Some(ms(4_700)))));
    assert!(link.is_outlived(link.witness(Some(ms(100)))));
}

#[test]
fn before_the_first_event_a_call_that_was_answered_is_a_word_from_the_hub() {
    let (clock, link) = link();
    clock.advance(ms(5_000));
    link.answered();
    clock.advance(ms(300));
    assert!(!link.is_outlived(link.witness(Some(ms(0)))));
    assert_eq!(link.age(), ms(300));
    clock.advance(ms(200));
    assert!(link.is_outlived(link.witness(Some(ms(0)))));
    // Events say more: from the first one on, calls count no longer.
    alive(&link);
    clock.advance(STEP);
    alive(&link);
    clock.advance(ms(1_000));
    link.answered();
    assert!(link.is_outlived(link.witness(Some(ms(0)))));
}

#[test]
fn without_other_servers_nobody_knows_better() {
    let clock = Arc::new(ManualClock::new(0));
    let link = Link::new(clock.clone(), false);
    clock.advance(ms(60_000));
    assert!(!link.is_outlived(link.witness(Some(ms(0)))));
}

#[test]
fn a_witness_counts_for_its_own_request_and_for_a_second_for_the_others() {
    let (clock, link) = silent_for(ms(5_000));
    let witness = link.witness(Some(ms(50)));
    link.witness(Some(ms(4_900)));
    assert!(link.is_outlived(NOBODY), "another web-tier that hears less does not take it back");
    clock.advance(FRESH + ms(1));
    assert!(link.is_outlived(witness));
    assert!(!link.is_outlived(NOBODY));
    assert!(!link.is_outlived(link.witness(Some(ms(6_000)))));
}

#[test]
fn when_a_web_tier_hears_the_hub_all_may_wait_until_one_has_tried_in_vain() {
    let (clock, link) = silent_for(ms(60_000));
    link.unanswered(false);
    assert!(!link.may_wait(NOBODY), "lost for all");
    let witness = link.witness(Some(ms(20)));
    assert!(link.may_wait(witness) && link.may_wait(witness), "it is back");
    link.unanswered(true);
    assert!(!link.may_wait(witness), "not for this server");
    clock.advance(LOST);
    let witness = link.witness(Some(ms(20)));
    assert!(link.may_wait(witness) && !link.may_wait(witness), "one tries");
    link.answered();
    link.unanswered(false);
    assert!(link.may_wait(witness), "it was there meanwhile");
}
