//! Tests of caches: what conditions, times and bounds do, and a model of all of it.

use super::*;
use proptest::prelude::*;
use proto::hub::v1::{CacheClear, CachePutAll, Fence};
use std::collections::BTreeMap;

const MAX: u64 = 1 << 30;

fn value(text: &str) -> CacheValue {
    CacheValue { value: Bytes::copy_from_slice(text.as_bytes()), ..CacheValue::default() }
}

fn put(key: &str, text: &str) -> CachePut {
    CachePut { key: key.into(), value: Some(value(text)), condition: None }
}

fn condition(condition: Condition) -> Option<CacheCondition> {
    Some(CacheCondition { condition: Some(condition) })
}

/// A process that writes, each time anew.
struct Writer {
    caches: Caches,
    leases: Leases,
    next: u64,
    max: u64,
    changes: Vec<Change>,
}

impl Writer {
    fn new(max: u64) -> Self {
        Self { caches: Caches::default(), leases: Leases::default(), next: 1, max, changes: Vec::new() }
    }

    fn call(&mut self, first: u64, settled: u64, write: CacheWrite, now_ms: u64) -> Outcome {
        let call = WriteCaches {
            server: "a".into(),
            started_ms: 1,
            first,
            settled,
            writes: vec![write],
            max_bytes: self.max,
        };
        self.changes.clear();
        let mut written = self.caches.write(call, &self.leases, now_ms, &mut self.changes);
        written.outcomes.pop().unwrap().outcome.unwrap()
    }

    fn write_to(&mut self, cache: &str, write: Write, now_ms: u64) -> Outcome {
        let number = self.next;
        self.next += 1;
        let write = CacheWrite { cache: cache.into(), fence: None, write: Some(write) };
        self.call(number, number, write, now_ms)
    }

    fn write(&mut self, write: Write, now_ms: u64) -> Outcome {
        self.write_to("c", write, now_ms)
    }

    fn text(&self, key: &str, now_ms: u64) -> Option<String> {
        let entry = self.caches.get("c", key, now_ms)?;
        Some(String::from_utf8(entry.value.unwrap().value.to_vec()).unwrap())
    }
}

fn expire(limit: u32, max_bytes: u64) -> ExpireCached {
    ExpireCached { limit, max_bytes }
}

fn version(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Stored(stored) => stored.version,
        Outcome::Number(number) => number.version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_hold_or_say_what_is_there() {
    let mut writer = Writer::new(MAX);
    let conditional =
        |text: &str, held| Write::Put(CachePut { condition: condition(held), ..put("k", text) });
    assert_eq!(writer.write(conditional("1", Condition::Present(true)), 0), Outcome::Unmet(0));
    assert_eq!(writer.write(conditional("1", Condition::Version(9)), 0), Outcome::Unmet(0));
    let first = writer.write(conditional("1", Condition::Absent(true)), 0);
    assert!(matches!(first, Outcome::Stored(CacheStored { created: true, .. })));
    let first = version(&first);
    assert_eq!(writer.write(conditional("2", Condition::Absent(true)), 0), Outcome::Unmet(first));
    let second = writer.write(conditional("2", Condition::Version(first)), 0);
    assert!(matches!(second, Outcome::Stored(CacheStored { created: false, version }) if version > first));
    assert_eq!(
        writer.write(conditional("3", Condition::Version(first)), 0),
        Outcome::Unmet(version(&second))
    );
    let remove = |held| Write::Remove(CacheRemove { key: "k".into(), condition: condition(held) });
    assert_eq!(writer.write(remove(Condition::Version(first)), 0), Outcome::Unmet(version(&second)));
    assert_eq!(writer.write(remove(Condition::Present(true)), 0), Outcome::Done(true));
    let remove = Write::Remove(CacheRemove { key: "k".into(), condition: None });
    assert_eq!(writer.write(remove, 0), Outcome::Done(false));
    // A version never comes again.
    assert!(version(&writer.write(Write::Put(put("k", "4")), 0)) > version(&second));
}

#[test]
fn numbers_grow_and_what_is_none_does_not() {
    let mut writer = Writer::new(MAX);
    let by = |by, initial| {
        Write::Increment(CacheIncrement { key: "n".into(), by, initial, ..CacheIncrement::default() })
    };
    let number = |outcome: Outcome| match outcome {
        Outcome::Number(number) => number.value,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(writer.write(by(1, 10), 0)), 11);
    assert_eq!(number(writer.write(by(-20, 10), 0)), -9);
    assert_eq!(writer.text("n", 0).unwrap(), "-9");
    assert_eq!(number(writer.write(by(i64::MAX, 0), 0)), i64::MAX - 9);
    assert_eq!(writer.write(by(10, 0), 0), Outcome::NotANumber(true));
    writer.write(Write::Put(put("n", "seven")), 0);
    assert_eq!(writer.write(by(1, 0), 0), Outcome::NotANumber(true));
    writer.write(Write::Put(put("n", " 7\n")), 0);
    assert_eq!(number(writer.write(by(1, 0), 0)), 8);
}

#[test]
fn what_is_over_is_not_there_and_what_is_read_stays() {
    let mut writer = Writer::new(MAX);
    let timed = |key: &str, ttl_ms, idle_ms| {
        Write::Put(CachePut { value: Some(CacheValue { ttl_ms, idle_ms, ..value("v") }), ..put(key, "") })
    };
    writer.write(timed("ttl", 100, 0), 1000);
    writer.write(timed("idle", 0, 50), 1000);
    writer.write(timed("both", 100, 50), 1000);
    assert_eq!(writer.caches.get("c", "ttl", 1099).unwrap().left_ms, 1);
    assert_eq!(writer.caches.get("c", "both", 1000).unwrap().left_ms, 50);
    let touch = || Write::Touch(CacheTouch { keys: ["idle", "both", "none"].map(str::to_owned).into() });
    writer.write(touch(), 1040);
    assert_eq!((writer.text("idle", 1089), writer.text("idle", 1090)), (Some("v".into()), None));
    writer.write(touch(), 1080);
    assert_eq!((writer.text("both", 1099), writer.text("both", 1100)), (Some("v".into()), None));
    assert_eq!(writer.text("ttl", 1100), None);
    // What is over is as if it were not there.
    let absent = Write::Put(CachePut { condition: condition(Condition::Absent(true)), ..put("ttl", "new") });
    assert!(matches!(writer.write(absent, 1100), Outcome::Stored(CacheStored { created: true, .. })));
    assert_eq!(writer.caches.next_deadline_ms(), Some(1100));
    writer.caches.expire(&expire(1, 0), 1130);
    writer.caches.expire(&expire(10, 0), 1130);
    assert_eq!((writer.caches.next_deadline_ms(), writer.caches.by_deadline.len()), (None, 0));
    assert_eq!(writer.caches.describe().next().unwrap().entries, 1);
}

#[test]
fn what_was_not_used_for_the_longest_makes_room() {
    let entry = ENTRY + 2 + 100;
    let mut writer = Writer::new(3 * entry);
    let text = "x".repeat(100);
    for (cache, key) in [("c", "a"), ("d", "b"), ("c", "c")] {
        writer.write_to(cache, Write::Put(put(key, &text)), 0);
    }
    writer.write(Write::Touch(CacheTouch { keys: vec!["a".into()] }), 0);
    writer.write(Write::Put(put("e", &text)), 0);
    let evicted: BTreeMap<_, _> =
        writer.caches.describe().map(|it| (it.name, (it.entries, it.evicted))).collect();
    assert_eq!(evicted, BTreeMap::from([("c".into(), (3, 0))]));
    assert_eq!(writer.caches.bytes(), 3 * entry);
    let large = "x".repeat(usize::try_from(3 * entry).unwrap());
    assert_eq!(writer.write(Write::Put(put("f", &large)), 0), Outcome::Full(3 * entry));
    assert!(writer.text("a", 0).is_some(), "what does not fit pushes nothing out");
    // A smaller bound is reached by and by, the newest staying.
    writer.caches.expire(&expire(0, 2 * entry), 0);
    assert!(
        writer.caches.bytes() == 2 * entry && writer.text("e", 0).is_some() && writer.text("c", 0).is_none()
    );
    // What made room may have copies still.
    let remove = Write::Remove(CacheRemove { key: "c".into(), condition: None });
    assert_eq!((writer.write(remove, 0), writer.changes.len()), (Outcome::Done(false), 1));
}

#[test]
fn a_write_that_is_sent_again_counts_once_and_a_stale_fence_counts_never() {
    let mut writer = Writer::new(MAX);
    let add = || CacheWrite {
        cache: "c".into(),
        fence: None,
        write: Some(Write::Increment(CacheIncrement { key: "n".into(), by: 1, ..CacheIncrement::default() })),
    };
    let first = writer.call(1, 1, add(), 0);
    assert_eq!(writer.call(1, 1, add(), 5), first);
    assert_eq!((writer.text("n", 5).unwrap().as_str(), writer.changes.len()), ("1", 0));
    writer.call(2, 2, add(), 5);
    assert_eq!(writer.call(1, 1, add(), 5), Outcome::Settled(true), "it was answered");
    assert_eq!(writer.text("n", 5).unwrap(), "2");
    let fenced = CacheWrite { fence: Some(Fence { name: "counter".into(), token: 7 }), ..add() };
    assert_eq!(writer.call(3, 3, fenced, 5), Outcome::StaleFence(true));
    assert_eq!(writer.text("n", 5).unwrap(), "2");
}

#[test]
fn names_are_bounded() {
    let mut writer = Writer::new(MAX);
    for number in 0..CACHES_MAX {
        writer.write_to(&number.to_string(), Write::Put(put("k", "v")), 0);
    }
    assert_eq!(writer.write_to("one-more", Write::Put(put("k", "v")), 0), Outcome::Full(CACHES_MAX as u64));
    writer.write_to("7", Write::Clear(CacheClear {}), 0);
    let remove = || Write::Remove(CacheRemove { key: "k".into(), condition: None });
    writer.write_to("8", remove(), 0);
    assert_eq!(writer.caches.describe().count(), CACHES_MAX - 2);
    assert!(matches!(writer.write_to("one-more", Write::Put(put("k", "v")), 0), Outcome::Stored(_)));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, u64, u64),
    PutAll(Vec<u8>),
    Remove(u8),
    Increment(u8),
    Touch(u8),
    Clear,
    Expire,
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let time = || prop_oneof![Just(0), 1..30_u64];
    prop_oneof![
        4 => (0..6_u8, 0..9_u8, time(), time()).prop_map(|(key, value, ttl, idle)| Step::Put(key, value, ttl, idle)),
        1 => prop::collection::vec(0..6_u8, 0..4).prop_map(Step::PutAll),
        1 => (0..6_u8).prop_map(Step::Remove),
        2 => (0..6_u8).prop_map(Step::Increment),
        1 => (0..6_u8).prop_map(Step::Touch),
        1 => Just(Step::Clear),
        1 => Just(Step::Expire),
        2 => (0..20_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// What an entry is in the model: its value, its times and when they end.
type Modelled = (i64, u64, u64, u64, u64);

fn is_there(it: &Modelled, now: u64) -> bool {
    (it.3 == 0 || it.3 > now) && (it.4 == 0 || it.4 > now)
}

proptest! {
    /// Against a map: values are those that were put last and are not over; counts of bytes and all indexes agree; a snapshot changes nothing.
    #[test]
    fn it_is_a_map_with_times(steps in prop::collection::vec(step(), 0..80)) {
        let (mut writer, mut now) = (Writer::new(MAX), 1_000_u64);
        let mut model = BTreeMap::<String, Modelled>::new();
        for step in steps {
            model.retain(|_, it| is_there(it, now));
            match step {
                Step::Put(key, number, ttl, idle) => {
                    let key = key.to_string();
                    let value = CacheValue { ttl_ms: ttl, idle_ms: idle, ..value(&number.to_string()) };
                    writer.write(Write::Put(CachePut { value: Some(value), ..put(&key, "") }), now);
                    model.insert(key, (number.into(), ttl, idle, after(now, ttl), after(now, idle)));
                }
                Step::PutAll(keys) => {
                    let entries = keys.iter().map(|it| put(&it.to_string(), "5")).collect();
                    writer.write(Write::PutAll(CachePutAll { entries }), now);
                    model.extend(keys.iter().map(|it| (it.to_string(), (5, 0, 0, 0, 0))));
                }
                Step::Remove(key) => {
                    let key = key.to_string();
                    let existed = model.remove(&key).is_some();
                    let remove = Write::Remove(CacheRemove { key, condition: None });
                    prop_assert_eq!(writer.write(remove, now), Outcome::Done(existed));
                }
                Step::Increment(key) => {
                    let key = key.to_string();
                    let it = model.entry(key.clone()).or_insert((0, 0, 0, 0, 0));
                    (it.0, it.4) = (it.0 + 1, after(now, it.2));
                    let increment = CacheIncrement { key, by: 1, ..CacheIncrement::default() };
                    let Outcome::Number(number) = writer.write(Write::Increment(increment), now) else { panic!() };
                    prop_assert_eq!(number.value, it.0);
                }
                Step::Touch(key) => {
                    let key = key.to_string();
                    writer.write(Write::Touch(CacheTouch { keys: vec![key.clone()] }), now);
                    if let Some(it) = model.get_mut(&key) {
                        it.4 = after(now, it.2);
                    }
                }
                Step::Clear => {
                    writer.write(Write::Clear(CacheClear {}), now);
                    model.clear();
                }
                Step::Expire => writer.caches.expire(&expire(100, 0), now),
                Step::Pass(ms) => now += ms,
                Step::Restart => {
                    let mut again = Caches::default();
                    writer.caches.export_names().for_each(|it| again.restore_name(it));
                    writer.caches.export().for_each(|it| again.restore(it));
                    writer.caches.export_writers().for_each(|it| again.restore_writer(it));
                    again.restore_last(writer.caches.last());
                    prop_assert_eq!(&again, &writer.caches);
                    writer.caches = again;
                }
            }
            for key in (0..6).map(|it| it.to_string()) {
                let expected = model.get(&key).filter(|it| is_there(it, now)).map(|it| it.0.to_string());
                prop_assert_eq!(writer.text(&key, now), expected);
            }
            let caches = &writer.caches;
            let entries: Vec<_> = caches.all.values().flat_map(|it| it.entries.iter()).collect();
            prop_assert_eq!(caches.bytes, entries.iter().map(|(key, it)| it.bytes(key)).sum::<u64>());
            for (name, it) in &caches.all {
                let timed = it.entries.values().filter(|it| it.deadline_ms() != 0).count();
                prop_assert_eq!((it.by_use.len(), it.deadlines.len()), (it.entries.len(), timed));
                let oldest = it.by_use.get_min().map(|(used, _)| (*used, name.clone()));
                prop_assert!(oldest.is_none_or(|it| caches.by_oldest.contains(&it)));
                let first = it.deadlines.get_min().map(|(at_ms, _)| (*at_ms, name.clone()));
                prop_assert!(first.is_none_or(|it| caches.by_deadline.contains(&it)));
            }
            let has_some = |it: &&Cache| !it.entries.is_empty();
            prop_assert_eq!(caches.by_oldest.len(), caches.all.values().filter(has_some).count());
        }
    }
}
