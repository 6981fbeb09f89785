//! Large bodies, streamed: memory does not grow with them.

use crate::pages::number;
use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use std::convert::Infallible;

/// A piece of `/bytes`.
const PIECE: usize = 64 * 1024;

/// Sends the request's body back as it comes.
pub(crate) async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    // With the length, a body that breaks off is seen to be short, whatever it was framed with.
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// `?n=` bytes, all the letter `c`.
pub(crate) async fn bytes(uri: Uri) -> Response {
    let Some(length) = number(&uri, "n") else {
        return (StatusCode::BAD_REQUEST, "how many? /bytes?n=1000\n").into_response();
    };
    let piece = Bytes::from(vec![b'c'; PIECE]);
    let pieces = stream::unfold(length, move |left| {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let next = (size > 0).then(|| (Ok::<_, Infallible>(piece.slice(..size)), left - size as u64));
        std::future::ready(next)
    });
    let described = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    (described, Body::from_stream(pieces)).into_response()
}

/// Counts the bytes of the body.
pub(crate) async fn upload(request: Request) -> Response {
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, Bytes::len),
            Err(cause) => {
                return (StatusCode::BAD_REQUEST, format!("after {length} bytes: {cause}\n")).into_response();
            }
        }
    }
    format!("uploaded {length} bytes\n").into_response()
}
