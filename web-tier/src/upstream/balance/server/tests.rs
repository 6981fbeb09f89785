//! Tests of one server's state: time is an argument.

use super::*;
use crate::{tests::cluster::server, upstream::balance::Backend};
use proptest::prelude::*;

fn state() -> ServerState {
    ServerState::new(&Backend::from(&server("app-a", 0, 6800)))
}

fn after(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

#[test]
fn a_failed_connect_opens_a_window_that_doubles_up_to_recover_time() {
    let mut now = Instant::now();
    let mut server = state();
    for expected in [1, 2, 4, 8, 15, 15] {
        let ticket = server.begin(now);
        server.connect_failed(now);
        server.end(ticket);
        let end = now + Duration::from_secs(expected);
        assert_eq!(server.standing(now), Standing::Failing(end));
        now = end;
        assert_eq!(server.standing(now), Standing::Probe);
    }
}

#[test]
fn many_failures_at_once_are_one() {
    let now = Instant::now();
    let mut server = state();
    for _ in 0..100 {
        server.connect_failed(now);
    }
    assert_eq!(server.standing(now), Standing::Failing(after(now, 1000)));
}

#[test]
fn one_request_at_a_time_probes_and_its_success_heals() {
    let now = Instant::now();
    let mut server = state();
    server.connect_failed(now);
    let later = after(now, 1000);
    let mut probe = server.begin(later);
    assert!(matches!(server.standing(later), Standing::Failing(_)));
    server.succeeded(later, &mut probe);
    assert_eq!(server.standing(later), Standing::Well);
    server.end(probe);
    server.connect_failed(later);
    assert_eq!(server.standing(later), Standing::Failing(after(later, 1000)), "back to 1 s");
}

#[test]
fn a_probe_that_ends_without_a_word_lets_the_next_one_probe() {
    let now = Instant::now();
    let mut server = state();
    server.connect_failed(now);
    let later = after(now, 1000);
    let probe = server.begin(later);
    server.end(probe);
    assert_eq!(server.standing(later), Standing::Probe);
}

#[test]
fn a_probe_whose_answer_lives_on_has_done_its_duty() {
    let now = Instant::now();
    let mut server = state();
    server.connect_failed(now);
    let later = after(now, 1000);
    let mut stream = server.begin(later);
    server.succeeded(later, &mut stream);
    let failed = after(later, 60_000);
    server.connect_failed(failed);
    assert_eq!(server.standing(failed), Standing::Failing(after(failed, 1000)));
    let later = after(failed, 1000);
    assert_eq!(server.standing(later), Standing::Probe, "the stream is still there");
    let probe = server.begin(later);
    server.end(stream);
    assert!(matches!(server.standing(later), Standing::Failing(_)), "it is another's turn");
    server.end(probe);
    assert_eq!(server.standing(later), Standing::Probe);
}

#[test]
fn a_probe_without_an_answer_is_waited_for_as_long_as_the_window_was() {
    let now = Instant::now();
    let mut server = state();
    server.connect_failed(now);
    server.connect_failed(after(now, 1000));
    let upload = server.begin(after(now, 3000));
    assert!(matches!(server.standing(after(now, 4999)), Standing::Failing(_)));
    let later = after(now, 5000);
    assert_eq!(server.standing(later), Standing::Probe);
    let mut probe = server.begin(later);
    assert!(matches!(server.standing(later), Standing::Failing(_)), "one at a time");
    server.end(upload);
    assert!(matches!(server.standing(later), Standing::Failing(_)), "not its own any more");
    server.succeeded(later, &mut probe);
    assert_eq!(server.standing(later), Standing::Well);
}

#[test]
fn a_new_process_owes_nothing_to_a_probe_of_the_old_one() {
    let now = Instant::now();
    let mut server = state();
    assert_eq!(server.member_seen(now, Some(&member(MemberState::Active, 10))), Sockets::Keep);
    server.connect_failed(now);
    let later = after(now, 1000);
    let _hangs = server.begin(later);
    assert_eq!(server.member_seen(later, Some(&member(MemberState::Active, 11))), Sockets::Break);
    assert_eq!(server.standing(later), Standing::Well);
    server.connect_failed(later);
    assert_eq!(server.standing(after(later, 1000)), Standing::Probe);
}

#[test]
fn a_failed_read_counts_only_if_nothing_succeeded_since() {
    let now = Instant::now();
    let mut server = state();
    let (early, mut other) = (server.begin(now), server.begin(now));
    server.succeeded(now, &mut other);
    server.read_failed(now, &early);
    assert_eq!(server.standing(now), Standing::Well);
    // Its own success, of the head, does not count for a body that breaks.
    server.read_failed(now, &other);
    assert!(matches!(server.standing(now), Standing::Failing(_)));
}

#[test]
fn an_answer_from_before_the_failure_does_not_heal() {
    let now = Instant::now();
    let mut server = state();
    let mut old = server.begin(now);
    server.connect_failed(now);
    server.succeeded(now, &mut old);
    assert!(matches!(server.standing(now), Standing::Failing(_)));
}

fn member(state: MemberState, started_ms: u64) -> Member {
    Member { state: state.into(), started_ms, ..Member::default() }
}

fn administered(admin: MemberAdmin) -> Member {
    Member { admin: admin.into(), ..member(MemberState::Active, 10) }
}

#[test]
fn the_hub_takes_servers_out_and_a_new_process_starts_well() {
    let now = Instant::now();
    let mut server = state();
    let mut seen = |state, started_ms| server.member_seen(now, Some(&member(state, started_ms)));
    assert_eq!(seen(MemberState::Active, 10), Sockets::Keep);
    assert_eq!(seen(MemberState::Down, 10), Sockets::Break);
    assert_eq!(seen(MemberState::Down, 10), Sockets::Keep, "told again");
    assert_eq!(server.standing(now), Standing::Away);
    let seen = |server: &mut ServerState, state, started_ms| {
        server.member_seen(now, Some(&member(state, started_ms)))
    };
    assert_eq!(seen(&mut server, MemberState::Draining, 10), Sockets::Keep);
    assert_eq!((server.standing(now), server.openness()), (Standing::Well, Openness::Draining));
    server.connect_failed(now);
    assert_eq!(seen(&mut server, MemberState::Active, 10), Sockets::Keep);
    assert!(matches!(server.standing(now), Standing::Failing(_)), "the same process");
    assert_eq!(seen(&mut server, MemberState::Active, 11), Sockets::Break, "another process");
    assert_eq!(seen(&mut server, MemberState::Active, 11), Sockets::Keep, "told again");
    assert_eq!(server.standing(now), Standing::Well);
    assert_eq!(seen(&mut server, MemberState::Standby, 11), Sockets::Retire);
    assert_eq!(server.standing(now), Standing::Away);
    assert_eq!(seen(&mut server, MemberState::Down, 11), Sockets::Break);
    assert_eq!(server.member_seen(now, None), Sockets::Keep);
    assert_eq!(server.standing(now), Standing::Well, "an empty hub says nothing");
}

#[test]
fn an_administrators_word_counts_at_once_and_as_long_as_nobody_says_otherwise() {
    let now = Instant::now();
    let mut server = state();
    assert_eq!(server.member_seen(now, Some(&administered(MemberAdmin::DisabledSoft))), Sockets::Keep);
    assert_eq!((server.standing(now), server.openness()), (Standing::Well, Openness::OwnSessions));
    assert_eq!(server.member_seen(now, Some(&administered(MemberAdmin::Disabled))), Sockets::Retire);
    assert_eq!(server.standing(now), Standing::Away);
    assert_eq!(server.member_seen(now, None), Sockets::Keep);
    assert_eq!(
        server.standing(now),
        Standing::Away,
        "the hub has lost its memory, the administrator has not"
    );
    let restarted = Member { started_ms: 11, ..administered(MemberAdmin::Disabled) };
    assert_eq!(server.member_seen(now, Some(&restarted)), Sockets::Break, "the new process is another one");
    assert_eq!(server.standing(now), Standing::Away);
    let later = after(now, 100_000);
    let enabled = Member { started_ms: 11, ..administered(MemberAdmin::Enabled) };
    assert_eq!(server.member_seen(later, Some(&enabled)), Sockets::Keep);
    assert_eq!((server.standing(later), server.openness()), (Standing::Well, Openness::All));
    assert_eq!(server.sixteenths(later), 1, "it warms up");
}

#[test]
fn active_checks_take_a_server_out_and_it_warms_up_when_it_is_back() {
    let now = Instant::now();
    let mut server = state();
    server.connect_failed(now);
    assert_eq!(server.health_changed(now, false), Sockets::Retire);
    assert_eq!(server.health_changed(now, false), Sockets::Keep);
    assert_eq!(server.standing(after(now, 20_000)), Standing::Away);
    assert_eq!(server.health_changed(now, true), Sockets::Keep);
    assert_eq!((server.standing(now), server.sixteenths(now)), (Standing::Well, 1));
}

#[test]
fn one_that_came_back_warms_up_and_one_that_stumbled_does_not() {
    let now = Instant::now();
    let heal = |failures: u64| {
        let (mut server, mut now) = (state(), now);
        for _ in 0..failures {
            server.connect_failed(now);
            now = after(now, 20_000);
        }
        let mut probe = server.begin(now);
        server.succeeded(now, &mut probe);
        server.end(probe);
        (server.standing(now), server.sixteenths(now))
    };
    assert_eq!(heal(1), (Standing::Well, 16), "for a second");
    assert_eq!(heal(2), (Standing::Well, 1));
    let seen = |server: &mut ServerState, started_ms| {
        let _ = server.member_seen(now, Some(&member(MemberState::Active, started_ms)));
        server.sixteenths(now)
    };
    let mut server = state();
    assert_eq!(seen(&mut server, 10), 16, "at first sight it may have been there for days");
    assert_eq!(seen(&mut server, 11), 1, "another process");
    let mut server = state();
    server.connect_failed(now);
    assert_eq!(seen(&mut server, 10), 1, "it was not there a moment ago");
}

#[test]
fn a_503_makes_busy_and_any_other_answer_to_a_later_request_heals() {
    let now = Instant::now();
    let mut server = state();
    let (mut first, mut second, mut old) = (server.begin(now), server.begin(now), server.begin(now));
    assert_eq!(server.answered(now, &mut first, 503), None);
    assert_eq!(server.answered(now, &mut second, 503), None, "many at once are one");
    assert_eq!(server.standing(now), Standing::Busy { own_sessions: true });
    assert!(server.answered(now, &mut old, 200).is_some());
    assert_eq!(server.standing(now), Standing::Busy { own_sessions: true }, "it was on its way already");
    let mut own = server.begin(now);
    assert!(server.answered(after(now, 3), &mut own, 404).is_some());
    assert_eq!(server.standing(now), Standing::Well);
    assert!(!server.read_failed(now, &first), "something has succeeded since");
}

#[test]
fn busy_windows_double_up_to_their_maximum_and_turn_own_sessions_away_from_the_second_on() {
    let mut now = Instant::now();
    let mut server = state();
    for (seconds, own_sessions) in [(1, true), (2, false), (4, false), (8, false), (15, false), (15, false)] {
        let mut request = server.begin(now);
        server.answered(now, &mut request, 503);
        server.end(request);
        assert_eq!(server.standing(now), Standing::Busy { own_sessions }, "{seconds}");
        now = after(now, seconds * 1000);
        assert_eq!(server.standing(now), Standing::Probe);
    }
    let mut probe = server.begin(now);
    assert_eq!(server.standing(now), Standing::Busy { own_sessions: false }, "one at a time");
    server.answered(now, &mut probe, 200);
    server.end(probe);
    assert_eq!(
        (server.standing(now), server.sixteenths(now)),
        (Standing::Well, 16),
        "it was there all the time"
    );
}

#[test]
fn a_failure_and_a_503_begin_a_window_of_their_own() {
    let now = Instant::now();
    let mut server = state();
    let mut request = server.begin(now);
    server.answered(now, &mut request, 503);
    assert!(server.connect_failed(now));
    assert_eq!(server.standing(now), Standing::Failing(after(now, 1000)));
    let later = after(now, 1000);
    let mut probe = server.begin(later);
    server.answered(later, &mut probe, 503);
    server.end(probe);
    assert_eq!(server.standing(later), Standing::Busy { own_sessions: true });
}

#[test]
fn errors_do_not_count_as_fast_answers() {
    let now = Instant::now();
    let mut server = state();
    for (status, counts) in [(200, true), (302, true), (404, true), (500, false), (502, false), (503, false)]
    {
        let mut request = server.begin(now);
        let taken = server.answered(after(now, 7), &mut request, status);
        assert_eq!(taken, counts.then_some(Duration::from_millis(7)), "{status}");
    }
}

#[test]
fn the_cpu_load_weighs_little_until_it_is_high() {
    let loads = [None, Some(0), Some(500), Some(800), Some(900), Some(1000), Some(u32::MAX)];
    let penalties = loads.map(|load| (cpu_penalty(load) * 100.0).round() as u32);
    assert_eq!(penalties, [100, 100, 119, 223, 297, 400, 400]);
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Succeed(usize),
    FailConnect,
    FailRead(usize),
    End(usize),
    Wait(u64),
    Answer(usize, u16),
    Member(i32, u64, i32),
    Health(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Begin),
        2 => any::<usize>().prop_map(Step::Succeed),
        1 => Just(Step::FailConnect),
        1 => any::<usize>().prop_map(Step::FailRead),
        3 => any::<usize>().prop_map(Step::End),
        2 => (0_u64..20_000).prop_map(Step::Wait),
        2 => (any::<usize>(), prop::sample::select(vec![200_u16, 500, 503])).prop_map(|(which, status)| Step::Answer(which, status)),
        1 => (0..5, 0_u64..5, 0..3).prop_map(|(state, started, admin)| Step::Member(state, started, admin)),
        1 => any::<bool>().prop_map(Step::Health),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_one_request_at_a_time_probes_and_windows_end(steps in prop::collection::vec(step(), 0..60)) {
        let mut now = Instant::now();
        let mut server = state();
        let mut tickets: Vec<Ticket> = Vec::new();
        let (mut disabled, mut unhealthy) = (false, false);
        for step in steps {
            let count = tickets.len();
            match step {
                Step::Begin => {
                    let ticket = server.begin(now);
                    let before = tickets.iter().filter(|it| it.probe.is_some() && it.troubles == ticket.troubles);
                    let waited = before.map(|it| now - it.begun).min();
                    prop_assert!(ticket.probe.is_none() || waited.is_none_or(|it| it >= Duration::from_secs(1)));
                    tickets.push(ticket);
                }
                Step::Succeed(which) if count > 0 => server.succeeded(now, &mut tickets[which % count]),
                Step::FailConnect => {
                    server.connect_failed(now);
                }
                Step::FailRead(which) if count > 0 => {
                    server.read_failed(now, &tickets[which % count]);
                }
                Step::End(which) if count > 0 => server.end(tickets.swap_remove(which % count)),
                Step::Wait(millis) => now = after(now, millis),
                Step::Answer(which, status) if count > 0 => {
                    server.answered(now, &mut tickets[which % count], status);
                }
                Step::Member(state, started_ms, admin) => {
                    let member = Member { state, started_ms, admin, ..Member::default() };
                    let _ = server.member_seen(now, Some(&member));
                    disabled = admin == MemberAdmin::Disabled as i32;
                }
                Step::Health(up) => {
                    let _ = server.health_changed(now, up);
                    unhealthy = !up;
                }
                _ => {}
            }
            prop_assert_eq!(server.active() as usize, tickets.len());
            prop_assert!(!(disabled || unhealthy) || server.standing(now) == Standing::Away);
            prop_assert!((1..=16).contains(&server.sixteenths(now)));
            if let Standing::Failing(until) = server.standing(now) {
                prop_assert!(until <= now + Duration::from_secs(15));
            }
        }
        // Whatever has not ended by then: a stream may live for days.
        let end = after(now, 15_000);
        let standing = server.standing(end);
        prop_assert!(matches!(standing, Standing::Well | Standing::Probe | Standing::Away));
        let probe = server.begin(end);
        prop_assert_eq!(probe.probe.is_some(), standing == Standing::Probe);
        for ticket in tickets.drain(..) {
            server.end(ticket);
            prop_assert!(server.standing(end) != Standing::Probe, "another one's end is not the probe's");
        }
    }
}
