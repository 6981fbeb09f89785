//! Objects on their way to the hub: which are missing there, and taking them in. Nothing is in use by that.

use crate::{AnswerBody, Inner, RequestBody, json, refusal::Refusal};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream};
use repository::ObjectId;
use serde::Serialize;
use std::time::Duration;

/// The largest JSON or list of ids, in bytes: 400,000 ids.
const TEXT_MAX: usize = 16 << 20;

/// The largest form, in bytes, and how long it may take to come.
const FORM_MAX: usize = 16 << 10;
const FORM_WAIT: Duration = Duration::from_secs(10);

/// What is still taken of a pack that was refused, in bytes, and how long the next piece of anything refused is waited for.
const DRAINED_MAX: u64 = 64 << 20;
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// `POST /api/v1/objects/missing`.
#[derive(Debug, Serialize)]
struct Missing {
    missing: Vec<String>,
}

/// `GET /api/v1/objects/room`.
#[derive(Debug, Serialize)]
struct Room {
    room: bool,
}

/// `POST /api/v1/objects`.
#[derive(Debug, Serialize)]
struct Stored {
    stored: bool,
}

/// A small body as text.
///
/// # Errors
/// It is larger than `TEXT_MAX`, breaks off, or is no UTF-8.
pub(crate) async fn text(body: RequestBody) -> Result<String, Refusal> {
    text_within(body, TEXT_MAX).await
}

/// What a browser's form sends: little, and at once, as anybody may send one.
///
/// # Errors
/// See [`text`].
pub(crate) async fn form(body: RequestBody) -> Result<String, Refusal> {
    let late = |_| Refusal::Body(format!("the form did not come within {FORM_WAIT:?}"));
    tokio::time::timeout(FORM_WAIT, text_within(body, FORM_MAX)).await.map_err(late)?
}

async fn text_within(body: RequestBody, max: usize) -> Result<String, Refusal> {
    let (mut body, mut text) = (body, Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| Refusal::Body(format!("the body broke off: {cause}")))?;
        if let Some(data) = frame.data_ref() {
            if text.len() + data.len() > max {
                return Err(Refusal::Body(format!("the body is larger than {max} bytes")));
            }
            text.extend_from_slice(data);
        }
    }
    String::from_utf8(text).map_err(|_| Refusal::Body("the body is not UTF-8".to_owned()))
}

impl Inner {
    /// Which of the ids, one a line, the hub lacks.
    pub(crate) async fn missing(&self, ids: &str) -> Result<Response<AnswerBody>, Refusal> {
        let read = |line: &str| {
            let expected =
                || Refusal::Body(format!("{:?} is no id: expected 40 hexadecimal digits", clipped(line)));
            line.parse::<ObjectId>().map_err(|_| expected())
        };
        let ids = ids.lines().map(read).collect::<Result<Vec<_>, _>>()?;
        let missing = self.deployments()?.hub_servers.missing(&ids).await?;
        let missing = missing.iter().map(ToString::to_string).collect();
        Ok(json(StatusCode::OK, &Missing { missing }))
    }

    /// Whether the hub has room for so many bytes more.
    pub(crate) async fn hub_room(&self, bytes: Option<u64>) -> Result<Response<AnswerBody>, Refusal> {
        let expected = || Refusal::Body("the query has no number of bytes: expected bytes=COUNT".to_owned());
        let bytes = bytes.ok_or_else(expected)?;
        self.deployments()?.hub_servers.room(bytes).await?;
        Ok(json(StatusCode::OK, &Room { room: true }))
    }

    /// Takes a pack in; answered when it is on disk on a majority of the hub.
    pub(crate) async fn store(&self, mut body: RequestBody) -> Result<Response<AnswerBody>, Refusal> {
        let data = |frame: Frame<Bytes>| frame.into_data().unwrap_or_default();
        let chunks =
            BodyStream::new(&mut body).map(move |frame| frame.map(data).map_err(|cause| cause.to_string()));
        let stored = self.deployments()?.hub_servers.store(chunks).await;
        if stored.is_err() {
            drain(body, DRAINED_MAX).await;
        }
        stored?;
        Ok(json(StatusCode::OK, &Stored { stored: true }))
    }
}

/// Takes the rest of what was refused, `max` bytes of it: a client that is still sending would not hear why.
pub(crate) async fn drain(mut body: RequestBody, max: u64) {
    let mut left = max;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(DRAIN_WAIT, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, |it| it.len() as u64));
        if left == 0 {
            return;
        }
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(50).collect()
}
