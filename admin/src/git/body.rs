//! A request's body as it comes: inflated where Git has compressed it, and never more, or slower, than it may be.

use super::pkt_line::{self, PktError, PktLine};
use crate::{RequestBody, refusal::Refusal};
use bytes::{Bytes, BytesMut};
use flate2::write::GzDecoder;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::{io, io::Write, time::Duration};

/// A client that sends nothing for so long is given up.
const SILENT: Duration = Duration::from_secs(120);

/// So many compressed bytes are inflated at a time: to 1 MiB at most, as the format has it.
const COMPRESSED: usize = 1 << 10;

/// Why a body can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body broke off: {0}")]
    Broken(String),
    #[error("the body broke off: nothing came for {0:?}")]
    Silent(Duration),
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    #[error("the body is not gzip's format: {0}")]
    Gzip(io::Error),
    #[error("{0}")]
    Pkt(#[from] PktError),
}

/// A body.
#[derive(Debug)]
pub(crate) struct Body {
    body: RequestBody,
    gzip: Option<GzDecoder<Vec<u8>>>,
    compressed: Bytes,
    /// What has been read and not been taken.
    rest: Bytes,
    left: u64,
    most: u64,
}

impl Body {
    /// Of a request; `most` bytes at most, counted when they are inflated.
    ///
    /// # Errors
    /// It is encoded otherwise.
    pub(crate) fn new(headers: &HeaderMap, body: RequestBody, most: u64) -> Result<Self, Refusal> {
        let gzip = match headers.get(header::CONTENT_ENCODING).map(|it| it.as_bytes().to_ascii_lowercase()) {
            None => None,
            Some(it) if it == b"identity" => None,
            Some(it) if it == b"gzip" || it == b"x-gzip" => Some(GzDecoder::new(Vec::new())),
            Some(_) => return Err(Refusal::ContentEncoding),
        };
        Ok(Self { body, gzip, compressed: Bytes::new(), rest: Bytes::new(), left: most, most })
    }

    /// The next bytes, as they come; `None` at the end.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            let chunk = match self.gzip {
                None => self.sent().await?,
                Some(_) => self.inflated().await?,
            };
            let Some(chunk) = chunk else { return Ok(None) };
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.left = self.left.checked_sub(length).ok_or(BodyError::TooLarge(self.most))?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// The next bytes as they were sent.
    async fn sent(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = tokio::time::timeout(SILENT, self.body.frame()).await;
            match frame.map_err(|_| BodyError::Silent(SILENT))? {
                None => return Ok(None),
                Some(Err(cause)) => return Err(BodyError::Broken(cause.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The next bytes, inflated.
    async fn inflated(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.compressed.is_empty() {
            match self.sent().await? {
                Some(sent) => self.compressed = sent,
                None => {
                    let last =
                        self.gzip.take().map(GzDecoder::finish).transpose().map_err(BodyError::Gzip)?;
                    return Ok(last.map(Bytes::from));
                }
            }
        }
        let Some(gzip) = &mut self.gzip else { return Ok(None) };
        let piece = self.compressed.split_to(self.compressed.len().min(COMPRESSED));
        gzip.write_all(&piece).map_err(BodyError::Gzip)?;
        Ok(Some(std::mem::take(gzip.get_mut()).into()))
    }

    /// So many bytes, unless the body ends before.
    async fn exactly(&mut self, count: usize) -> Result<Bytes, BodyError> {
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            let Some(mut chunk) = self.chunk().await? else { break };
            bytes.extend_from_slice(&chunk.split_to(chunk.len().min(count - bytes.len())));
            self.rest = chunk;
        }
        Ok(bytes.freeze())
    }

    /// The next pkt-line; `None` at the end.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub(crate) async fn line(&mut self) -> Result<Option<PktLine<Bytes>>, BodyError> {
        let prefix = self.exactly(4).await?;
        if prefix.is_empty() {
            return Ok(None);
        }
        let prefix = prefix[..].try_into().map_err(|_| PktError::Cut)?;
        match pkt_line::prefix(prefix)? {
            PktLine::Flush => Ok(Some(PktLine::Flush)),
            PktLine::Delimiter => Ok(Some(PktLine::Delimiter)),
            PktLine::Data(count) => {
                let data = self.exactly(count).await?;
                if data.len() < count {
                    return Err(PktError::Cut.into());
                }
                Ok(Some(PktLine::Data(data)))
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub(crate) async fn whole(mut self) -> Result<Vec<u8>, BodyError> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }
}

impl From<BodyError> for Refusal {
    fn from(cause: BodyError) -> Self {
        Self::Body(cause.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn body(encoding: &str, pieces: Vec<Vec<u8>>, most: u64) -> Body {
        let frames = pieces.into_iter().map(|it| Ok(Frame::data(Bytes::from(it))));
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        Body::new(&headers, body, most).unwrap()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn it_is_inflated_however_it_is_cut() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzipped(&plain);
        for size in [1, 7, 4096, packed.len()] {
            let pieces = packed.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(body("gzip", pieces, 1 << 20).whole().await.unwrap(), plain, "{size}");
        }
        assert_eq!(body("identity", vec![plain.clone()], 1 << 20).whole().await.unwrap(), plain);
    }

    #[tokio::test]
    async fn what_is_too_large_cut_or_damaged_is_refused() {
        let bomb = gzipped(&vec![0; 50 << 20]);
        let refused = |encoding: &'static str, bytes: Vec<u8>| async move {
            body(encoding, vec![bytes], 1 << 20).whole().await.unwrap_err()
        };
        assert!(matches!(refused("gzip", bomb).await, BodyError::TooLarge(_)));
        assert!(matches!(refused("identity", vec![0; (1 << 20) + 1]).await, BodyError::TooLarge(_)));
        let packed = gzipped(b"hello");
        assert!(matches!(refused("gzip", packed[..packed.len() - 3].to_vec()).await, BodyError::Gzip(_)));
        assert!(matches!(refused("gzip", b"hello, this is none".to_vec()).await, BodyError::Gzip(_)));
        let mut more = packed;
        more.extend_from_slice(b"more");
        assert!(matches!(refused("gzip", more).await, BodyError::Gzip(_)));
    }

    #[tokio::test]
    async fn lines_come_first_and_the_rest_after_them() {
        let pieces = b"000ahello\n0000PACK".chunks(3).map(<[u8]>::to_vec).collect();
        let mut body = body("identity", pieces, 100);
        assert_eq!(body.line().await.unwrap(), Some(PktLine::Data(Bytes::from("hello\n"))));
        assert_eq!(body.line().await.unwrap(), Some(PktLine::Flush));
        assert_eq!(body.whole().await.unwrap(), b"PACK");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_given_up() {
        let silent = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, _>>());
        let mut body = Body::new(&HeaderMap::new(), silent.boxed_unsync(), 100).unwrap();
        assert!(matches!(body.chunk().await, Err(BodyError::Silent(_))));
    }
}
