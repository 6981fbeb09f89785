//! Tests of the choice among servers: time is an argument.

use super::*;
use crate::tests::cluster::{IDS, cluster, server};
use common::{id::ServerIndex, session_id::SessionId};
use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};
use proto::hub::v1::{MemberAdmin, MemberState};
use std::time::Duration;

fn weighted(weights: &[u32]) -> Balance {
    let servers = weights.iter().enumerate().map(|(index, weight)| {
        let mut server = server(&format!("app-{index}"), index, 6800);
        server.weight = *weight;
        server
    });
    Balance::new(&cluster("app-tier", servers.collect(), Vec::new()), 1)
}

fn three() -> Balance {
    let servers = IDS.iter().enumerate().map(|(index, id)| server(id, index, 6800)).collect();
    Balance::new(&cluster("app-tier", servers, Vec::new()), 1)
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
    let _ = balance.members_changed(now, &[member(1, MemberState::Down)]);
    assert_ne!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
    let down: Vec<_> = (0..3).map(|index| member(index, MemberState::Down)).collect();
    let _ = balance.members_changed(now, &down);
    assert_eq!(chosen(&mut balance, now, None, Tried::default()), None);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), None);
    let _ = balance.members_changed(now, &[member(1, MemberState::Active)]);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
}

#[test]
fn a_draining_server_keeps_its_sessions_and_gets_no_others() {
    let mut balance = three();
    let now = Instant::now();
    let _ = balance.members_changed(now, &[member(1, MemberState::Draining)]);
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
fn when_only_ejected_ones_are_left_they_share() {
    let mut balance = weighted(&[100; 4]);
    let now = Instant::now();
    for (index, seconds) in [(0, 20), (1, 10), (2, 40)] {
        balance.server(index).eject(now, Some(now + Duration::from_secs(seconds)));
    }
    balance.server(3).connect_failed(now);
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection, Strategy::Adaptive] {
        let mut tickets = Vec::new();
        let mut counts = [0; 4];
        for _ in 0..30 {
            let index = balance.choose(now, None, strategy, Tried::default()).unwrap();
            tickets.push((index, balance.server(index).begin(now)));
            counts[index] += 1;
        }
        assert_eq!(counts, [10, 10, 10, 0], "{strategy:?}");
        tickets.into_iter().for_each(|(index, ticket)| balance.server(index).end(ticket));
    }
    assert_eq!(
        chosen(&mut balance, now, None, tried(&[0, 1, 2])),
        Some(3),
        "who can't be reached comes last"
    );
}

#[test]
fn round_robin_is_smooth_and_weighted() {
    let mut balance = weighted(&[5, 1, 1]);
    let now = Instant::now();
    let turns: Vec<_> = (0..7).filter_map(|_| chosen(&mut balance, now, None, Tried::default())).collect();
    assert_eq!(turns, [0, 0, 0, 1, 2, 0, 0]);
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

fn counts(balance: &mut Balance, now: Instant, strategy: Strategy, requests: usize) -> Vec<usize> {
    let mut counts = vec![0; balance.servers.len()];
    for _ in 0..requests {
        let index = balance.choose(now, None, strategy, Tried::default()).unwrap();
        counts[index] += 1;
    }
    counts
}

/// One answer, `millis` after the request.
fn answer(balance: &mut Balance, index: usize, now: Instant, millis: u64, status: u16) {
    let mut ticket = balance.server(index).begin(now);
    balance.answered(index, now + Duration::from_millis(millis), &mut ticket, status);
    balance.server(index).end(ticket);
}

fn administered(index: usize, admin: MemberAdmin) -> Member {
    Member { admin: admin.into(), ..member(index, MemberState::Active) }
}

#[test]
fn a_disabled_server_gets_nothing_and_a_soft_disabled_one_its_own_sessions_alone() {
    let mut balance = three();
    let now = Instant::now();
    let members = [administered(0, MemberAdmin::Disabled), administered(1, MemberAdmin::DisabledSoft)];
    assert_eq!(balance.members_changed(now, &members), [Sockets::Retire, Sockets::Keep, Sockets::Keep]);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
    assert_eq!(chosen(&mut balance, now, Some("aaX"), Tried::default()), Some(2));
    assert_eq!(counts(&mut balance, now, Strategy::Adaptive, 9), [0, 0, 9]);
    assert_eq!(counts(&mut balance, now, Strategy::RoundRobin, 9), [0, 0, 9]);
    assert_eq!(chosen(&mut balance, now, None, tried(&[2])), None, "an administrator's word binds");
    balance.server(1).connect_failed(now);
    assert_eq!(chosen(&mut balance, now, Some("baX"), tried(&[2])), Some(1), "its own, rather than nobody");
    assert_eq!(chosen(&mut balance, now, Some("aaX"), tried(&[2])), None);
}

#[test]
fn a_busy_server_keeps_its_sessions_for_one_window_and_gets_nothing_new() {
    let mut balance = three();
    let now = Instant::now();
    answer(&mut balance, 1, now, 0, 503);
    assert_eq!(chosen(&mut balance, now, Some("baX"), Tried::default()), Some(1));
    for strategy in [Strategy::Adaptive, Strategy::LeastConnection, Strategy::RoundRobin] {
        assert_eq!(counts(&mut balance, now, strategy, 6)[1], 0);
    }
    let later = now + Duration::from_secs(1);
    answer(&mut balance, 1, later, 0, 503);
    assert_ne!(chosen(&mut balance, later, Some("baX"), Tried::default()), Some(1));
    answer(&mut balance, 0, later, 0, 503);
    answer(&mut balance, 2, later, 0, 503);
    for strategy in [Strategy::Adaptive, Strategy::LeastConnection] {
        assert_eq!(counts(&mut balance, later, strategy, 9), [3, 3, 3], "all busy: all get their share");
    }
    assert_eq!(chosen(&mut balance, later, Some("baX"), tried(&[0, 2])), Some(1));
}

#[test]
fn one_that_has_just_come_gets_a_rising_share() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection, Strategy::Adaptive] {
        let mut balance = three();
        let now = Instant::now();
        let _ = balance.server(1).health_changed(now, false);
        let _ = balance.server(1).health_changed(now, true);
        let mut shares = Vec::new();
        for step in 0..18 {
            let now = now + Duration::from_millis(3750) * step;
            let mut tickets = Vec::new();
            for _ in 0..300 {
                let index = balance.choose(now, None, strategy, Tried::default()).unwrap();
                tickets.push((index, balance.server(index).begin(now)));
            }
            shares.push(tickets.iter().filter(|(index, _)| *index == 1).count());
            tickets.into_iter().for_each(|(index, ticket)| balance.server(index).end(ticket));
        }
        assert_eq!((shares[0], shares[4]), (1, 2), "{strategy:?}: Resin's table: {shares:?}");
        assert!(shares.is_sorted(), "{strategy:?}: {shares:?}");
        assert_eq!(shares[17], 100, "{strategy:?}: {shares:?}");
    }
}

#[test]
fn adaptive_gives_less_to_the_slow_and_to_the_busy_machine() {
    let now = Instant::now();
    let held = |balance: &mut Balance| {
        let mut counts = [0_u32; 3];
        for _ in 0..300 {
            let index = balance.choose(now, None, Strategy::Adaptive, Tried::default()).unwrap();
            let _held = balance.server(index).begin(now);
            counts[index] += 1;
        }
        counts
    };
    let mut balance = three();
    for _ in 0..50 {
        for (index, millis) in [(0, 5), (1, 5), (2, 60)] {
            answer(&mut balance, index, now, millis, 200);
        }
    }
    let [one, two, slow] = held(&mut balance);
    assert!(one.abs_diff(two) <= 1 && slow * 3 < one * 2 && slow > 30, "{one} {two} {slow}");
    let mut balance = three();
    let loaded = Member { cpu_load: Some(1000), ..member(2, MemberState::Active) };
    let _ = balance.members_changed(now, &[loaded]);
    let [one, two, busy] = held(&mut balance);
    assert!(one.abs_diff(two) <= 1 && (one / 5..=one / 3).contains(&busy), "{one} {two} {busy}");
}

#[test]
fn a_cookie_finds_its_backend_and_every_web_tier_the_same_backup() {
    let mut balance = three();
    let now = Instant::now();
    let of_one = Affinity::Server { index: 1, key: "user" };
    let choose = |balance: &mut Balance, affinity, tried| {
        balance.choose_for(now, affinity, Strategy::RoundRobin, tried)
    };
    assert_eq!(choose(&mut balance, of_one, Tried::default()), Some(1));
    let backup = choose(&mut balance, of_one, tried(&[1]));
    assert_eq!(backup, rendezvous::choose("user", [("app-a", 0), ("app-c", 2)]));
    let _ = balance.server(1).health_changed(now, false);
    assert_eq!(choose(&mut balance, of_one, Tried::default()), backup);
    let gone = Affinity::Server { index: 7, key: "user" };
    assert_eq!(choose(&mut balance, gone, Tried::default()), backup);
    let alike = choose(&mut three(), Affinity::Key("user"), Tried::default());
    assert_eq!(alike, rendezvous::choose("user", [("app-a", 0), ("app-b", 1), ("app-c", 2)]));
    assert!(choose(&mut three(), Affinity::None, Tried::default()).is_some());
}

#[test]
fn who_is_bound_to_a_server_leaves_it_only_if_it_can_not_be_reached() {
    let began = Instant::now();
    let key = |index| (0..).map(|n| format!("k{n}")).find(|key| at(key) == Some(index)).unwrap();
    fn at(key: &str) -> Option<usize> {
        three().choose_for(Instant::now(), Affinity::Key(key), Strategy::RoundRobin, Tried::default())
    }
    let of_one = key(1);
    for affinity in [Affinity::Server { index: 1, key: "user" }, Affinity::Key(&of_one)] {
        let mut balance = three();
        let chosen = |balance: &mut Balance, now, tried| {
            balance.choose_for(now, affinity, Strategy::RoundRobin, tried)
        };
        // It says nothing but 503, for a minute.
        for second in 0..60 {
            let now = began + Duration::from_secs(second);
            answer(&mut balance, 1, now, 0, 503);
            assert_eq!(chosen(&mut balance, now, Tried::default()), Some(1), "{second}");
        }
        assert_ne!(chosen(&mut balance, began, tried(&[1])), Some(1));
        let mut balance = three();
        let ticket = balance.server(1).begin(began);
        assert!(balance.server(1).read_failed(began, &ticket), "its connections break");
        assert_eq!(chosen(&mut balance, began, Tried::default()), Some(1));
        balance.server(1).connect_failed(began);
        assert_ne!(chosen(&mut balance, began, Tried::default()), Some(1), "nobody listens");
        let later = began + Duration::from_secs(1);
        assert_eq!(chosen(&mut balance, later, Tried::default()), Some(1), "its window is over");
        let _ = balance.server(1).health_changed(later, false);
        assert_ne!(chosen(&mut balance, later, Tried::default()), Some(1), "checks say that it is down");
    }
}

proptest! {
    #[test]
    fn whatever_the_servers_are_like_the_choice_is_the_best_there_is(
        kinds in proptest::collection::vec(0_u8..7, 1..30), strategy in 0_usize..3, home in 0_u16..30, seed: [u8; 22],
    ) {
        let mut balance = weighted(&vec![100; kinds.len()]);
        let now = Instant::now();
        let member = |(index, kind): (usize, &u8)| {
            let state = [MemberState::Active, MemberState::Draining, MemberState::Down][usize::from(*kind % 3)];
            let admin = if *kind == 6 { MemberAdmin::DisabledSoft } else { MemberAdmin::Enabled };
            Member { id: format!("app-{index}"), started_ms: 1, state: state.into(), admin: admin.into(), ..Member::default() }
        };
        let members: Vec<_> = kinds.iter().enumerate().map(member).collect();
        let _ = balance.members_changed(now, &members);
        // Kinds: 0 well, 1 draining, 2 down, 3 failing, 4 draining and busy, 5 down, 6 soft-disabled.
        for (index, kind) in kinds.iter().enumerate() {
            match kind {
                3 => { balance.server(index).connect_failed(now); }
                4 => answer(&mut balance, index, now, 0, 503),
                _ => {}
            }
        }
        let strategy = [Strategy::RoundRobin, Strategy::Adaptive, Strategy::LeastConnection][strategy];
        let best = [&[0_u8][..], &[1, 4], &[3]].into_iter().find(|group| kinds.iter().any(|it| group.contains(it)));
        for _ in 0..3 {
            let chosen = balance.choose(now, None, strategy, Tried::default());
            match (chosen, best) {
                (Some(index), Some(best)) => prop_assert!(best.contains(&kinds[index]), "{}", kinds[index]),
                (None, None) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let id = SessionId::generate(ServerIndex(home), |bytes| bytes.copy_from_slice(&seed));
        let chosen = balance.choose(now, Some(id.as_str()), strategy, Tried::default());
        if matches!(kinds.get(usize::from(home)), Some(0 | 1 | 4 | 6)) {
            prop_assert_eq!(chosen, Some(usize::from(home)));
        }
        prop_assert!(chosen.is_none_or(|it| kinds[it] != 6 || it == usize::from(home)));
    }

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

/// Three servers, of which the last is a backup.
fn with_backup() -> Balance {
    let backends = IDS.iter().enumerate().map(|(index, id)| {
        let backend = Backend::from(&server(id, index, 6800));
        Backend { backup: index == 2, ..backend }
    });
    Balance::of(backends, 1)
}

#[test]
fn a_backup_rests_while_another_can_take_a_request() {
    let now = Instant::now();
    for strategy in [Strategy::RoundRobin, Strategy::LeastConnection, Strategy::Adaptive] {
        let mut balance = with_backup();
        let choose = |balance: &mut Balance, tried| balance.choose_for(now, Affinity::None, strategy, tried);
        for _ in 0..20 {
            assert_ne!(choose(&mut balance, Tried::default()), Some(2), "{strategy:?}");
        }
        assert_eq!(choose(&mut balance, tried(&[0, 1])), Some(2), "{strategy:?}: both have failed it");
        balance.server(0).connect_failed(now);
        assert_eq!(choose(&mut balance, Tried::default()), Some(1), "{strategy:?}");
        balance.server(1).connect_failed(now);
        assert_eq!(choose(&mut balance, Tried::default()), Some(2), "{strategy:?}");
        // When the fail windows of both are over, they are tried again.
        let later = now + Duration::from_secs(60);
        let again = balance.choose_for(later, Affinity::None, strategy, Tried::default());
        assert!(matches!(again, Some(0 | 1)), "{strategy:?}: {again:?}");
    }
}

#[test]
fn a_key_goes_to_one_server_and_to_another_one_while_that_is_away() {
    let now = Instant::now();
    for n in 0..50 {
        let key = format!("key-{n}");
        let of = |balance: &mut Balance, tried| {
            balance.choose_for(now, Affinity::Hash(&key), Strategy::Adaptive, tried)
        };
        let home = rendezvous::choose(&key, [("app-a", 0), ("app-b", 1)]);
        let mut balance = with_backup();
        for _ in 0..3 {
            assert_eq!(of(&mut balance, Tried::default()), home, "the backup is nobody's home");
        }
        let other = 1 - home.unwrap();
        balance.server(home.unwrap()).connect_failed(now);
        assert_eq!(of(&mut balance, Tried::default()), Some(other));
        balance.server(other).connect_failed(now);
        assert_eq!(of(&mut balance, Tried::default()), Some(2));
    }
    assert!(!Affinity::Hash("a").is_bound());
}
