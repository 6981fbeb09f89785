//! Parts of answers that are kept as parts.

use super::{
    super::backend::{OnConnection, http},
    cached, status_of, with,
};
use crate::tests::{client::Answer, cluster::Cluster};
use bytes::Bytes;
use http::{Response, header};
use http_body_util::Full;
use http_cache::range::{ContentRange, Part, part};
use std::sync::{Arc, Mutex};

const WHOLE: &str = "0123456789";

/// A file server: what it was asked for, and the tag that it gives.
#[derive(Clone)]
struct Files {
    asked: Arc<Mutex<Vec<String>>>,
    tag: Arc<Mutex<String>>,
}

impl Files {
    fn with_tag(tag: &str) -> Self {
        Self { asked: Arc::default(), tag: Arc::new(Mutex::new(tag.to_owned())) }
    }

    fn backend(&self, more: &'static str) -> OnConnection {
        let files = self.clone();
        http(move |request| {
            let range = request.headers().get(header::RANGE).map(|it| it.to_str().unwrap().to_owned());
            files.asked.lock().unwrap().push(range.clone().unwrap_or_default());
            let response = Response::builder()
                .header("cache-control", "max-age=60")
                .header("etag", files.tag.lock().unwrap().as_str());
            let response = match range.map(|it| part(it.as_bytes(), WHOLE.len() as u64)) {
                Some(Part::Bytes(from, to)) => {
                    let range = ContentRange { from, to, total: WHOLE.len() as u64 };
                    let body = &WHOLE[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
                    response
                        .status(206)
                        .header("content-range", format!("{range}{more}"))
                        .body(Full::new(Bytes::from(body)))
                }
                _ => response.body(Full::new(Bytes::from(WHOLE))),
            };
            std::future::ready(response.unwrap())
        })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn ask(cluster: &Cluster, range: &str) -> Answer {
    cluster.ask("GET /film", &format!("Range: {range}\r\n")).await
}

fn range_of(answer: &Answer) -> &str {
    answer.head.lines().find_map(|it| it.strip_prefix("content-range: ")).unwrap_or_default()
}

#[tokio::test]
async fn a_part_answers_for_what_it_has() {
    let files = Files::with_tag("\"a\"");
    let cluster = Cluster::start_with([files.backend("")], cached).await;
    let first = ask(&cluster, "bytes=2-6").await;
    assert_eq!((first.status, first.body.as_str(), range_of(&first)), (206, "23456", "bytes 2-6/10"));
    assert_eq!(status_of(&first), "copal; fwd=uri-miss; stored");
    for (range, body, told) in [
        ("bytes=2-6", "23456", "bytes 2-6/10"),
        ("bytes=3-4", "34", "bytes 3-4/10"),
        ("bytes=6-6", "6", "bytes 6-6/10"),
    ] {
        let again = ask(&cluster, range).await;
        assert_eq!((again.status, again.body.as_str(), range_of(&again)), (206, body, told), "{range}");
        assert!(status_of(&again).starts_with("copal; hit"), "{range}: {}", again.head);
        assert!(again.head.contains("age: "), "{}", again.head);
    }
    assert_eq!(files.asked(), ["bytes=2-6"]);
    // What it does not have, several ranges and the whole are asked for.
    for (range, status, body) in [("bytes=0-2", 206, "012"), ("bytes=0-0,4-4", 200, WHOLE)] {
        let other = ask(&cluster, range).await;
        assert_eq!((other.status, other.body.as_str()), (status, body), "{range}");
    }
    assert_eq!(files.asked(), ["bytes=0-2", "bytes=0-0,4-4"]);
    // The last one has brought the whole.
    assert!(status_of(&cluster.ask("GET /film", "").await).starts_with("copal; hit"));
    assert!(files.asked().is_empty());
}

#[tokio::test]
async fn parts_of_the_same_body_become_one() {
    let files = Files::with_tag("\"a\"");
    let cluster = Cluster::start_with([files.backend("")], cached).await;
    for range in ["bytes=4-5", "bytes=6-7", "bytes=2-4", "bytes=0-0"] {
        assert_eq!(ask(&cluster, range).await.status, 206);
    }
    assert_eq!(files.asked().len(), 4);
    // 2 to 7 had become one; what does not touch it has taken its place.
    assert_eq!(ask(&cluster, "bytes=0-0").await.body, "0");
    assert!(files.asked().is_empty());
    for range in ["bytes=3-6", "bytes=1-2"] {
        assert_eq!(ask(&cluster, range).await.status, 206);
    }
    assert_eq!(files.asked(), ["bytes=3-6", "bytes=1-2"]);
    for (range, body) in [("bytes=1-6", "123456"), ("bytes=2-3", "23")] {
        assert_eq!(ask(&cluster, range).await.body, body);
    }
    assert!(files.asked().is_empty());
    // Another tag is another body.
    "\"b\"".clone_into(&mut files.tag.lock().unwrap());
    assert_eq!(ask(&cluster, "bytes=7-8").await.body, "78");
    assert_eq!(ask(&cluster, "bytes=6-7").await.body, "67");
    assert_eq!(ask(&cluster, "bytes=5-8").await.body, "5678");
    assert_eq!(files.asked(), ["bytes=7-8", "bytes=6-7", "bytes=5-8"]);
}

#[tokio::test]
async fn weak_tags_join_nothing() {
    let files = Files::with_tag("W/\"a\"");
    let cluster = Cluster::start_with([files.backend("")], cached).await;
    for range in ["bytes=4-5", "bytes=6-7", "bytes=4-7", "bytes=5-6"] {
        assert_eq!(ask(&cluster, range).await.status, 206);
    }
    assert_eq!(files.asked(), ["bytes=4-5", "bytes=6-7", "bytes=4-7"]);
}

#[tokio::test]
async fn a_part_that_is_all_there_is_is_the_whole() {
    let files = Files::with_tag("\"a\"");
    let cluster = Cluster::start_with([files.backend("")], cached).await;
    let first = ask(&cluster, "bytes=0-").await;
    assert_eq!((first.status, first.body.as_str(), range_of(&first)), (206, WHOLE, "bytes 0-9/10"));
    let whole = cluster.ask("GET /film", "").await;
    assert_eq!((whole.status, whole.body.as_str(), range_of(&whole)), (200, WHOLE, ""));
    assert_eq!(files.asked(), ["bytes=0-"]);
}

#[tokio::test]
async fn parts_that_contradict_themselves_or_are_too_long_are_not_kept() {
    for more in ["0", "x"] {
        let files = Files::with_tag("\"a\"");
        // `x`: no number; `0`: of a whole that is longer each time.
        let cluster = Cluster::start_with([files.backend(more)], cached).await;
        for _ in 0..2 {
            assert_eq!(ask(&cluster, "bytes=-5").await.body, "56789");
        }
        // The one with `0` is a part of 100 bytes, of which `-5` are others.
        assert_eq!(files.asked().len(), 2, "{more}");
    }
    let files = Files::with_tag("\"a\"");
    let cluster = Cluster::start_with([files.backend("")], with(|it| it.max_entry_size = 4)).await;
    for range in ["bytes=0-4", "bytes=0-4", "bytes=0-3", "bytes=0-3", "bytes=4-5", "bytes=0-3"] {
        assert_eq!(ask(&cluster, range).await.status, 206);
    }
    // 0-3 fits; with 4-5 it would not, which takes its place.
    assert_eq!(files.asked(), ["bytes=0-4", "bytes=0-4", "bytes=0-3", "bytes=4-5", "bytes=0-3"]);
}

#[tokio::test]
async fn if_range_and_changes_are_heeded() {
    let files = Files::with_tag("\"a\"");
    let cluster = Cluster::start_with([files.backend("")], cached).await;
    ask(&cluster, "bytes=0-3").await;
    let same = cluster.ask("GET /film", "Range: bytes=1-2\r\nIf-Range: \"a\"\r\n").await;
    assert_eq!((same.status, same.body.as_str()), (206, "12"));
    assert_eq!(files.asked().len(), 1);
    cluster.ask("GET /film", "Range: bytes=1-2\r\nIf-Range: \"b\"\r\n").await;
    cluster.ask("GET /film", "Range: bytes=1-2\r\nCache-Control: no-cache\r\n").await;
    assert_eq!(files.asked().len(), 2);
    let had = cluster.ask("GET /film", "Range: bytes=1-2\r\nIf-None-Match: \"a\"\r\n").await;
    assert_eq!(had.status, 304);
    let only = cluster.ask("GET /film", "Range: bytes=8-9\r\nCache-Control: only-if-cached\r\n").await;
    assert_eq!(only.status, 504);
    assert!(files.asked().is_empty());
    // Something changes there.
    cluster.ask("DELETE /film", "").await;
    ask(&cluster, "bytes=1-2").await;
    assert_eq!(files.asked().len(), 2);
}
