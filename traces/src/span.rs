//! A span: something that a server does for a request, with its beginning and its end.

use crate::{Exporter, TraceContext};
use proto::opentelemetry::v1::{
    AnyValue, KeyValue, Span as Finished, SpanKind, Status, StatusCode, any_value,
};
use std::{
    borrow::Cow,
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The longest text of an attribute, in bytes: what comes from outside is cut there.
const TEXT_MAX: usize = 512;

tokio::task_local! {
    /// The span that this task works for, and where its children go.
    static CURRENT: (TraceContext, Exporter);
}

/// Who does it for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request is answered.
    Server,
    /// Another is asked, and waited for.
    Client,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(TEXT_MAX)].to_owned())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// A span under way. When it is dropped it has ended, and is on its way to the collector.
#[derive(Debug)]
pub struct Span {
    exporter: Exporter,
    context: TraceContext,
    parent: Option<u64>,
    kind: Kind,
    name: Cow<'static, str>,
    began_at: SystemTime,
    began: Instant,
    attributes: Vec<(&'static str, Value)>,
    failure: Option<String>,
}

impl Span {
    pub(crate) fn begin(
        exporter: Exporter,
        context: TraceContext,
        parent: Option<u64>,
        kind: Kind,
        name: Cow<'static, str>,
    ) -> Self {
        let (began_at, began) = (SystemTime::now(), Instant::now());
        let (attributes, failure) = Default::default();
        Self { exporter, context, parent, kind, name, began_at, began, attributes, failure }
    }

    /// What its children are told.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Adds what is known of it; names are those of OpenTelemetry's semantic conventions.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// It did not succeed.
    pub fn failed(&mut self, why: &dyn fmt::Display) {
        let why = why.to_string();
        self.failure = Some(why[..why.floor_char_boundary(TEXT_MAX)].to_owned());
    }

    /// Works for it: a [`child`] in there is one of this span.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        CURRENT.scope((self.context, self.exporter.clone()), work).await
    }

    fn finished(&mut self) -> Finished {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let began = nanos(self.began_at.duration_since(UNIX_EPOCH).unwrap_or_default());
        let attributes = std::mem::take(&mut self.attributes).into_iter();
        let failure = self.failure.take();
        Finished {
            trace_id: self.context.trace.to_be_bytes().to_vec().into(),
            span_id: self.context.span.to_be_bytes().to_vec().into(),
            parent_span_id: self.parent.map(|it| it.to_be_bytes().to_vec().into()).unwrap_or_default(),
            name: self.name.to_string(),
            kind: match self.kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
            }
            .into(),
            start_time_unix_nano: began,
            // By the clock that no one sets.
            end_time_unix_nano: began.saturating_add(nanos(self.began.elapsed())),
            attributes: attributes.map(|(name, value)| attribute(name, value)).collect(),
            status: failure.map(|message| Status { message, code: StatusCode::Error.into() }),
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let finished = self.finished();
        self.exporter.send(finished);
    }
}

pub(crate) fn attribute(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// Waits for something that is done for the request which this task works for. Without such a span it is waited for and no more.
///
/// # Errors
/// Those of `work`.
pub async fn child<T, E: fmt::Display>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Ok(mut span) = CURRENT.try_with(|(context, exporter)| exporter.under(context, Kind::Client, name))
    else {
        return work.await;
    };
    let done = span.run(work).await;
    if let Err(cause) = &done {
        span.failed(cause);
    }
    done
}

/// A span that work is done for, for tasks that do some of it.
#[derive(Debug, Clone)]
pub struct Scope(TraceContext, Exporter);

impl Scope {
    /// That of this task, if it has one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|(context, exporter)| Self(*context, exporter.clone())).ok()
    }

    /// Works for it; without one it is worked and no more.
    pub async fn run<F: Future>(scope: Option<&Self>, work: F) -> F::Output {
        match scope {
            Some(Self(context, exporter)) => CURRENT.scope((*context, exporter.clone()), work).await,
            None => work.await,
        }
    }
}

/// Which span this task works for, for who is asked on its behalf.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|(context, _)| *context).ok()
}
