//! Spans: how long the parts of a request took, on each server that it passed, joined by `traceparent` (W3C Trace Context) and sent to an
//! OpenTelemetry collector over OTLP/gRPC. Without an [`Exporter`] nothing here is ever called; with one, a request that is not sampled
//! costs a comparison.

mod context;
mod exporter;
mod span;
#[cfg(test)]
mod tests;

pub use context::{RECORDED, TraceContext};
pub use exporter::{Exporter, ExporterTask};
pub use span::{Kind, Scope, Span, Value, child, current};
