//! Where finished spans wait, and their way to the collector. Nothing ever waits for it: what finds no room is counted and gone.

use crate::{
    Kind, Span, TraceContext,
    span::{Value, attribute},
};
use proto::opentelemetry::v1::{
    ExportTraceServiceRequest, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Span as Finished,
    trace_service_client::TraceServiceClient,
};
use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tonic::transport::{Channel, Endpoint};

/// Spans that wait for the collector.
const WAITING_MAX: usize = 4096;

/// Spans of one message, and how long the first of them waits for others.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);

/// The collector is given so long to connect, and to answer.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);

/// What is lost is told as often at most.
const TOLD: Duration = Duration::from_secs(60);

/// Where spans go; clones are the same one.
#[derive(Clone)]
pub struct Exporter {
    spans: mpsc::Sender<Finished>,
    pub(crate) lost: Arc<AtomicU64>,
    /// New traces of a million that are recorded.
    sampled_ppm: u32,
}

/// Sends what comes. Runs until the last exporter is dropped.
#[derive(Debug)]
pub struct ExporterTask {
    spans: mpsc::Receiver<Finished>,
    lost: Arc<AtomicU64>,
    client: TraceServiceClient<Channel>,
    resource: Resource,
}

impl Exporter {
    /// To the collector at `http://host:port`, of which `sampled_ppm` of a million new traces are recorded, from the server `id`, whose
    /// software has this version. Needs no network yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(
        endpoint: &str,
        sampled_ppm: u32,
        (id, version): (&str, &str),
    ) -> Result<(Self, ExporterTask), tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(CONNECT).timeout(ANSWER);
        let (sender, spans) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let texts = [("service.name", "copal"), ("service.instance.id", id), ("service.version", version)];
        let attributes = texts.map(|(name, text)| attribute(name, Value::from(text))).to_vec();
        let client = TraceServiceClient::new(endpoint.connect_lazy());
        let task = ExporterTask { spans, lost: lost.clone(), client, resource: Resource { attributes } };
        Ok((Self { spans: sender, lost, sampled_ppm }, task))
    }

    /// Whether a trace that begins here is recorded.
    pub fn samples(&self) -> bool {
        rand::random_range(0..1_000_000) < self.sampled_ppm
    }

    /// The first span of a trace that begins here, or the next one of a caller's. Only for one that is sampled.
    pub fn server(
        &self,
        context: TraceContext,
        parent: Option<u64>,
        name: impl Into<Cow<'static, str>>,
    ) -> Span {
        Span::begin(self.clone(), context, parent, Kind::Server, name.into())
    }

    /// A span under another.
    pub fn under(&self, parent: &TraceContext, kind: Kind, name: impl Into<Cow<'static, str>>) -> Span {
        Span::begin(self.clone(), parent.next(), Some(parent.span), kind, name.into())
    }

    /// How many spans found no room, or no collector.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn send(&self, span: Finished) {
        if self.spans.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

impl ExporterTask {
    /// Sends until there is nobody any more who has spans.
    pub async fn run(mut self) {
        let mut told: Option<Instant> = None;
        let mut batch = Vec::new();
        while self.gather(&mut batch).await {
            let count = batch.len() as u64;
            let sent = timeout(ANSWER, self.client.export(self.request(std::mem::take(&mut batch)))).await;
            let why = match sent {
                Ok(Ok(answer)) => match answer.into_inner().partial_success {
                    Some(partial) if partial.rejected_spans > 0 => partial.error_message,
                    _ => continue,
                },
                Ok(Err(refused)) => refused.to_string(),
                Err(_) => format!("no answer within {ANSWER:?}"),
            };
            let lost = self.lost.fetch_add(count, Ordering::Relaxed) + count;
            if told.is_none_or(|at| at.elapsed() >= TOLD) {
                told = Some(Instant::now());
                tracing::warn!(lost, why = ?why, "spans are lost: the collector of `traces` does not take them");
            }
        }
    }

    /// The next spans; false when there are no more.
    async fn gather(&mut self, batch: &mut Vec<Finished>) -> bool {
        let Some(first) = self.spans.recv().await else { return false };
        batch.push(first);
        let end = Instant::now() + GATHER;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(end, self.spans.recv()).await {
                Ok(Some(span)) => batch.push(span),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    fn request(&self, spans: Vec<Finished>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope { name: "copal".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Some(self.resource.clone());
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
    }
}
