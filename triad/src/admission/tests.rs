//! Which writes find room in a state.

use super::*;
use bytes::Bytes;
use proto::hub::v1::{Batch, Command, TouchSession, command};

const LIMITS: SessionLimits =
    SessionLimits { max: 100_000, app_max: None, first_timeout: Duration::from_secs(60) };

fn save(app: &str, id: usize, base_version: u64, value: usize) -> SessionWrite {
    let save = SaveSession {
        key: Some(SessionKey { app: app.into(), id: format!("s{id}") }),
        base_version,
        save_id: base_version + 1,
        set: [("value".to_owned(), Bytes::from(vec![1; value]))].into(),
        owner: "app-a".into(),
        ..SaveSession::default()
    };
    SessionWrite { write: Some(Write::Save(save)) }
}

fn apply(state: &mut State, writes: Vec<SessionWrite>) {
    let session = |write| Command { command: Some(command::Command::Session(write)) };
    state.apply(Batch { version: 1, time_ms: 1, commands: writes.into_iter().map(session).collect() });
}

/// Judges and, as the hub does, applies what there is room for; returns what was refused.
fn written(admission: &Admission, state: &mut State, writes: Vec<SessionWrite>) -> Vec<usize> {
    let judged = admission.judge(state, &writes, Instant::now());
    let kept = writes.into_iter().enumerate().filter(|(place, _)| !judged.refused.contains(place));
    apply(state, kept.map(|(_, write)| write).collect());
    judged.refused
}

#[test]
fn new_sessions_are_refused_at_the_limit_and_known_ones_go_on() {
    let (admission, mut state) =
        (Admission::new(SessionLimits { app_max: Some(1 << 40), ..LIMITS }, 3), State::default());
    let refused = written(&admission, &mut state, (0..200).map(|n| save("shop", n, 0, 100)).collect());
    let made = 200 - refused.len();
    assert!((40..90).contains(&made), "{made}");
    assert_eq!(refused[0], made, "the first come are served");
    assert!(state.memory().bytes() <= LIMITS.max && state.memory().bytes() > LIMITS.max * 9 / 10);
    assert_eq!(admission.refused(), refused.len() as u64);
    // Among others, in one call: a new one, a known one, one that is sent again, a touch.
    let touch = TouchSession { key: Some(SessionKey { app: "shop".into(), id: "s0".into() }) };
    let touch = SessionWrite { write: Some(Write::Touch(touch)) };
    let calls = vec![save("shop", 999, 0, 100), save("shop", 0, 1, 200), save("shop", 1, 0, 100), touch];
    assert_eq!(written(&admission, &mut state, calls), [0]);
    assert_eq!(admission.under_way.load(Ordering::Relaxed), 0);
}

#[test]
fn an_app_leaves_room_for_the_others() {
    let (admission, mut state) = (Admission::new(LIMITS, 1), State::default());
    let refused = written(&admission, &mut state, (0..200).map(|n| save("shop", n, 0, 100)).collect());
    assert!(!refused.is_empty() && state.memory().bytes() <= LIMITS.max * 3 / 4);
    assert_eq!(
        written(&admission, &mut state, vec![save("blog", 0, 0, 100), save("shop", 999, 0, 100)]),
        [1]
    );
}

#[test]
fn the_smallest_server_counts() {
    let admission = Admission::new(LIMITS, 3);
    assert_eq!(admission.max(), 100_000);
    admission.note(1, 0);
    admission.note(2, 200_000);
    assert_eq!(admission.max(), 100_000);
    admission.note(1, 5_000);
    admission.note(9, 1);
    assert_eq!(admission.max(), 5_000);
    let mut state = State::default();
    let refused = written(&admission, &mut state, (0..20).map(|n| save("shop", n, 0, 100)).collect());
    assert!(refused.len() >= 17, "{refused:?}");
}

#[test]
fn known_sessions_may_grow_by_a_quarter_and_what_does_not_grow_always_passes() {
    let (admission, mut state) =
        (Admission::new(SessionLimits { app_max: Some(1 << 40), ..LIMITS }, 1), State::default());
    written(&admission, &mut state, (0..200).map(|n| save("shop", n, 0, 100)).collect());
    // 9 KB more each.
    let grown: Vec<_> = (0..20)
        .map(|n| written(&admission, &mut state, vec![save("shop", n, 1, 9_000)]).is_empty())
        .collect();
    let passed = grown.iter().filter(|it| **it).count();
    assert!((2..=4).contains(&passed), "{grown:?}");
    assert!(state.memory().bytes() <= LIMITS.max * 5 / 4 + 12_000);
    assert_eq!(
        written(&admission, &mut state, vec![save("shop", 19, 1, 100), save("shop", 18, 1, 101)]),
        [1]
    );
    assert!(written(&admission, &mut state, vec![save("shop", 0, 2, 10)]).is_empty());
}

#[test]
fn sessions_that_are_under_way_are_counted() {
    let (admission, state) = (Admission::new(LIMITS, 1), State::default());
    let writes: Vec<_> = (0..40).map(|n| save("shop", n, 0, 100)).collect();
    let first = admission.judge(&state, &writes, Instant::now());
    assert!(first.refused.is_empty());
    let second = admission.judge(&state, &writes, Instant::now());
    assert!(!second.refused.is_empty());
    drop((first, second));
    assert!(admission.judge(&state, &writes, Instant::now()).refused.is_empty());
}

#[test]
fn a_first_life_is_short_only_while_memory_is_scarce() {
    let admission = Admission::new(LIMITS, 1);
    assert_eq!(admission.first_timeout(50_000), None);
    assert_eq!(admission.first_timeout(50_001), Some(Duration::from_secs(60)));
    let never = Admission::new(SessionLimits { first_timeout: Duration::ZERO, ..LIMITS }, 1);
    assert_eq!(never.first_timeout(100_000), None);
}
