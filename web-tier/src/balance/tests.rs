//! Tests of the choice among servers: time is an argument.

use super::*;
use crate::tests::cluster::{IDS, cluster, server};
use common::{id::ServerIndex, session_id::SessionId};
use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};
use proto::hub::v1::MemberState;
use std::time::Duration;

fn weighted(weights: &[u32]) -> Balance {
    let servers = weights.iter().enumerate().map(|(index, weight)| {
        let mut server = server(&format!("app-{index}"), index, 6800);
        server.weight = *weight;
        server
    });
    Balance::new(&cluster("app-tier", servers.collect(), Vec::new()))
}

fn three() -> Balance {
    let servers = IDS.iter().enumerate().map(|(index, id)| server(id, index, 6800)).collect();
    Balance::new(&cluster("app-tier", servers, Vec::new()))
}

fn tried(servers: &[usize]) -> Tried {
    let mut tried = Tried::default();
    servers.iter().for_each(|server| tried.add(*server));
    tried
}

fn member(index: usize, state: MemberState) -> Member {
    let mut member = Member { id: IDS[index].to_owned(), started_ms: 1, ..Member::default() };
    member.set_state(state);
    member
}

fn chosen(balance: &mut Balance, now: Instant, session: Option<&str>, tried: Tried) -> Option<usize> {
    balance.choose(now, session, Strategy::RoundRobin, tried)
}

#[test]
fn a_session_goes_home() {
    let mut balance = three();
    let now = Instant::now();
    for _ in 0..10 {
        assert_eq!(chosen(&mut balance, now, Some("baXYZ"), Tried::default()), Some(1));
        assert_eq!(chosen(&mut balance, now, Some("c"), Tried::default()), Some(2));
    }
}

#[test]
fn every_web_tier_chooses_the_same_backup_and_keeps_to_it() {
    let now = Instant::now();
    for n in 0..100 {
        let id = format!("ba{n}");
        let expected = rendezvous::choose(&id, [("app-a", 0), ("app-c", 2)]);
        for turn in 0..3 {
            let mut balance = three();
            balance.turn = turn;
            balance.server(1).connect_failed(now);
            assert_eq!(chosen(&mut balance, now, Some(&id), Tried::default()), expected);
        }
        assert_eq!(chosen(&mut three(), now, Some(&id), tried(&[1])), expected);
    }
}

#[test]
fn a_session_of_nobody_goes_by_the_strategy() {
    let mut balance = three();
    let now = Instant::now();
    let all: Vec<_> = (0..3).map(|_| chosen(&mut balance, now, Some("zzz"), Tried::default())).collect();
    assert_eq!(all, [Some(0), Some(1), Some(2)]);
}

#[test]
fn a_server_that_is_known_to_be_down_is_passed_over() {
    let mut balance = three();
    let now = Instant::now();
    let _ = balance.members_changed(&[member(1, MemberState::Down)]);
    assert_ne!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
    let down: Vec<_> = (0..3).map(|index| member(index, MemberState::Down)).collect();
    let _ = balance.members_changed(&down);
    assert_eq!(chosen(&mut balance, now, None, Tried::default()), None);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), None);
    let _ = balance.members_changed(&[member(1, MemberState::Active)]);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
}

#[test]
fn a_draining_server_keeps_its_sessions_and_gets_no_others() {
    let mut balance = three();
    let now = Instant::now();
    let _ = balance.members_changed(&[member(1, MemberState::Draining)]);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
    for _ in 0..6 {
        assert_ne!(chosen(&mut balance, now, None, Tried::default()), Some(1));
    }
    assert_eq!(chosen(&mut balance, now, None, tried(&[0, 2])), Some(1), "rather than nobody");
}

#[test]
fn when_none_is_well_the_window_that_ends_first_is_tried() {
    let mut balance = three();
    let now = Instant::now();
    for (index, millis) in [(2, 0), (0, 10), (1, 20)] {
        balance.server(index).connect_failed(now + Duration::from_millis(millis));
    }
    let now = now + Duration::from_millis(20);
    assert_eq!(chosen(&mut balance, now, None, Tried::default()), Some(2));
    assert_eq!(chosen(&mut balance, now, Some("baX"), tried(&[2])), Some(0));
    assert_eq!(chosen(&mut balance, now, None, tried(&[0, 1, 2])), None);
}

#[test]
fn round_robin_is_smooth_and_weighted() {
    let mut balance = weighted(&[5, 1, 1]);
    let now = Instant::now();
    let turns: Vec<_> = (0..7).filter_map(|_| chosen(&mut balance, now, None, Tried::default())).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_least_loaded_is_taken_and_equals_take_turns() {
    let mut balance = weighted(&[100, 100, 200]);
    let now = Instant::now();
    let mut tickets = Vec::new();
    let mut counts = [0; 3];
    for _ in 0..40 {
        let index = balance.choose(now, None, Strategy::Adaptive, Tried::default()).unwrap();
        tickets.push((index, balance.server(index).begin(now)));
        counts[index] += 1;
    }
    assert_eq!(counts, [10, 10, 20]);
    let mut balance = three();
    let turns: Vec<_> = (0..6)
        .filter_map(|_| balance.choose(now, None, Strategy::LeastConnection, Tried::default()))
        .collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_lone_server_is_tried_whatever_its_window_says() {
    let mut balance = weighted(&[1]);
    let now = Instant::now();
    balance.server(0).connect_failed(now);
    assert_eq!(chosen(&mut balance, now, None, Tried::default()), Some(0));
    assert_eq!(chosen(&mut balance, now, None, tried(&[0])), None);
}

proptest! {
    #[test]
    fn a_well_server_is_always_found(
        bad in proptest::collection::vec(any::<bool>(), 1..12), seed: [u8; 22], home in 0_u16..12, strategy in 0_usize..2,
    ) {
        let mut balance = weighted(&vec![100; bad.len()]);
        let now = Instant::now();
        for (index, bad) in bad.iter().enumerate() {
            if *bad {
                balance.server(index).connect_failed(now);
            }
        }
        let id = SessionId::generate(ServerIndex(home), |bytes| bytes.copy_from_slice(&seed));
        let strategy = [Strategy::RoundRobin, Strategy::Adaptive][strategy];
        for session in [None, Some(id.as_str())] {
            let index = balance.choose(now, session, strategy, Tried::default()).unwrap();
            prop_assert!(!bad[index] || bad.iter().all(|bad| *bad));
        }
        if bad.get(usize::from(home)) == Some(&false) {
            let chosen = balance.choose(now, Some(id.as_str()), strategy, Tried::default());
            prop_assert_eq!(chosen, Some(usize::from(home)));
        }
    }
}
