//! Tests of one server's state: time is an argument.

use super::*;
use crate::tests::cluster::server;
use proptest::prelude::*;

fn state() -> ServerState {
    ServerState::new(&server("app-a", 0, 6800))
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
    server.succeeded(&mut probe);
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
fn a_failed_read_counts_only_if_nothing_succeeded_since() {
    let now = Instant::now();
    let mut server = state();
    let (early, mut other) = (server.begin(now), server.begin(now));
    server.succeeded(&mut other);
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
    server.succeeded(&mut old);
    assert!(matches!(server.standing(now), Standing::Failing(_)));
}

#[test]
fn the_hub_takes_servers_out_and_a_new_process_starts_well() {
    let now = Instant::now();
    let mut server = state();
    let _ = server.member_seen(Some((MemberState::Active, 10)));
    assert_eq!(server.member_seen(Some((MemberState::Down, 10))), Sockets::Break);
    assert_eq!(server.member_seen(Some((MemberState::Down, 10))), Sockets::Keep, "told again");
    assert_eq!(server.standing(now), Standing::Away);
    let _ = server.member_seen(Some((MemberState::Draining, 10)));
    assert_eq!((server.standing(now), server.presence()), (Standing::Well, Presence::Draining));
    server.connect_failed(now);
    let _ = server.member_seen(Some((MemberState::Active, 10)));
    assert!(matches!(server.standing(now), Standing::Failing(_)), "the same process");
    assert_eq!(server.member_seen(Some((MemberState::Active, 11))), Sockets::Break, "another process");
    assert_eq!(server.member_seen(Some((MemberState::Active, 11))), Sockets::Keep, "told again");
    assert_eq!(server.standing(now), Standing::Well);
    assert_eq!(server.member_seen(Some((MemberState::Standby, 11))), Sockets::Retire);
    assert_eq!(server.standing(now), Standing::Away);
    assert_eq!(server.member_seen(Some((MemberState::Down, 11))), Sockets::Break);
    let _ = server.member_seen(None);
    assert_eq!(server.standing(now), Standing::Well, "an empty hub says nothing");
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Succeed(usize),
    FailConnect,
    FailRead(usize),
    End(usize),
    Wait(u64),
    Member(i32, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Begin),
        2 => any::<usize>().prop_map(Step::Succeed),
        1 => Just(Step::FailConnect),
        1 => any::<usize>().prop_map(Step::FailRead),
        3 => any::<usize>().prop_map(Step::End),
        2 => (0_u64..20_000).prop_map(Step::Wait),
        1 => (0..5, 0_u64..5).prop_map(|(state, started)| Step::Member(state, started)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_one_request_probes_and_windows_end(steps in prop::collection::vec(step(), 0..60)) {
        let mut now = Instant::now();
        let mut server = state();
        let mut tickets: Vec<Ticket> = Vec::new();
        for step in steps {
            let count = tickets.len();
            match step {
                Step::Begin => tickets.push(server.begin(now)),
                Step::Succeed(which) if count > 0 => server.succeeded(&mut tickets[which % count]),
                Step::FailConnect => {
                    server.connect_failed(now);
                }
                Step::FailRead(which) if count > 0 => {
                    server.read_failed(now, &tickets[which % count]);
                }
                Step::End(which) if count > 0 => server.end(tickets.swap_remove(which % count)),
                Step::Wait(millis) => now = after(now, millis),
                Step::Member(state, started) => {
                    let state = MemberState::try_from(state).unwrap();
                    let _ = server.member_seen(Some((state, started)));
                }
                _ => {}
            }
            prop_assert!(tickets.iter().filter(|ticket| ticket.probe).count() <= 1);
            prop_assert_eq!(server.active() as usize, tickets.len());
            if let Standing::Failing(until) = server.standing(now) {
                prop_assert!(until <= now + Duration::from_secs(15));
            }
        }
        for ticket in tickets.drain(..) {
            server.end(ticket);
        }
        let end = after(now, 15_000);
        prop_assert!(matches!(server.standing(end), Standing::Well | Standing::Probe | Standing::Away));
    }
}
