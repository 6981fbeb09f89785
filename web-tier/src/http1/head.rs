//! Heads: `httparse` finds the lines, and what it is lenient about is refused here (bare LF, control characters in a target).

use super::noted::Noted;
use super::{
    chunked::ChunkError,
    fields::Fields,
    framing::{Framing, Length},
    name::Name,
    version::{Version, minor_version},
};
use http::{Method, StatusCode};
use httparse::Status;
use percent_encoding::{AsciiSet, percent_encode};
use std::mem::MaybeUninit;

/// What a head may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Fields; never more than [`FIELDS_MAX`].
    pub(crate) count: usize,
    /// Bytes, from the first line to the empty one.
    pub(crate) bytes: usize,
    /// Bytes of a request target.
    pub(crate) target: usize,
}

/// What is escaped in a target beside what is not ASCII: what no URI has (RFC 3986 appendix A), browsers escape, and servers refuse.
const NOT_OF_A_URI: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>').add(b'`');

/// The most fields there is room for.
pub(crate) const FIELDS_MAX: usize = 256;

/// The longest method: twice as long as any of the IANA's registry, and more.
pub(crate) const METHOD_MAX: usize = 64;

/// The most trailers of a message.
pub(super) const TRAILERS_COUNT_MAX: usize = 64;

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("{0}")]
    Bad(&'static str),
    #[error("an HTTP version other than 1")]
    Version,
    #[error("the method is longer than any")]
    MethodTooLong,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the header section is too large")]
    TooLarge,
}

impl From<httparse::Error> for HeadError {
    fn from(cause: httparse::Error) -> Self {
        match cause {
            httparse::Error::HeaderName => Self::Bad("invalid header name"),
            httparse::Error::HeaderValue => Self::Bad("invalid header value"),
            httparse::Error::NewLine => Self::Bad("invalid line end"),
            httparse::Error::Status => Self::Bad("invalid status"),
            httparse::Error::Token => Self::Bad("invalid request line"),
            httparse::Error::TooManyHeaders => Self::TooLarge,
            httparse::Error::Version => Self::Version,
        }
    }
}

/// What `Connection` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// It names other fields.
    pub(crate) nominates: bool,
}

impl Connection {
    fn add(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !token.is_empty() {
                self.nominates = true;
            }
        }
    }

    /// Whether the connection may serve another message (RFC 9112 §9.3).
    fn persists(self, version: Version) -> bool {
        match version {
            Version::Http10 => self.keep_alive && !self.close,
            Version::Http11 => !self.close,
            Version::Http2 | Version::Http3 => true,
        }
    }
}

/// The form of a request target (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Target {
    /// A path with or without a query.
    #[default]
    Origin,
    /// A whole URI: its authority is in [`RequestHead::authority`].
    Absolute,
    /// `*`.
    Asterisk,
}

/// The head of a request. One serves many requests, so that its memory is allocated once.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) form: Target,
    /// The path, and `?` with the query if there is one; of an absolute form too.
    pub(crate) target: String,
    /// Where the path ends.
    pub(crate) path_length: usize,
    /// Of an absolute form.
    pub(crate) authority: String,
    /// The port that its scheme stands for.
    pub(crate) default_port: u16,
    /// Without `Content-Length` and `Transfer-Encoding`: the length says it.
    pub(crate) fields: Fields,
    pub(crate) length: Length,
    pub(crate) connection: Connection,
    /// What its answer brings to light.
    pub(crate) noted: Noted,
}

impl RequestHead {
    /// Reads a head from the beginning of `input`; its length in bytes, or `None` when it is not complete.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub(crate) fn parse(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        // RFC 9112 §2.2: an empty line before a request is let pass, one only.
        let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
        let input = &input[skipped..];
        if input.starts_with(b"\r\n") || input.first() == Some(&b'\n') {
            return Err(HeadError::Bad("empty lines before the request"));
        }
        let length = self.parse_lines(input, limits)?;
        Ok(length.map(|length| skipped + length))
    }

    fn parse_lines(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(input, &mut room[..limits.count.min(FIELDS_MAX)]);
        if parsed == Err(httparse::Error::Version) {
            return self.parse_later_version(input, limits);
        }
        let Status::Complete(length) = parsed? else {
            return incomplete_request(input, limits).map(|()| None);
        };
        check_line_ends(&input[..length])?;
        let method = request.method.unwrap_or("");
        if method.len() > METHOD_MAX {
            return Err(HeadError::MethodTooLong);
        }
        if length > limits.bytes {
            return Err(HeadError::TooLarge);
        }
        self.version = Version::of(request.version);
        self.method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Bad("invalid method"))?;
        self.set_target(request.path.unwrap_or(""), limits)?;
        self.take_fields(request.headers)?;
        Ok(Some(length))
    }

    /// One of a later version 1.x is read as what we know of it, 1.1 (RFC 9110 §2.5). `httparse` does not, so it gets a copy that
    /// says so: hardly anybody sends one.
    fn parse_later_version(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let Some(minor) = minor_version(input)? else {
            return incomplete_request(input, limits).map(|()| None);
        };
        let mut known = input.to_vec();
        known[minor] = b'1';
        self.parse_lines(&known, limits)
    }

    /// Reads a request target.
    pub(crate) fn set_target(&mut self, target: &str, limits: &HeadLimits) -> Result<(), HeadError> {
        if target.len() > limits.target {
            return Err(HeadError::TargetTooLong);
        }
        if target.bytes().any(|byte| matches!(byte, b'\0'..=b' ' | b'#' | 0x7f)) {
            return Err(HeadError::Bad("invalid byte in the request target"));
        }
        self.target.clear();
        self.authority.clear();
        self.default_port = 0;
        self.form = Target::Origin;
        match target.as_bytes().first() {
            Some(b'/') => self.push_path(target),
            Some(b'*') if target.len() == 1 => {
                self.form = Target::Asterisk;
                self.target.push('*');
            }
            _ => self.set_absolute(target)?,
        }
        if self.target.len() > limits.target {
            return Err(HeadError::TargetTooLong);
        }
        self.path_length = self.target.find('?').unwrap_or(self.target.len());
        Ok(())
    }

    /// A path with or without a query. What a client should have escaped and has sent as it is, UTF-8 or `<` (`curl` sends what it is
    /// given), is escaped here (RFC 3987 §3.1), so that from here on a target is one that every server takes.
    fn push_path(&mut self, path: &str) {
        let odd = path
            .bytes()
            .fold(false, |odd, it| odd | !it.is_ascii() | matches!(it, b'"' | b'<' | b'>' | b'`'));
        if !odd {
            return self.target.push_str(path);
        }
        let escaped = percent_encode(path.as_bytes(), NOT_OF_A_URI);
        escaped.for_each(|piece| self.target.push_str(piece));
    }

    fn set_absolute(&mut self, target: &str) -> Result<(), HeadError> {
        if self.method == Method::CONNECT {
            // Refused later for what it is.
            self.target.push('/');
            return Ok(());
        }
        let (rest, default_port) =
            after_scheme(target).ok_or(HeadError::Bad("the request target does not begin with /"))?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return Err(HeadError::Bad("the request target has no host"));
        }
        self.form = Target::Absolute;
        self.default_port = default_port;
        self.authority.push_str(authority);
        if !path.starts_with('/') {
            self.target.push('/');
        }
        self.push_path(path);
        Ok(())
    }

    fn take_fields(&mut self, headers: &[httparse::Header<'_>]) -> Result<(), HeadError> {
        let (framing, connection) = take_fields(&mut self.fields, parsed_fields(headers))?;
        framing.check(self.version)?;
        self.length = framing.of_request();
        self.connection = connection;
        Ok(())
    }

    /// A copy, for a request of our own in the client's name.
    pub(crate) fn copy(&self) -> Self {
        let mut copy = Self {
            method: self.method.clone(),
            version: self.version,
            form: self.form,
            target: self.target.clone(),
            path_length: self.path_length,
            ..Self::default()
        };
        copy.fields.copy_from(&self.fields);
        copy
    }

    /// The path.
    pub(crate) fn path(&self) -> &str {
        &self.target[..self.path_length]
    }

    /// The query, without its `?`.
    pub(crate) fn query(&self) -> Option<&str> {
        self.target.get(self.path_length + 1..)
    }

    /// `Host`, as sent; empty where there is none, or it is no text.
    pub(crate) fn host(&self) -> &str {
        self.fields.first(Name::Host).and_then(|host| str::from_utf8(host).ok()).unwrap_or("")
    }

    /// Puts another path in place.
    pub(crate) fn set_path(&mut self, path: &str) {
        self.target.replace_range(..self.path_length, path);
        self.path_length = path.len();
    }

    /// Whether the client's connection may serve another request.
    pub(crate) fn persists(&self) -> bool {
        self.connection.persists(self.version)
    }

    /// Whether it has a body, and a method that gives it no meaning (RFC 9110 §9.3.1). Where it ends is certain here, but there are
    /// servers that take it for the next request: their connection does not serve another one.
    pub(crate) fn has_odd_body(&self) -> bool {
        self.length != Length::Empty && matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// What follows `http://` or `https://`, and the port that this stands for.
fn after_scheme(target: &str) -> Option<(&str, u16)> {
    let prefix = |scheme: &str| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let http = prefix("http://").map(|rest| (rest, 80));
    http.or_else(|| prefix("https://").map(|rest| (rest, 443)))
}

/// The head of an answer.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    framing: Framing,
    pub(crate) connection: Connection,
}

impl ResponseHead {
    /// Makes it the head of an answer of our own, with a body of `length` bytes.
    pub(crate) fn begin(&mut self, status: StatusCode, length: u64) {
        self.status = status;
        self.reason.clear();
        self.reason.push_str(status.canonical_reason().unwrap_or(""));
        self.version = Version::Http11;
        self.fields.clear();
        self.framing = Framing { content_length: Some(length), chunked: false };
        self.connection = Connection::default();
    }

    /// Makes it the same as `other`; the memory stays.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.status = other.status;
        self.reason.clone_from(&other.reason);
        self.version = other.version;
        self.fields.copy_from(&other.fields);
        (self.framing, self.connection) = (other.framing, other.connection);
    }

    /// What of it is kept: a copy that is no larger than it has to be, of a body of `length` bytes, or of as many as come.
    pub(crate) fn kept(&self, length: Option<u64>) -> Self {
        Self {
            status: self.status,
            reason: self.reason.as_str().into(),
            version: Version::Http11,
            fields: self.fields.compact(),
            framing: Framing { content_length: length, chunked: length.is_none() },
            connection: Connection::default(),
        }
    }

    /// Its body has so many bytes.
    pub(crate) fn set_length(&mut self, length: u64) {
        self.framing = Framing { content_length: Some(length), chunked: false };
    }

    /// Nothing is said of a length.
    pub(crate) fn forget_length(&mut self) {
        self.framing = Framing::default();
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        self.reason.capacity() + self.fields.size()
    }

    /// Takes a head of HTTP/2 over, of which `h2` has refused what RFC 9113 §8.2 forbids. Without a `Content-Length` the body has
    /// `length` bytes, or as many as come.
    ///
    /// # Errors
    /// It says two lengths, or hides one.
    pub(crate) fn take<'a>(
        &mut self,
        status: StatusCode,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        length: Option<u64>,
    ) -> Result<(), HeadError> {
        self.status = status;
        self.reason.clear();
        self.reason.push_str(status.canonical_reason().unwrap_or(""));
        self.version = Version::Http2;
        (self.framing, self.connection) = take_fields(&mut self.fields, fields)?;
        self.framing.chunked = false;
        if self.framing.content_length.is_none() {
            self.framing.content_length = length;
            self.framing.chunked = length.is_none();
        }
        Ok(())
    }

    /// Reads a head from the beginning of `input`; its length in bytes, or `None` when it is not complete.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub(crate) fn parse(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            input,
            &mut room[..limits.count.min(FIELDS_MAX)],
        );
        let Status::Complete(length) = parsed? else {
            return incomplete(input, limits, 0).map(|()| None);
        };
        check_line_ends(&input[..length])?;
        if length > limits.bytes {
            return Err(HeadError::TooLarge);
        }
        self.version = Version::of(response.version);
        self.status = StatusCode::from_u16(response.code.unwrap_or(0))
            .map_err(|_| HeadError::Bad("a status below 100"))?;
        self.reason.clear();
        self.reason.push_str(response.reason.unwrap_or(""));
        let (framing, connection) = take_fields(&mut self.fields, parsed_fields(response.headers))?;
        framing.check(self.version)?;
        (self.framing, self.connection) = (framing, connection);
        Ok(Some(length))
    }

    /// How long the body is, of the answer to `HEAD` or another method (RFC 9112 §6.3).
    pub(crate) fn length(&self, to_head: bool) -> Length {
        if to_head || matches!(self.status.as_u16(), 100..200 | 204 | 304) {
            Length::Empty
        } else {
            self.framing.of_answer()
        }
    }

    /// `Content-Length` as the server said it, where it may stand.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.framing.content_length.filter(|_| !matches!(self.status.as_u16(), 100..200 | 204))
    }

    /// Whether the server's connection may serve another request.
    pub(crate) fn persists(&self) -> bool {
        self.connection.persists(self.version)
    }
}

fn parsed_fields<'a>(headers: &'a [httparse::Header<'a>]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    headers.iter().map(|header| (header.name.as_bytes(), header.value))
}

/// Copies the fields, but for those of framing.
fn take_fields<'a>(
    fields: &mut Fields,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(Framing, Connection), HeadError> {
    let (mut framing, mut connection) = (Framing::default(), Connection::default());
    fields.clear();
    for (written, value) in headers {
        let name = Name::of(written);
        match name {
            Name::ContentLength => framing.content_length(value)?,
            Name::TransferEncoding => framing.transfer_encoding(value)?,
            Name::Connection => {
                connection.add(value);
                fields.push(name, written, value);
            }
            Name::Other if Name::resembles_framing(written) => {
                return Err(HeadError::Bad("a header name that could be taken for one of framing"));
            }
            _ => fields.push(name, written, value),
        }
    }
    Ok((framing, connection))
}

/// Every LF of a head ends a CRLF.
fn check_line_ends(head: &[u8]) -> Result<(), HeadError> {
    let bare = memchr::memchr_iter(b'\n', head).any(|place| place == 0 || head[place - 1] != b'\r');
    if bare { Err(HeadError::Bad("a line ends with LF alone")) } else { Ok(()) }
}

/// Whether a request's head may go on.
fn incomplete_request(input: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
    if memchr::memchr(b' ', input).unwrap_or(input.len()) > METHOD_MAX {
        return Err(HeadError::MethodTooLong);
    }
    incomplete(input, limits, target_so_far(input))
}

/// Whether a head may go on, of which so many bytes of a target have come; an answer has none.
fn incomplete(input: &[u8], limits: &HeadLimits, target: usize) -> Result<(), HeadError> {
    check_line_ends(input)?;
    if target > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    if input.len() >= limits.bytes { Err(HeadError::TooLarge) } else { Ok(()) }
}

/// The length of what has come of a request's target. A head is refused for it only when the whole would be, however it is cut.
fn target_so_far(input: &[u8]) -> usize {
    let line = memchr::memchr(b'\n', input).map_or(input, |end| &input[..end]);
    let Some(start) = memchr::memchr(b' ', line) else { return 0 };
    let rest = &line[start + 1..];
    memchr::memchr(b' ', rest).unwrap_or(rest.len())
}

/// Reads a complete trailer section.
pub(crate) fn parse_trailers(section: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), ChunkError> {
    let mut room = [httparse::EMPTY_HEADER; TRAILERS_COUNT_MAX];
    match httparse::parse_headers(section, &mut room) {
        Ok(Status::Complete((length, headers))) if length == section.len() => {
            headers.iter().for_each(|header| field(header.name.as_bytes(), header.value));
            Ok(())
        }
        _ => Err(ChunkError::Trailer),
    }
}
