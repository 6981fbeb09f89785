//! The cache against a model: whatever is done to it in whatever order, it answers what was kept last, and stays within its memory.

use super::{entry::Life, key::Asked, *};
use crate::http1::{Name, ResponseHead};
use http_cache::directives::AnswerDirectives;
use proptest::prelude::*;
use proto::web::v1::{PurgeCache, purge_cache::What};
use std::collections::HashMap;

const HOST: &str = "shop.example";

fn key_of(target: &str) -> Key {
    let mut wanted = Wanted::default();
    let asked = Asked { host: HOST.as_bytes(), target, secure: false, upstream: "cluster a" };
    assert!(wanted.write(&asked, std::iter::empty()));
    assert_eq!(wanted.key(), Key::new(wanted.bytes(), wanted.url().len()));
    wanted.key()
}

fn entry(key: Key, number: u64, length: usize, tag: &str) -> Arc<Entry> {
    let body = body::Body::default();
    body.push(&vec![b'x'; length]);
    body.finish();
    let mut head = ResponseHead::default();
    head.fields.push(Name::Other, b"x-number", number.to_string().as_bytes());
    Arc::new(Entry {
        key,
        head: head.kept(Some(length as u64)),
        body: Arc::new(body),
        length: Some(length as u64),
        directives: AnswerDirectives::default(),
        came: Instant::now(),
        came_s: 0,
        initial_age: 0,
        lifetime: 3600,
        stale_keep: Duration::ZERO,
        etag: None,
        last_modified: None,
        tags: Box::new([tag.into()]),
        life: Life::default(),
        hits: AtomicU64::new(0),
        readers: Default::default(),
    })
}

/// The number of the answer that is there.
fn number(cache: &Cache, near: &Near, target: &str, request: &Fields) -> Option<u64> {
    match cache.lookup(near, &mut Wanted::of(&key_of(target)), request, Instant::now()) {
        Lookup::Found(found) => {
            let text = found.entry.head.fields.named("x-number").next().unwrap();
            Some(str::from_utf8(text).unwrap().parse().unwrap())
        }
        _ => None,
    }
}

fn language(value: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push(Name::Other, b"x-language", value.as_bytes());
    fields
}

fn purge(what: What) -> Purge {
    Purge::of(&PurgeCache { what: Some(what), ..PurgeCache::default() }).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Store { path: u8, language: u8, varies: bool },
    Look { path: u8, language: u8, worker: usize },
    ForgetUrl { path: u8 },
    PurgeTag { path: u8 },
    PurgePrefix { path: u8 },
    Sweep { worker: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (path, language, worker) = (0..4_u8, 0..3_u8, 0..2_usize);
    prop_oneof![
        4 => (path.clone(), language.clone(), any::<bool>()).prop_map(|(path, language, varies)| Step::Store { path, language, varies }),
        8 => (path.clone(), language, worker.clone()).prop_map(|(path, language, worker)| Step::Look { path, language, worker }),
        1 => path.clone().prop_map(|path| Step::ForgetUrl { path }),
        1 => path.clone().prop_map(|path| Step::PurgeTag { path }),
        1 => path.prop_map(|path| Step::PurgePrefix { path }),
        1 => worker.prop_map(|worker| Step::Sweep { worker }),
    ]
}

fn target(path: u8) -> String {
    format!("/{}/page?{path}", path / 2)
}

proptest! {
    /// Whatever two workers do: what is found is the last that was stored for the URL and what it depends on, and nothing that was forgotten.
    #[test]
    fn what_is_found_is_what_was_stored_last_and_not_forgotten(steps in proptest::collection::vec(step(), 1..80)) {
        let (cache, workers) = (Cache::new(1 << 24, String::new(), None), [Near::default(), Near::default()]);
        // By URL: whether it depends on the language, and the answers; without a language where it does not.
        let mut model: HashMap<u8, (bool, HashMap<Option<u8>, u64>)> = HashMap::new();
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Store { path, language: spoken, varies } => {
                    let vary = if varies { Vary::of(&[("vary", "x-language")]).unwrap() } else { Vary::default() };
                    let (primary, request) = (key_of(&target(path)), language(&spoken.to_string()));
                    let key = cache.key_of_answer(&primary, &vary, &request, Duration::from_secs(60)).unwrap();
                    cache.insert(&entry(key, count as u64, 10, &format!("tag{path}")));
                    let (depends, answers) = model.entry(path).or_default();
                    if varies && !*depends {
                        answers.clear();
                        *depends = true;
                    }
                    answers.insert(depends.then_some(spoken), count as u64);
                }
                Step::Look { path, language: spoken, worker } => {
                    let found = number(&cache, &workers[worker], &target(path), &language(&spoken.to_string()));
                    let expected = model.get(&path).and_then(|(depends, answers)| answers.get(&depends.then_some(spoken)).copied());
                    prop_assert_eq!(found, expected);
                }
                Step::ForgetUrl { path } => {
                    cache.forget_url(key_of(&target(path)).url());
                    model.remove(&path);
                }
                Step::PurgeTag { path } => {
                    let (gone, _) = cache.purge(&[purge(What::Tag(format!("tag{path}")))]);
                    let known = model.get_mut(&path).map_or(0, |(_, answers)| std::mem::take(answers).len());
                    prop_assert_eq!(gone, known);
                }
                Step::PurgePrefix { path } => {
                    cache.purge(&[purge(What::Prefix(format!("http://{HOST}/{}", path / 2)))]);
                    model.iter_mut().filter(|(it, _)| **it / 2 == path / 2).for_each(|(_, (_, answers))| answers.clear());
                }
                Step::Sweep { worker } => workers[worker].sweep_some(),
            }
        }
    }
}

#[test]
fn what_is_kept_stays_within_its_memory_and_what_is_asked_for_most_stays() {
    let (cache, near) = (Cache::new(1 << 20, String::new(), None), Near::default());
    let none = Fields::default();
    cache.insert(&entry(key_of("/hot"), 1, 1000, ""));
    for number in 0..5000 {
        cache.insert(&entry(key_of(&format!("/{number}")), number, 1000, ""));
        if number % 3 == 0 {
            assert_eq!(self::number(&cache, &near, "/hot", &none), Some(1), "{number}");
        }
        if number % 500 == 0 {
            let (bytes, _) = cache.taken();
            assert!(bytes <= (1 << 20) + (1 << 17), "{bytes}");
        }
    }
    let (bytes, entries) = cache.taken();
    assert!(bytes <= 1 << 20 && entries > 300, "{bytes} {entries}");
    // The index holds no more than the table.
    assert!(number(&cache, &near, "/hot", &none).is_some());
}

#[test]
fn however_many_workers_have_copies_they_are_a_part_of_the_memory() {
    let cache = Cache::new(1 << 20, String::new(), None);
    let targets: Vec<String> = (0..100).map(|it| format!("/{it}")).collect();
    targets.iter().for_each(|it| cache.insert(&entry(key_of(it), 1, 2000, "")));
    let workers: Vec<Near> = (0..8).map(|_| Near::default()).collect();
    for _ in 0..3 {
        for near in &workers {
            for target in &targets {
                assert_eq!(number(&cache, near, target, &Fields::default()), Some(1));
            }
        }
    }
    let copied = cache.copied.load(Relaxed);
    assert!(copied > (1 << 16) - 2000 && copied <= 1 << 16, "{copied}");
    assert!(cache.taken().0 > copied && cache.taken().0 <= 1 << 20);
    // What is purged is let go of by all, a few places at a time.
    cache.purge(&[purge(What::All(true))]);
    workers.iter().for_each(|near| (0..32).for_each(|_| near.sweep_some()));
    assert_eq!(cache.copied.load(Relaxed), 0);
}

#[test]
fn purges_mean_what_they_say() {
    let cache = Cache::new(1 << 20, String::new(), None);
    let fill = || {
        for target in ["/shop", "/shop/a?b", "/shopping", "/shop;x", "/other"] {
            cache.insert(&entry(key_of(target), 0, 10, if target == "/other" { "news" } else { "shop" }));
        }
    };
    for (what, count) in [
        (What::Url("/shop".to_owned()), 1),
        (What::Url("HTTP://Shop.example/shop/a?b".to_owned()), 1),
        (What::Url("http://elsewhere/shop".to_owned()), 0),
        (What::Prefix("/shop".to_owned()), 3),
        (What::Prefix("https://shop.example/shop/".to_owned()), 3),
        (What::Prefix("/".to_owned()), 5),
        (What::Pattern("^shop\\.example/shop".to_owned()), 4),
        (What::Tag("news".to_owned()), 1),
        (What::All(true), 5),
    ] {
        fill();
        assert_eq!(cache.purge(&[purge(what.clone())]), (count, true), "{what:?}");
    }
    for wrong in [
        What::Url("shop".to_owned()),
        What::Url(String::new()),
        What::Pattern("(".to_owned()),
        What::All(false),
        What::Tag("x".repeat(5000)),
    ] {
        assert!(Purge::of(&PurgeCache { what: Some(wrong), ..PurgeCache::default() }).is_err());
    }
    let big = What::Pattern("(a{1000}){1000}".to_owned());
    assert!(
        Purge::of(&PurgeCache { what: Some(big), ..PurgeCache::default() }).is_err(),
        "it would take much memory"
    );
}
