//! What came back: the answers on a connection that has ended.

use super::recorder::find;

/// The answers, in order.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Answer>);

#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
}

impl Answers {
    /// Reads everything that came. `to_head`: the first final answer is one to HEAD and has no body.
    ///
    /// # Errors
    /// What is no complete answer.
    pub(crate) fn read(text: &[u8], to_head: bool) -> Result<Self, String> {
        let mut answers: Vec<Answer> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let incomplete = || format!("this is no answer: {:?}", String::from_utf8_lossy(rest));
            let end = find(rest, b"\r\n\r\n").ok_or_else(incomplete)? + 4;
            let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
            let status = head.strip_prefix("http/1.1 ").and_then(|it| it.get(..3)?.parse().ok());
            let status: u16 = status.ok_or_else(incomplete)?;
            let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let first_final = answers.iter().all(|it| it.status < 200);
            let bodyless = status < 200 || status == 204 || status == 304 || (to_head && first_final);
            let length = value.and_then(|it| it.parse().ok()).filter(|_| !bodyless).unwrap_or(0);
            rest = rest.get(end + length..).ok_or_else(incomplete)?;
            answers.push(Answer { status, head });
        }
        Ok(Self(answers))
    }

    /// Reads what may be an answer to a `HEAD` that was not understood as one: a text behind it is as good as none, as the
    /// connection ends.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_refusal(text: &[u8]) -> Result<Self, String> {
        Self::read(text, false).or_else(|_| Self::read(text, true))
    }

    /// The statuses.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.0.iter().map(|answer| answer.status).collect()
    }

    /// Whether the last answer says that the connection ends.
    pub(crate) fn says_close(&self) -> bool {
        self.0.last().is_some_and(|it| it.head.lines().any(|line| line == "connection: close"))
    }

    /// Whether this is one answer with one of `statuses` that says that the connection ends.
    pub(crate) fn one_refusal(&self, statuses: &[u16]) -> Result<(), String> {
        match &self.0[..] {
            [answer] if !statuses.contains(&answer.status) => {
                Err(format!("answered {}, not {statuses:?}", answer.status))
            }
            [_] if !self.says_close() => Err("the answer does not say `connection: close`".to_owned()),
            [_] => Ok(()),
            [] => Err("closed without an answer".to_owned()),
            _ => Err(format!("answered {:?}: what followed was served", self.statuses())),
        }
    }
}

#[test]
fn answers_are_told_apart() {
    let refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    Answers::read(refusal, false).unwrap().one_refusal(&[400]).unwrap();
    assert!(Answers::read(refusal, false).unwrap().one_refusal(&[501]).is_err());
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert!(Answers::read(ok, false).unwrap().one_refusal(&[200]).is_err(), "it goes on");
    let both = [refusal.as_slice(), ok].concat();
    assert_eq!(Answers::read(&both, false).unwrap().statuses(), [400, 200]);
    assert!(Answers::read(&both, false).unwrap().one_refusal(&[400]).is_err());
    assert!(Answers::read(b"", false).unwrap().one_refusal(&[400]).is_err());
    assert!(Answers::read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf", false).is_err());
    assert!(Answers::read(b"SSH-2.0", false).is_err());
    assert_eq!(
        Answers::read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true).unwrap().statuses(),
        [200]
    );
}
