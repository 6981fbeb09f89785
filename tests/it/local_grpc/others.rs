//! `copal.app.v1.Leases`, `Jobs` and `Topics`.

use super::{next, of, queues::text, refused, start};
use hyper::Method;
use proto::app::v1::{
    DeleteSubscriptionRequest, Fence, JobDeleteRequest, JobGetRequest, JobListRequest, JobPutRequest,
    JobRunNowRequest, JobTimes, LeaseAcquireRequest, LeaseGetRequest, LeaseReleaseRequest, LeaseRenewRequest,
    PutSubscriptionRequest, QueueReceiveRequest, Subscription, TopicPublishRequest, TopicSubscribeRequest,
    queue_receive_request::From, topic_event::Kind,
};
use serde_json::{Value, json};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_the_same_over_grpc_and_http() {
    let Some((_cluster, mut app, mut other)) = start().await else { return };
    let (mut mine, mut others) = (app.leases(), other.leases());
    let named = || LeaseGetRequest { name: "report".to_owned() };
    let nobody = (Code::NotFound, "not-found".to_owned());
    assert_eq!(refused(mine.get(named()).await), nobody);
    let mut watch = others.watch(named()).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.unwrap().holder, None);
    let take = |wait_ms| LeaseAcquireRequest { name: "report".to_owned(), ttl_ms: 30_000, wait_ms };
    let acquired = mine.acquire(take(0)).await.unwrap().into_inner();
    let lease = acquired.lease.unwrap();
    assert!(acquired.left_ms > 20_000 && lease.name == "report");
    let holder = next(&mut watch).await.unwrap().holder.unwrap();
    assert_eq!((holder.token, holder.server.as_str(), holder.ttl_ms), (lease.token, "app-a", 30_000));
    assert_eq!(mine.get(named()).await.unwrap().into_inner(), holder);
    let (_, told) = other.http(Method::GET, "/v1/leases/report", "").await;
    assert_eq!(told["token"], lease.token);
    // Another app does not get it, and can't renew or release it.
    let held = others.acquire(take(0)).await.unwrap_err();
    assert_eq!((held.code(), of(&held, "copal-code").as_str()), (Code::AlreadyExists, "lease-held"));
    assert_eq!(
        (of(&held, "copal-server").as_str(), of(&held, "copal-lease-token")),
        ("app-a", lease.token.to_string())
    );
    let over = (Code::FailedPrecondition, "stale-fence".to_owned());
    let renew = || LeaseRenewRequest { lease: Some(lease.clone()) };
    assert_eq!(refused(others.renew(renew()).await), over);
    assert_eq!(refused(others.release(LeaseReleaseRequest { lease: Some(lease.clone()) }).await), over);
    // Renewed by gRPC and over HTTP; who waits gets it when it is released.
    assert!(mine.renew(renew()).await.unwrap().into_inner().left_ms > 20_000);
    let path = format!("/v1/leases/report/{}", lease.token);
    assert_eq!(app.http(Method::PUT, &path, "").await.0, 200);
    let (waited, _) = tokio::join!(others.acquire(take(30_000)), async {
        mine.release(LeaseReleaseRequest { lease: Some(lease.clone()) }).await.unwrap()
    });
    let theirs = waited.unwrap().into_inner().lease.unwrap();
    assert!(theirs.token > lease.token);
    assert_eq!(refused(mine.renew(renew()).await), over);
    // What was taken by gRPC is given back over HTTP.
    let path = format!("/v1/leases/report/{}", theirs.token);
    assert_eq!(other.http(Method::DELETE, &path, "").await.0, 204);
    loop {
        match next(&mut watch).await.unwrap().holder {
            Some(holder) => assert_eq!(holder.token, theirs.token),
            // Nobody, between the two of them or at the end.
            None if mine.get(named()).await.is_err() => break,
            None => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_the_same_over_grpc_and_http() {
    let Some((_cluster, mut app, other)) = start().await else { return };
    let mut jobs = app.jobs();
    let put = |every_ms| JobPutRequest {
        name: "remind".to_owned(),
        times: Some(JobTimes { every_ms, ..JobTimes::default() }),
        queue: "reminders".to_owned(),
        message: Some(text("now")),
        fence: None,
    };
    let made = jobs.put(put(3_600_000)).await.unwrap().into_inner();
    assert!(made.created);
    let job = made.job.unwrap();
    assert_eq!((job.every_ms, job.queue.as_str(), job.declared), (3_600_000, "reminders", false));
    assert!(!jobs.put(put(3_600_000)).await.unwrap().into_inner().created);
    let (_, told) = app.http(Method::GET, "/v1/jobs/remind", "").await;
    assert_eq!((&told["every-ms"], &told["queue"]), (&json!(3_600_000), &json!("reminders")));
    let body = json!({"in": "1h", "queue": "reminders", "missed": "skip"}).to_string();
    assert_eq!(app.http(Method::PUT, "/v1/jobs/once", &body).await.0, 201);
    let named = |name: &str| JobGetRequest { name: name.to_owned() };
    let once = jobs.get(named("once")).await.unwrap().into_inner();
    assert_eq!((once.missed(), once.next_ms > 0), (proto::app::v1::JobMissed::Skip, true));
    let mut names: Vec<_> =
        jobs.list(JobListRequest {}).await.unwrap().into_inner().jobs.into_iter().map(|it| it.name).collect();
    names.sort();
    assert_eq!(names, ["once", "remind"]);
    // Run now: its message is there.
    let run = |name: &str| JobRunNowRequest { name: name.to_owned(), fence: None };
    assert!(!jobs.run_now(run("remind")).await.unwrap().into_inner().runs_already);
    let (_, told) = app.http(Method::POST, "/v1/queues/reminders/receive?wait=20s", "").await;
    assert_eq!(told["messages"][0]["value"], "now", "{told}");
    // Another app's is not to be changed or ended.
    let others = (Code::AlreadyExists, "others-job".to_owned());
    assert_eq!(refused(other.jobs().put(put(1000)).await), others);
    let end = |name: &str| JobDeleteRequest { name: name.to_owned(), fence: None };
    let missing = (Code::NotFound, "not-found".to_owned());
    assert_eq!(refused(other.jobs().delete(end("remind")).await), missing);
    jobs.delete(end("remind")).await.unwrap();
    assert_eq!(refused(jobs.delete(end("remind")).await), missing);
    assert_eq!(refused(jobs.get(named("remind")).await), missing);
    assert_eq!(refused(jobs.run_now(run("remind")).await), missing);
    let none = JobPutRequest { times: None, ..put(0) };
    assert_eq!(refused(jobs.put(none).await), (Code::InvalidArgument, "bad-request".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_the_same_over_grpc_and_http() {
    let Some((_cluster, mut app, _)) = start().await else { return };
    let mut topics = app.topics();
    let subscribe = TopicSubscribeRequest { topic: "news".to_owned() };
    let mut events = topics.subscribe(subscribe).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await.unwrap().kind(), Kind::Ready);
    let over_http = crate::daemons::Local::of(&app.environment).await;
    let mut over_http = over_http.events("/v1/topics/news/events").await;
    assert!(over_http.next().await.starts_with("event: ready"));
    let publish = |body: &str| TopicPublishRequest {
        topic: "news".to_owned(),
        message: Some(proto::app::v1::Message { correlation: "c".to_owned(), ..text(body) }),
        fence: None,
    };
    let told = topics.publish(publish("1")).await.unwrap().into_inner();
    assert_eq!((told.ids, told.listening_servers), (vec![], 1));
    let event = over_http.next().await;
    let data: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
    assert_eq!((&data["value"], &data["correlation"]), (&json!("1"), &json!("c")));
    let headers = [("content-type", "text/plain"), ("x-copal-meta-from", "me")];
    let posted = app.http.request(Method::POST, "/v1/topics/news", "2", &headers).await;
    assert_eq!(posted.status, 202);
    for (body, correlation, meta) in [("1", "c", None), ("2", "", Some("me"))] {
        let event = next(&mut events).await.unwrap();
        assert_eq!(event.kind(), Kind::Message);
        let message = event.message.unwrap();
        assert_eq!((&message.body[..], message.correlation.as_str()), (body.as_bytes(), correlation));
        assert_eq!(
            (message.meta.get("from").map(String::as_str), message.content_type.as_str()),
            (meta, "text/plain")
        );
    }
    // A durable one, made by gRPC; its messages are received by gRPC, and it is ended so.
    let subscription = Some(Subscription { topic: "news".to_owned(), name: "mail".to_owned() });
    let make = PutSubscriptionRequest { subscription: subscription.clone() };
    topics.put_subscription(make).await.unwrap();
    let told = topics.publish(publish("3")).await.unwrap().into_inner();
    assert_eq!(told.ids.len(), 1);
    let from = subscription.clone().map(From::Subscription);
    let receive = QueueReceiveRequest { from, credit: 1, timeout_ms: 0 };
    let mut stream = app.queues().receive(receive).await.unwrap().into_inner();
    let delivery = next(&mut stream).await.unwrap();
    assert_eq!((&delivery.body[..], delivery.id), (&b"3"[..], told.ids[0]));
    topics.delete_subscription(DeleteSubscriptionRequest { subscription }).await.unwrap();
    assert!(topics.publish(publish("4")).await.unwrap().into_inner().ids.is_empty());
    let stale = Some(Fence { name: "nobodys".to_owned(), token: 1 });
    let fenced = TopicPublishRequest { fence: stale, ..publish("5") };
    assert_eq!(refused(topics.publish(fenced).await), (Code::FailedPrecondition, "stale-fence".to_owned()));
}
