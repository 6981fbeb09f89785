//! Questions in HTTP/1.1.

use super::{ANSWER_MAX, CheckError, judge};
use crate::http1::{HeadError, HeadLimits, ResponseHead};
use cluster_port::Stream;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const HEAD_LIMITS: HeadLimits = HeadLimits { count: 256, bytes: ANSWER_MAX, target: 0 };

/// How long an answer is read to its end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A GET, ready to be sent.
#[derive(Debug)]
pub(super) struct Question(pub(super) Box<[u8]>);

impl Question {
    pub(super) fn new(path: &str, host: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: copal-health-check\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        Self(request.into_bytes().into())
    }

    /// The connection is returned, to be read to its end.
    pub(super) async fn ask(&self, mut stream: Stream) -> Result<Stream, CheckError> {
        stream.write_all(&self.0).await?;
        stream.flush().await?;
        read_head(&mut stream).await?;
        Ok(stream)
    }
}

/// Reads up to the head of an answer that is not an interim one, and judges it.
async fn read_head(stream: &mut Stream) -> Result<(), CheckError> {
    let (mut input, mut head) = (Vec::new(), ResponseHead::default());
    let mut start = 0;
    loop {
        while let Some(length) = head.parse(&input[start..], &HEAD_LIMITS)? {
            match head.status.as_u16() {
                // A change of protocols was not asked for.
                100 | 102..200 => start += length,
                status => return judge(status),
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
