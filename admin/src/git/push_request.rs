//! What a client that pushes asks for (gitprotocol-pack, "Reference Update Request"), and how it is told what came of it.

use super::{
    body::{Body, BodyError},
    fetch_request::{RequestError, check_capability, clipped, object_id},
    pkt_line::{self, PktLine},
};
use crate::refusal::Refusal;
use repository::ObjectId;

/// References of one push: more than one are refused, but each is told of.
const COMMANDS_MAX: usize = 1000;

/// Bytes of one of these lines.
const LINE_MAX: usize = 8 << 10;

/// A branch is to move.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Where the client believes it is; `None`: nowhere.
    pub(crate) old: Option<ObjectId>,
    /// `None`: it is to be deleted.
    pub(crate) new: Option<ObjectId>,
    pub(crate) reference: String,
}

/// A push, but for the pack that follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) commands: Vec<Command>,
    /// `report-status`.
    pub(crate) report: bool,
    /// `side-band-64k`.
    pub(crate) side_band: bool,
    /// The client's history is cut off somewhere.
    pub(crate) shallow: bool,
}

impl Push {
    /// Reads it up to the pack. Without commands it is a client that wants to know whether it may push.
    ///
    /// # Errors
    /// It breaks off, or is not as Git has it.
    pub(crate) async fn read(body: &mut Body) -> Result<Self, Refusal> {
        let mut push = Self::default();
        loop {
            match body.line().await? {
                Some(PktLine::Data(line)) => push.line(&line)?,
                Some(PktLine::Flush) => return Ok(push),
                Some(PktLine::Delimiter) => return Err(RequestError::Unexpected("0001".to_owned()).into()),
                None => return Err(BodyError::Pkt(pkt_line::PktError::Cut).into()),
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        if line.len() > LINE_MAX {
            return Err(RequestError::TooMany { what: "bytes of a command", most: LINE_MAX });
        }
        let line = pkt_line::text(line);
        if line.starts_with(b"shallow ") {
            self.shallow = true;
            return Ok(());
        }
        let end = line.iter().position(|it| *it == 0).filter(|_| self.commands.is_empty());
        let (command, capabilities) = end.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        for capability in capabilities.split(|it| *it == b' ') {
            match capability {
                b"report-status" => self.report = true,
                b"side-band-64k" => self.side_band = true,
                _ => check_capability(capability)?,
            }
        }
        if self.commands.len() >= COMMANDS_MAX {
            return Err(RequestError::TooMany { what: "references", most: COMMANDS_MAX });
        }
        self.commands.push(Command::read(command)?);
        Ok(())
    }

    /// The report-status: of the pack, and of each reference the same.
    pub(crate) fn report(&self, unpacked: &Result<(), String>, outcome: &Result<(), String>) -> Vec<u8> {
        let mut out = Vec::new();
        let unpacked = unpacked.as_ref().err().map_or_else(|| "ok".to_owned(), |why| one_line(why));
        pkt_line::put(&mut out, format!("unpack {unpacked}\n").as_bytes());
        for Command { reference, .. } in &self.commands {
            let line = match outcome {
                Ok(()) => format!("ok {reference}\n"),
                Err(why) => format!("ng {reference} {}\n", one_line(why)),
            };
            pkt_line::put(&mut out, line.as_bytes());
        }
        out.extend_from_slice(pkt_line::FLUSH);
        out
    }
}

impl Command {
    /// `OLD NEW REFERENCE`.
    fn read(line: &[u8]) -> Result<Self, RequestError> {
        let unexpected = || RequestError::Unexpected(clipped(line));
        let (old, rest) = line.split_at_checked(40).ok_or_else(unexpected)?;
        let (new, reference) =
            rest.strip_prefix(b" ").and_then(|it| it.split_at_checked(40)).ok_or_else(unexpected)?;
        let reference = reference.strip_prefix(b" ").ok_or_else(unexpected)?;
        let reference = std::str::from_utf8(reference).map_err(|_| unexpected())?;
        if reference.is_empty() || reference.contains(|it: char| it.is_control() || it == ' ') {
            return Err(unexpected());
        }
        let some = |id: ObjectId| Some(id).filter(|it| *it != ObjectId::NULL);
        let (old, new) = (some(object_id(old)?), some(object_id(new)?));
        Ok(Self { old, new, reference: reference.to_owned() })
    }
}

/// The longest reason, in characters.
const REASON_MAX: usize = 300;

fn one_line(text: &str) -> String {
    let line = text.split(|it: char| it.is_control()).filter(|it| !it.trim().is_empty());
    line.collect::<Vec<_>>().join(" ").chars().take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body_util::{BodyExt, Full};
    use proptest::prelude::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn read(body: &[u8]) -> Result<Push, Refusal> {
        let body = Full::from(Bytes::copy_from_slice(body)).map_err(|never| match never {}).boxed_unsync();
        let mut body = Body::new(&HeaderMap::new(), body, 1 << 20).unwrap();
        futures_util::FutureExt::now_or_never(Push::read(&mut body)).unwrap()
    }

    fn lines(lines: &[String]) -> Vec<u8> {
        let mut out = Vec::new();
        lines.iter().for_each(|line| pkt_line::put(&mut out, line.as_bytes()));
        out.extend_from_slice(pkt_line::FLUSH);
        out
    }

    #[tokio::test]
    async fn a_push_is_read_as_git_sends_it() {
        let main = format!("{NONE} {A} refs/heads/main\0 report-status side-band-64k object-format=sha1\n");
        let push =
            read(&lines(&[format!("shallow {A}\n"), main, format!("{A} {NONE} refs/heads/b")])).unwrap();
        let id = A.parse().ok();
        let command = |old, new, name: &str| Command { old, new, reference: format!("refs/heads/{name}") };
        assert_eq!(push.commands, [command(None, id, "main"), command(id, None, "b")]);
        assert!(push.report && push.side_band && push.shallow);
        assert_eq!(read(b"0000").unwrap(), Push::default());
    }

    #[tokio::test]
    async fn what_is_none_is_refused() {
        let refused = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(refused(b"").contains("ends within"));
        assert!(refused(b"00").contains("ends within"));
        assert!(refused(b"0001").contains("0001"));
        assert!(refused(b"fff0abc").contains("ends within"));
        assert!(refused(b"zzzz").contains("four hexadecimal digits"));
        for line in
            ["x", &format!("{NONE} {A}"), &format!("{NONE} {A} "), &format!("{NONE} {A} a b"), &A[..39]]
        {
            assert!(refused(&lines(&[line.to_owned()])).contains("not expected"), "{line}");
        }
        let other = format!("{NONE} {A} refs/heads/main\0object-format=sha256");
        assert!(refused(&lines(&[other])).contains("expected sha1"));
        let many: Vec<_> = (0..=COMMANDS_MAX).map(|it| format!("{NONE} {A} refs/heads/{it}")).collect();
        assert!(refused(&lines(&many)).contains("more than 1000"));
        let long = format!("{NONE} {A} refs/heads/{}", "x".repeat(LINE_MAX));
        assert!(refused(&lines(&[long])).contains("more than 8192"));
    }

    #[test]
    fn the_report_says_it_in_one_line_each() {
        let command = Command { old: None, new: None, reference: "refs/heads/main".to_owned() };
        let push = Push { commands: vec![command], ..Push::default() };
        let report = push.report(&Ok(()), &Err("app-b:\nexit status 1\u{1b}[0m".to_owned()));
        let expected = "000eunpack ok\n0030ng refs/heads/main app-b: exit status 1 [0m\n0000";
        assert_eq!(String::from_utf8(report).unwrap(), expected);
        let report = push.report(&Err("no".to_owned()), &Ok(()));
        assert_eq!(String::from_utf8(report).unwrap(), "000eunpack no\n0017ok refs/heads/main\n0000");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(junk in prop::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _ = runtime.block_on(async { read(&junk) });
            let _ = Push::default().line(&junk);
            let _ = Command::read(&junk);
        }

        #[test]
        fn every_command_is_read(old: [u8; 20], new: [u8; 20], name in "[a-zA-Z0-9/._-]{1,40}") {
            let (old, new) = (ObjectId::from(old), ObjectId::from(new));
            let command = Command::read(format!("{old} {new} {name}").as_bytes()).unwrap();
            prop_assert_eq!(command.old.unwrap_or(ObjectId::NULL), old);
            prop_assert_eq!(command.new.unwrap_or(ObjectId::NULL), new);
            prop_assert_eq!(command.reference, name);
        }
    }
}
