//! Questions in HTTP/2: a GET, or the one of the gRPC health checking protocol.

use super::{ANSWER_MAX, CheckError, Expected};
use crate::upstream::h2c;
use bytes::{BufMut, Bytes, BytesMut};
use cluster_port::Stream;
use common::config::HttpQuestion;
use h2::{RecvStream, client::SendRequest};
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, header,
    uri::{Authority, Parts, Scheme},
};
use prost::Message;
use proto::health::v1::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use std::{future::poll_fn, pin::pin, task::Poll};

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A request, and the body of one in gRPC.
#[derive(Debug)]
pub(super) struct Question {
    method: Method,
    uri: Uri,
    fields: HeaderMap,
    grpc: Option<Bytes>,
}

impl Question {
    /// Names and values come from the configuration, which has checked them.
    pub(super) fn http(asked: &HttpQuestion, host: &str, tls: bool) -> Self {
        let method = asked.method.parse().unwrap_or(Method::GET);
        let fields = asked.headers.iter();
        let fields = fields.filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        Self { method, uri: uri(host, &asked.path, tls), fields: fields.collect(), grpc: None }
    }

    pub(super) fn grpc(service: &str, host: &str, tls: bool) -> Self {
        let message = HealthCheckRequest { service: service.to_owned() };
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(PREFIX + length);
        body.put_u8(0);
        // A name in a configuration is short.
        body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        body.put_slice(&message.encode_to_vec());
        Self {
            method: Method::POST,
            uri: uri(host, "/grpc.health.v1.Health/Check", tls),
            fields: HeaderMap::new(),
            grpc: Some(body.freeze()),
        }
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let fields = request.headers_mut();
        fields.clone_from(&self.fields);
        fields.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("copal-health-check"));
        if self.grpc.is_some() {
            let fields = request.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        request
    }

    pub(super) async fn ask(&self, stream: Stream, expected: &Expected) -> Result<(), CheckError> {
        let (requests, mut connection) = h2c::begin(stream).await?;
        let mut asked = pin!(self.ask_on(requests, expected));
        poll_fn(|cx| {
            // The connection first: an answer that has come is there for whoever asked.
            let ended = std::pin::Pin::new(&mut connection).poll(cx);
            match (asked.as_mut().poll(cx), ended) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Poll::Ready(Ok(()))) => Poll::Ready(Err(CheckError::Ended)),
                (Poll::Pending, Poll::Ready(Err(cause))) => Poll::Ready(Err(cause.into())),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    async fn ask_on(&self, mut requests: SendRequest<Bytes>, expected: &Expected) -> Result<(), CheckError> {
        let (answer, mut stream) = requests.send_request(self.request(), self.grpc.is_none())?;
        if let Some(body) = &self.grpc {
            stream.send_data(body.clone(), true)?;
        }
        let (head, mut body) = answer.await?.into_parts();
        expected.judge(head.status.as_u16())?;
        if self.grpc.is_some() {
            return judge_grpc(&head.headers, body).await;
        }
        if expected.body.is_none() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data?;
            bytes.extend_from_slice(&data);
            if bytes.len() >= ANSWER_MAX {
                break;
            }
            let _ = body.flow_control().release_capacity(data.len());
        }
        bytes.truncate(ANSWER_MAX);
        expected.judge_body(&bytes)
    }
}

/// Judges an answer in gRPC.
async fn judge_grpc(head: &HeaderMap, mut body: RecvStream) -> Result<(), CheckError> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        message.extend_from_slice(&data);
        if message.len() > ANSWER_MAX {
            return Err(CheckError::Grpc("the answer is too long".to_owned()));
        }
        let _ = body.flow_control().release_capacity(data.len());
    }
    let trailers = body.trailers().await?;
    let text = |name| {
        let value = trailers.as_ref().and_then(|it| it.get(name)).or_else(|| head.get(name))?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    match text("grpc-status").as_deref() {
        Some("0") => {}
        Some(code) => {
            let why = text("grpc-message").unwrap_or_default();
            return Err(CheckError::Grpc(format!("status {code} {why}").trim_end().to_owned()));
        }
        None => return Err(CheckError::Grpc("no grpc-status".to_owned())),
    }
    let answer =
        message.get(PREFIX..).filter(|_| message[0] == 0).and_then(|it| HealthCheckResponse::decode(it).ok());
    let Some(answer) = answer else { return Err(CheckError::Grpc("no message that can be read".to_owned())) };
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(CheckError::Grpc(format!("{}, expected SERVING", other.as_str_name()))),
    }
}

/// Host and path come from the configuration, which has checked them.
fn uri(host: &str, path: &str, tls: bool) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Authority::try_from(host).ok();
    parts.path_and_query = h2c::target(path.as_bytes());
    Uri::from_parts(parts).unwrap_or_default()
}
