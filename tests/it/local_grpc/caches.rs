//! `copal.app.v1.Caches`.

use super::{next, of, refused, start};
use hyper::Method;
use proto::app::v1::{
    CacheClearRequest, CacheCondition, CacheDeleteRequest, CacheEventsRequest, CacheGetReply,
    CacheGetRequest, CacheIncrementRequest, CacheItem, CachePutAllRequest, CachePutReply, CachePutRequest,
    Fence, LeaseAcquireRequest, LeaseReleaseRequest, cache_condition::Condition, cache_event::Kind,
    cache_get_reply::Source, caches_client::CachesClient,
};
use serde_json::json;
use tonic::{Code, Status};

type Client = CachesClient<super::Wire>;

fn at(key: &str) -> CachePutRequest {
    CachePutRequest { cache: "c".to_owned(), key: key.to_owned(), ..CachePutRequest::default() }
}

async fn put(client: &mut Client, put: CachePutRequest) -> Result<CachePutReply, Status> {
    client.put(put).await.map(tonic::Response::into_inner)
}

async fn get(client: &mut Client, key: &str, claim_ms: u64) -> Result<CacheGetReply, Status> {
    let get = CacheGetRequest { cache: "c".to_owned(), key: key.to_owned(), claim_ms, strong: true };
    client.get(get).await.map(tonic::Response::into_inner)
}

fn only(condition: Condition) -> Option<CacheCondition> {
    Some(CacheCondition { condition: Some(condition) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_the_same_over_grpc_and_http() {
    let Some((_cluster, mut app, _)) = start().await else { return };
    let mut caches = app.caches();
    let value = CachePutRequest { value: "hello".into(), content_type: "text/plain".to_owned(), ..at("k") };
    let stored = put(&mut caches, CachePutRequest { ttl_ms: 3_600_000, ..value.clone() }).await.unwrap();
    assert!(stored.created && stored.version > 0);
    let answer = app.http.request(Method::GET, "/v1/caches/c/k?consistency=strong", "", &[]).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "hello"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", stored.version).as_str()));
    assert!(answer.header("x-copal-ttl-ms").is_some());
    let headers = [("content-type", "application/json")];
    let answer = app.http.request(Method::PUT, "/v1/caches/c/of%2Fhttp?idle=1h", "[1]", &headers).await;
    assert_eq!(answer.status, 201);
    let found = get(&mut caches, "of/http", 0).await.unwrap();
    let (source, entry) = (found.source(), found.entry.unwrap());
    assert_eq!(
        (&entry.value[..], entry.content_type.as_str(), source),
        (&b"[1]"[..], "application/json", Source::Hub)
    );
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", entry.version).as_str()));
    assert!(entry.left_ms > 0);
    assert_eq!(get(&mut caches, "nothing", 0).await.unwrap().entry, None);
    // Conditions, with what is there instead.
    let when = |condition| CachePutRequest { condition: only(condition), ..value.clone() };
    let unmet = put(&mut caches, when(Condition::IfAbsent(true))).await.unwrap_err();
    assert_eq!(
        (unmet.code(), of(&unmet, "copal-code").as_str(), of(&unmet, "copal-version")),
        (Code::FailedPrecondition, "precondition-failed", stored.version.to_string())
    );
    let second = put(&mut caches, when(Condition::IfVersion(stored.version))).await.unwrap();
    assert!(!second.created && second.version > stored.version);
    let delete = |key: &str, condition| CacheDeleteRequest {
        cache: "c".to_owned(),
        key: key.to_owned(),
        condition,
        fence: None,
    };
    let unmet = (Code::FailedPrecondition, "precondition-failed".to_owned());
    let condition = only(Condition::IfVersion(stored.version));
    assert_eq!(refused(caches.delete(delete("k", condition)).await), unmet);
    caches.delete(delete("k", only(Condition::IfPresent(true)))).await.unwrap();
    assert_eq!(refused(caches.delete(delete("k", None)).await), (Code::NotFound, "not-found".to_owned()));
    assert_eq!(app.http(Method::GET, "/v1/caches/c/k", "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_numbers_events_claims_and_fences_are_as_over_http() {
    let Some((_cluster, mut app, other)) = start().await else { return };
    let mut caches = app.caches();
    let mut events = caches.events(CacheEventsRequest { cache: "c".to_owned() }).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await.unwrap().kind(), Kind::Ready);
    let item = |key: &str, value: &str| CacheItem {
        key: key.to_owned(),
        value: value.to_owned().into(),
        ..CacheItem::default()
    };
    let items = vec![item("n", "40"), item("t", "text")];
    caches.put_all(CachePutAllRequest { cache: "c".to_owned(), items, fence: None }).await.unwrap();
    let changed = [next(&mut events).await.unwrap(), next(&mut events).await.unwrap()];
    let mut keys: Vec<_> = changed.iter().map(|it| (it.kind(), it.key.as_str())).collect();
    keys.sort_by_key(|it| it.1.to_owned());
    assert_eq!(keys, [(Kind::Changed, "n"), (Kind::Changed, "t")]);
    let by = |key: &str, by| CacheIncrementRequest {
        cache: "c".to_owned(),
        key: key.to_owned(),
        by,
        initial: 100,
        ..CacheIncrementRequest::default()
    };
    assert_eq!(caches.increment(by("n", Some(2))).await.unwrap().into_inner().value, 42);
    assert_eq!(caches.increment(by("new", None)).await.unwrap().into_inner().value, 101);
    let (_, told) = app.http(Method::POST, "/v1/caches/c/n/increment", "").await;
    assert_eq!(told, json!({"value": 43}));
    let no_number = (Code::FailedPrecondition, "not-a-number".to_owned());
    assert_eq!(refused(caches.increment(by("t", None)).await), no_number);
    caches.clear(CacheClearRequest { cache: "c".to_owned(), fence: None }).await.unwrap();
    while next(&mut events).await.unwrap().kind() != Kind::Cleared {}
    assert_eq!(get(&mut caches, "n", 0).await.unwrap().entry, None);
    // One computes, the other waits for it.
    let claim = get(&mut caches, "slow", 60_000).await.unwrap().claim;
    assert!(claim > 0);
    let (mut other_caches, mut mine) = (other.caches(), app.caches());
    let (waited, _) = tokio::join!(get(&mut other_caches, "slow", 60_000), async {
        put(&mut mine, CachePutRequest { value: "computed".into(), claim, ..at("slow") }).await.unwrap()
    });
    let waited = waited.unwrap();
    assert_eq!((&waited.entry.unwrap().value[..], waited.claim), (&b"computed"[..], 0));
    // Written only while a lease is held.
    let take = LeaseAcquireRequest { name: "writer".to_owned(), ttl_ms: 60_000, wait_ms: 0 };
    let lease = app.leases().acquire(take).await.unwrap().into_inner().lease.unwrap();
    let fenced = || CachePutRequest { fence: Some(lease.clone()), ..at("fenced") };
    put(&mut caches, fenced()).await.unwrap();
    app.leases().release(LeaseReleaseRequest { lease: Some(lease.clone()) }).await.unwrap();
    let stale = (Code::FailedPrecondition, "stale-fence".to_owned());
    assert_eq!(refused(put(&mut caches, fenced()).await), stale);
    let no_fence = Some(Fence { name: "writer".to_owned(), token: 0 });
    let wrong = put(&mut caches, CachePutRequest { fence: no_fence, ..at("fenced") }).await;
    assert_eq!(refused(wrong), (Code::InvalidArgument, "bad-request".to_owned()));
}
