//! The local API over gRPC, of whole servers: each operation, what it refuses, and that it is the same as over HTTP.

mod caches;
mod others;
mod pipelines;
mod queues;
mod refused;

use crate::{
    cluster::{Cluster, PATIENCE},
    daemons::{Local, call, connect, start_script},
    queues::APP,
};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::app::v1::{
    caches_client::CachesClient, jobs_client::JobsClient, leases_client::LeasesClient,
    pipelines_client::PipelinesClient, queues_client::QueuesClient, topics_client::TopicsClient,
};
use serde_json::Value;
use std::task::{Context, Poll};
use tokio::net::{TcpStream, UnixStream};
use tonic::{Code, Status, Streaming, body::Body};

/// What its handler does is said by each message.
const QUEUES: &str = "queues:\n  - {name: work, path: /on/work, retry: {attempts: 2, delay: 50ms, factor: 1}}\npipelines: [{name: calc, steps: [{path: /split}, {name: one, path: /one}]}]";

/// A server with two apps.
async fn start() -> Option<(Cluster, App, App)> {
    let two =
        |it: &mut crate::cluster::Configuration| it.web_apps.push("{id: /other, root-directory: app}".into());
    let (cluster, _) = start_script(APP, 1, QUEUES, two).await?;
    let mine = App::at(&cluster, "/env").await;
    let other = App::at(&cluster, "/other/env").await;
    Some((cluster, mine, other))
}

/// An app, as it calls its server.
struct App {
    environment: Value,
    http: Local,
    wire: Wire,
}

impl App {
    async fn at(cluster: &Cluster, path: &str) -> Self {
        let (status, environment) =
            call(&mut connect(&cluster.web()).await, Method::GET, path, "", &[]).await;
        assert_eq!(status, 200);
        let (http, wire) = (Local::of(&environment).await, Wire::to(&environment).await);
        Self { environment, http, wire }
    }

    fn queues(&self) -> QueuesClient<Wire> {
        QueuesClient::new(self.wire.clone())
    }

    fn caches(&self) -> CachesClient<Wire> {
        CachesClient::new(self.wire.clone())
    }

    fn leases(&self) -> LeasesClient<Wire> {
        LeasesClient::new(self.wire.clone())
    }

    fn jobs(&self) -> JobsClient<Wire> {
        JobsClient::new(self.wire.clone())
    }

    fn pipelines(&self) -> PipelinesClient<Wire> {
        PipelinesClient::new(self.wire.clone())
    }

    fn topics(&self) -> TopicsClient<Wire> {
        TopicsClient::new(self.wire.clone())
    }

    /// What a call of HTTP is answered.
    async fn http(&mut self, method: Method, path: &str, body: &str) -> (u16, Value) {
        self.http.call(method, path, body).await
    }
}

/// A connection with the token of an app: of generated clients, without what tonic's own does of its own accord, as watching the time.
#[derive(Clone)]
struct Wire {
    calls: http2::SendRequest<Body>,
    /// Goes with each call.
    headers: Vec<(&'static str, String)>,
}

impl Wire {
    /// To the port.
    async fn to(environment: &Value) -> Self {
        let api = environment["api"].as_str().unwrap().strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(api).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, environment, 1 << 20).await
    }

    /// To the socket, with room for so many bytes of an answer that is not read.
    async fn to_socket(environment: &Value, room: u32) -> Self {
        let stream = UnixStream::connect(environment["hub"].as_str().unwrap()).await.unwrap();
        Self::over(stream, environment, room).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        environment: &Value,
        room: u32,
    ) -> Self {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(room).initial_connection_window_size(room.max(65_535));
        let (calls, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let token = environment["token"].as_str().unwrap().to_owned();
        Self { calls, headers: vec![("copal-token", token)] }
    }

    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut wire = self.clone();
        wire.headers.retain(|it| it.0 != name);
        wire.headers.push((name, value.to_owned()));
        wire
    }
}

impl tower::Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.calls.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() =
            Uri::builder().scheme("http").authority("copal").path_and_query(path).build().unwrap();
        for (name, value) in &self.headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Box::pin(self.calls.send_request(request))
    }
}

/// What a call of whatever bytes is answered.
async fn raw(wire: &Wire, path: &str, message: impl Into<Bytes>) -> Status {
    let body = Body::new(http_body_util::Full::new(message.into()));
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let answer = tower::ServiceExt::oneshot(wire.clone(), request.body(body).unwrap()).await.unwrap();
    match Status::from_header_map(answer.headers()) {
        Some(status) => status,
        None => {
            let body = answer.into_body().collect().await.unwrap();
            Status::from_header_map(body.trailers().unwrap()).unwrap()
        }
    }
}

/// A refusal: what it is to clients of gRPC, and to programs.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), of(&status, "copal-code"))
}

/// A value of a refusal's metadata; empty: there is none.
fn of(status: &Status, name: &str) -> String {
    status.metadata().get(name).map_or_else(String::new, |it| it.to_str().unwrap().to_owned())
}

/// The next answer of a stream.
async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await;
    next.expect("an answer").map(|it| it.expect("the stream goes on"))
}
