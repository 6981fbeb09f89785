//! An app that is a process: static files first, if it has any, then the process.

use crate::{
    app::App,
    body::{Request, Response},
    error::RequestError,
    process::Processes,
    proxy::{SESSION_ID, end_to_end},
};
use futures_util::future::BoxFuture;
use http::header;
use http_body_util::BodyExt;

/// An app with processes.
#[derive(Debug)]
pub(crate) struct ProcessApp {
    pub(crate) processes: Processes,
}

impl App for ProcessApp {
    fn call<'a>(
        &'a self,
        _prefix: &'a str,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, RequestError>> {
        Box::pin(self.forward(request))
    }
}

impl ProcessApp {
    async fn forward(&self, mut request: Request) -> Result<Response, RequestError> {
        let backend = self.processes.pick()?;
        let headers = request.headers_mut();
        end_to_end(headers);
        headers.remove(SESSION_ID);
        // Answered by this server; the process gets a plain body.
        headers.remove(header::EXPECT);
        let mut response = backend.send(request).await?;
        end_to_end(response.headers_mut());
        Ok(response.map(BodyExt::boxed_unsync))
    }
}
