//! The store in memory, and what it asks of the local API.

use super::*;
use crate::environment::{Listen, Token};
use axum::{
    Router,
    extract::{Request, State},
    http::Response,
};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;

const HOUR: Duration = Duration::from_secs(3600);

fn store() -> CopalStore {
    CopalStore::new(&Environment::in_memory())
}

/// One that ends in an hour.
fn record(count: u64) -> Record {
    let data = [("count".to_owned(), json!(count)), ("cart".to_owned(), json!({"items": ["ä", null]}))];
    Record { id: Id::default(), data: data.into(), expiry_date: (SystemTime::now() + HOUR).into() }
}

#[tokio::test]
async fn what_was_saved_is_loaded_until_it_is_deleted() {
    let store = store();
    let mut record = record(1);
    assert_eq!(store.load(&record.id).await.unwrap(), None);
    store.create(&mut record).await.unwrap();
    let loaded = store.load(&record.id).await.unwrap().unwrap();
    assert_eq!((loaded.id, &loaded.data), (record.id, &record.data));
    // To the millisecond.
    assert_eq!(expires(&loaded), expires(&record));
    record.data.insert("count".to_owned(), json!(2));
    record.expiry_date = (SystemTime::now() + 2 * HOUR).into();
    store.save(&record).await.unwrap();
    let loaded = store.load(&record.id).await.unwrap().unwrap();
    assert_eq!((loaded.data["count"].as_u64(), expires(&loaded)), (Some(2), expires(&record)));
    store.delete(&record.id).await.unwrap();
    store.delete(&record.id).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), None);
}

#[tokio::test]
async fn an_id_that_is_taken_is_changed() {
    let store = store();
    let mut first = record(1);
    store.create(&mut first).await.unwrap();
    let mut second = Record { id: first.id, ..record(2) };
    store.create(&mut second).await.unwrap();
    assert_ne!(second.id, first.id);
    // That of one that was ended is taken as well.
    store.delete(&first.id).await.unwrap();
    let mut third = Record { id: first.id, ..record(3) };
    store.create(&mut third).await.unwrap();
    assert_ne!(third.id, first.id);
    assert_eq!(store.load(&first.id).await.unwrap(), None);
    assert_eq!(store.load(&second.id).await.unwrap().unwrap().data["count"], 2);
    assert_eq!(store.load(&third.id).await.unwrap().unwrap().data["count"], 3);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_ended_is_not_brought_back() {
    let store = store();
    let mut record = record(1);
    store.create(&mut record).await.unwrap();
    store.delete(&record.id).await.unwrap();
    let refused = store.save(&record).await.unwrap_err();
    assert_eq!(refused.to_string(), "the session was ended meanwhile");
    assert_eq!(store.load(&record.id).await.unwrap(), None);
    // A minute later its id is one as any other, and as one that was never there.
    tokio::time::advance(ENDED).await;
    store.save(&record).await.unwrap();
    assert!(store.load(&record.id).await.unwrap().is_some());
    // Nobody makes entries by ending what is not there.
    let other = Id::default();
    store.delete(&other).await.unwrap();
    assert_eq!(store.cache.get::<Value>(&store.key(&other)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_record_ends_with_its_time() {
    let store = store();
    let mut kept = record(1);
    store.create(&mut kept).await.unwrap();
    tokio::time::advance(HOUR).await;
    assert_eq!(store.cache.get::<Value>(&store.key(&kept.id)).await.unwrap(), None);
    assert_eq!(store.load(&kept.id).await.unwrap(), None);
    // One that is over is not there to begin with, and a save of one ends it.
    let past = SystemTime::now() - HOUR;
    let mut over = Record { expiry_date: past.into(), ..record(1) };
    store.create(&mut over).await.unwrap();
    assert_eq!(store.cache.get::<Value>(&store.key(&over.id)).await.unwrap(), None);
    let mut ended = record(1);
    store.create(&mut ended).await.unwrap();
    store.save(&Record { expiry_date: past.into(), ..ended.clone() }).await.unwrap();
    assert_eq!(store.load(&ended.id).await.unwrap(), None);
    // One without an end, nearly: the cache's longest time is what it gets.
    let far = UNIX_EPOCH + Duration::from_millis(EXPIRES_MAX);
    let mut long = Record { expiry_date: far.into(), ..record(1) };
    store.create(&mut long).await.unwrap();
    assert_eq!(store.load(&long.id).await.unwrap().unwrap().expiry_date, long.expiry_date);
    tokio::time::advance(TTL_MAX).await;
    assert_eq!(store.load(&long.id).await.unwrap(), None);
}

#[tokio::test]
async fn each_app_has_its_own_unless_they_share() {
    let shop = Environment::in_memory();
    let mut blog = shop.clone();
    blog.app = "default/blog".to_owned();
    let (shops, blogs) = (CopalStore::new(&shop), CopalStore::new(&blog));
    let mut record = record(1);
    shops.create(&mut record).await.unwrap();
    assert!(shops.load(&record.id).await.unwrap().is_some());
    assert_eq!(blogs.load(&record.id).await.unwrap(), None);
    let (shops, blogs) = (shops.shared_as("users"), blogs.shared_as("users"));
    assert_eq!(shops.load(&record.id).await.unwrap(), None);
    blogs.create(&mut record).await.unwrap();
    assert!(shops.load(&record.id).await.unwrap().is_some());
    let wrong = shops.shared_as("Users").create(&mut record).await.unwrap_err();
    assert!(wrong.to_string().contains("the cache's name is \"Users\": expected 1 to 63"), "{wrong}");
}

#[tokio::test]
async fn what_can_t_be_a_record_is_named() {
    let store = store();
    let id = Id::default();
    for (value, words) in [
        (json!(7), "expected value"),
        (json!({"session": {"data": {}}}), "missing field `expires`"),
        (
            json!({"session": {"data": {}, "expires": EXPIRES_MAX + 1}}),
            "expires is 253402300800000: expected",
        ),
    ] {
        store.cache.put(&store.key(&id), &value).await.unwrap();
        let wrong = store.load(&id).await.unwrap_err();
        assert!(matches!(&wrong, Error::Decode(text) if text.contains(words)), "{wrong}");
    }
    let mut large = record(1);
    large.data.insert("large".to_owned(), "x".repeat(1 << 20).into());
    let wrong = store.create(&mut large).await.unwrap_err();
    assert!(matches!(&wrong, Error::Backend(text) if text.starts_with("too-large: ")), "{wrong}");
}

/// Answers of a local API, in order: status, header, body.
type Answers = Vec<(u16, (&'static str, &'static str), &'static str)>;

/// What was asked: method, path with `ID` and `TTL` put in, the condition.
type Asked = Arc<Mutex<Vec<String>>>;

/// A store whose server gives these answers; the socket is there until the folder is dropped.
fn with_answers(mut answers: Answers) -> (CopalStore, Asked, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    answers.reverse();
    let asked = Asked::default();
    let answer = async |State((asked, answers)): State<(Asked, Arc<Mutex<Answers>>)>, request: Request| {
        assert_eq!(request.headers()["authorization"], "Bearer secret");
        let header =
            |name| request.headers().get(name).map(|it| format!(" {name}: {}", it.to_str().unwrap()));
        let condition = header("if-match").or(header("if-none-match")).unwrap_or_default();
        asked.lock().unwrap().push(format!("{} {}{condition}", request.method(), request.uri()));
        let (status, (name, value), body) = answers.lock().unwrap().pop().expect("an answer is left");
        Response::builder().status(status).header(name, value).body(body.to_owned()).unwrap()
    };
    let router = Router::new().fallback(answer).with_state((asked.clone(), Arc::new(Mutex::new(answers))));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let environment = Environment {
        listen: Listen::Port(1),
        hub: Some((socket, Token("secret".to_owned()))),
        server: "a".to_owned(),
        app: "default/my shop".to_owned(),
        ..Environment::in_memory()
    };
    (CopalStore::new(&environment), asked, dir)
}

/// What was asked, with `ID` for the id's bytes and `TTL` for a time of up to an hour.
fn seen(asked: &Asked, id: &Id) -> Vec<String> {
    let id = percent_encoding::utf8_percent_encode(&id.to_string(), percent_encoding::NON_ALPHANUMERIC)
        .to_string();
    let mut seen = std::mem::take(&mut *asked.lock().unwrap());
    for line in &mut seen {
        *line = line.replace(&id, "ID");
        if let Some((before, after)) = line.split_once("?ttl=") {
            let (ttl, rest) = after.split_once("ms").unwrap();
            let ttl: u64 = ttl.parse().unwrap();
            let ttl = if ttl == 60_000 { "60s" } else { "TTL" };
            *line = format!("{before}?ttl={ttl}{rest}");
        }
    }
    seen
}

const NO: (&str, &str) = ("x-copal-cache", "hub");
const STALE: (&str, &str) = ("x-copal-cache", "stale");
const SESSION: &str = r#"{"session": {"data": {}, "expires": 253402300799999}}"#;

#[tokio::test]
async fn of_saves_at_the_same_time_one_counts() {
    let path = "/v1/caches/tower-sessions/default%2Fmy%20shop%2FID";
    let first = [format!("GET {path}"), format!("PUT {path}?ttl=TTL if-match: \"7\"")];
    let look = format!("GET {path}?consistency=strong");
    let seven = (200, ("etag", "\"7\""), SESSION);
    // Nobody comes between.
    let (store, asked, _dir) = with_answers(vec![seven, (204, NO, "")]);
    let record = record(1);
    store.save(&record).await.unwrap();
    assert_eq!(seen(&asked, &record.id), first);
    // Another save does: it is the later one.
    let (store, asked, _dir) = with_answers(vec![seven, (412, NO, ""), (200, ("etag", "\"8\""), SESSION)]);
    store.save(&record).await.unwrap();
    assert_eq!(seen(&asked, &record.id), [&first[..], std::slice::from_ref(&look)].concat());
    // An end does.
    let (store, asked, _dir) =
        with_answers(vec![seven, (412, NO, ""), (200, ("etag", "\"8\""), "\"ended\"")]);
    assert_eq!(store.save(&record).await.unwrap_err().to_string(), "the session was ended meanwhile");
    assert_eq!(seen(&asked, &record.id).len(), 3);
    // It is forgotten meanwhile.
    let (store, asked, _dir) = with_answers(vec![seven, (412, NO, ""), (404, NO, ""), (201, NO, "")]);
    store.save(&record).await.unwrap();
    assert_eq!(
        seen(&asked, &record.id),
        [&first[..], &[look, format!("PUT {path}?ttl=TTL if-none-match: *")]].concat()
    );
    // An old copy is not what a save is made on.
    let (store, asked, _dir) = with_answers(vec![(200, STALE, SESSION), seven, (204, NO, "")]);
    store.save(&record).await.unwrap();
    assert_eq!(seen(&asked, &record.id).len(), 3);
}

#[tokio::test]
async fn what_never_comes_to_rest_is_an_error() {
    let (store, asked, _dir) = with_answers([(404, NO, ""), (412, NO, "")].repeat(TRIES));
    let record = record(1);
    assert_eq!(store.save(&record).await.unwrap_err().to_string(), "the session came and went 5 times");
    assert_eq!(seen(&asked, &record.id).len(), 2 * TRIES);
    let (store, asked, _dir) = with_answers([(412, NO, "")].repeat(TRIES));
    assert_eq!(store.create(&mut record.clone()).await.unwrap_err().to_string(), "5 ids in a row were taken");
    assert_eq!(seen(&asked, &record.id).len(), TRIES);
}

#[tokio::test]
async fn create_and_delete_say_when_they_are_to_be_done() {
    let (store, asked, _dir) = with_answers(vec![(412, NO, ""), (201, NO, ""), (204, NO, ""), (412, NO, "")]);
    let mut record = record(1);
    let taken = record.id;
    store.create(&mut record).await.unwrap();
    assert_ne!(record.id, taken);
    store.delete(&record.id).await.unwrap();
    store.delete(&record.id).await.unwrap();
    let path = "/v1/caches/tower-sessions/default%2Fmy%20shop%2FID";
    let seen = seen(&asked, &record.id);
    assert_eq!(seen[1], format!("PUT {path}?ttl=TTL if-none-match: *"));
    assert_eq!(
        seen[2..],
        [format!("PUT {path}?ttl=60s if-match: *"), format!("PUT {path}?ttl=60s if-match: *")]
    );
}

#[tokio::test]
async fn old_copies_serve_while_the_hub_is_away_unless_the_app_says_no() {
    const LOST: &str = r#"{"code": "hub-lost", "detail": "nobody answers"}"#;
    let record = record(1);
    let (store, asked, _dir) =
        with_answers(vec![(200, STALE, SESSION), (200, STALE, SESSION), (503, NO, LOST)]);
    assert!(store.load(&record.id).await.unwrap().is_some());
    let cause = store.clone().without_stale().load(&record.id).await.unwrap_err();
    assert_eq!(cause.to_string(), "it can't be reached: nobody answers");
    let asked = seen(&asked, &record.id);
    assert!(asked.len() == 3 && asked[2].ends_with("ID?consistency=strong"), "{asked:?}");
    // Nobody is there at all.
    let (store, _, dir) = with_answers(vec![]);
    drop(dir);
    assert!(
        matches!(store.load(&record.id).await, Err(Error::Backend(text)) if text.starts_with("it can't be reached"))
    );
}
