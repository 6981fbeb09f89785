//! Files of a folder as HTTP resources (RFC 9110 §13, §14): validators, conditional and range requests, precompressed
//! variants; streamed, and never anything outside the folder.

mod conditional;
mod encoding;
mod media_type;
mod range;
mod resource;

use crate::{
    app::App,
    body::{Body, BodyError, Request, Response, empty, full},
    error::RequestError,
    serve::decode,
};
use bytes::{Bytes, BytesMut};
use conditional::Condition;
use futures_util::{future::BoxFuture, stream};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use range::Range;
use resource::{Found, Representation};
use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// A body up to this size is read at once; a larger one is streamed in pieces of this size.
const PIECE: usize = 64 * 1024;

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct StaticFiles {
    /// Canonical.
    root: PathBuf,
}

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
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

impl StaticFiles {
    /// The files below `root`, which has to be canonical.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
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
        let (root, below) = (self.root.clone(), below.to_owned());
        let accepted = encoding::accepted(&request.headers);
        let found = tokio::task::spawn_blocking(move || resource::find(&root, &below, &accepted)).await;
        let found = found.map_err(|panicked| io::Error::other(panicked.to_string()))??;
        Ok(match found {
            None => None,
            Some(Found::Folder) => Some(redirect(request)?),
            Some(Found::File(representation)) => Some(answer(request, representation).await?),
        })
    }
}

/// To the folder's own URL, so that relative links work.
fn redirect(request: &Parts) -> Result<Response, RequestError> {
    let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}/{query}", request.uri.path()));
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = location.map_err(|_| RequestError::BadTarget("the path can't be a header's value"))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

async fn answer(request: &Parts, found: Representation) -> Result<Response, RequestError> {
    let mut response = Response::new(empty());
    found.describe(response.headers_mut());
    let headers = &request.headers;
    let (status, span) = match conditional::evaluate(headers, &found.etag, found.modified) {
        Condition::NotModified => (StatusCode::NOT_MODIFIED, None),
        Condition::Failed => (StatusCode::PRECONDITION_FAILED, None),
        Condition::Send { ranges } => {
            let ranges = ranges && request.method == Method::GET;
            let range = if ranges { range::parse(headers, found.length) } else { Range::Whole };
            match range {
                Range::Whole => (StatusCode::OK, Some((0, found.length))),
                Range::Part { first, length } => {
                    let text = format!("bytes {first}-{}/{}", first + length - 1, found.length);
                    response.headers_mut().insert(header::CONTENT_RANGE, value(text)?);
                    (StatusCode::PARTIAL_CONTENT, Some((first, length)))
                }
                Range::Unsatisfiable => {
                    let text = format!("bytes */{}", found.length);
                    response.headers_mut().insert(header::CONTENT_RANGE, value(text)?);
                    (StatusCode::RANGE_NOT_SATISFIABLE, None)
                }
            }
        }
    };
    *response.status_mut() = status;
    match span {
        Some((first, length)) => {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            if request.method == Method::GET {
                *response.body_mut() = body(found.file, first, length).await?;
            }
        }
        None => {
            response.headers_mut().remove(header::CONTENT_TYPE);
            response.headers_mut().remove(header::CONTENT_ENCODING);
        }
    }
    Ok(response)
}

fn value(text: String) -> Result<HeaderValue, RequestError> {
    HeaderValue::try_from(text).map_err(|cause| io::Error::other(cause).into())
}

async fn body(file: File, first: u64, length: u64) -> io::Result<Body> {
    match usize::try_from(length) {
        Ok(length) if length <= PIECE => {
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, first).map(|()| bytes)
            });
            Ok(full(read.await.map_err(io::Error::other)??))
        }
        _ => {
            let mut file = tokio::fs::File::from_std(file);
            file.set_max_buf_size(PIECE);
            file.seek(io::SeekFrom::Start(first)).await?;
            Ok(StreamBody::new(stream::try_unfold((file, length), piece)).boxed_unsync())
        }
    }
}

/// The next piece; a file that has become shorter breaks the body.
async fn piece(
    (mut file, left): (tokio::fs::File, u64),
) -> Result<Option<(Frame<Bytes>, (tokio::fs::File, u64))>, BodyError> {
    if left == 0 {
        return Ok(None);
    }
    let mut bytes = BytesMut::with_capacity(PIECE);
    (&mut file).take(left).read_buf(&mut bytes).await?;
    if bytes.is_empty() {
        return Err(format!("the file became {left} bytes shorter while it was sent").into());
    }
    let left = left - bytes.len() as u64;
    Ok(Some((Frame::data(bytes.freeze()), (file, left))))
}

#[cfg(test)]
mod tests;
