//! What the local API refuses over gRPC, and how its streams end.

use super::{App, Wire, next, of, queues::publish, queues::text, raw, refused, start};
use crate::cluster::PATIENCE;
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use http_body_util::StreamBody;
use hyper::{
    Method, Request,
    body::{Bytes, Frame},
};
use proto::app::v1::{
    CacheEventsRequest, CachePutRequest, LeaseAcquireRequest, LeaseEvent, LeaseGetRequest, Message,
    QueueAskRequest, QueueReceiveRequest, QueueSettleRequest, TopicPublishRequest, TopicSubscribeRequest,
    leases_client::LeasesClient, queue_receive_request::From, queues_client::QueuesClient, topic_event::Kind,
    topics_client::TopicsClient,
};
use std::{convert::Infallible, iter};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming, body::Body};
use tower::ServiceExt;

fn bad() -> (Code, String) {
    (Code::InvalidArgument, "bad-request".to_owned())
}

fn too_large() -> (Code, String) {
    (Code::ResourceExhausted, "too-large".to_owned())
}

/// Bytes as gRPC frames a message.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_told_with_a_code() {
    let Some((_cluster, app, _)) = start().await else { return };
    // Who it is.
    let named = || LeaseGetRequest { name: "report".to_owned() };
    let unknown = (Code::Unauthenticated, "unauthorized".to_owned());
    for token in ["", "no", &"0".repeat(app.environment["token"].as_str().unwrap().len())] {
        let wire = app.wire.with("copal-token", token);
        assert_eq!(refused(LeasesClient::new(wire.clone()).get(named()).await), unknown);
        assert_eq!(refused(LeasesClient::new(wire).watch(named()).await), unknown);
    }
    let mut bearer = app.wire.clone();
    bearer.headers =
        vec![("authorization", format!("Bearer {}", app.environment["token"].as_str().unwrap()))];
    assert_eq!(refused(LeasesClient::new(bearer).get(named()).await).0, Code::NotFound);
    // What it says.
    for name in ["", "A", "a/b", ".."] {
        assert_eq!(refused(publish(&app, name, vec![text("x")]).await), bad(), "{name}");
        assert_eq!(refused(app.leases().get(LeaseGetRequest { name: name.to_owned() }).await), bad());
        let subscribe = TopicSubscribeRequest { topic: name.to_owned() };
        assert_eq!(refused(app.topics().subscribe(subscribe).await), bad());
        let events = CacheEventsRequest { cache: name.to_owned() };
        assert_eq!(refused(app.caches().events(events).await), bad());
    }
    assert_eq!(refused(publish(&app, "q", vec![]).await), bad());
    assert_eq!(refused(publish(&app, "q", vec![text("x"); 1001]).await), bad());
    assert_eq!(refused(app.queues().receive(QueueReceiveRequest::default()).await), bad());
    let greedy = QueueReceiveRequest { from: Some(From::Queue("q".into())), credit: 1001, timeout_ms: 0 };
    assert_eq!(refused(app.queues().receive(greedy).await), bad());
    assert_eq!(refused(app.queues().settle(QueueSettleRequest::default()).await), bad());
    let short = LeaseAcquireRequest { name: "report".to_owned(), ttl_ms: 999, wait_ms: 0 };
    assert_eq!(refused(app.leases().acquire(short).await), bad());
    // How long it is.
    let large = |bytes: usize| Message { body: vec![0; bytes].into(), ..Message::default() };
    assert!(publish(&app, "q", vec![large(256 << 10)]).await.is_ok());
    assert_eq!(refused(publish(&app, "q", vec![large((256 << 10) + 1)]).await), too_large());
    assert_eq!(refused(publish(&app, "q", vec![large(5 << 20)]).await), too_large());
    let value = CachePutRequest {
        cache: "c".to_owned(),
        key: "k".to_owned(),
        value: vec![0; (1 << 20) + 1].into(),
        ..CachePutRequest::default()
    };
    assert_eq!(refused(app.caches().put(value).await), too_large());
    // Whether it is a message at all.
    let path = "/copal.app.v1.Queues/Publish";
    for bytes in
        [framed(b"\xff\xff\xff"), framed(b"\x0a\x7fshort"), vec![], vec![7, 0, 0, 0, 1, 0], vec![0, 0, 0]]
    {
        let status = raw(&app.wire, path, bytes.clone()).await;
        assert_eq!(
            (status.code(), of(&status, "copal-code").as_str()),
            (Code::InvalidArgument, "bad-request"),
            "{bytes:?}: {status:?}"
        );
    }
    // A length that is announced, and never comes.
    let status = raw(&app.wire, path, vec![0, 0xff, 0xff, 0xff, 0xff, 1]).await;
    assert_eq!((status.code(), of(&status, "copal-code").as_str()), (Code::ResourceExhausted, "too-large"));
    for path in ["/copal.app.v1.Queues/Steal", "/copal.hub.v1.Queues/Write", "/"] {
        assert_eq!(raw(&app.wire, path, framed(b"")).await.code(), Code::Unimplemented, "{path}");
    }
}

async fn watch(app: &App, wire: &Wire) -> Streaming<LeaseEvent> {
    let named = LeaseGetRequest { name: "report".to_owned() };
    let stream = LeasesClient::new(wire.clone()).watch(named).await;
    let mut stream = stream.unwrap_or_else(|status| panic!("{}: {status}", app.environment)).into_inner();
    assert_eq!(next(&mut stream).await.unwrap().holder, None);
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_calls_and_an_app_has_only_so_many() {
    let Some((_cluster, mut app, mut other)) = start().await else { return };
    // Nobody's connections are closed soon: these are of apps.
    for app in [&mut app, &mut other] {
        assert_eq!(app.http(Method::GET, "/v1/leases/report", "").await.0, 404);
    }
    let mut streams = Vec::new();
    for _ in 0..1024 {
        streams.push(watch(&app, &app.wire).await);
    }
    // On another connection, over gRPC and HTTP: it is one app.
    let second = Wire::to(&app.environment).await;
    let named = || LeaseGetRequest { name: "report".to_owned() };
    let full = LeasesClient::new(second.clone()).get(named()).await.unwrap_err();
    assert_eq!((full.code(), of(&full, "copal-code").as_str()), (Code::ResourceExhausted, "full"));
    assert_eq!(of(&full, "copal-retry-after"), "1");
    assert_eq!(app.http(Method::GET, "/v1/leases/report", "").await.0, 429);
    // The other one is none of this.
    assert_eq!(refused(other.leases().get(named()).await).0, Code::NotFound);
    assert_eq!(other.http(Method::GET, "/v1/leases/report", "").await.0, 404);
    // Whoever ends one has room for another, as soon as the server has heard.
    drop(streams.pop());
    let again = async {
        while LeasesClient::new(second.clone()).get(named()).await.unwrap_err().code() != Code::NotFound {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("room for another call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_of_messages_under_way_are_bounded_as_those_of_bodies_are() {
    let Some((_cluster, app, other)) = start().await else { return };
    let wire = Wire::to_socket(&app.environment, 1 << 20).await;
    // Each announces 4 MiB, and nearly all of it comes: but for the last one there is room for 128 MiB.
    let begun = |_| {
        let head = Bytes::from_static(&[0, 0, 0x40, 0, 0]);
        let piece = Bytes::from_static(&[0; 64 << 10]);
        let pieces = iter::once(head).chain(iter::repeat_n(piece, 63)).map(|it| Ok(Frame::data(it)));
        let body = StreamBody::new(stream::iter(pieces).chain(stream::pending::<Result<_, Infallible>>()));
        let request =
            Request::post("/copal.app.v1.Queues/Publish").header("content-type", "application/grpc");
        wire.clone().oneshot(request.body(Body::new(body)).unwrap())
    };
    let mut calls: FuturesUnordered<_> = (0..33).map(begun).collect();
    let answer = timeout(PATIENCE, calls.next()).await.expect("one has no room").unwrap().unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!((status.code(), of(&status, "copal-code").as_str()), (Code::ResourceExhausted, "full"));
    assert!(status.message().contains("bytes of bodies"), "{status}");
    // Small ones are none of it, nor are those of another app; and what has ended makes room.
    let large = || vec![Message { body: vec![0; 200_000].into(), ..Message::default() }];
    assert!(publish(&app, "q", vec![text("small")]).await.is_ok());
    assert!(publish(&other, "q", large()).await.is_ok());
    drop(calls);
    let again = async { while publish(&app, "q", large()).await.is_err() {} };
    timeout(PATIENCE, again).await.expect("room for another message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_misses_and_holds_nobody_up() {
    let Some((_cluster, app, _)) = start().await else { return };
    let narrow = Wire::to_socket(&app.environment, 65_535).await;
    let subscribe = || TopicSubscribeRequest { topic: "news".to_owned() };
    let mut slow = TopicsClient::new(narrow).subscribe(subscribe()).await.unwrap().into_inner();
    let mut quick = app.topics().subscribe(subscribe()).await.unwrap().into_inner();
    for stream in [&mut slow, &mut quick] {
        assert_eq!(next(stream).await.unwrap().kind(), Kind::Ready);
    }
    let publish = || {
        let message = Some(Message { body: vec![b'x'; 2048].into(), ..Message::default() });
        let request = TopicPublishRequest { topic: "news".to_owned(), message, fence: None };
        let mut topics = app.topics();
        async move { topics.publish(request).await.unwrap() }
    };
    for _ in 0..10 {
        join_all((0..60).map(|_| publish())).await;
        for _ in 0..60 {
            assert_eq!(next(&mut quick).await.unwrap().kind(), Kind::Message);
        }
    }
    // What did not find room it does not hear, but that it has missed something.
    let heard = async {
        let mut heard = 0;
        while next(&mut slow).await.unwrap().kind() == Kind::Message {
            heard += 1;
        }
        heard
    };
    let more = async {
        loop {
            publish().await;
        }
    };
    let heard = tokio::select! {
        heard = heard => heard,
        () = more => unreachable!("it goes on and on"),
    };
    assert!((256..600).contains(&heard), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_time_and_a_servers_stop_end_its_streams() {
    let Some((mut cluster, app, _)) = start().await else { return };
    let late = (Code::DeadlineExceeded, "late".to_owned());
    let hurried = app.wire.with("grpc-timeout", "150m");
    let ask = QueueAskRequest {
        queue: "nobody".to_owned(),
        message: Some(text("?")),
        wait_ms: 60_000,
        fence: None,
    };
    assert_eq!(refused(QueuesClient::new(hurried.clone()).ask(ask).await), late);
    let receive =
        || QueueReceiveRequest { from: Some(From::Queue("nothing".to_owned())), credit: 1, timeout_ms: 0 };
    let stream = QueuesClient::new(hurried).receive(receive()).await;
    assert_eq!(refused(next(&mut stream.unwrap().into_inner()).await), late);
    let wrong = app.wire.with("grpc-timeout", "soon");
    assert_eq!(refused(QueuesClient::new(wrong).receive(receive()).await), bad());
    // All streams end with the server, and say so.
    let mut receiving = app.queues().receive(receive()).await.unwrap().into_inner();
    let mut watching = watch(&app, &app.wire).await;
    let subscribe = TopicSubscribeRequest { topic: "news".to_owned() };
    let mut subscribed = app.topics().subscribe(subscribe).await.unwrap().into_inner();
    next(&mut subscribed).await.unwrap();
    let events = CacheEventsRequest { cache: "c".to_owned() };
    let mut events = app.caches().events(events).await.unwrap().into_inner();
    next(&mut events).await.unwrap();
    let ended = async {
        let stopping = (Code::Unavailable, "stopping".to_owned());
        assert_eq!(refused(next(&mut receiving).await), stopping);
        assert_eq!(refused(next(&mut watching).await), stopping);
        assert_eq!(refused(next(&mut subscribed).await), stopping);
        assert_eq!(refused(next(&mut events).await), stopping);
    };
    let (status, ()) = tokio::join!(cluster.stop("app-a"), ended);
    assert!(status.success());
}
