//! gRPC through the web tier, with a real client and a real server: `http-proxy` to `h2c://` backends.

use super::{
    cluster::Cluster,
    foreign::until,
    h2c::{self, before},
    http2,
};
use bytes::Bytes;
use common::config::{HealthCheck, HealthQuestion, HttpProxy};
use futures_util::stream;
use proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{
    Stream,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    client::Grpc,
    codegen::{BoxFuture, Service, http},
    server::{NamedService, StreamingService},
    transport::{Channel, Server},
};
use tonic_prost::ProstCodec;

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each word in upper case as it comes; `abort` ends the call with an error.
#[derive(Debug, Clone)]
struct Words {
    /// Hears when a call is given up.
    given_up: mpsc::UnboundedSender<()>,
}

/// A call that has not ended.
struct Call(Option<mpsc::UnboundedSender<()>>);

impl Call {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(given_up) = &self.0 {
            let _ = given_up.send(());
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

impl StreamingService<String> for Words {
    type Response = String;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        let call = Call(Some(self.given_up.clone()));
        Box::pin(async move {
            if request.metadata().get("x-never").is_some() {
                return Err(Status::permission_denied("not for you"));
            }
            let words = (request.into_inner(), call);
            let answers = stream::unfold(words, |(mut words, call)| async move {
                let word = match words.message().await {
                    Ok(Some(word)) if word == "abort" => {
                        let mut status = Status::aborted("told to, 100 %");
                        status.metadata_mut().insert("x-why", "because".parse().unwrap());
                        Err(status)
                    }
                    Ok(Some(word)) => Ok(word.to_uppercase()),
                    Ok(None) => {
                        call.end();
                        return None;
                    }
                    Err(status) => Err(status),
                };
                Some((word, (words, call)))
            });
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

impl NamedService for Words {
    const NAME: &'static str = "test.Words";
}

impl Service<http::Request<Body>> for Words {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let words = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<String, String>::default();
            Ok(tonic::server::Grpc::new(codec).streaming(words, request).await)
        })
    }
}

/// How the server says that it is.
#[derive(Debug, Clone, Default)]
struct Says(Arc<AtomicI32>);

impl Says {
    fn set(&self, status: ServingStatus) {
        self.0.store(status as i32, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Health for Says {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" | "test.Words" => {
                Ok(Response::new(HealthCheckResponse { status: self.0.load(Ordering::SeqCst) }))
            }
            other => Err(Status::not_found(other)),
        }
    }
}

/// A gRPC server on a port of the system's choice.
struct GrpcServer {
    port: u16,
    health: Says,
    given_up: mpsc::UnboundedReceiver<()>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl GrpcServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (health, (sender, given_up)) = (Says::default(), mpsc::unbounded_channel());
        health.set(ServingStatus::Serving);
        let server = Server::builder()
            .add_service(Words { given_up: sender })
            .add_service(HealthServer::new(health.clone()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
        });
        Self { port, health, given_up, stop, task }
    }

    /// Says goodbye to its clients and ends.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.expect("its clients let go of it").unwrap();
    }
}

/// A client of the service behind a web tier.
async fn client(cluster: &Cluster) -> Grpc<Channel> {
    let channel = Channel::from_shared(format!("http://{}", cluster.address())).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    client.max_decoding_message_size(usize::MAX)
}

fn method() -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static("/test.Words/Upper")
}

/// One word, one answer.
async fn upper(client: &mut Grpc<Channel>, request: Request<String>) -> Result<Response<String>, Status> {
    client.ready().await.unwrap();
    let asked = client.unary(request, method(), ProstCodec::<String, String>::default());
    timeout(PATIENCE, asked).await.expect("an answer in time")
}

#[tokio::test]
async fn calls_and_their_errors_pass() {
    let server = GrpcServer::start().await;
    let cluster = before(h2c::h2c(&[server.port])).await;
    let mut client = client(&cluster).await;
    let answer = upper(&mut client, Request::new("word".to_owned())).await.unwrap();
    assert_eq!(answer.get_ref(), "WORD");
    assert!(answer.metadata().contains_key("via"), "{:?}", answer.metadata());
    // The status is in trailers, behind no message.
    let status = upper(&mut client, Request::new("abort".to_owned())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Aborted, "told to, 100 %"));
    assert_eq!(status.metadata().get("x-why").unwrap(), "because");
    // The status is in the only head.
    let mut request = Request::new("word".to_owned());
    request.metadata_mut().insert("x-never", "1".parse().unwrap());
    let status = upper(&mut client, request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not for you"));
    let large = "a".repeat(3_000_000);
    let answer = upper(&mut client, Request::new(large.clone())).await.unwrap();
    assert_eq!(answer.get_ref().len(), large.len());
}

#[tokio::test]
async fn messages_pass_both_ways_one_by_one_as_they_are_sent() {
    let server = GrpcServer::start().await;
    let cluster = before(h2c::h2c(&[server.port])).await;
    let mut client = client(&cluster).await;
    let (words, sent) = mpsc::unbounded_channel();
    words.send("first".to_owned()).unwrap();
    let sent = Request::new(UnboundedReceiverStream::new(sent));
    let asked = client.streaming(sent, method(), ProstCodec::<String, String>::default());
    let mut answers = timeout(PATIENCE, asked).await.unwrap().unwrap().into_inner();
    let mut next = async || timeout(PATIENCE, answers.message()).await.expect("a message in time");
    assert_eq!(next().await.unwrap().unwrap(), "FIRST");
    for word in ["second", "third"] {
        words.send(word.to_owned()).unwrap();
        assert_eq!(next().await.unwrap().unwrap(), word.to_uppercase());
    }
    drop(words);
    assert!(next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_call_that_the_client_gives_up_ends_at_the_server() {
    let mut server = GrpcServer::start().await;
    let cluster = before(h2c::h2c(&[server.port])).await;
    let mut raw = http2::client(&cluster).await;
    let call = http::Request::post("http://shop.example/test.Words/Upper")
        .header("content-type", "application/grpc");
    let (answer, mut sending) = raw.send_request(call.body(()).unwrap(), false).unwrap();
    sending.send_data(Bytes::from_static(b"\0\0\0\0\x07\x0a\x05first"), false).unwrap();
    let mut answer = timeout(PATIENCE, answer).await.unwrap().unwrap().into_body();
    assert_eq!(
        timeout(PATIENCE, answer.data()).await.unwrap().unwrap().unwrap().as_ref(),
        b"\0\0\0\0\x07\x0a\x05FIRST"
    );
    drop((answer, sending));
    timeout(PATIENCE, server.given_up.recv()).await.expect("the server hears of it").unwrap();
    let mut client = client(&cluster).await;
    assert_eq!(upper(&mut client, Request::new("on".to_owned())).await.unwrap().get_ref(), "ON");
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_another_one_answers() {
    let (one, two) = (GrpcServer::start().await, GrpcServer::start().await);
    let cluster = before(h2c::h2c(&[one.port, two.port])).await;
    let mut client = client(&cluster).await;
    for word in ["a", "b", "c", "d"] {
        assert_eq!(
            upper(&mut client, Request::new(word.to_owned())).await.unwrap().get_ref(),
            &word.to_uppercase()
        );
    }
    one.stop().await;
    for word in ["e", "f", "g", "h"] {
        assert_eq!(
            upper(&mut client, Request::new(word.to_owned())).await.unwrap().get_ref(),
            &word.to_uppercase()
        );
    }
    two.stop().await;
    let status = upper(&mut client, Request::new("x".to_owned())).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "503 Service Unavailable: no server can take the request now")
    );
    assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
    assert_eq!(cluster.web.totals().answers[5], 1);
}

#[tokio::test]
async fn health_is_asked_in_grpc() {
    let server = GrpcServer::start().await;
    let interval = Duration::from_millis(100);
    let check = |service: &str| HealthCheck {
        port: None,
        question: HealthQuestion::Grpc { service: service.to_owned(), host: None },
        interval,
        timeout: interval,
        rise: 1,
        fall: 1,
    };
    let cluster =
        before(HttpProxy { health_check: Some(check("test.Words")), ..h2c::h2c(&[server.port]) }).await;
    let is = async |up: bool| {
        until(|| cluster.web.health()[0].last.is_some() && cluster.web.health()[0].up == up).await;
        cluster.web.health()[0].last.clone().unwrap().result
    };
    assert_eq!(is(true).await, Ok(()));
    server.health.set(ServingStatus::NotServing);
    assert_eq!(is(false).await.unwrap_err().as_ref(), "gRPC: NOT_SERVING, expected SERVING");
    let mut client = client(&cluster).await;
    let status = upper(&mut client, Request::new("word".to_owned())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    server.health.set(ServingStatus::Serving);
    assert_eq!(is(true).await, Ok(()));
    assert_eq!(upper(&mut client, Request::new("word".to_owned())).await.unwrap().get_ref(), "WORD");

    let cluster =
        before(HttpProxy { health_check: Some(check("test.Other")), ..h2c::h2c(&[server.port]) }).await;
    until(|| !cluster.web.health()[0].up).await;
    let why = cluster.web.health()[0].last.clone().unwrap().result.unwrap_err();
    assert_eq!(why.as_ref(), "gRPC: status 5 test.Other");
}
