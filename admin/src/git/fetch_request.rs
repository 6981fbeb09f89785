//! What a client that fetches asks for: version 0 (gitprotocol-pack, "Packfile Negotiation") and version 2 (gitprotocol-v2).

use super::{
    pkt_line::{self, PktError, PktLine},
    references::ListReferences,
};
use crate::refusal::Refusal;
use repository::ObjectId;

/// Commits that may be asked for at once; a repository has 1000 branches at most.
const WANTS_MAX: usize = 10_000;

/// Commits that a client may say it has.
const HAVES_MAX: usize = 100_000;

/// Prefixes of references that may be asked for; beyond, all are told.
const PREFIXES_MAX: usize = 1000;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FetchRequest {
    ListReferences(ListReferences),
    Fetch(Fetch),
}

/// What is wanted, and what is there already.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) version_2: bool,
    pub(crate) wants: Vec<ObjectId>,
    pub(crate) haves: Vec<ObjectId>,
    /// Nothing more will be said.
    pub(crate) done: bool,
    /// `multi_ack_detailed` of version 0.
    pub(crate) detailed: bool,
    /// `side-band-64k`; always in version 2.
    pub(crate) side_band: bool,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{0}")]
    Pkt(#[from] PktError),
    #[error("{0:?} is not expected here")]
    Unexpected(String),
    #[error("{0:?} has no object id of 40 hexadecimal digits")]
    Id(String),
    #[error("{what}: more than {most}")]
    TooMany { what: &'static str, most: usize },
    #[error("{0} is not offered: fetch all of it")]
    NotOffered(String),
    #[error("the object format is {0:?}: expected sha1")]
    ObjectFormat(String),
}

impl From<RequestError> for Refusal {
    fn from(cause: RequestError) -> Self {
        Self::Body(cause.to_string())
    }
}

/// Reads a request of this version.
///
/// # Errors
/// See [`RequestError`].
pub(crate) fn read(body: &[u8], version_2: bool) -> Result<FetchRequest, RequestError> {
    if version_2 { read_2(body) } else { Ok(FetchRequest::Fetch(read_0(body)?)) }
}

impl Fetch {
    fn want(&mut self, id: ObjectId) -> Result<(), RequestError> {
        if self.wants.len() >= WANTS_MAX {
            return Err(RequestError::TooMany { what: "want", most: WANTS_MAX });
        }
        self.wants.push(id);
        Ok(())
    }

    fn have(&mut self, id: ObjectId) -> Result<(), RequestError> {
        if self.haves.len() >= HAVES_MAX {
            return Err(RequestError::TooMany { what: "have", most: HAVES_MAX });
        }
        self.haves.push(id);
        Ok(())
    }

    /// A line that both versions have.
    fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        match word(line) {
            (b"want", id) => self.want(object_id(id)?),
            (b"have", id) => self.have(object_id(id)?),
            (b"done", b"") => {
                self.done = true;
                Ok(())
            }
            (word @ (b"shallow" | b"deepen" | b"deepen-since" | b"deepen-not" | b"filter"), _) => {
                Err(RequestError::NotOffered(clipped(word)))
            }
            _ => Err(RequestError::Unexpected(clipped(line))),
        }
    }
}

fn read_0(mut body: &[u8]) -> Result<Fetch, RequestError> {
    let mut fetch = Fetch::default();
    while let Some(line) = pkt_line::next(&mut body)? {
        let line = match line {
            PktLine::Data(data) => pkt_line::text(data),
            PktLine::Flush => continue,
            PktLine::Delimiter => return Err(RequestError::Unexpected("0001".to_owned())),
        };
        let first = fetch.wants.is_empty() && line.starts_with(b"want ");
        let (want, capabilities) = if first { line.split_at(line.len().min(45)) } else { (line, &b""[..]) };
        for capability in capabilities.split(|it| *it == b' ').filter(|it| !it.is_empty()) {
            match capability {
                b"multi_ack_detailed" => fetch.detailed = true,
                b"side-band-64k" => fetch.side_band = true,
                _ => check_capability(capability)?,
            }
        }
        fetch.line(want)?;
    }
    Ok(fetch)
}

fn read_2(mut body: &[u8]) -> Result<FetchRequest, RequestError> {
    let Some(PktLine::Data(first)) = pkt_line::next(&mut body)? else {
        return Err(RequestError::Unexpected("a request without a command".to_owned()));
    };
    let command = pkt_line::text(first);
    // Capabilities are before the delimiter, arguments after it.
    let mut arguments = Vec::new();
    let mut delimited = false;
    while let Some(line) = pkt_line::next(&mut body)? {
        match line {
            PktLine::Data(data) if delimited => arguments.push(pkt_line::text(data)),
            PktLine::Data(data) => check_capability(pkt_line::text(data))?,
            PktLine::Delimiter if !delimited => delimited = true,
            PktLine::Delimiter => return Err(RequestError::Unexpected("0001".to_owned())),
            PktLine::Flush => break,
        }
    }
    if !body.is_empty() {
        return Err(RequestError::Unexpected(clipped(body)));
    }
    match command {
        b"command=ls-refs" => Ok(FetchRequest::ListReferences(list_references(&arguments)?)),
        b"command=fetch" => {
            let mut fetch = Fetch { version_2: true, side_band: true, ..Fetch::default() };
            for line in arguments {
                if !matches!(line, b"thin-pack" | b"no-progress" | b"include-tag" | b"ofs-delta") {
                    fetch.line(line)?;
                }
            }
            Ok(FetchRequest::Fetch(fetch))
        }
        _ => Err(RequestError::Unexpected(clipped(command))),
    }
}

fn list_references(arguments: &[&[u8]]) -> Result<ListReferences, RequestError> {
    let mut asked = ListReferences::default();
    for line in arguments {
        match word(line) {
            (b"peel", b"") => {}
            (b"symrefs", b"") => asked.symrefs = true,
            (b"unborn", b"") => asked.unborn = true,
            (b"ref-prefix", prefix) => asked.prefixes.push(prefix.to_vec()),
            _ => return Err(RequestError::Unexpected(clipped(line))),
        }
    }
    if asked.prefixes.len() > PREFIXES_MAX {
        asked.prefixes.clear();
    }
    Ok(asked)
}

/// Of what a client says of itself, one thing has to be right.
pub(crate) fn check_capability(capability: &[u8]) -> Result<(), RequestError> {
    match capability.strip_prefix(b"object-format=") {
        Some(format) if format != b"sha1" => Err(RequestError::ObjectFormat(clipped(format))),
        _ => Ok(()),
    }
}

fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let space = line.iter().position(|it| *it == b' ');
    space.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]))
}

/// Forty hexadecimal digits.
///
/// # Errors
/// They are none.
pub(crate) fn object_id(digits: &[u8]) -> Result<ObjectId, RequestError> {
    let id = std::str::from_utf8(digits).ok().and_then(|it| it.parse().ok());
    id.ok_or_else(|| RequestError::Id(clipped(digits)))
}

pub(crate) fn clipped(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    /// `-` is a flush, `+` a delimiter.
    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            match *line {
                "-" => out.extend_from_slice(pkt_line::FLUSH),
                "+" => out.extend_from_slice(pkt_line::DELIMITER),
                line => pkt_line::put(&mut out, format!("{line}\n").as_bytes()),
            }
        }
        out
    }

    fn id(text: &str) -> ObjectId {
        text.parse().unwrap()
    }

    #[test]
    fn version_0_as_git_asks_it() {
        let first = format!("want {A} multi_ack_detailed side-band-64k thin-pack ofs-delta agent=git/2.47.3");
        let body = lines(&[&first, &format!("want {B}"), "-", &format!("have {B}"), "-", "done"]);
        let fetch = Fetch {
            version_2: false,
            wants: vec![id(A), id(B)],
            haves: vec![id(B)],
            done: true,
            detailed: true,
            side_band: true,
        };
        assert_eq!(read(&body, false), Ok(FetchRequest::Fetch(fetch)));
        assert_eq!(read(b"0000", false), Ok(FetchRequest::Fetch(Fetch::default())));
    }

    #[test]
    fn version_2_as_git_asks_it() {
        let body = lines(&[
            "command=ls-refs",
            "agent=git/2.47.3",
            "object-format=sha1",
            "+",
            "peel",
            "symrefs",
            "unborn",
            "ref-prefix HEAD",
            "-",
        ]);
        let asked = ListReferences { symrefs: true, unborn: true, prefixes: vec![b"HEAD".to_vec()] };
        assert_eq!(read(&body, true), Ok(FetchRequest::ListReferences(asked)));
        let body =
            lines(&["command=fetch", "+", "ofs-delta", &format!("want {A}"), &format!("have {B}"), "-"]);
        let Ok(FetchRequest::Fetch(fetch)) = read(&body, true) else { panic!() };
        assert!(fetch.version_2 && fetch.side_band && !fetch.done);
        assert_eq!((fetch.wants, fetch.haves), (vec![id(A)], vec![id(B)]));
    }

    #[test]
    fn what_is_not_offered_or_makes_no_sense_is_refused() {
        let refused = |asked: &[&str], version_2| read(&lines(asked), version_2).unwrap_err().to_string();
        let want = format!("want {A}");
        assert!(refused(&[&want, "deepen 1", "-"], false).contains("deepen is not offered"));
        assert!(
            refused(&["command=fetch", "+", &want, "filter blob:none", "-"], true).contains("filter is not")
        );
        assert!(
            refused(&["command=fetch", "object-format=sha256", "+", "-"], true).contains("expected sha1")
        );
        assert!(refused(&[&format!("{want} object-format=sha256")], false).contains("expected sha1"));
        assert!(refused(&["command=push", "-"], true).contains("command=push"));
        assert!(refused(&["command=fetch", "+", "+"], true).contains("0001"));
        assert!(refused(&["want 123", "-"], false).contains("no object id"));
        assert!(refused(&["+"], false).contains("0001"));
        assert!(refused(&["-"], true).contains("without a command"));
        let many = vec![format!("have {A}"); HAVES_MAX + 1];
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(refused(&many, false).contains("more than 100000"));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(junk in prop::collection::vec(any::<u8>(), 0..200), version_2: bool) {
            let _ = read(&junk, version_2);
        }

        #[test]
        fn so_is_every_line(words in prop::collection::vec("(want|have|done|command=fetch|command=ls-refs|-|\\+|x)( [0-9a-f]{0,41})?( x)?", 0..12), version_2: bool) {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let _ = read(&lines(&words), version_2);
        }
    }
}
