//! What a form with a file sends, `multipart/form-data` (RFC 7578): its fields, then the file's bytes as they come. Nothing of the file
//! is kept, and what comes before it is bounded.

use crate::{RequestBody, refusal::Refusal};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// The longest boundary (RFC 2046 §5.1.1), in bytes.
const BOUNDARY_MAX: usize = 70;

/// The largest head of a part, and the largest field, in bytes.
const HEAD_MAX: usize = 4 << 10;
const FIELD_MAX: usize = 8 << 10;

/// Fields before the file.
const FIELDS_MAX: usize = 16;

/// A client that sends nothing for so long before the file is gone.
const STALLED: Duration = Duration::from_secs(30);

/// A form whose file has not been read yet.
pub(crate) struct Multipart {
    body: RequestBody,
    /// `\r\n--BOUNDARY`.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    ended: bool,
}

/// What stood before the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// A field; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value)
    }
}

/// A part's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    name: String,
    /// It is a file, whatever its name.
    is_file: bool,
}

impl Multipart {
    /// # Errors
    /// The content type is another one, or has no boundary.
    pub(crate) fn new(headers: &HeaderMap, body: RequestBody) -> Result<Self, (Refusal, RequestBody)> {
        let Some(boundary) = boundary(headers) else {
            return Err((Refusal::ContentType("multipart/form-data, with a boundary"), body));
        };
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter has no line before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Ok(Self { body, delimiter, buffer, ended: false })
    }

    /// Reads the fields up to the file, whose name in the form is `file`. What follows of the body is the file's.
    ///
    /// # Errors
    /// It is no such form, has no file, or something in it is too large.
    pub(crate) async fn fields(&mut self, file: &str) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        // What stands before the first delimiter is nobody's.
        self.until_delimiter(FIELD_MAX).await?;
        loop {
            let head = self.head().await?;
            if head.is_file {
                return if head.name == file { Ok(fields) } else { Err(wrong("the form has another file")) };
            }
            if head.name == file {
                return Err(wrong("no file was chosen"));
            }
            if fields.0.len() == FIELDS_MAX {
                return Err(wrong("the form has too many fields before the file"));
            }
            let value = self.until_delimiter(FIELD_MAX).await?;
            let value =
                String::from_utf8(value.to_vec()).map_err(|_| wrong("a field of the form is not UTF-8"))?;
            fields.0.push((head.name, value));
        }
    }

    /// The file's bytes.
    pub(crate) fn file(self) -> RequestBody {
        self.boxed_unsync()
    }

    /// The body, to read what nobody needs.
    pub(crate) fn rest(self) -> RequestBody {
        self.body
    }

    /// What comes before the next delimiter, which is taken too.
    async fn until_delimiter(&mut self, max: usize) -> Result<Bytes, Refusal> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..], &self.delimiter) {
                let found = self.buffer.split_to(searched + at).freeze();
                self.buffer.advance(self.delimiter.len());
                return Ok(found);
            }
            searched = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if searched > max {
                return Err(wrong(
                    "a field of the form is too large, or its boundary is not the one that was announced",
                ));
            }
            self.more().await?;
        }
    }

    /// The head of the next part, after a delimiter.
    async fn head(&mut self) -> Result<Head, Refusal> {
        loop {
            if self.buffer.starts_with(b"--") {
                return Err(wrong("the form has no file: choose one"));
            }
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.split_to(at + 4);
                return read_head(&head[..at]);
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(wrong("the head of a part of the form is too large"));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Refusal> {
        let frame = tokio::time::timeout(STALLED, self.body.frame()).await;
        let frame = frame.map_err(|_| wrong("nothing of the form came for 30 s"))?;
        let frame = frame.ok_or_else(|| wrong("the form ends in the middle"))?;
        let frame = frame.map_err(|cause| Refusal::Body(format!("the form broke off: {cause}")))?;
        if let Ok(data) = frame.into_data() {
            self.buffer.extend_from_slice(&data);
        }
        Ok(())
    }

    /// The next bytes of the file that are surely its own; `None`: not enough is known.
    fn next(&mut self) -> Option<Bytes> {
        if let Some(at) = find(&self.buffer, &self.delimiter) {
            self.ended = true;
            let last = self.buffer.split_to(at).freeze();
            return Some(last);
        }
        let sure = self.buffer.len().checked_sub(self.delimiter.len())?;
        (sure > 0).then(|| self.buffer.split_to(sure).freeze())
    }
}

/// The file's bytes; the end of the body before the file's is an error, so that nobody takes a part for the whole.
impl Body for Multipart {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if self.ended {
                // What follows is nobody's, but a client that is not listened to hears nothing.
                return match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => Poll::Ready(None),
                };
            }
            if let Some(data) = self.next()
                && !data.is_empty()
            {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.ended {
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(cause)) => return Poll::Ready(Some(Err(cause))),
                None => {
                    self.ended = true;
                    return Poll::Ready(Some(Err("the file ends without the form's boundary".into())));
                }
            }
        }
    }
}

fn wrong(what: &str) -> Refusal {
    Refusal::Body(what.to_owned())
}

/// The boundary that the content type announces (RFC 2046 §5.1.1).
fn boundary(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (kind, parameters) = text.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut pairs = parameters.split(';').filter_map(|it| it.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
    let fits = |it: char| it.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(it);
    let good = (1..=BOUNDARY_MAX).contains(&value.len()) && value.chars().all(fits) && !value.ends_with(' ');
    good.then(|| value.to_owned())
}

/// Reads the head of a part, without the empty line. It begins with the rest of the delimiter's line.
fn read_head(head: &[u8]) -> Result<Head, Refusal> {
    let head = std::str::from_utf8(head).map_err(|_| wrong("the head of a part of the form is not UTF-8"))?;
    let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    if !first.trim().is_empty() {
        return Err(wrong("the form's boundary is not the one that was announced"));
    }
    let dispositions = fields.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut dispositions =
        dispositions.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let (_, value) = dispositions.next().ok_or_else(|| wrong("a part of the form has no name"))?;
    let mut parts = value.split(';').map(str::trim);
    if !parts.next().is_some_and(|it| it.eq_ignore_ascii_case("form-data")) {
        return Err(wrong("a part of the form is no form-data"));
    }
    let (mut name, mut is_file) = (None, false);
    for (key, value) in parts.filter_map(|it| it.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = Some(value.to_owned()),
            // A browser sends an empty one where nothing was chosen.
            "filename" => is_file = !value.is_empty(),
            "filename*" => is_file = true,
            _ => {}
        }
    }
    let name = name.ok_or_else(|| wrong("a part of the form has no name"))?;
    Ok(Head { name, is_file })
}

/// Where `part` stands in `text`; its first byte is looked for first.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let (first, mut from) = (*part.first()?, 0);
    loop {
        let at = from + text.get(from..)?.iter().position(|it| *it == first)?;
        if text[at..].starts_with(part) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests;
