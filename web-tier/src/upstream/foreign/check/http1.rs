//! Questions in HTTP/1.1.

use super::{ANSWER_MAX, CheckError, Expected};
use crate::http1::{Decoder, HeadError, HeadLimits, ResponseHead};
use cluster_port::Stream;
use common::config::HttpQuestion;
use std::{fmt::Write, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const HEAD_LIMITS: HeadLimits = HeadLimits { count: 256, bytes: ANSWER_MAX, target: 0 };

/// How long an answer is read to its end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Question(pub(super) Box<[u8]>);

impl Question {
    pub(super) fn new(asked: &HttpQuestion, host: &str) -> Self {
        let HttpQuestion { method, path, headers, .. } = asked;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in [("user-agent", "copal-health-check"), ("accept", "*/*")] {
            if !headers.iter().any(|(it, _)| it == name) {
                let _ = write!(request, "{name}: {value}\r\n");
            }
        }
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request.push_str("connection: close\r\n\r\n");
        Self(request.into_bytes().into())
    }

    /// The connection is returned, to be read to its end, unless that has been done.
    pub(super) async fn ask(
        &self,
        mut stream: Stream,
        expected: &Expected,
    ) -> Result<Option<Stream>, CheckError> {
        stream.write_all(&self.0).await?;
        stream.flush().await?;
        let (head, came) = read_head(&mut stream).await?;
        expected.judge(head.status.as_u16())?;
        if expected.body.is_none() {
            return Ok(Some(stream));
        }
        expected.judge_body(&read_body(&mut stream, &head, came).await?)?;
        Ok(None)
    }
}

/// Reads up to the head of an answer that is not an interim one; what has come behind it is returned too.
async fn read_head(stream: &mut Stream) -> Result<(ResponseHead, Vec<u8>), CheckError> {
    let (mut input, mut head) = (Vec::new(), ResponseHead::default());
    let mut start = 0;
    loop {
        while let Some(length) = head.parse(&input[start..], &HEAD_LIMITS)? {
            start += length;
            // A change of protocols was not asked for.
            if !matches!(head.status.as_u16(), 100 | 102..200) {
                input.drain(..start);
                return Ok((head, input));
            }
        }
        if input.len() >= ANSWER_MAX {
            return Err(HeadError::TooLarge.into());
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(CheckError::Ended);
        }
    }
}

/// Reads the body, or the first [`ANSWER_MAX`] bytes of it.
async fn read_body(stream: &mut Stream, head: &ResponseHead, came: Vec<u8>) -> Result<Vec<u8>, CheckError> {
    let mut decoder = Decoder::of_answer(head.length(false));
    let (mut input, mut body) = (came, Vec::new());
    loop {
        let taken = decoder.decode(&input, |data| body.extend_from_slice(data)).map_err(CheckError::Chunk)?;
        input.drain(..taken);
        if decoder.is_done() || body.len() >= ANSWER_MAX {
            body.truncate(ANSWER_MAX);
            return Ok(body);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return if decoder.ends_with_connection() { Ok(body) } else { Err(CheckError::Ended) };
        }
    }
}

/// Reads what is left, within bounds.
pub(super) async fn drain(mut stream: Stream) {
    let mut rest = [0; 4096];
    let reading = async {
        let mut left = ANSWER_MAX;
        while let Ok(count @ 1..) = stream.read(&mut rest).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
        // TLS says that it ends, or the backend's log calls it an error.
        let _ = stream.shutdown().await;
    };
    let _ = timeout(DRAIN_TIMEOUT, reading).await;
}
