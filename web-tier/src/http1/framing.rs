//! Where a message's body ends (RFC 9112 §6.3), decided once, with every doubt an error.

use super::{head::HeadError, version::Version};

/// How long a body is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    #[default]
    Empty,
    /// So many bytes, one at least.
    Exact(u64),
    /// In chunks, until the last one says so.
    Chunked,
    /// Until the connection closes: answers only.
    UntilClose,
}

/// What the fields of one message say of its length, gathered line by line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Framing {
    /// `Content-Length`.
    pub(crate) content_length: Option<u64>,
    /// A valid `Transfer-Encoding: chunked`.
    pub(crate) chunked: bool,
}

impl Framing {
    /// Takes a `Content-Length` into account. A second one is refused though it be equal: not every server merges them.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let length = decimal(value).ok_or(HeadError::Bad("the Content-Length is not a number of bytes"))?;
        match self.content_length.replace(length) {
            Some(_) => Err(HeadError::Bad("more than one Content-Length")),
            None => Ok(()),
        }
    }

    /// Takes a `Transfer-Encoding` into account.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if std::mem::replace(&mut self.chunked, true) || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::Bad("a Transfer-Encoding other than one chunked"));
        }
        Ok(())
    }

    /// What holds for both kinds of messages.
    pub(crate) fn check(&self, version: Version) -> Result<(), HeadError> {
        if self.chunked && self.content_length.is_some() {
            return Err(HeadError::Bad("Content-Length and Transfer-Encoding together"));
        }
        if self.chunked && version == Version::Http10 {
            return Err(HeadError::Bad("Transfer-Encoding in HTTP/1.0"));
        }
        Ok(())
    }

    /// Of a request: without a length there is no body.
    pub(crate) fn of_request(&self) -> Length {
        match self.content_length {
            _ if self.chunked => Length::Chunked,
            None | Some(0) => Length::Empty,
            Some(length) => Length::Exact(length),
        }
    }

    /// Of an answer to a request other than `HEAD`, with a status that has a body.
    pub(crate) fn of_answer(&self) -> Length {
        match self.content_length {
            None if !self.chunked => Length::UntilClose,
            _ => self.of_request(),
        }
    }
}

/// Digits alone, without a sign, a list or an overflow.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}
