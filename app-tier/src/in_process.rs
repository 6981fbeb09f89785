//! An app that is a service inside of this process.

use crate::{
    app::App,
    body::{Body, Request, Response},
    error::RequestError,
};
use futures_util::future::BoxFuture;
use std::{fmt, sync::Arc};

type Answer = dyn Fn(String, Request) -> BoxFuture<'static, Response> + Send + Sync;

/// What answers in this process; clones are the same one.
#[derive(Clone)]
pub struct InProcessService(Arc<Answer>);

impl InProcessService {
    /// `answer` is given the path of the web-app, without a slash at its end, and a request below it.
    pub fn new<F, A>(answer: F) -> Self
    where
        F: Fn(String, http::Request<Body>) -> A + Send + Sync + 'static,
        A: Future<Output = http::Response<Body>> + Send + 'static,
    {
        Self(Arc::new(move |prefix, request| Box::pin(answer(prefix, request))))
    }
}

impl fmt::Debug for InProcessService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessService")
    }
}

impl App for InProcessService {
    fn call<'a>(
        &'a self,
        prefix: &'a str,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, RequestError>> {
        let answer = (self.0)(prefix.to_owned(), request);
        Box::pin(async move { Ok(answer.await) })
    }
}
