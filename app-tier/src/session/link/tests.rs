//! What is believed when.

use super::*;
use common::clock::ManualClock;
use futures_util::FutureExt;
use proto::hub::v1::{Alive, Member, MemberLoads, Resumed, SessionMoved, Snapshot};

fn link() -> (Arc<ManualClock>, Link) {
    let clock = Arc::new(ManualClock::new(0));
    (clock.clone(), Link::new(clock, true))
}

/// A sign of life, asked for just now.
fn alive(link: &Link) -> Option<u64> {
    link.heard(&event::Event::Alive(Alive { number: 1 }), Some(link.clock.now()));
    link.current()
}

const CURRENT: Duration = TIMES.believed;
const NOBODY: Witness = Witness { at: None };

#[test]
fn is_current_for_a_while_after_each_sign_of_life() {
    let (clock, link) = link();
    assert_eq!(link.current(), None, "nothing was heard");
    assert_eq!(alive(&link), Some(0));
    clock.advance(CURRENT);
    assert_eq!(link.current(), Some(0));
    clock.advance(ms(1));
    assert_eq!(link.current(), None);
    assert_eq!(alive(&link), Some(0));
}

#[test]
fn a_sign_of_life_counts_from_when_it_was_asked_for() {
    let (clock, link) = link();
    let asked = clock.now();
    clock.advance(CURRENT - ms(50));
    link.heard(&event::Event::Alive(Alive { number: 1 }), Some(asked));
    clock.advance(ms(50));
    assert_eq!(link.current(), Some(0));
    clock.advance(ms(1));
    assert_eq!(link.current(), None);
    // What was kept in a buffer comes now.
    link.heard(&event::Event::Alive(Alive { number: 2 }), Some(asked + ms(1)));
    assert_eq!(link.current(), Some(0));
    link.heard(&event::Event::Alive(Alive { number: 1 }), Some(asked));
    assert_eq!(link.current(), Some(0), "what comes late is not news");
}

#[test]
fn nothing_else_is_a_sign_of_life() {
    let (clock, link) = link();
    alive(&link);
    clock.advance(CURRENT + ms(1));
    for event in [
        event::Event::Resumed(Resumed {}),
        event::Event::Snapshot(Snapshot::default()),
        event::Event::Member(Member::default()),
        event::Event::MemberLoads(MemberLoads::default()),
        event::Event::SessionMoved(SessionMoved::default()),
        event::Event::Alive(Alive { number: 7 }),
    ] {
        link.heard(&event, None);
        assert_eq!(link.current(), None, "{event:?}");
        assert_eq!(link.age(), Some(CURRENT + ms(1)), "{event:?}");
    }
}

#[test]
fn a_snapshot_starts_a_new_epoch() {
    let (_, link) = link();
    alive(&link);
    link.heard(&event::Event::Snapshot(Snapshot::default()), None);
    assert_eq!((link.epoch(), link.current()), (1, Some(1)));
}

#[test]
fn after_a_silence_in_which_others_may_have_gone_on_alone_every_copy_is_asked_for_again() {
    let (clock, link) = link();
    assert_eq!(alive(&link), Some(0), "the first is no silence");
    clock.advance(SILENCE);
    assert_eq!(alive(&link), Some(0));
    clock.advance(SILENCE + ms(1));
    assert_eq!(alive(&link), Some(1));
    // What was asked for before the last one comes late.
    link.heard(&event::Event::Alive(Alive { number: 1 }), Some(clock.now().checked_sub(SILENCE).unwrap()));
    assert_eq!(alive(&link), Some(1));
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
    assert!(!link.is_lost());
}

#[test]
fn a_return_is_told_once_and_only_after_a_loss() {
    let (clock, link) = link();
    let returned = || link.returned().now_or_never().is_some();
    link.answered();
    alive(&link);
    clock.advance(TIMES.ask);
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
    clock.advance(TIMES.ask);
    alive(&link);
    assert!(returned() && !returned());
}

#[test]
fn a_slow_call_says_nothing_while_the_hub_is_heard() {
    let (clock, link) = link();
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
    assert_eq!(link.age(), Some(ms(300)));
    clock.advance(ms(200));
    assert!(link.is_outlived(link.witness(Some(ms(0)))));
    // Events say more: from the first one on, calls count no longer.
    alive(&link);
    clock.advance(ms(1_000));
    link.answered();
    assert!(link.is_outlived(link.witness(Some(ms(0)))));
}

#[test]
fn without_other_servers_nobody_knows_better() {
    let clock = Arc::new(ManualClock::new(0));
    let link = Link::new(clock.clone(), false);
    assert_eq!((link.alone(NOBODY), link.age()), (Alone::Yes, None), "at once");
    alive(&link);
    assert_eq!(link.alone(NOBODY), Alone::NotYet(TIMES.decisive), "the hub lives, and shall have it");
    clock.advance(ms(60_000));
    assert!(!link.is_outlived(link.witness(Some(ms(0)))));
    assert_eq!(link.alone(NOBODY), Alone::Yes);
}

#[test]
fn a_witness_counts_for_its_own_request_and_for_a_second_for_the_others() {
    let (clock, link) = silent_for(ms(5_000));
    let witness = link.witness(Some(ms(50)));
    link.witness(Some(ms(4_900)));
    assert!(link.is_outlived(NOBODY), "another web-tier that hears less does not take it back");
    clock.advance(TIMES.fresh + ms(1));
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

#[test]
fn nobody_goes_on_alone_before_a_web_tier_could_have_found_the_hub_again() {
    let (clock, link) = silent_for(ms(0));
    assert_eq!(link.alone(NOBODY), Alone::NotYet(TIMES.decisive), "the hub is heard");
    clock.advance(CURRENT + ms(1));
    let (passed, witness) = (CURRENT + ms(1), link.witness(Some(ms(200))));
    assert_eq!(link.alone(witness), Alone::NotYet(TIMES.decisive - passed));
    clock.advance(TIMES.decisive - passed - ms(1));
    assert_eq!(link.alone(witness), Alone::NotYet(ms(1)));
    clock.advance(ms(1));
    assert_eq!(link.alone(witness), Alone::Yes);
    let hears = link.witness(Some(TIMES.fail_over));
    assert_eq!(link.alone(hears), Alone::No, "a web-tier has found it");
    assert_eq!(link.alone(NOBODY), Alone::No, "and says so for all");
    clock.advance(TIMES.fresh + ms(1));
    assert_eq!(link.alone(NOBODY), Alone::Yes);
    alive(&link);
    assert_eq!(link.alone(NOBODY), Alone::NotYet(TIMES.decisive));
}
