//! Answers that are written while the client reads them, and Git's side-band in them (gitprotocol-pack, "side-band-64k").

use super::pkt_line;
use crate::{AnswerBody, answer_with};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces that wait for the client.
const UNDER_WAY: usize = 16;

/// A client that takes nothing for so long is given up.
const STALLED: Duration = Duration::from_secs(120);

/// While nothing is to be told, this often something is sent: whoever is in between closes what is silent. As `git receive-pack` does.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The most that a line of a band carries: its first byte is the band.
const BAND_MAX: usize = pkt_line::DATA_MAX - 1;

const DATA: u8 = 1;
const PROGRESS: u8 = 2;
const ERROR: u8 = 3;

/// Writes an answer's body. A client that has gone is noticed and does not matter: what is to be done is done all the same.
#[derive(Debug)]
pub(crate) struct Answer {
    pieces: Option<mpsc::Sender<Bytes>>,
    /// Without one, there is data alone.
    side_band: bool,
}

impl Answer {
    /// With the answer whose body it writes.
    pub(crate) fn new(content_type: &'static str, side_band: bool) -> (Self, Response<AnswerBody>) {
        let (sender, mut pieces) = mpsc::channel::<Bytes>(UNDER_WAY);
        let pieces = stream::poll_fn(move |context| pieces.poll_recv(context));
        let body = StreamBody::new(pieces.map(|it| Ok(Frame::data(it)))).boxed_unsync();
        let answer = answer_with(StatusCode::OK, content_type, body);
        (Self { pieces: Some(sender), side_band }, answer)
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_over(&self) -> bool {
        self.pieces.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Bytes as they are.
    pub(crate) async fn plain(&mut self, bytes: impl Into<Bytes>) {
        let Some(pieces) = &self.pieces else { return };
        if !matches!(tokio::time::timeout(STALLED, pieces.send(bytes.into())).await, Ok(Ok(()))) {
            self.pieces = None;
        }
    }

    async fn band(&mut self, band: u8, bytes: &[u8]) {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        for part in bytes.chunks(BAND_MAX) {
            out.extend_from_slice(format!("{:04x}", part.len() + 5).as_bytes());
            out.push(band);
            out.extend_from_slice(part);
        }
        self.plain(out).await;
    }

    /// What was asked for.
    pub(crate) async fn data(&mut self, bytes: Bytes) {
        match self.side_band {
            true => self.band(DATA, &bytes).await,
            false => self.plain(bytes).await,
        }
    }

    /// Lines that the client prints, each with `remote:` before it. What could steer a terminal is left out.
    pub(crate) async fn tell(&mut self, text: &str) {
        if self.side_band {
            let mut plain: String =
                text.chars().filter(|it| !it.is_control() || matches!(it, '\n' | '\t')).collect();
            plain.push('\n');
            self.band(PROGRESS, plain.as_bytes()).await;
        }
    }

    /// Why the rest does not come: the client fails with it.
    pub(crate) async fn fail(&mut self, why: &str) {
        if self.side_band {
            self.band(ERROR, format!("{why}\n").as_bytes()).await;
        }
    }

    /// Does something that takes its time; the client hears that this is still here.
    pub(crate) async fn keep_alive_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(KEEP_ALIVE, &mut work).await {
                return done;
            }
            self.keep_alive().await;
        }
    }

    /// Says nothing.
    pub(crate) async fn keep_alive(&mut self) {
        if self.side_band {
            self.plain(&b"0005\x01"[..]).await;
        }
    }

    /// The end.
    pub(crate) async fn end(mut self) {
        if self.side_band {
            self.plain(pkt_line::FLUSH).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(answer: Response<AnswerBody>) -> Vec<u8> {
        answer.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn bands_are_as_git_has_them() {
        let (mut answer, response) = Answer::new("text/plain", true);
        let written = tokio::spawn(async move {
            answer.data(Bytes::from("PACK")).await;
            answer.tell("app-a: \u{1b}[31mstarting\ttwo\nlines").await;
            answer.fail("no").await;
            answer.keep_alive().await;
            answer.end().await;
        });
        let expected = b"0009\x01PACK0023\x02app-a: [31mstarting\ttwo\nlines\n0008\x03no\n0005\x010000";
        assert_eq!(body(response).await.escape_ascii().to_string(), expected.escape_ascii().to_string());
        written.await.unwrap();
    }

    #[tokio::test]
    async fn without_a_side_band_there_is_data_alone() {
        let (mut answer, response) = Answer::new("text/plain", false);
        answer.tell("progress").await;
        answer.data(Bytes::from("PACK")).await;
        answer.fail("no").await;
        answer.keep_alive().await;
        answer.end().await;
        assert_eq!(body(response).await, b"PACK");
    }

    #[tokio::test]
    async fn much_is_parted_into_lines() {
        let (mut answer, response) = Answer::new("text/plain", true);
        answer.data(Bytes::from(vec![7; BAND_MAX + 1])).await;
        answer.end().await;
        let body = body(response).await;
        let mut rest = &body[..];
        let mut lengths = Vec::new();
        while let Some(pkt_line::PktLine::Data(data)) = pkt_line::next(&mut rest).unwrap() {
            lengths.push(data.len());
        }
        assert_eq!(lengths, [BAND_MAX + 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_or_goes_holds_nobody_up_for_ever() {
        let (mut answer, response) = Answer::new("text/plain", true);
        for _ in 0..UNDER_WAY + 2 {
            answer.data(Bytes::from("PACK")).await;
        }
        assert!(answer.is_over(), "it was given up");
        drop(response);
        let (mut answer, response) = Answer::new("text/plain", true);
        drop(response);
        assert!(answer.is_over());
        answer.tell("nobody").await;
        assert_eq!(answer.keep_alive_during(async { 1 }).await, 1);
        answer.end().await;
    }
}
