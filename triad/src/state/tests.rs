//! The state's rules, and that two servers with the same log have the same state.

mod absence;
mod apps;
mod audits;
mod memory;
mod renames;

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use proto::hub::v1::{
    ClaimSession, Command, CreateToken, ExpireSessions, ExpireUnused, Member, MemberState, RemoveSession,
    RenameSession, RevokeToken, SaveSession, SessionOutcome, SessionWrite, SetMemberAdmin, SetMemberState,
    TouchSession, command, session_outcome::Outcome, session_write::Write,
};

fn key(id: &str) -> SessionKey {
    SessionKey { app: "shop".into(), id: id.into() }
}

fn session(write: Write) -> Command {
    Command { command: Some(command::Command::Session(SessionWrite { write: Some(write) })) }
}

fn save(id: &str, base_version: u64, save_id: u64, owner: &str, timeout_ms: u64) -> Write {
    Write::Save(SaveSession {
        key: Some(key(id)),
        base_version,
        save_id,
        set: [(format!("n{}", save_id % 3), Bytes::from(save_id.to_string()))].into(),
        removed: vec![format!("n{}", (save_id + 1) % 3)],
        owner: owner.into(),
        timeout_ms,
    })
}

fn batch(time_ms: u64, commands: Vec<Command>) -> Batch {
    Batch { version: 1, time_ms, commands }
}

/// Applies one write and returns its outcome and whom it concerns.
fn write(state: &mut State, time_ms: u64, write: Write) -> (Outcome, Vec<Change>) {
    let (replies, changes) = state.apply(batch(time_ms, vec![session(write)]));
    match replies.into_iter().next() {
        Some(Reply::Session(SessionOutcome { outcome: Some(outcome) })) => (outcome, changes),
        other => panic!("{other:?}"),
    }
}

fn expire(state: &mut State, time_ms: u64, limit: u32) -> Vec<Change> {
    let expire = Command { command: Some(command::Command::ExpireSessions(ExpireSessions { limit })) };
    state.apply(batch(time_ms, vec![expire])).1
}

#[test]
fn a_save_goes_on_its_base_version_only() {
    let mut state = State::default();
    assert_eq!(write(&mut state, 1, save("s", 0, 10, "a", 0)).0, Outcome::Version(1));
    assert_eq!(write(&mut state, 2, save("s", 1, 11, "a", 0)).0, Outcome::Version(2));
    for base in [0, 1, 3] {
        let (outcome, _) = write(&mut state, 3, save("s", base, 12, "a", 0));
        let Outcome::Conflict(found) = outcome else { panic!("base {base}: {outcome:?}") };
        assert_eq!((found.version, found.save_id, found.accessed_ms), (2, 11, 2));
        assert_eq!(
            found.attributes,
            [("n1".to_owned(), Bytes::from("10")), ("n2".to_owned(), Bytes::from("11"))].into()
        );
    }
    assert!(matches!(write(&mut state, 4, save("none", 1, 1, "a", 0)).0, Outcome::Missing(_)));
}

#[test]
fn a_save_that_is_sent_again_is_answered_as_before() {
    let mut state = State::default();
    write(&mut state, 1, save("s", 0, 10, "a", 0));
    // However often others have changed the session since.
    for n in 1..=20 {
        write(&mut state, 1, save("s", n, 100 + n, if n % 2 == 0 { "b" } else { "c" }, 0));
    }
    let before = state.clone();
    assert_eq!(write(&mut state, 1, save("s", 0, 10, "a", 0)).0, Outcome::Version(1));
    assert_eq!(write(&mut state, 1, save("s", 20, 120, "b", 0)).0, Outcome::Version(21));
    assert_eq!(write(&mut state, 1, save("s", 19, 119, "c", 0)).0, Outcome::Version(20));
    assert_eq!(state, before);
    assert_eq!(through_a_snapshot(&state, 1), before);
    // An owner has one save under way: its next one takes the place of the one before.
    assert_eq!(write(&mut state, 4, save("s", 21, 11, "a", 0)).0, Outcome::Version(22));
    assert!(matches!(write(&mut state, 4, save("s", 0, 10, "a", 0)).0, Outcome::Conflict(_)));
}

#[test]
fn the_owners_whose_saves_are_remembered_are_bounded() {
    let mut state = State::default();
    for n in 0..9 {
        write(&mut state, 1, save("s", n, 100 + n, &format!("app-{n}"), 0));
    }
    assert!(matches!(write(&mut state, 1, save("s", 0, 100, "app-0", 0)).0, Outcome::Conflict(_)));
    assert_eq!(write(&mut state, 1, save("s", 1, 101, "app-1", 0)).0, Outcome::Version(2));
}

#[test]
fn the_former_owner_hears_of_a_save_a_claim_and_the_end() {
    let mut state = State::default();
    assert_eq!(write(&mut state, 1, save("s", 0, 1, "a", 0)).1, []);
    let moved = |former: &str, owner: &str| Change::SessionMoved {
        former: former.into(),
        key: key("s"),
        owner: owner.into(),
    };
    assert_eq!(write(&mut state, 2, save("s", 1, 2, "b", 0)).1, [moved("a", "b")]);
    let claim = |owner: &str| Write::Claim(ClaimSession { key: Some(key("s")), owner: owner.into() });
    assert_eq!(write(&mut state, 3, claim("c")).1, [moved("b", "c")]);
    assert_eq!(write(&mut state, 3, claim("c")).1, []);
    let remove = Write::Remove(RemoveSession { key: Some(key("s")) });
    assert_eq!(write(&mut state, 4, remove.clone()), (Outcome::Version(0), vec![moved("c", "")]));
    assert!(matches!(write(&mut state, 4, remove).0, Outcome::Missing(_)));
}

#[test]
fn a_session_expires_by_the_leaders_time_unless_it_is_used() {
    let mut state = State::default();
    write(&mut state, 1000, save("s", 0, 1, "a", 500));
    write(&mut state, 1000, save("t", 0, 1, "a", 500));
    write(&mut state, 1400, Write::Touch(TouchSession { key: Some(key("s")) }));
    assert_eq!(state.next_deadline_ms(), Some(1500));
    assert_eq!(expire(&mut state, 1499, 10), []);
    let changes = expire(&mut state, 1500, 10);
    assert!(
        matches!(&changes[..], [Change::SessionMoved { key, owner, .. }] if key.id == "t" && owner.is_empty())
    );
    assert_eq!(state.next_deadline_ms(), Some(1900));
    assert!(state.session(&key("s")).is_some());
    // Due, though nobody has removed it yet: gone for readers and writers.
    write(&mut state, 1900, Write::Touch(TouchSession { key: Some(key("other")) }));
    assert!(state.session(&key("s")).is_none());
    assert!(matches!(write(&mut state, 1900, save("s", 1, 2, "a", 0)).0, Outcome::Missing(_)));
    assert_eq!((state.session_count(), state.next_deadline_ms()), (0, None));
}

#[test]
fn time_never_goes_back() {
    let mut state = State::default();
    write(&mut state, 1000, save("s", 0, 1, "a", 500));
    write(&mut state, 10, Write::Touch(TouchSession { key: Some(key("s")) }));
    assert_eq!(state.session(&key("s")).unwrap().record(key("s")).accessed_ms, 1000);
}

#[test]
fn expiry_is_bounded() {
    let mut state = State::default();
    for n in 0..10 {
        write(&mut state, 1, save(&format!("s{n}"), 0, 1, "a", 5));
    }
    assert_eq!(expire(&mut state, 100, 4).len(), 4);
    assert_eq!(state.session_count(), 6);
}

#[test]
fn a_shorter_time_out_moves_the_deadline_forward() {
    let mut state = State::default();
    write(&mut state, 1, save("s", 0, 1, "a", 1000));
    write(&mut state, 2, save("s", 1, 2, "a", 10));
    assert_eq!(state.next_deadline_ms(), Some(12));
    write(&mut state, 3, save("s", 2, 3, "a", 0));
    assert_eq!(expire(&mut state, 5000, 10), []);
    assert_eq!((state.session_count(), state.next_deadline_ms()), (1, None));
}

#[test]
fn a_save_that_was_under_way_does_not_bring_a_removed_session_back() {
    let mut state = State::default();
    let remove = || Write::Remove(RemoveSession { key: Some(key("s")) });
    write(&mut state, 1000, save("s", 0, 10, "a", 0));
    write(&mut state, 1000, save("s", 1, 11, "b", 0));
    assert_eq!(write(&mut state, 1000, remove()).0, Outcome::Version(0));
    for (time_ms, save_id) in [(1000, 10), (1000, 12), (60_999, 10)] {
        assert!(matches!(write(&mut state, time_ms, save("s", 0, save_id, "a", 0)).0, Outcome::Missing(_)));
        assert_eq!((state.session_count(), state.time_ms()), (0, time_ms));
        state = through_a_snapshot(&state, 1);
    }
    // A minute later it is a new session, whose versions no copy of the old one has.
    assert_eq!(write(&mut state, 61_000, save("s", 0, 13, "a", 0)).0, Outcome::Version(3));
    assert!(matches!(write(&mut state, 61_000, save("s", 2, 14, "b", 0)).0, Outcome::Conflict(_)));
    // And it may be removed and come again in its turn.
    assert_eq!(write(&mut state, 61_000, remove()).0, Outcome::Version(0));
    assert_eq!(
        write(&mut state, 800_000, save("s", 0, 15, "a", 0)).0,
        Outcome::Version(4),
        "nobody else was removed"
    );
}

#[test]
fn a_creating_save_that_comes_behind_the_removal_creates_nothing() {
    let mut state = State::default();
    let remove = Write::Remove(RemoveSession { key: Some(key("s")) });
    assert!(matches!(write(&mut state, 1000, remove).0, Outcome::Missing(_)));
    assert!(matches!(write(&mut state, 1000, save("s", 0, 10, "a", 0)).0, Outcome::Missing(_)));
    assert_eq!(write(&mut state, 1000, save("t", 0, 10, "a", 0)).0, Outcome::Version(1));
}

#[test]
fn a_session_that_has_expired_may_come_again_at_once_with_other_versions() {
    let mut state = State::default();
    write(&mut state, 1000, save("s", 0, 10, "a", 500));
    write(&mut state, 1000, save("s", 1, 11, "a", 500));
    assert_eq!(write(&mut state, 2000, save("s", 0, 12, "b", 500)).0, Outcome::Version(3));
    assert!(matches!(write(&mut state, 2000, save("s", 2, 13, "a", 500)).0, Outcome::Conflict(_)));
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = (0u8..5).prop_map(|n| format!("s{n}"));
    let owner = (0u8..3).prop_map(|n| format!("app-{n}"));
    let write = prop_oneof![
        5 => (id.clone(), 0u64..4, 0u64..12, owner.clone(), 0u64..40)
            .prop_map(|(id, base, save_id, owner, timeout)| save(&id, base, save_id, &owner, timeout)),
        1 => id.clone().prop_map(|id| Write::Touch(TouchSession { key: Some(key(&id)) })),
        1 => id.clone().prop_map(|id| Write::Remove(RemoveSession { key: Some(key(&id)) })),
        1 => (id.clone(), owner.clone()).prop_map(|(id, owner)| Write::Claim(ClaimSession { key: Some(key(&id)), owner })),
        1 => (id.clone(), id, 0u64..4, 0u64..12, owner.clone()).prop_map(|(from, to, base, save_id, owner)| {
            Write::Rename(RenameSession { owner, ..renames::rename(&from, &to, base, save_id) })
        }),
    ];
    prop_oneof![
        8 => write.prop_map(session),
        2 => (0u32..4).prop_map(|limit| Command {
            command: Some(command::Command::ExpireSessions(ExpireSessions { limit })),
        }),
        1 => (0u64..90, 0u32..4).prop_map(|(unused_ms, limit)| Command {
            command: Some(command::Command::ExpireUnused(ExpireUnused { app: "shop".into(), unused_ms, limit })),
        }),
        1 => (owner.clone(), 0u64..3).prop_map(|(id, started_ms)| Command {
            command: Some(command::Command::RegisterMember(Member { id, started_ms, ..Member::default() })),
        }),
        1 => (owner.clone(), 0i32..3).prop_map(|(id, admin)| Command {
            command: Some(command::Command::SetMemberAdmin(SetMemberAdmin { id, admin, author: None })),
        }),
        1 => (0u8..4, owner.clone(), 1u64..50).prop_map(|(hash, name, valid_ms)| Command {
            command: Some(command::Command::CreateToken(CreateToken {
                hash: vec![hash; 32].into(),
                name,
                valid_ms,
                ..CreateToken::default()
            })),
        }),
        1 => (0u8..4).prop_map(|hash| Command {
            command: Some(command::Command::RevokeToken(RevokeToken { hash: vec![hash; 32].into(), author: None })),
        }),
        1 => (owner, 0u64..3, 1i32..5).prop_map(|(id, started_ms, state)| Command {
            command: Some(command::Command::SetMemberState(SetMemberState { id, started_ms, state })),
        }),
    ]
}

fn through_a_snapshot(state: &State, chunk: usize) -> State {
    let mut restore = Restore::new(state.time_ms(), state.commands(), state.away_ms());
    state.export(chunk, |items| restore.add(Bytes::copy_from_slice(items))).unwrap();
    restore.finish()
}

proptest! {
    /// The same log gives the same state and the same answers, also to a server that began with a snapshot.
    #[test]
    fn the_same_batches_give_the_same_state(
        batches in prop::collection::vec((prop_oneof![9 => 0u64..80, 1 => 60_000u64..700_000], prop::collection::vec(any_command(), 1..8)), 1..30),
        at in any::<prop::sample::Index>(),
        chunk in 1usize..400,
    ) {
        let (mut one, mut other) = (State::default(), State::default());
        let restart = at.index(batches.len());
        for (place, (time_ms, commands)) in batches.into_iter().enumerate() {
            if place == restart {
                other = through_a_snapshot(&other, chunk);
            }
            let batch = Batch { version: [1, 3, AUDIT][(place / 3).min(2)], ..batch(time_ms, commands) };
            prop_assert_eq!(one.apply(batch.clone()), other.apply(batch));
            prop_assert_eq!(&one, &other);
            // What is counted as things change is what is there.
            let counted_anew = through_a_snapshot(&one, chunk);
            prop_assert_eq!(one.memory(), counted_anew.memory());
        }
        for member in one.members().iter() {
            prop_assert!(member.state() != MemberState::Unspecified);
        }
    }
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut state = State::default();
    write(&mut state, 1, save("s", 0, 1, "a", 0));
    let (before, copy) = (through_a_snapshot(&state, 1), state.clone());
    write(&mut state, 2, save("s", 1, 2, "b", 7));
    assert_eq!(copy, before);
    assert_ne!(state, before);
}
