//! Spans of a whole cluster, as a collector of OpenTelemetry gets them.

use crate::{
    client::connect,
    cluster::{Address, Cluster, PATIENCE},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use proto::opentelemetry::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, Span, SpanKind,
    any_value::Value,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tonic::{
    Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// Hands on what it is sent.
#[derive(Debug)]
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _gone = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A span, and the server that it was on.
type Placed = (String, Span);

fn text(attributes: &[proto::opentelemetry::v1::KeyValue], name: &str) -> Option<String> {
    match attributes.iter().find(|it| it.key == name)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(_) => None,
    }
}

/// Gathers spans until some of them are what is looked for.
async fn until(
    received: &mut mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    all: &mut Vec<Placed>,
    done: impl Fn(&[Placed]) -> bool,
) {
    let gathering = async {
        while !done(all) {
            for of_server in received.recv().await.unwrap().resource_spans {
                let resource = of_server.resource.unwrap();
                let server = text(&resource.attributes, "service.instance.id").unwrap();
                let spans = of_server.scope_spans.into_iter().flat_map(|it| it.spans);
                all.extend(spans.map(|span| (server.clone(), span)));
            }
        }
    };
    if timeout(PATIENCE, gathering).await.is_err() {
        panic!("they never come: {all:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_followed_through_web_tier_app_tier_and_hub() {
    let address = Address::lease();
    let listener = TcpListener::bind((address.ip(), 0)).await.unwrap();
    let collector = listener.local_addr().unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    let mut cluster = Cluster::start_with(3, |configuration| {
        configuration.lines.push(format!("traces: {{otlp: 'http://{collector}', sample: 1}}"));
    })
    .await;
    let mut user = cluster.user();
    let (_, first) = user.count().await;
    // Another server takes the session over from the hub.
    cluster.kill(&first).await;
    let (count, second) = user.count().await;
    assert!(count == 2 && second != first, "{count} on {second} after {first}");

    let mut all = Vec::new();
    let load = |it: &&Placed| it.1.name == "Sessions/Load" && it.1.kind() == SpanKind::Server;
    until(&mut received, &mut all, |all| all.iter().filter(load).any(|it| parents(all, it).len() == 3)).await;
    let loaded = all.iter().filter(load).find(|it| parents(&all, it).len() == 3).unwrap();
    let [asked, app, web] = parents(&all, loaded)[..] else { panic!("{all:#?}") };
    assert_eq!((asked.1.name.as_str(), asked.0.as_str()), ("session load", second.as_str()));
    assert_eq!((app.1.name.as_str(), app.0.as_str()), ("GET default/", second.as_str()));
    assert_eq!((web.1.name.as_str(), web.0.as_str()), ("GET", "web-a"));
    let of_web = |name: &str| text(&web.1.attributes, name).unwrap_or_default();
    assert_eq!((of_web("url.path"), of_web("http.response.status_code")), ("/count".into(), "200".into()));
    assert_eq!(of_web("copal.server"), second);
    assert!(web.1.parent_span_id.is_empty(), "it began there");
    assert!(all.iter().any(|it| it.1.name == "session save" && it.1.trace_id == web.1.trace_id));
    assert!(all.iter().all(|it| !format!("{it:?}").contains("JSESSIONID")), "no session's id is told");
    a_client_does_not_decide(&cluster.web(), &mut received, &mut all).await;
}

/// What a client says of sampling counts for nothing, and its trace is gone on with.
async fn a_client_does_not_decide(
    web: &str,
    received: &mut mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    all: &mut Vec<Placed>,
) {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = Request::builder().uri("/count").header(hyper::header::HOST, web);
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-00"));
    let asked = connect(web).await.send_request(request.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(asked.unwrap().status(), 200);
    let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
    let theirs = |it: &Placed| it.0 == "web-a" && hex(&it.1.trace_id) == trace;
    until(received, all, |all| all.iter().any(theirs)).await;
    let span = &all.iter().find(|it| theirs(it)).unwrap().1;
    assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
}

/// The span's parent, that one's, and so on.
fn parents<'a>(all: &'a [Placed], of: &'a Placed) -> Vec<&'a Placed> {
    let parent = |it: &Placed| {
        let is_parent =
            |other: &&Placed| other.1.span_id == it.1.parent_span_id && other.1.trace_id == it.1.trace_id;
        all.iter().find(is_parent)
    };
    std::iter::successors(parent(of), |it| parent(it)).collect()
}
