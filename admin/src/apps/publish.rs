//! Objects on their way to the hub: which are missing there, and taking them in. Nothing is in use by that.

use crate::{AnswerBody, Inner, json, refusal::Refusal};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use repository::ObjectId;
use serde::Serialize;
use std::fmt;

/// The largest JSON or list of ids, in bytes: 400,000 ids.
const TEXT_MAX: usize = 16 << 20;

/// `POST /api/v1/objects/missing`.
#[derive(Debug, Serialize)]
struct Missing {
    missing: Vec<String>,
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
pub(crate) async fn text<B>(body: B) -> Result<String, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display + Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = Limited::new(body, TEXT_MAX).collect().await;
    let read = read.map_err(|cause| Refusal::Body(format!("the body can't be read: {cause}")))?;
    String::from_utf8(read.to_bytes().to_vec()).map_err(|_| Refusal::Body("the body is not UTF-8".to_owned()))
}

impl Inner {
    /// Which of the ids, one a line, the hub lacks.
    pub(crate) async fn missing(&self, ids: &str) -> Result<Response<AnswerBody>, Refusal> {
        let read = |line: &str| {
            let expected = || Refusal::Body(format!("{:?} is no id: expected 40 hexadecimal digits", clipped(line)));
            line.parse::<ObjectId>().map_err(|_| expected())
        };
        let ids = ids.lines().map(read).collect::<Result<Vec<_>, _>>()?;
        let missing = self.deployments()?.hub_servers.missing(&ids).await?;
        let missing = missing.iter().map(ToString::to_string).collect();
        Ok(json(StatusCode::OK, &Missing { missing }))
    }

    /// Takes a pack in; answered when it is on disk on a majority of the hub.
    pub(crate) async fn store<B>(&self, body: B) -> Result<Response<AnswerBody>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: fmt::Display,
    {
        let mut body = body;
        let next = async || loop {
            let frame = match body.frame().await? {
                Ok(frame) => frame,
                Err(cause) => return Some(Err(cause)),
            };
            if let Ok(data) = frame.into_data() {
                return Some(Ok(data));
            }
        };
        self.deployments()?.hub_servers.store(next).await?;
        Ok(json(StatusCode::OK, &Stored { stored: true }))
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(50).collect()
}
