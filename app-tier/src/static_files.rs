//! An app that is a folder of files, and the files that a process app lets the server serve: the crate `static-files` behind
//! [`App`].

use crate::{
    app::{App, Kind},
    body::{Body, BodyError, Request, Response, empty, full},
    error::RequestError,
    serve::decode,
};
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream};
use http::{Method, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use static_files::{Answer, Asked, FileBody, FileStream, PIECE};
use std::path::PathBuf;

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct StaticFiles(static_files::StaticFiles);

impl App for StaticFiles {
    fn call<'a>(
        &'a self,
        prefix: &'a str,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, RequestError>> {
        Box::pin(async move {
            if !is_read(request.method()) {
                return Err(RequestError::MethodNotAllowed);
            }
            let (parts, _) = request.into_parts();
            self.find(prefix, &parts).await?.ok_or(RequestError::NotFound)
        })
    }

    fn kind(&self) -> Kind<'_> {
        Kind::Static
    }
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

impl StaticFiles {
    /// The files below `root`, which is followed anew at each request if it is a link.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self(static_files::StaticFiles::new(root))
    }

    /// The answer to a GET or HEAD if there is such a file; `None` for others.
    ///
    /// # Errors
    /// [`RequestError::File`]: the file can't be read.
    pub(crate) async fn find(&self, prefix: &str, request: &Parts) -> Result<Option<Response>, RequestError> {
        if !is_read(&request.method) {
            return Ok(None);
        }
        let path = decode(request.uri.path())?;
        let Some(below) = path.strip_prefix(prefix) else { return Ok(None) };
        let asked = Asked {
            head: request.method == Method::HEAD,
            below,
            target: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
        };
        Ok(self.0.find(&asked).await?.map(response))
    }
}

fn response(answer: Answer) -> Response {
    let mut response = Response::new(match answer.body {
        FileBody::Empty => empty(),
        FileBody::Whole(bytes) => full(bytes),
        FileBody::Stream(stream) => streamed(stream),
    });
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn streamed(stream: FileStream) -> Body {
    StreamBody::new(stream::try_unfold(stream, piece)).boxed_unsync()
}

async fn piece(mut stream: FileStream) -> Result<Option<(Frame<Bytes>, FileStream)>, BodyError> {
    Ok(stream.next(PIECE).await?.map(|bytes| (Frame::data(bytes), stream)))
}

#[cfg(test)]
mod tests;
