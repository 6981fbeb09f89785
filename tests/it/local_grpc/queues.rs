//! `copal.app.v1.Queues`.

use super::{App, Wire, next, of, refused, start};
use crate::queues::{is_empty, until};
use hyper::Method;
use proto::app::v1::{
    Fence, Message, QueueAskRequest, QueueDead, QueueDelivery, QueueDone, QueueExtend, QueueGiveBack,
    QueuePublishReply, QueuePublishRequest, QueueReceiveRequest, QueueRetry, QueueSettleReply,
    QueueSettleRequest, QueueSettlement, queue_receive_request::From, queue_settlement::Outcome,
    queues_client::QueuesClient,
};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};

pub(super) fn text(body: &str) -> Message {
    Message { body: body.to_owned().into(), content_type: "text/plain".to_owned(), ..Message::default() }
}

pub(super) async fn publish(
    app: &App,
    queue: &str,
    messages: Vec<Message>,
) -> Result<QueuePublishReply, Status> {
    let request = QueuePublishRequest { queue: queue.to_owned(), messages, fence: None };
    app.queues().publish(request).await.map(tonic::Response::into_inner)
}

async fn receive(wire: &Wire, queue: &str, credit: u32) -> Streaming<QueueDelivery> {
    let from = Some(From::Queue(queue.to_owned()));
    let request = QueueReceiveRequest { from, credit, timeout_ms: 0 };
    QueuesClient::new(wire.clone()).receive(request).await.unwrap().into_inner()
}

pub(super) async fn settle(
    app: &App,
    settlements: Vec<(u64, Outcome)>,
    fence: Option<Fence>,
) -> Result<QueueSettleReply, Status> {
    let of = |(token, outcome)| QueueSettlement { token, outcome: Some(outcome) };
    let settlements = settlements.into_iter().map(of).collect();
    let settled = app.queues().settle(QueueSettleRequest { settlements, fence }).await;
    settled.map(tonic::Response::into_inner)
}

fn done() -> Outcome {
    Outcome::Done(QueueDone::default())
}

/// The messages that HTTP receives.
async fn received(app: &mut App, queue: &str) -> Vec<Value> {
    let path = format!("/v1/queues/{queue}/receive?wait=20s&max=10");
    let (status, told) = app.http(Method::POST, &path, "").await;
    assert_eq!(status, 200, "{told}");
    told["messages"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_the_same_over_grpc_and_http() {
    let Some((_cluster, mut app, other)) = start().await else { return };
    let whole = Message {
        priority: Some(9),
        group: "g".to_owned(),
        unique: "u".to_owned(),
        correlation: "c".to_owned(),
        meta: [("From".to_owned(), "me".to_owned())].into(),
        ..text("one")
    };
    let came = publish(&app, "inbox", vec![whole.clone(), text("two")]).await.unwrap();
    assert_eq!((came.ids.len(), came.repeated), (2, vec![]));
    let again = publish(&app, "inbox", vec![text("three"), whole]).await.unwrap();
    assert_eq!((again.ids[1], again.repeated), (came.ids[0], vec![1]));
    // Published by gRPC, received over HTTP, settled by gRPC.
    let list = received(&mut app, "inbox").await;
    let values: Vec<_> = list.iter().map(|it| it["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["one", "two", "three"]);
    for (key, value) in [
        ("id", json!(came.ids[0].to_string())),
        ("attempt", json!(1)),
        ("content-type", json!("text/plain")),
        ("group", json!("g")),
        ("correlation", json!("c")),
        ("meta", json!({"from": "me"})),
    ] {
        assert_eq!(list[0][key], value, "{}", list[0]);
    }
    let token = |at: usize| list[at]["token"].as_str().unwrap().parse::<u64>().unwrap();
    // Another app's deliveries are not to be settled, nor the same one twice: the others are.
    let over = (Code::FailedPrecondition, "delivery-over".to_owned());
    assert_eq!(refused(settle(&other, vec![(token(0), done())], None).await), over);
    assert_eq!(settle(&app, vec![(token(0), done())], None).await.unwrap().refused, vec![]);
    let told = settle(&app, vec![(token(0), done()), (token(1), done()), (token(2), done())], None).await;
    let told = told.unwrap().refused;
    assert_eq!((told.len(), told[0].token, told[0].code.as_str()), (1, token(0), "delivery-over"));
    assert!(told[0].detail.contains("this app's on this server"), "{told:?}");
    until(&mut app.http, "inbox", is_empty).await;
    // Published over HTTP, received by gRPC on the socket, settled over HTTP.
    let headers = [("content-type", "application/json"), ("x-copal-meta-from", "me"), ("x-copal-group", "g")];
    let posted = app.http.request(Method::POST, "/v1/queues/inbox", "{\"n\": 1}", &headers).await;
    assert_eq!(posted.status, 201);
    let socket = Wire::to_socket(&app.environment, 1 << 20).await;
    let delivery = next(&mut receive(&socket, "inbox", 0).await).await.unwrap();
    assert_eq!(
        (&delivery.body[..], delivery.content_type.as_str()),
        (&b"{\"n\": 1}"[..], "application/json")
    );
    assert_eq!((delivery.attempt, delivery.group.as_str(), delivery.meta["from"].as_str()), (1, "g", "me"));
    assert!(delivery.left_ms > 0 && delivery.published_ms > 0);
    let path = format!("/v1/deliveries/{}", delivery.token);
    assert_eq!(app.http(Method::DELETE, &path, "").await.0, 204);
    until(&mut app.http, "inbox", is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_open_than_there_is_credit_for_and_each_outcome_is_what_it_says() {
    let Some((_cluster, mut app, _)) = start().await else { return };
    publish(&app, "jobs", ["1", "2", "3"].map(text).into()).await.unwrap();
    let mut stream = receive(&app.wire, "jobs", 1).await;
    let first = next(&mut stream).await.unwrap();
    let described = until(&mut app.http, "jobs", |it| it["assigned"] == 1).await;
    assert_eq!(described["ready"], 2);
    // This attempt has failed: another one, which is told so.
    settle(&app, vec![(first.token, Outcome::Retry(QueueRetry { after_ms: 1 }))], None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let delivery = next(&mut stream).await.unwrap();
        seen.push((String::from_utf8(delivery.body.to_vec()).unwrap(), delivery.attempt));
        settle(&app, vec![(delivery.token, done())], None).await.unwrap();
    }
    seen.sort();
    assert_eq!(seen, [("1".to_owned(), 2), ("2".to_owned(), 1), ("3".to_owned(), 1)]);
    until(&mut app.http, "jobs", is_empty).await;
    // Given back: it does not count. Dead: it is with the others. Extended: it lasts.
    publish(&app, "jobs", vec![text("4")]).await.unwrap();
    let fourth = next(&mut stream).await.unwrap();
    settle(&app, vec![(fourth.token, Outcome::GiveBack(QueueGiveBack { after_ms: 0 }))], None).await.unwrap();
    let fourth = next(&mut stream).await.unwrap();
    assert_eq!((&fourth.body[..], fourth.attempt), (&b"4"[..], 1));
    let extend = Outcome::Extend(QueueExtend { time_ms: 3_600_000 });
    settle(&app, vec![(fourth.token, extend)], None).await.unwrap();
    let (_, told) = app.http(Method::GET, &format!("/v1/deliveries/{}", fourth.token), "").await;
    assert!(told["ttl-ms"].as_u64().unwrap() > 3_000_000, "{told}");
    let dead = Outcome::Dead(QueueDead { why: "nonsense".to_owned() });
    settle(&app, vec![(fourth.token, dead)], None).await.unwrap();
    let (_, list) = app.http(Method::GET, "/v1/queues/jobs/dead", "").await;
    assert_eq!(
        (&list["messages"][0]["value"], &list["messages"][0]["why"]),
        (&json!("4"), &json!("nonsense"))
    );
    // A receiver that goes away gives back what it had not sent.
    drop(stream);
    let large = |n: u8| Message { body: vec![n; 200_000].into(), ..Message::default() };
    publish(&app, "large", (0..8).map(large).collect()).await.unwrap();
    let narrow = Wire::to_socket(&app.environment, 65_535).await;
    let mut stream = receive(&narrow, "large", 8).await;
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first.body.len(), 200_000);
    until(&mut app.http, "large", |it| it["assigned"] == 8).await;
    drop(stream);
    let described = until(&mut app.http, "large", |it| it["ready"].as_u64().unwrap() >= 4).await;
    assert_eq!((&described["failed"], &described["dead"]), (&json!(0), &json!(0)));
    settle(&app, vec![(first.token, done())], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_told_the_reply_or_why_there_is_none() {
    let Some((_cluster, mut app, _)) = start().await else { return };
    let ask = |queue: &str, message: Message, wait_ms| {
        let request =
            QueueAskRequest { queue: queue.to_owned(), message: Some(message), wait_ms, fence: None };
        let mut queues = app.queues();
        async move { queues.ask(request).await.map(tonic::Response::into_inner) }
    };
    let json = |value: Value| Message {
        body: value.to_string().into(),
        content_type: "application/json".to_owned(),
        ..Message::default()
    };
    let reply = ask("work", json(json!({"do": "square", "n": 12})), 30_000).await.unwrap();
    assert_eq!((&reply.body[..], reply.content_type.as_str()), (&b"144"[..], "text/plain"));
    assert!(reply.id > 0);
    let failed = ask("work", json(json!({"do": "dead"})), 30_000).await.unwrap_err();
    assert_eq!((failed.code(), of(&failed, "copal-code").as_str()), (Code::Aborted, "failed"));
    assert!(of(&failed, "copal-id").parse::<u64>().is_ok() && failed.message().contains("nonsense"));
    let late = (Code::DeadlineExceeded, "late".to_owned());
    assert_eq!(refused(ask("nobody", json(json!({})), 50).await), late);
    let unique = Message { unique: "u".to_owned(), ttl_ms: 60_000, ..text("x") };
    assert_eq!(refused(ask("nobody", unique.clone(), 50).await), late);
    let repeated = (Code::AlreadyExists, "repeated".to_owned());
    assert_eq!(refused(ask("nobody", unique, 30_000).await), repeated);
    // The reply of a receiver is for who asks over HTTP, too.
    let mut stream = receive(&app.wire, "questions", 1).await;
    let (answered, ()) =
        tokio::join!(app.http.request(Method::POST, "/v1/queues/questions?wait=30s", "?", &[]), async {
            let delivery = next(&mut stream).await.unwrap();
            let reply = QueueDone { body: "42".into(), content_type: "text/x-answer".to_owned() };
            let settlement = QueueSettlement { token: delivery.token, outcome: Some(Outcome::Done(reply)) };
            let request = QueueSettleRequest { settlements: vec![settlement], fence: None };
            QueuesClient::new(app.wire.clone()).settle(request).await.unwrap();
        });
    assert_eq!((answered.status, answered.text.as_str()), (200, "42"));
    assert_eq!(answered.header("content-type"), Some("text/x-answer"));
}
