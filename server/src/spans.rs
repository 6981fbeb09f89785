//! Spans of requests, for who has `traces` in the file: the exporter, and the spans of what other servers ask this one for.

use anyhow::Context as _;
use common::config::Config;
use http::Request;
use std::task::{Context, Poll};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tower::{Layer, Service};
use traces::{Exporter, Kind, TraceContext};

/// Where spans go, and the task that sends them.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    pub(crate) exporter: Option<Exporter>,
    _sending: Option<AbortOnDropHandle<()>>,
}

impl Spans {
    /// As the file says. Needs no network.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn start(config: &Config, id: &str) -> anyhow::Result<Self> {
        let Some(traces) = &config.traces else { return Ok(Self::default()) };
        let me = (id, env!("CARGO_PKG_VERSION"));
        let (exporter, task) = Exporter::new(&traces.otlp, traces.sampled_ppm, me).context("traces")?;
        let sending = AbortOnDropHandle::new(tokio::spawn(task.run()));
        Ok(Self { exporter: Some(exporter), _sending: Some(sending) })
    }

    /// Services whose calls are spans where the caller has one.
    pub(crate) fn around(&self, routes: Routes) -> Routes {
        match &self.exporter {
            Some(exporter) => routes.into_axum_router().layer(TracedLayer(exporter.clone())).into(),
            None => routes,
        }
    }
}

#[derive(Debug, Clone)]
struct TracedLayer(Exporter);

impl<S> Layer<S> for TracedLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, exporter: self.0.clone() }
    }
}

/// A service whose calls are spans.
#[derive(Debug, Clone)]
struct Traced<S> {
    inner: S,
    exporter: Exporter,
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let parent = request.headers().get("traceparent").and_then(|it| TraceContext::parse(it.as_bytes()));
        let span = parent.filter(|it| it.sampled).map(|parent| {
            let mut span = self.exporter.under(&parent, Kind::Server, called(request.uri().path()));
            span.set("rpc.system", "grpc");
            span
        });
        let calling = self.inner.call(request);
        Box::pin(async move {
            match span {
                Some(span) => span.run(calling).await,
                None => calling.await,
            }
        })
    }
}

/// `Sessions/Load` of `/copal.hub.v1.Sessions/Load`.
fn called(path: &str) -> String {
    let (package, method) = path.rsplit_once('/').unwrap_or_default();
    format!("{}/{method}", package.rsplit('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::called;

    #[test]
    fn a_call_is_named_by_service_and_method() {
        assert_eq!(called("/copal.hub.v1.Sessions/Load"), "Sessions/Load");
        assert_eq!(called("x"), "/");
    }
}
