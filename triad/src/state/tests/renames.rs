//! A session that goes on under another id.

use super::*;
use proto::hub::v1::SessionRecord;

pub(super) fn rename(from: &str, to: &str, base_version: u64, save_id: u64) -> RenameSession {
    RenameSession {
        key: Some(key(from)),
        to: to.into(),
        base_version,
        save_id,
        owner: "a".into(),
        timeout_ms: 500,
    }
}

fn renamed(state: &mut State, time_ms: u64, it: RenameSession) -> (Outcome, Vec<Change>) {
    write(state, time_ms, Write::Rename(it))
}

#[test]
fn all_of_it_moves_and_the_old_id_names_nothing() {
    let mut state = State::default();
    write(&mut state, 1000, save("old", 0, 10, "b", 0));
    write(&mut state, 1001, save("old", 1, 11, "b", 0));
    let before = state.session(&key("old")).unwrap().record(key("old"));
    let (outcome, changes) = renamed(&mut state, 1002, rename("old", "new", 2, 12));
    assert_eq!(outcome, Outcome::Version(3));
    let gone = Change::SessionMoved { former: "b".into(), key: key("old"), owner: String::new() };
    assert_eq!(changes, [gone], "who held it hears that it is gone");
    let after = state.session(&key("new")).unwrap().record(key("new"));
    let expected = SessionRecord {
        key: Some(key("new")),
        version: 3,
        save_id: 12,
        owner: "a".into(),
        accessed_ms: 1002,
        timeout_ms: 500,
        ..before
    };
    assert_eq!(after, expected);
    assert!(state.session(&key("old")).is_none());
    // Neither a save that was under way nor a new session takes the old id.
    for base in [0, 2] {
        assert!(matches!(write(&mut state, 1003, save("old", base, 13, "b", 0)).0, Outcome::Missing(_)));
    }
    assert_eq!(write(&mut state, 1003, save("new", 3, 14, "a", 500)).0, Outcome::Version(4));
    assert!(
        matches!(&expire(&mut state, 1503, 10)[..], [Change::SessionMoved { key, .. }] if key.id == "new")
    );
    assert_eq!((state.session_count(), state.next_deadline_ms()), (0, None));
}

#[test]
fn what_the_caller_does_not_know_is_not_renamed() {
    let mut state = State::default();
    assert!(matches!(renamed(&mut state, 1, rename("old", "new", 0, 9)).0, Outcome::Missing(_)));
    write(&mut state, 1, save("old", 0, 10, "a", 0));
    write(&mut state, 1, save("old", 1, 11, "b", 0));
    let before = state.clone();
    let Outcome::Conflict(found) = renamed(&mut state, 1, rename("old", "new", 1, 12)).0 else { panic!() };
    assert_eq!((found.key, found.version, found.save_id), (Some(key("old")), 2, 11));
    assert_eq!(state, before);
    // A logout is not undone.
    write(&mut state, 1, Write::Remove(RemoveSession { key: Some(key("old")) }));
    assert!(matches!(renamed(&mut state, 1, rename("old", "new", 2, 12)).0, Outcome::Missing(_)));
    assert_eq!(state.session_count(), 0);
}

#[test]
fn a_rename_that_is_sent_again_is_answered_as_before() {
    let mut state = State::default();
    write(&mut state, 1, save("old", 0, 10, "a", 0));
    assert_eq!(renamed(&mut state, 1, rename("old", "new", 1, 11)).0, Outcome::Version(2));
    // Whatever others have done with it since.
    write(&mut state, 1, save("new", 2, 12, "b", 0));
    let before = state.clone();
    assert_eq!(renamed(&mut state, 1, rename("old", "new", 1, 11)).0, Outcome::Version(2));
    assert_eq!(through_a_snapshot(&state, 1), before);
    assert_eq!(state, before);
    write(&mut state, 1, Write::Remove(RemoveSession { key: Some(key("new")) }));
    assert!(matches!(renamed(&mut state, 1, rename("old", "new", 1, 11)).0, Outcome::Missing(_)));
    assert_eq!(state.session_count(), 0, "it ended under its new id");
}

#[test]
fn another_session_of_the_new_id_is_left_alone() {
    let mut state = State::default();
    write(&mut state, 1, save("old", 0, 10, "a", 0));
    write(&mut state, 1, save("new", 0, 20, "b", 0));
    let before = state.clone();
    assert!(matches!(renamed(&mut state, 1, rename("old", "new", 1, 11)).0, Outcome::Missing(_)));
    assert_eq!(state, before);
    write(&mut state, 1, Write::Remove(RemoveSession { key: Some(key("new")) }));
    assert!(matches!(renamed(&mut state, 1, rename("old", "new", 1, 11)).0, Outcome::Missing(_)));
    assert!(state.session(&key("old")).is_some());
}
