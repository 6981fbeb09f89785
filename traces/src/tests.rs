//! Spans on their way to a collector.

use crate::{Exporter, Kind, TraceContext, child, current};
use proto::opentelemetry::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, Span, StatusCode, any_value,
    trace_service_server::{TraceService, TraceServiceServer},
};
use std::convert::Infallible;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Hands on what it is sent.
#[derive(Debug)]
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _gone = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (address, received)
}

fn text<'a>(span: &'a Span, name: &str) -> &'a str {
    let found = span.attributes.iter().find(|it| it.key == name).unwrap();
    match found.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn spans_of_a_request_come_joined_and_with_what_went_wrong() {
    let (address, mut received) = collector().await;
    let (exporter, task) = Exporter::new(&address, 1_000_000, ("app-a", "1.2.3")).unwrap();
    assert!(exporter.samples());
    let caller = TraceContext::begin(true);
    let mut server = exporter.under(&caller, Kind::Server, "GET shop");
    let context = *server.context();
    server.set("http.request.method", "GET");
    server.set("url.path", "ü".repeat(1000).as_str());
    let asked = server.run(async {
        assert_eq!(current(), Some(context));
        child("load", async { Ok::<_, Infallible>(current().unwrap()) }).await.unwrap()
    });
    let asked = asked.await;
    let failed = server.run(child("save", async { Err::<(), _>("no majority") })).await;
    assert_eq!((failed, current()), (Err("no majority"), None));
    drop(server);
    drop(exporter);
    task.run().await;

    let sent = received.recv().await.unwrap().resource_spans.remove(0);
    let resource = sent.resource.unwrap().attributes;
    assert_eq!(resource.len(), 3);
    let spans = &sent.scope_spans[0].spans;
    let [load, save, server] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|it| it.trace_id[..] == caller.trace.to_be_bytes()));
    assert_eq!(server.parent_span_id[..], caller.span.to_be_bytes());
    assert_eq!((&server.span_id[..], server.status.as_ref()), (&context.span.to_be_bytes()[..], None));
    for (span, name) in [(load, "load"), (save, "save")] {
        assert_eq!((span.name.as_str(), &span.parent_span_id), (name, &server.span_id));
        assert!(span.start_time_unix_nano >= server.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= server.end_time_unix_nano);
    }
    assert_eq!(load.span_id[..], asked.span.to_be_bytes(), "those who are asked are its children");
    let status = save.status.as_ref().unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "no majority"));
    assert_eq!((text(server, "http.request.method"), text(server, "url.path").len()), ("GET", 512));
}

#[tokio::test]
async fn without_a_span_nothing_is_sent_and_work_is_done() {
    assert_eq!(child("load", async { Ok::<_, Infallible>(1) }).await, Ok(1));
    assert_eq!(current(), None);
}

#[tokio::test]
async fn what_finds_no_collector_or_no_room_is_counted() {
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (exporter, task) = Exporter::new(&format!("http://{address}"), 0, ("app-a", "1")).unwrap();
    assert!(!exporter.samples());
    let one = || drop(exporter.server(TraceContext::begin(true), None, "GET"));
    (0..5000).for_each(|_| one());
    assert_eq!(exporter.lost(), 5000 - 4096);
    let counts = exporter.clone();
    drop(exporter);
    let lost = counts.lost.clone();
    drop(counts);
    task.run().await;
    assert_eq!(lost.load(std::sync::atomic::Ordering::Relaxed), 5000);
    assert!(Exporter::new("no address", 0, ("a", "1")).is_err());
}
