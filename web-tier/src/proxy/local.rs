//! Answers of the web tier's own: files, redirects, error pages.

use crate::{
    cache::{body::Body, entry::Reading},
    compress::BodyEncoder,
    error::{ALLOW, ProxyError},
    http1::{Name, ResponseHead},
    memory::shelf::Shelved,
    route::{pages::Page, rules::Edit},
    worker::client::Client,
};
use bytes::Bytes;
use common::config::HeaderEditKind;
use http::StatusCode;
use static_files::{Answer as FileAnswer, FileBody, FileStream};
use std::{future::poll_fn, io, sync::Arc, task::Poll};

/// What says when to come again (RFC 9110 §10.2.3).
pub(super) const RETRY_AFTER: &str = "retry-after";

/// Fields that are about the body that a page takes the place of.
const CONTENT_FIELDS: [&str; 8] = [
    "accept-ranges",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-type",
    "etag",
    "expires",
    "last-modified",
];

/// An answer that no server gave.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) head: Shelved<Box<ResponseHead>>,
    pub(crate) body: LocalBody,
    /// Nothing that follows on the connection can be trusted to be a request.
    pub(crate) ends_connection: bool,
    /// Where it comes from.
    pub(crate) why: Why,
    /// The kept answer that it is.
    pub(crate) kept: Option<Reading>,
}

/// Why the web tier answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A rule says so: a redirect, an error page.
    Ruled,
    /// A file, or that there is none.
    File,
    /// A server's error, with a page of ours; what was said of it.
    Server(&'static str),
    /// The request can't be served.
    Refused(ProxyError),
    /// A file of this server can't be read.
    Unreadable,
    /// It was kept, or is being kept.
    Cached,
}

/// Its body; to `HEAD` it is left out.
#[derive(Debug)]
pub(crate) enum LocalBody {
    Bytes(Bytes),
    // In boxes: every answer would be as large.
    File(Box<FileStream>),
    /// Of a kept answer, which may still be coming.
    Stored(Box<StoredBody>),
    /// One of these, compressed on its way.
    Packing(Box<PackingBody>),
}

/// A kept answer's body, from a place on.
#[derive(Debug)]
pub(crate) struct StoredBody {
    pub(crate) body: Arc<Body>,
    pub(crate) at: u64,
    /// Where its length is not known before, it is read to its end.
    pub(crate) left: Option<u64>,
}

impl LocalBody {
    /// Whether nothing is to come any more.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::File(file) => file.left() == 0,
            Self::Stored(body) => body.left == Some(0),
            Self::Packing(body) => body.ended,
        }
    }

    /// The next piece, `None` at the end. Of a file `max` bytes are read at most.
    pub(crate) async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => Ok(None),
            Self::Bytes(bytes) => Ok(Some(std::mem::take(bytes))),
            Self::File(file) => file.next(max).await,
            Self::Stored(body) => body.next(max).await,
            Self::Packing(body) => body.next(max).await,
        }
    }
}

impl StoredBody {
    async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        let most = self.left.map_or(max, |left| usize::try_from(left).unwrap_or(max).min(max));
        if most == 0 {
            return Ok(None);
        }
        let Some(mut piece) = self.body.read(self.at).await? else {
            let is_short = self.left.is_some();
            self.left = Some(0);
            return if is_short { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
        };
        piece.truncate(most);
        self.at += piece.len() as u64;
        self.left = self.left.map(|left| left - piece.len() as u64);
        Ok(Some(piece))
    }
}

/// A body that is compressed on its way.
#[derive(Debug)]
pub(crate) struct PackingBody {
    source: LocalBody,
    /// What is there of it already.
    rest: Bytes,
    encoder: BodyEncoder,
    ended: bool,
}

impl PackingBody {
    pub(super) fn new(source: LocalBody, encoder: BodyEncoder) -> Self {
        Self { source, rest: Bytes::new(), encoder, ended: false }
    }

    /// The next piece of what comes out.
    async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        while !self.ended && out.is_empty() {
            if self.rest.is_empty() {
                match self.more(max).await? {
                    Came::Piece(piece) => self.rest = piece,
                    Came::Later => self.encoder.flush(&mut out)?,
                    Came::End => {
                        self.encoder.finish(&mut out)?;
                        self.ended = true;
                    }
                }
            } else {
                // A large one is there at once, and others are served here too.
                let piece = self.rest.split_to(self.rest.len().min(max));
                self.encoder.write(&piece, &mut out)?;
                tokio::task::coop::consume_budget().await;
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    async fn more(&mut self, max: usize) -> io::Result<Came> {
        let slow = matches!(self.source, LocalBody::Stored(_));
        // In a box, as it is one of the kind that this is a part of.
        let mut next = Box::pin(self.source.next(max));
        // What has come of an answer leaves before the rest is waited for; nothing is lost if it is asked for anew.
        let came = match slow && self.encoder.is_unflushed() {
            true => poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await,
            false => Poll::Ready(next.await),
        };
        let Poll::Ready(came) = came else { return Ok(Came::Later) };
        Ok(came?.map_or(Came::End, Came::Piece))
    }
}

/// What comes of a body.
enum Came {
    Piece(Bytes),
    /// Nothing yet.
    Later,
    End,
}

impl Local {
    /// One that is filled in.
    pub(super) fn cached(client: &Client, body: LocalBody) -> Self {
        let head = client.worker.response_heads.take(Box::default);
        Self { head, body, ends_connection: false, why: Why::Cached, kept: None }
    }

    fn new(client: &Client, status: StatusCode, body: LocalBody, length: u64) -> Self {
        let mut head = client.worker.response_heads.take(Box::default);
        head.begin(status, length);
        Self { head, body, ends_connection: false, why: Why::Ruled, kept: None }
    }

    fn text(client: &Client, status: StatusCode, text: String) -> Self {
        let length = text.len() as u64;
        let mut local = Self::new(client, status, LocalBody::Bytes(text.into()), length);
        local.head.fields.push(Name::Other, b"content-type", b"text/plain; charset=utf-8");
        local
    }

    /// The answer to a request that can't be served.
    pub(crate) fn refusal(client: &Client, cause: ProxyError) -> Self {
        let (fields, text) = cause.words();
        let mut local = Self::text(client, cause.status(), text);
        if let Some((name, value)) = fields {
            local.head.fields.push(Name::Other, name.as_bytes(), value.as_bytes());
        }
        local.ends_connection = cause.ends_connection();
        local.why = Why::Refused(cause);
        local
    }

    /// The answer to who asks for too much: 429 (RFC 6585 §4), and when to ask again.
    pub(crate) fn too_many(client: &Client, retry_s: u64) -> Self {
        let mut local = Self::refusal(client, ProxyError::TooMany);
        local.head.fields.push(Name::Other, b"retry-after", retry_s.to_string().as_bytes());
        local
    }

    /// The answer to the authority of ACME (RFC 8555 §8.3).
    pub(crate) fn challenge(client: &Client, answer: &str) -> Self {
        let body = Bytes::copy_from_slice(answer.as_bytes());
        let mut local = Self::new(client, StatusCode::OK, LocalBody::Bytes(body), answer.len() as u64);
        local.head.fields.push(Name::Other, b"content-type", b"application/octet-stream");
        local.head.fields.push(Name::of(b"cache-control"), b"cache-control", b"no-store");
        local
    }

    /// The answer to who has to say who he is, or has not said it well.
    pub(crate) fn sign_in(client: &Client, status: u16, challenge: &str, text: &str) -> Self {
        let mut local = Self::error_page(client, status, Some(text));
        local.head.fields.push(Name::Other, b"www-authenticate", challenge.as_bytes());
        local.head.fields.push(Name::Other, b"cache-control", b"no-store");
        local
    }

    /// The answer to an OPTIONS that is to go no further.
    pub(crate) fn capabilities(client: &Client) -> Self {
        let mut local = Self::new(client, StatusCode::OK, LocalBody::Bytes(Bytes::new()), 0);
        local.head.fields.push(Name::Other, ALLOW.0.as_bytes(), ALLOW.1.as_bytes());
        local
    }

    /// A rule's error, with its own words or the status's.
    pub(crate) fn error_page(client: &Client, status: u16, message: Option<&str>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = message.map_or_else(|| format!("{status}\n"), |message| format!("{status}: {message}\n"));
        Self::text(client, status, text)
    }

    /// A page of an operator's.
    pub(super) fn page(client: &Client, status: StatusCode, page: &Page) -> Self {
        let mut local = Self::new(client, status, LocalBody::Bytes(Bytes::new()), 0);
        local.show(page);
        local
    }

    /// Puts a page in the place of the body.
    pub(super) fn show(&mut self, page: &Page) {
        self.head.fields.remove_if(|field| {
            CONTENT_FIELDS.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes()))
        });
        self.head.set_length(page.content.len() as u64);
        self.head.fields.push(Name::Other, b"content-type", page.content_type.as_bytes());
        self.head.fields.push(Name::of(b"cache-control"), b"cache-control", b"no-store");
        self.body = LocalBody::Bytes(page.content.clone());
    }

    /// A rule's word that the site is closed, for so many seconds if that is known.
    pub(super) fn closed(client: &Client, status: u16, seconds: u64) -> Self {
        let mut local = Self::error_page(client, status, None);
        if seconds > 0 {
            let seconds = itoa::Buffer::new().format(seconds).to_owned();
            local.head.fields.push(Name::Other, RETRY_AFTER.as_bytes(), seconds.as_bytes());
        }
        local
    }

    /// A rule's redirect.
    pub(crate) fn redirect(client: &Client, status: u16, location: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
        let mut local = Self::text(client, status, format!("{status}: {location}\n"));
        local.head.fields.push(Name::Other, b"location", location.as_bytes());
        local
    }

    /// A file, or what is to be said of it.
    pub(crate) fn file(client: &Client, answer: FileAnswer) -> Self {
        let FileAnswer { status, headers, body } = answer;
        let (body, length) = match body {
            FileBody::Empty => (LocalBody::Bytes(Bytes::new()), 0),
            FileBody::Whole(bytes) => {
                let length = bytes.len() as u64;
                (LocalBody::Bytes(bytes), length)
            }
            FileBody::Stream(file) => {
                let length = file.left();
                (LocalBody::File(Box::new(file)), length)
            }
        };
        // To HEAD, and with 304, the length is what GET would bring.
        let said = headers.get(http::header::CONTENT_LENGTH);
        let said = said.and_then(|it| it.to_str().ok()?.parse().ok());
        let mut local = Self::new(client, status, body, said.unwrap_or(length));
        local.why = Why::File;
        for (name, value) in &headers {
            match Name::of(name.as_str().as_bytes()) {
                Name::ContentLength | Name::TransferEncoding | Name::Connection => {}
                known => local.head.fields.push(known, name.as_str().as_bytes(), value.as_bytes()),
            }
        }
        local
    }
}

/// Changes an answer's head as the rules on the way to it say.
pub(crate) fn edit_answer(head: &mut ResponseHead, edits: &[Edit<'_>]) {
    for edit in edits {
        let name = edit.name().as_bytes();
        match edit.kind() {
            HeaderEditKind::SetOnRequest => continue,
            HeaderEditKind::SetOnAnswer => {
                head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(name));
            }
            HeaderEditKind::AddToAnswer => {}
        }
        if !edit.value.is_empty() {
            head.fields.push(Name::of(name), name, edit.value.as_bytes());
        }
    }
}
