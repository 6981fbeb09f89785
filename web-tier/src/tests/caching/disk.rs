//! Answers that are kept on disk: through restarts, purges, damage, and with little memory.

use super::{Cluster, Origin, status_of};
use crate::tests::{
    backend::{OnConnection, http},
    foreign::{until, until_async},
};
use bytes::Bytes;
use common::config::{DiskTier, ProxyCache};
use http::Response;
use http_body_util::Full;
use proto::{
    hub::v1::Purge,
    status::v1::DiskTier as DiskStatus,
    web::v1::{PurgeCache, purge_cache::What},
};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// A web tier whose cache has this folder.
async fn start(backend: OnConnection, folder: &Path) -> Cluster {
    start_with(backend, folder, 64 << 20).await
}

async fn start_with(backend: OnConnection, folder: &Path, memory_size: u64) -> Cluster {
    let disk = Some(DiskTier { size: 64 << 20, path: Some(folder.to_owned()) });
    fs::create_dir_all(folder.join("data/web-a")).unwrap();
    Cluster::start_with([backend], |config| {
        config.data_dir = folder.join("data");
        config.clusters[1].proxy_cache =
            Some(ProxyCache { disk, memory_size, max_entry_size: memory_size / 4, ..ProxyCache::default() });
    })
    .await
}

/// The hub is heard, and has nothing new.
fn hears(cluster: &Cluster, told: &[(u64, What)]) {
    let purge = |(number, what): &(u64, What)| {
        let what = Some(PurgeCache { what: Some(what.clone()), ..PurgeCache::default() });
        (*number, Purge { number: *number, what, ..Purge::default() })
    };
    cluster.web.view().catch_up(&told.iter().map(purge).collect::<BTreeMap<_, _>>());
    cluster.web.view().apps_changed([].iter(), b"");
}

/// What is to be written is on disk.
async fn written(cluster: &Cluster, count: u64) {
    until_async(async || disk(cluster).await.written >= count).await;
}

async fn disk(cluster: &Cluster) -> DiskStatus {
    cluster.web.view().status().await.cache.unwrap().disk.unwrap()
}

async fn stop(cluster: Cluster) {
    cluster.web.stop(Duration::ZERO).await;
}

/// The first that is asked for is found on disk as soon as that has been read.
async fn found(cluster: &Cluster, line: &str, headers: &str) -> crate::tests::client::Answer {
    until_async(async || disk(cluster).await.entries > 0).await;
    cluster.ask(line, headers).await
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    let says = || {
        origin.answers(|seen, number| {
            let vary = if seen.path == "/v" { "\nVary: Accept-Language" } else { "" };
            (
                200,
                format!("Cache-Control: max-age=600, stale-if-error=9\nETag: \"{number}\"\nX-Thing: a{vary}"),
            )
        })
    };
    let cluster = start(says(), folder.path()).await;
    let languages = [("", "answer 2"), ("Accept-Language: de\r\n", "answer 3")];
    assert_eq!(cluster.ask("GET /a?b", "").await.body, "answer 1");
    for (language, body) in languages {
        assert_eq!(cluster.ask("GET /v", language).await.body, body);
    }
    written(&cluster, 4).await;
    stop(cluster).await;

    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[]);
    let answer = found(&cluster, "GET /a?b", "").await;
    assert_eq!(answer.body, "answer 1");
    assert!(status_of(&answer).starts_with("copal; hit; ttl="), "{}", answer.head);
    assert!(
        answer.has("etag: \"1\"") && answer.has("x-thing: a") && answer.head.contains("age: "),
        "{}",
        answer.head
    );
    for (language, body) in languages {
        let answer = cluster.ask("GET /v", language).await;
        assert_eq!((answer.body.as_str(), status_of(&answer).contains("hit")), (body, true));
    }
    assert_eq!(cluster.ask("GET /v", "Accept-Language: fr\r\n").await.body, "answer 4");
    assert_eq!(cluster.ask("GET /a?b", "If-None-Match: \"1\"\r\n").await.status, 304);
    assert_eq!(origin.count(), 4);
    assert_eq!(cluster.web.totals().cache.from_disk, 3);
}

#[tokio::test]
async fn what_was_purged_replaced_or_changed_by_a_post_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    let says = || {
        origin.answers(|seen, _| {
            (200, format!("Cache-Control: max-age=600\nSurrogate-Key: key{}", seen.path.len()))
        })
    };
    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[(1, What::Tag("other".to_owned()))]);
    let paths = ["/1", "/22", "/333", "/4444", "/55555", "/666666"];
    for path in paths {
        cluster.ask(&format!("GET {path}"), "").await;
    }
    let view = cluster.web.view();
    let purge =
        |what: What, number| view.purge(&PurgeCache { what: Some(what), soft: false, number }).unwrap().count;
    assert_eq!(purge(What::Tag("key3".to_owned()), 2), 1, "/22");
    assert_eq!(purge(What::Prefix("/333".to_owned()), 0), 1);
    cluster.ask("POST /4444", "Content-Length: 0\r\n").await;
    written(&cluster, 6).await;
    stop(cluster).await;

    let cluster = start(says(), folder.path()).await;
    // Before the hub is heard, nobody knows what has changed.
    assert!(status_of(&found(&cluster, "GET /1", "").await).ends_with("stored"));
    // Its second purge is done, its third is not.
    hears(
        &cluster,
        &[(1, What::All(true)), (2, What::Tag("key3".to_owned())), (3, What::Url("/55555".to_owned()))],
    );
    for (path, expected) in paths.into_iter().zip(["hit", "stored", "stored", "stored", "stored", "hit"]) {
        let answer = cluster.ask(&format!("GET {path}"), "").await;
        assert!(status_of(&answer).contains(expected), "{path}: {}", answer.head);
    }
}

#[tokio::test]
async fn what_has_no_room_in_memory_is_found_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let backend = http(move |request| {
        count.fetch_add(1, Relaxed);
        let body = request.uri().path().repeat(4000);
        let answer =
            Response::builder().header("cache-control", "max-age=600").header("content-type", "text/plain");
        std::future::ready(answer.body(Full::new(Bytes::from(body))).unwrap())
    });
    let cluster = start_with(backend, folder.path(), 1 << 20).await;
    hears(&cluster, &[]);
    let path = |number: usize| format!("/{number:04}");
    for number in 0..200 {
        cluster.ask(&format!("GET {}", path(number)), "").await;
    }
    written(&cluster, 200).await;
    for number in 0..200 {
        let answer = cluster.ask(&format!("GET {}", path(number)), "").await;
        assert_eq!(answer.body, path(number).repeat(4000));
    }
    assert_eq!(asked.load(Relaxed), 200, "each was asked for once");
    let cache = cluster.web.view().status().await.cache.unwrap();
    assert!(cache.bytes <= (1 << 20) + (1 << 17) && cache.from_disk > 100, "{cache:?}");
}

#[tokio::test]
async fn what_is_damaged_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    let cluster = start(origin.says("Cache-Control: max-age=600"), folder.path()).await;
    for number in 0..10 {
        cluster.ask(&format!("GET /{number}"), "").await;
    }
    written(&cluster, 10).await;
    stop(cluster).await;
    for file in fs::read_dir(folder.path().join("web-a")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|it| it == "log") {
            let mut bytes = fs::read(&path).unwrap();
            bytes.iter_mut().filter(|it| **it == b'w').for_each(|it| *it = b'x');
            fs::write(path, bytes).unwrap();
        }
    }
    let cluster = start(origin.says("Cache-Control: max-age=600"), folder.path()).await;
    hears(&cluster, &[]);
    let answer = found(&cluster, "GET /0", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "answer 11"));
    assert!(disk(&cluster).await.damaged > 0);
    until(|| cluster.web.totals().requests_active == 0).await;
}

#[tokio::test]
async fn a_folder_that_cant_be_used_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(Origin::default().says("Cache-Control: no-store"), folder.path()).await;
    let tier = DiskTier { size: 64 << 20, path: Some(folder.path().to_owned()) };
    let mut config = crate::tests::cluster::config(&[1]);
    config.clusters[1].proxy_cache = Some(ProxyCache { disk: Some(tier), ..ProxyCache::default() });
    let me = common::id::ServerId::from("web-a");
    let (cluster, _) = config.server(&me).unwrap();
    let refused = crate::route::Plan::cache_for(&config, (cluster, &me), (true, None)).unwrap_err();
    assert!(refused.0.ends_with("web-a") && refused.1.to_string().contains("in use"), "{refused:?}");
    drop(first);
}

#[tokio::test]
async fn what_a_newer_answer_has_replaced_does_not_come_back_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    // The second may be used for a moment alone, and is not written.
    let says = || {
        origin.answers(|_, number| {
            (200, format!("Cache-Control: max-age={}", if number == 1 { 600 } else { 2 }))
        })
    };
    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[]);
    cluster.ask("GET /", "").await;
    written(&cluster, 1).await;
    assert_eq!(cluster.ask("GET /", "Cache-Control: no-cache\r\n").await.body, "answer 2");
    stop(cluster).await;
    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[]);
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 3");
}

#[tokio::test]
async fn what_was_purged_softly_is_asked_about_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    let says = || origin.says("Cache-Control: max-age=600\nETag: \"a\"\nSurrogate-Key: key");
    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[]);
    cluster.ask("GET /", "").await;
    written(&cluster, 1).await;
    let asked = PurgeCache { what: Some(What::Tag("key".to_owned())), soft: true, number: 0 };
    assert_eq!(cluster.web.view().purge(&asked).unwrap().count, 1);
    stop(cluster).await;
    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[]);
    let answer = found(&cluster, "GET /", "").await;
    assert!(!status_of(&answer).contains("hit"), "{}", answer.head);
    assert_eq!(origin.seen().last().unwrap().header("if-none-match"), Some("\"a\""));
}

#[tokio::test]
async fn other_rules_mean_another_cache() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    let says = || origin.says("Cache-Control: max-age=600\nSet-Cookie: id=1");
    let begin = |store_set_cookie| {
        let disk = Some(DiskTier { size: 64 << 20, path: Some(folder.path().to_owned()) });
        Cluster::start_with([says()], move |config| {
            config.clusters[1].proxy_cache =
                Some(ProxyCache { disk, store_set_cookie, ..ProxyCache::default() });
        })
    };
    let cluster = begin(true).await;
    cluster.ask("GET /", "").await;
    written(&cluster, 1).await;
    stop(cluster).await;
    let cluster = begin(false).await;
    hears(&cluster, &[]);
    assert_eq!(disk(&cluster).await.entries, 0);
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 2");
}

#[tokio::test]
async fn a_reload_to_another_folder_and_back_begins_anew() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Origin::default();
    let kept = std::cell::RefCell::new(None);
    let with = |folder: &Path| {
        let disk = Some(DiskTier { size: 64 << 20, path: Some(folder.to_owned()) });
        Some(ProxyCache { disk, ..ProxyCache::default() })
    };
    let mut cluster = Cluster::start_with([origin.says("Cache-Control: max-age=600")], |config| {
        config.clusters[1].proxy_cache = with(one.path());
        *kept.borrow_mut() = Some(config.clone());
    })
    .await;
    hears(&cluster, &[]);
    cluster.ask("GET /", "").await;
    written(&cluster, 1).await;
    let mut config = kept.borrow_mut().take().unwrap();
    for (folder, expected) in [(&two, "answer 2"), (&one, "answer 3")] {
        config.clusters[1].proxy_cache = with(folder.path());
        // The former folder is being closed in the background.
        let reloading = async {
            loop {
                match cluster.web.reload(Arc::new(config.clone())).await {
                    Err(cause) if cause.to_string().contains("in use") => tokio::task::yield_now().await,
                    reloaded => return reloaded,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reloading).await.expect("in time").unwrap();
        assert_eq!(cluster.ask("GET /", "").await.body, expected);
    }
}

#[tokio::test]
async fn a_folder_that_was_out_of_use_is_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::default();
    let says = || origin.says("Cache-Control: max-age=600");
    let cluster = start(says(), folder.path()).await;
    cluster.ask("GET /", "").await;
    written(&cluster, 1).await;
    stop(cluster).await;
    // What changes now it does not hear of.
    let cluster = Cluster::start_with([says()], |config| config.data_dir = folder.path().join("data")).await;
    stop(cluster).await;
    let cluster = start(says(), folder.path()).await;
    hears(&cluster, &[]);
    assert_eq!(disk(&cluster).await.entries, 0);
    assert_eq!(cluster.ask("GET /", "").await.body, "answer 2");
}
