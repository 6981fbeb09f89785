//! The tower layer that gives each request its session, and sends its changes before the answer leaves.

use crate::{
    environment::Environment,
    error::ServeError,
    memory::Memory,
    remote::{Call, Remote},
    session::{Session, Store},
};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Request, header};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Gives the handlers inside it the user's [`Session`].
#[derive(Debug, Clone)]
pub struct SessionLayer {
    store: Store,
}

impl SessionLayer {
    /// With the sessions of the server that started this process, by its environment.
    ///
    /// # Errors
    /// [`ServeError::Environment`]: the process was not started by Copal.
    pub fn from_env() -> Result<Self, ServeError> {
        Environment::read().map(|environment| Self::new(&environment))
    }

    /// With the sessions that an environment names; needs a running tokio runtime.
    pub fn new(environment: &Environment) -> Self {
        match &environment.hub {
            Some((hub, token)) => Self { store: Store::Remote(Remote::new(hub.clone(), token)) },
            None => Self::in_memory(),
        }
    }

    /// With sessions in this process's memory, for development and tests.
    pub fn in_memory() -> Self {
        Self { store: Store::Memory(Memory::default()) }
    }

    fn session(&self, headers: &HeaderMap) -> Session {
        if let Store::Memory(_) = &self.store {
            let call = Call { request: String::new(), session: Memory::id(headers) };
            return Session::new(self.store.clone(), call);
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match (text("x-copal-request"), text("x-session-id")) {
            (Some(request), Some(session)) => {
                let in_links = headers.contains_key("x-session-url");
                Session::with_links(self.store.clone(), Call { request, session }, in_links)
            }
            // A health check, say.
            _ => Session::new(Store::Nowhere, Call { request: String::new(), session: String::new() }),
        }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService { layer: self.clone(), inner }
    }
}

/// The service that [`SessionLayer`] makes.
#[derive(Debug, Clone)]
pub struct SessionService<S> {
    layer: SessionLayer,
    inner: S,
}

impl<S, B> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let session = self.layer.session(request.headers());
        request.extensions_mut().insert(session.clone());
        let answered = self.inner.call(request);
        Box::pin(async move {
            let mut response = answered.await?.into_response();
            match session.finish().await {
                Ok(local) => {
                    if let Some(cookie) = local.as_deref().and_then(Memory::cookie) {
                        response.headers_mut().append(header::SET_COOKIE, cookie);
                    }
                    Ok(response)
                }
                Err(failed) => Ok(failed.into_response()),
            }
        })
    }
}
