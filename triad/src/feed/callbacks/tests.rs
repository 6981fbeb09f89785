//! Tests of callbacks: who waits for whom, and for how long.

use super::*;
use proto::hub::v1::{CacheKey, Snapshot, WatchEvents};
use tokio::sync::mpsc;

fn watch(feed: &Feed, server: &str, watch: u64) -> mpsc::Receiver<Event> {
    let wanted = WatchEvents { server: server.into(), watch, ..WatchEvents::default() };
    feed.watch(&wanted, (false, 1), || (1, Snapshot::default()))
}

fn changed(cache: &str, key: &str) -> Change {
    Change::Cached(CacheKey { cache: cache.into(), key: key.into() })
}

/// How long a writer waits, by a clock that jumps where nothing else happens.
async fn waits(feed: &Feed, written: &[Place]) -> Duration {
    let began = tokio::time::Instant::now();
    feed.copies_are_gone(written).await;
    began.elapsed()
}

/// Whether whoever has written this need not wait.
fn is_free(feed: &Feed, written: &[Place]) -> bool {
    let mut inner = feed.lock();
    inner.callbacks.believers(written, u64::MAX).is_empty() && inner.callbacks.unsure_until(written).is_none()
}

#[tokio::test]
async fn whoever_has_a_copy_of_what_was_written_is_waited_for_and_nobody_else() {
    let feed = Feed::default();
    let (mut a, _b) = (watch(&feed, "a", 1), watch(&feed, "b", 2));
    assert!(feed.takes_copy(1, "c", "k") && feed.takes_copy(2, "c", "other"));
    assert!(!feed.takes_copy(0, "c", "k") && !feed.takes_copy(3, "c", "k"));
    feed.publish(2, vec![changed("c", "k"), changed("d", "k")]);
    a.recv().await.unwrap();
    let event = a.recv().await.unwrap().event.unwrap();
    let event::Event::CacheChanged(told) = event else { panic!("{event:?}") };
    assert_eq!(told.keys, [CacheKey { cache: "c".into(), key: "k".into() }]);
    // Others do not wait.
    assert!(is_free(&feed, &[place("c", "other"), place("d", "k"), place("cc", "")]));
    // A word of another stream is none.
    feed.confirm(&ConfirmChanges { watch: 1, number: told.number + 1000 });
    assert!(!feed.lock().callbacks.believers(&[place("c", "k")], u64::MAX).is_empty());
    assert!(!feed.lock().callbacks.believers(&[place("c", "")], u64::MAX).is_empty());
    feed.confirm(&ConfirmChanges { watch: 1, number: told.number });
    assert!(is_free(&feed, &[place("c", "k"), place("c", "")]));
    feed.copies_are_gone(&[place("c", "k")]).await;
    assert!(feed.lock().callbacks.pending.is_empty());
}

/// It has read anew what was called back, and that has changed again, before its word of the first change came.
#[tokio::test]
async fn a_confirmation_is_of_its_own_word_and_of_no_later_one() {
    let feed = Feed::default();
    let _a = watch(&feed, "a", 1);
    for _ in 0..2 {
        assert!(feed.takes_copy(1, "c", "k"));
        feed.publish(2, vec![changed("c", "k")]);
    }
    feed.confirm(&ConfirmChanges { watch: 1, number: 1 });
    assert!(!is_free(&feed, &[place("c", "k")]));
    // Whoever wrote the first of them need not wait for the second.
    assert!(feed.lock().callbacks.believers(&[place("c", "k")], 1).is_empty());
    feed.confirm(&ConfirmChanges { watch: 1, number: 2 });
    assert!(is_free(&feed, &[place("c", "k")]));
}

#[tokio::test]
async fn a_server_that_is_late_is_waited_for_once() {
    let feed = Feed::default();
    let _slow = watch(&feed, "slow", 1);
    assert!(feed.takes_copy(1, "c", "k"));
    feed.publish(2, vec![changed("c", "k")]);
    let waited = waits(&feed, &[place("c", "k")]).await;
    assert!(waited >= TIMES.believed + BELIEVED, "{waited:?}");
    assert_eq!(feed.watchers(), 0);
    let _again = watch(&feed, "slow", 2);
    assert!(!feed.takes_copy(2, "c", "k"), "it was late a moment ago");
    assert!(!feed.follow(2, vec!["c".into()]));
}

#[tokio::test]
async fn what_a_watcher_had_that_is_gone_is_waited_for_and_nothing_else() {
    let feed = Feed::default();
    let (a, _b) = (watch(&feed, "a", 1), watch(&feed, "b", 2));
    feed.takes_copy(1, "c", "k");
    feed.follow(1, vec!["followed".into()]);
    drop(a);
    // It is found to be gone when it is to be told something.
    feed.loads(vec![proto::hub::v1::MemberLoad::default()]);
    assert_eq!(feed.watchers(), 1);
    assert!(is_free(&feed, &[place("c", "other"), place("d", "k")]));
    for written in [place("c", "k"), place("c", ""), place("followed", "any")] {
        assert!(feed.lock().callbacks.unsure_until(&[written]).is_some());
    }
    feed.copies_are_gone(&[place("c", "k")]).await;
    assert!(is_free(&feed, &[place("c", "k")]));
}

#[tokio::test]
async fn whole_caches_and_followers_are_told() {
    let feed = Feed::default();
    let (mut a, mut b) = (watch(&feed, "a", 1), watch(&feed, "b", 2));
    feed.takes_copy(1, "c", "k");
    assert!(feed.follow(2, vec!["c".into()]));
    feed.publish(2, vec![Change::CacheCleared("c".into()), Change::CacheCleared("c".into())]);
    for receiver in [&mut a, &mut b] {
        receiver.recv().await.unwrap();
        let event = receiver.recv().await.unwrap().event.unwrap();
        assert!(
            matches!(event, event::Event::CacheChanged(told) if told.caches == ["c"] && told.keys.is_empty())
        );
    }
    assert_eq!(feed.lock().callbacks.believers(&[place("c", "any")], u64::MAX).len(), 2);
    // Of what is not the hub's own: all that follow it, but for who says so.
    feed.tell_of(2, &CacheChanged { caches: vec!["c".into()], ..CacheChanged::default() });
    feed.tell_of(
        1,
        &CacheChanged {
            keys: vec![CacheKey { cache: "c".into(), key: "k".into() }],
            ..CacheChanged::default()
        },
    );
    assert!(a.try_recv().is_err());
    assert!(
        matches!(b.try_recv().unwrap().event.unwrap(), event::Event::CacheChanged(told) if told.keys.len() == 1)
    );
}
