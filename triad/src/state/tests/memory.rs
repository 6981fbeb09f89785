//! What sessions take, and which of them were never used again.

use super::*;

fn of_app(app: &str, id: &str, value: &[u8]) -> Write {
    Write::Save(SaveSession {
        key: Some(SessionKey { app: app.into(), id: id.into() }),
        set: [("value".to_owned(), Bytes::copy_from_slice(value))].into(),
        owner: "a".into(),
        save_id: 1,
        ..SaveSession::default()
    })
}

fn expire_unused(state: &mut State, app: &str, made_before_ms: u64, limit: u32) -> Vec<Change> {
    let time_ms = state.time_ms().max(made_before_ms);
    let expire = ExpireUnused { app: app.into(), unused_ms: time_ms - made_before_ms, limit };
    let expire = Command { command: Some(command::Command::ExpireUnused(expire)) };
    state.apply(Batch { version: 4, time_ms, commands: vec![expire] }).1
}

#[test]
fn bytes_are_counted_by_app_and_given_back() {
    let mut state = State::default();
    let bytes = |state: &State| {
        (state.memory().bytes(), state.memory().of_app("shop"), state.memory().of_app("blog"))
    };
    assert_eq!(bytes(&state), (0, 0, 0));
    write(&mut state, 1, of_app("shop", "s", &[1; 1000]));
    let (all, shop, _) = bytes(&state);
    assert!(all == shop && shop > 2000, "the value, and what is kept around it: {shop}");
    write(&mut state, 1, of_app("blog", "s", &[1; 10]));
    let (all, same, blog) = bytes(&state);
    assert_eq!((all, same), (shop + blog, shop));
    assert!(blog < shop);
    // A larger value, a smaller one, none.
    for (version, size) in [(1, 5000), (2, 1)] {
        let Write::Save(mut save) = of_app("shop", "s", &vec![2; size]) else { unreachable!() };
        (save.base_version, save.save_id) = (version, 10 + version);
        write(&mut state, 2, Write::Save(save));
        assert_eq!(bytes(&state).1 > shop, size == 5000, "{size}");
    }
    let remove =
        Write::Remove(RemoveSession { key: Some(SessionKey { app: "shop".into(), id: "s".into() }) });
    write(&mut state, 3, remove);
    assert_eq!(bytes(&state), (blog, 0, blog));
}

#[test]
fn only_what_was_never_used_again_ends_early_and_the_oldest_first() {
    let mut state = State::default();
    for (n, id) in ["touched", "claimed", "saved", "left", "later", "latest"].into_iter().enumerate() {
        write(&mut state, 10 + n as u64, of_app("shop", id, b"x"));
    }
    write(&mut state, 10, of_app("blog", "left", b"x"));
    let at = |id: &str| Some(SessionKey { app: "shop".into(), id: id.into() });
    write(&mut state, 20, Write::Touch(TouchSession { key: at("touched") }));
    write(&mut state, 20, Write::Claim(ClaimSession { key: at("claimed"), owner: "a".into() }));
    let Write::Save(again) = of_app("shop", "saved", b"y") else { unreachable!() };
    write(&mut state, 20, Write::Save(SaveSession { base_version: 1, save_id: 2, ..again }));

    assert_eq!(state.memory().largest_unused(16), Some("shop"));
    let changes = expire_unused(&mut state, "shop", 15, 1);
    assert!(
        matches!(&changes[..], [Change::SessionMoved { key, owner, .. }] if key.id == "left" && owner.is_empty()),
        "{changes:?}"
    );
    assert_eq!(expire_unused(&mut state, "shop", 14, 10), [], "none of that age is left");
    let mut copy = through_a_snapshot(&state, 1);
    for state in [&mut state, &mut copy] {
        assert_eq!(expire_unused(state, "shop", 100, 10).len(), 2);
        assert_eq!((state.session_count(), state.memory().largest_unused(100)), (4, Some("blog")));
    }
    // One that has ended so may come again at once, as one that has expired.
    assert!(matches!(write(&mut state, 30, of_app("shop", "left", b"x")).0, Outcome::Version(2)));
}

#[test]
fn the_app_that_takes_the_most_gives_first() {
    let mut state = State::default();
    write(&mut state, 1, of_app("blog", "b", b"x"));
    for n in 0..3 {
        write(&mut state, 5, of_app("shop", &format!("s{n}"), b"x"));
    }
    assert_eq!(state.memory().largest_unused(1), None);
    assert_eq!(state.memory().largest_unused(5), Some("blog"), "the shop's are younger");
    assert_eq!(state.memory().largest_unused(6), Some("shop"));
    assert_eq!(expire_unused(&mut state, "none", 100, 10), []);
}
