//! A browser, as far as these tests need one: HTTP/1.1 with a cookie jar of one.

use crate::cluster::PATIENCE;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{COOKIE, HOST, SET_COOKIE},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// A user with a cookie.
#[derive(Debug)]
pub(crate) struct User {
    address: String,
    pub(crate) cookie: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Answer {
    /// `count N on SERVER`.
    pub(crate) fn count(&self) -> (u64, String) {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        let words: Vec<_> = self.body.split_whitespace().collect();
        match words[..] {
            ["count", count, "on", server] => (count.parse().unwrap(), server.to_owned()),
            _ => panic!("not a count: {self:?}"),
        }
    }
}

/// A connection of one's own.
pub(crate) async fn connect<B>(address: &str) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

impl User {
    pub(crate) fn new(address: String) -> Self {
        Self { address, cookie: None }
    }

    pub(crate) fn with_cookie(mut self, cookie: String) -> Self {
        self.cookie = Some(cookie);
        self
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.request(Method::GET, path).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Counts, and says what was answered and by whom.
    pub(crate) async fn count(&mut self) -> (u64, String) {
        self.get("/count").await.count()
    }

    /// A request on a fresh connection; an error is a connection that broke before the whole answer was there.
    pub(crate) async fn request(&mut self, method: Method, path: &str) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let mut connection = connect(&self.address).await;
        let sent = connection.send_request(request.body(Full::<Bytes>::default()).unwrap());
        let answer = timeout(PATIENCE, sent).await.unwrap_or_else(|_| panic!("{path} hangs"))?;
        self.keep_cookie(&answer);
        let status = answer.status();
        let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap()?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn keep_cookie(&mut self, answer: &Response<Incoming>) {
        if let Some(cookie) = answer.headers().get(SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
    }
}
