//! Heads of HTTP/2 and HTTP/3 as those of HTTP/1.1, and the other way (RFC 9113 §8, RFC 9114 §4).

use crate::{
    error::ProxyError,
    http1::{HeadLimits, Length, Name, RequestHead, ResponseHead, Version},
    proxy::forward::prepare_response,
    route::normalise::same_authority,
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, COOKIE, DATE, VIA},
    uri::Scheme,
};

const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 copal");

/// Whether a field breaks RFC 9113 §8.2.1 (RFC 9114 §10.3) as `h2` lets pass: white space around its value is no part of it anywhere else.
pub(in crate::client) fn are_malformed(fields: &HeaderMap) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    fields.values().any(|value| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last()))
}

/// Reads a request into `head`. What RFC 9113 §8.2 and §8.3 forbid has been refused.
///
/// # Errors
/// The answer that the request deserves.
pub(in crate::client) fn read<B>(
    request: &Request<B>,
    version: Version,
    ends: bool,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<(), ProxyError> {
    // A cookie may come in many pieces (RFC 9113 §8.2.3); they are one field then. `h2` bounds the bytes.
    let crumbs = request.headers().get_all(COOKIE).iter().count();
    if request.headers().len() - crumbs.saturating_sub(1) > limits.count {
        return Err(ProxyError::HeadTooLarge);
    }
    head.version = version;
    head.method = request.method().clone();
    head.connection = Default::default();
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    head.set_target(target, limits)?;
    head.fields.clear();
    if let Some(authority) = request.uri().authority() {
        let host = authority.as_str();
        let others = request.headers().get_all(http::header::HOST);
        let port = if request.uri().scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        if others.iter().any(|other| !same_authority(other.as_bytes(), host.as_bytes(), port)) {
            return Err(ProxyError::Bad("the Host is not the one of :authority"));
        }
        head.fields.push(Name::Host, b"host", host.as_bytes());
    }
    let length = read_fields(request, head)?;
    head.length = match length {
        _ if ends => Length::Empty,
        Some(length) => Length::Exact(length),
        None => Length::Chunked,
    };
    Ok(())
}

/// The fields; those of `Cookie` become one (RFC 9113 §8.2.3). The length that they say is returned.
fn read_fields<B>(request: &Request<B>, head: &mut RequestHead) -> Result<Option<u64>, ProxyError> {
    let (mut length, mut cookie) = (None, Vec::new());
    let addressed = head.fields.first(Name::Host).is_some();
    for (name, value) in request.headers() {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        match Name::of(name) {
            // The one of `:authority`. Without that, more than one is found later.
            Name::Host if addressed => {}
            Name::Other if Name::resembles_framing(name) => {
                return Err(ProxyError::Bad("a header name that could be taken for one of framing"));
            }
            Name::ContentLength => {
                let said = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                length = Some(said.ok_or(ProxyError::Bad("the Content-Length is not a number of bytes"))?);
            }
            Name::Cookie => {
                if !cookie.is_empty() {
                    cookie.extend_from_slice(b"; ");
                }
                cookie.extend_from_slice(value);
            }
            known => head.fields.push(known, name, value),
        }
    }
    if !cookie.is_empty() {
        head.fields.push(Name::Cookie, b"cookie", &cookie);
    }
    Ok(length)
}

/// An answer's head as the client is to see it.
pub(in crate::client) fn response(head: &mut ResponseHead, length: Length, date: &[u8]) -> Response<()> {
    let mut response = local_response(head, length, date);
    response.headers_mut().append(VIA, VIA_1_1);
    response
}

/// The head of an answer that came by nobody.
pub(in crate::client) fn local_response(
    head: &mut ResponseHead,
    length: Length,
    date: &[u8],
) -> Response<()> {
    prepare_response(head);
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    let fields = response.headers_mut();
    head.fields.put_into(fields);
    let length = match length {
        Length::Exact(length) => Some(length),
        // Where a server of HTTP/2 has ended its answer with the head, no length says so but for clients of HTTP/1.
        Length::Empty => head.content_length().filter(|length| *length > 0 || head.version != Version::Http2),
        Length::Chunked | Length::UntilClose => None,
    };
    if let Some(length) = length {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    if !head.status.is_informational() && !fields.contains_key(DATE) {
        fields.extend(HeaderValue::from_bytes(date).ok().map(|date| (DATE, date)));
    }
    response
}

/// Says that the rest of a request did not come in time.
pub(in crate::client) fn late(date: &[u8]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    let fields = response.headers_mut();
    fields.insert(CONTENT_LENGTH, 0.into());
    fields.extend(HeaderValue::from_bytes(date).ok().map(|date| (DATE, date)));
    response
}
