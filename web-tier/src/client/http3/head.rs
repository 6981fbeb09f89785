//! Sections of fields as heads of requests and trailers (RFC 9114 §4), and heads of answers as sections. What HTTP/3 forbids is refused
//! here; `h2` refuses the same in HTTP/2.

use super::qpack::{self, Fault};
use bytes::Bytes;
use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

/// Why a section can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    Section(Fault),
    /// The request is none (RFC 9114 §4.1.2).
    Malformed(&'static str),
}

impl From<Fault> for Unusable {
    fn from(fault: Fault) -> Self {
        Self::Section(fault)
    }
}

/// The pseudo-header fields of a request (RFC 9114 §4.3.1).
#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<Protocol>,
}

/// Reads the head of a request, of `max` bytes at most.
///
/// # Errors
/// See [`Unusable`].
pub(super) fn request(section: &[u8], max: usize) -> Result<Request<()>, Unusable> {
    let (mut pseudo, mut fields) = (Pseudo::default(), HeaderMap::new());
    qpack::decode(section, max, |name, value| {
        if let [b':', name @ ..] = name {
            if !fields.is_empty() {
                return Err(Unusable::Malformed("a pseudo-header field behind others"));
            }
            return pseudo.take(name, value).map_err(Unusable::Malformed);
        }
        take_field(&mut fields, name, value).map_err(Unusable::Malformed)
    })?;
    pseudo.into_request(fields).map_err(Unusable::Malformed)
}

/// Reads trailers.
///
/// # Errors
/// See [`Unusable`].
pub(super) fn trailers(section: &[u8], max: usize) -> Result<HeaderMap, Unusable> {
    let mut fields = HeaderMap::new();
    qpack::decode(section, max, |name, value| {
        if name.starts_with(b":") {
            return Err(Unusable::Malformed("a pseudo-header field in trailers"));
        }
        take_field(&mut fields, name, value).map_err(Unusable::Malformed)
    })?;
    Ok(fields)
}

fn take_field(fields: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    // In lower case alone (RFC 9114 §4.2).
    let name = HeaderName::from_lowercase(name).map_err(|_| "a field's name is none")?;
    let value = HeaderValue::from_bytes(value).map_err(|_| "a field's value is none")?;
    let of_connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || (name == TE && value != "trailers");
    if of_connection {
        return Err("a field of a connection");
    }
    fields.try_append(name, value).map_err(|_| "too many fields")?;
    Ok(())
}

impl Pseudo {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        fn put<T, E>(place: &mut Option<T>, value: Result<T, E>) -> Result<(), &'static str> {
            let value = value.map_err(|_| "a pseudo-header field's value is none")?;
            if place.replace(value).is_some() { Err("a pseudo-header field twice") } else { Ok(()) }
        }
        let bytes = || Bytes::copy_from_slice(value);
        match name {
            b"method" => put(&mut self.method, Method::from_bytes(value)),
            b"scheme" => put(&mut self.scheme, Scheme::try_from(value)),
            b"authority" => put(&mut self.authority, Authority::from_maybe_shared(bytes())),
            b"path" if value.contains(&b'#') => Err("a fragment in :path"),
            b"path" if value.is_empty() => Err("an empty :path"),
            b"path" => put(&mut self.path, PathAndQuery::from_maybe_shared(bytes())),
            b"protocol" => put(&mut self.protocol, str::from_utf8(value).map(Protocol::from)),
            _ => Err("a pseudo-header field that requests have not"),
        }
    }

    fn into_request(self, fields: HeaderMap) -> Result<Request<()>, &'static str> {
        let Self { method, scheme, authority, path, protocol } = self;
        let method = method.ok_or("no :method")?;
        let connects = method == Method::CONNECT;
        if connects && protocol.is_none() && (scheme.is_some() || path.is_some() || authority.is_none()) {
            return Err("a CONNECT with more or less than :authority");
        }
        if !connects && protocol.is_some() {
            return Err("a :protocol without CONNECT");
        }
        if (!connects || protocol.is_some()) && (scheme.is_none() || path.is_none()) {
            return Err("no :scheme or :path");
        }
        let mut parts = http::uri::Parts::default();
        // A `Uri` has a scheme only with an authority, and a path with both.
        parts.scheme = scheme.filter(|_| authority.is_some());
        parts.authority = authority;
        parts.path_and_query = path;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| "a target that is none")?;
        *request.headers_mut() = fields;
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(protocol);
        }
        Ok(request)
    }
}

/// Appends the section of an answer's head.
pub(super) fn put_response(out: &mut Vec<u8>, head: &Response<()>) {
    qpack::begin(out);
    qpack::put(out, b":status", head.status().as_str().as_bytes());
    put_fields(out, head.headers());
}

/// Appends the section of trailers.
pub(super) fn put_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    qpack::begin(out);
    put_fields(out, trailers);
}

fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        qpack::put(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        qpack::begin(&mut out);
        for (name, value) in fields {
            qpack::put(&mut out, name.as_bytes(), value.as_bytes());
        }
        out
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", "/a?b")];

    #[test]
    fn a_request_is_read() {
        let read =
            request(&section(&[&GET[..], &[("accept", "*/*"), ("te", "trailers")]].concat()), 1000).unwrap();
        assert_eq!((read.method(), read.uri().to_string().as_str()), (&Method::GET, "https://h/a?b"));
        assert_eq!(read.headers().len(), 2);
        let connect = [(":method", "CONNECT"), (":authority", "h:1")];
        assert_eq!(request(&section(&connect), 1000).unwrap().uri().to_string(), "h:1");
        let websocket = [&[(":method", "CONNECT"), (":protocol", "websocket")], &GET[1..]].concat();
        assert!(request(&section(&websocket), 1000).unwrap().extensions().get::<Protocol>().is_some());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
        let without = |name: &str| GET.into_iter().filter(|it| it.0 != name).collect::<Vec<_>>();
        for bad in [
            without(":method"),
            without(":scheme"),
            without(":path"),
            with(&[(":path", "/")]),
            with(&[(":authority", "h")]),
            with(&[(":status", "200")]),
            with(&[(":other", "x")]),
            with(&[(":protocol", "websocket")]),
            with(&[("a", "b"), (":path", "/")]),
            [&[("a", "b")], &GET[..]].concat(),
            with(&[("Accept", "x")]),
            with(&[("a b", "x")]),
            with(&[("", "x")]),
            with(&[("a", "x\ry")]),
            with(&[("a", "x\0")]),
            with(&[("connection", "close")]),
            with(&[("keep-alive", "1")]),
            with(&[("proxy-connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("upgrade", "h2c")]),
            with(&[("te", "gzip")]),
            vec![(":method", "CONNECT"), (":scheme", "https"), (":authority", "h"), (":path", "/")],
            vec![(":method", "CONNECT")],
            vec![(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", "")],
            vec![(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", "/#a")],
            vec![(":method", "GET"), (":scheme", "ht tp"), (":authority", "h"), (":path", "/")],
            vec![(":method", "G T"), (":scheme", "https"), (":authority", "h"), (":path", "/")],
        ] {
            let refused = request(&section(&bad), 10_000);
            assert!(matches!(refused, Err(Unusable::Malformed(_))), "{bad:?}: {refused:?}");
        }
        assert!(matches!(trailers(&section(&[(":path", "/")]), 1000), Err(Unusable::Malformed(_))));
        assert!(matches!(trailers(&section(&[("connection", "x")]), 1000), Err(Unusable::Malformed(_))));
        assert_eq!(request(&section(&GET), 60).unwrap_err(), Unusable::Section(Fault::TooLarge));
    }
}
