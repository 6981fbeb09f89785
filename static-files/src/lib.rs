//! Files of a folder as HTTP resources (RFC 9110 §13, §14): validators, conditional and range requests, precompressed
//! variants; streamed, and never anything outside the folder. Both tiers serve with it; it knows neither.

mod body;
mod conditional;
mod encoding;
mod media_type;
mod open_files;
mod range;
mod resource;

pub use body::{FileBody, FileStream, PIECE};

use conditional::Condition;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use range::Range;
use resource::{Found, Representation};
use std::{io, path::PathBuf};

/// The file that describes an app: never served, it may hold secrets.
pub const APP_FILE: &str = "app.yaml";

/// The request headers that an answer depends on: a caller that keeps its headers in another form hands on these alone.
pub const ASKED_HEADERS: [HeaderName; 7] = [
    header::ACCEPT_ENCODING,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// The files below a folder.
#[derive(Debug, Clone)]
pub struct StaticFiles {
    /// May be a link, and lead elsewhere tomorrow.
    root: PathBuf,
}

/// A GET or HEAD.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// HEAD: the same answer without its body.
    pub head: bool,
    /// The path below the folder's own (`/shop/a.css` at `/shop` is `/a.css`), percent-decoded once.
    pub below: &'a str,
    /// The whole path as it was asked for, percent-encoded: where a folder without its slash is redirected from.
    pub target: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// At least those of [`ASKED_HEADERS`] that the request has.
    pub headers: &'a HeaderMap,
}

/// An answer: 200, 206, 301 (to a folder's own URL), 304, 412 or 416.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// All of its headers but `Date`; `Content-Length` with 200 and 206.
    pub headers: HeaderMap,
    /// The body; empty for HEAD, whatever `Content-Length` says.
    pub body: FileBody,
}

impl StaticFiles {
    /// The files below `root`. If that is a link, or lies below one, it is followed at each request: whoever switches it to another
    /// release serves that one from then on.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The answer if there is such a file; `None` if there is not, or it is one that is never served: hidden (but
    /// `.well-known`, RFC 8615), outside of the folder by a link, or the app's own [`APP_FILE`].
    ///
    /// # Errors
    /// The disk's.
    pub async fn find(&self, asked: &Asked<'_>) -> io::Result<Option<Answer>> {
        let (root, below) = (self.root.clone(), asked.below.to_owned());
        let accepted = encoding::accepted(asked.headers);
        let found = tokio::task::spawn_blocking(move || resource::find(&root, &below, &accepted)).await;
        Ok(match found.map_err(io::Error::other)?? {
            None => None,
            Some(Found::Folder) => Some(redirect(asked)?),
            Some(Found::File(representation)) => Some(answer(asked, representation).await?),
        })
    }

    /// Whether [`StaticFiles::find`] would find a file for the decoded path `below`. Blocks as long as the disk takes to look
    /// up a name; false when it can't.
    pub fn exists(&self, below: &str) -> bool {
        resource::exists(&self.root, below)
    }
}

/// To the folder's own URL, so that relative links work.
fn redirect(asked: &Asked<'_>) -> io::Result<Answer> {
    let (question, query) = asked.query.map_or(("", ""), |query| ("?", query));
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, value(format!("{}/{question}{query}", asked.target))?);
    Ok(Answer { status: StatusCode::MOVED_PERMANENTLY, headers, body: FileBody::Empty })
}

async fn answer(asked: &Asked<'_>, found: Representation) -> io::Result<Answer> {
    let mut headers = HeaderMap::new();
    found.describe(&mut headers);
    let (status, span) = match conditional::evaluate(asked.headers, &found.etag, found.modified) {
        Condition::NotModified => (StatusCode::NOT_MODIFIED, None),
        Condition::Failed => (StatusCode::PRECONDITION_FAILED, None),
        Condition::Send { ranges } => {
            let range =
                if ranges && !asked.head { range::parse(asked.headers, found.length) } else { Range::Whole };
            match range {
                Range::Whole => (StatusCode::OK, Some((0, found.length))),
                Range::Part { first, length } => {
                    let text = format!("bytes {first}-{}/{}", first + length - 1, found.length);
                    headers.insert(header::CONTENT_RANGE, value(text)?);
                    (StatusCode::PARTIAL_CONTENT, Some((first, length)))
                }
                Range::Unsatisfiable => {
                    headers.insert(header::CONTENT_RANGE, value(format!("bytes */{}", found.length))?);
                    (StatusCode::RANGE_NOT_SATISFIABLE, None)
                }
            }
        }
    };
    let mut body = FileBody::Empty;
    match span {
        Some((first, length)) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
            if !asked.head {
                body = FileBody::of(found, first, length).await?;
            }
        }
        None => {
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_ENCODING);
        }
    }
    Ok(Answer { status, headers, body })
}

fn value(text: String) -> io::Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
