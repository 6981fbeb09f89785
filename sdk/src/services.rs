//! What an app shares with the others of its cluster, by the local API (docs/local-api.md): caches here, queues in `queue`.

use crate::{Environment, ServeError, daemon::Fence, dev::Dev, environment::Token};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::UnixStream, time::timeout};

/// A call takes at most this long; the server's own limits are below.
const CALL_MAX: Duration = Duration::from_secs(75);

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServiceError {
    /// The server of this app, or the hub, can't be reached; a write may have happened.
    #[error("it can't be reached: {0}")]
    Unavailable(String),
    /// It was refused: `code` is one of docs/local-api.md.
    #[error("{code}: {detail}")]
    Refused {
        /// For programs.
        code: String,
        /// For people.
        detail: String,
    },
    /// A value is not what it was read as, or can't be written.
    #[error("the value: {0}")]
    Value(String),
}

/// The services of this app's server. Clones are the same.
#[derive(Debug, Clone)]
pub struct Copal(pub(crate) Arc<Place>);

#[derive(Debug)]
pub(crate) enum Place {
    /// The socket, and the app's token.
    Server(PathBuf, Token),
    /// `COPAL_DEV`: in this process's memory.
    Memory(Dev),
}

impl Copal {
    /// As this process's environment says; with `COPAL_DEV=1` in memory.
    ///
    /// # Errors
    /// [`ServeError::Environment`].
    pub fn from_env() -> Result<Self, ServeError> {
        Ok(Self::of(&Environment::read()?))
    }

    /// As an environment says.
    pub fn of(environment: &Environment) -> Self {
        Self(Arc::new(match &environment.hub {
            Some((socket, token)) => Place::Server(socket.clone(), token.clone()),
            None => Place::Memory(environment.dev.clone()),
        }))
    }

    /// A cache of the cluster.
    pub fn cache(&self, name: &str) -> Cache {
        Cache { copal: self.clone(), name: name.to_owned(), fence: None }
    }

    /// One call, and what it is answered with; in memory nothing.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
        fence: Option<&Fence>,
    ) -> Result<Bytes, ServiceError> {
        #[derive(serde::Deserialize)]
        struct Problem {
            code: String,
            detail: String,
        }
        let Place::Server(socket, token) = &*self.0 else { return Ok(Bytes::new()) };
        let (status, body) = Self::call((socket, token), (method, path), body, headers, fence).await?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(Problem { code, detail }) if code == "hub-lost" => Err(ServiceError::Unavailable(detail)),
            Ok(Problem { code, detail }) => Err(ServiceError::Refused { code, detail }),
            Err(_) => Err(ServiceError::Unavailable(format!("an answer with {status}"))),
        }
    }

    /// One call. A connection to a socket costs little, and none can be dead.
    async fn call(
        (socket, token): (&PathBuf, &Token),
        (method, path): (Method, &str),
        body: Vec<u8>,
        headers: &[(&'static str, String)],
        fence: Option<&Fence>,
    ) -> Result<(StatusCode, Bytes), ServiceError> {
        let away = |cause: &dyn std::fmt::Display| ServiceError::Unavailable(cause.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.0));
        if let Some(fence) = fence {
            request = request.header("x-copal-fence", fence.as_str());
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::<Bytes>::from(body)).map_err(|cause| away(&cause))?;
        let called = async {
            let stream = UnixStream::connect(socket).await.map_err(|cause| away(&cause))?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|cause| away(&cause))?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await.map_err(|cause| away(&cause))?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|cause| away(&cause))?.to_bytes();
            connection.abort();
            Ok((status, body))
        };
        let late = || ServiceError::Unavailable(format!("no answer within {CALL_MAX:?}"));
        timeout(CALL_MAX, called).await.map_err(|_| late())?
    }
}

/// A cache. Values are JSON.
#[derive(Debug, Clone)]
pub struct Cache {
    copal: Copal,
    name: String,
    fence: Option<Fence>,
}

impl Cache {
    /// The same, whose writes count only while this daemon's lease is held.
    pub fn fenced(&self, fence: &Fence) -> Self {
        Self { fence: Some(fence.clone()), ..self.clone() }
    }

    /// A value; `None`: there is nothing.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ServiceError> {
        let value = match &*self.copal.0 {
            Place::Server(..) => match self.call(Method::GET, key, "", Vec::new()).await {
                Err(ServiceError::Refused { code, .. }) if code == "not-found" => return Ok(None),
                answered => serde_json::from_slice(&answered?),
            },
            Place::Memory(dev) => match dev.get(&self.name, key) {
                Some(value) => T::deserialize(value),
                None => return Ok(None),
            },
        };
        value.map(Some).map_err(|cause| ServiceError::Value(cause.to_string()))
    }

    /// Puts a value, whatever was there.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), ServiceError> {
        let value = serde_json::to_value(value).map_err(|cause| ServiceError::Value(cause.to_string()))?;
        match &*self.copal.0 {
            Place::Server(..) => self.call(Method::PUT, key, "", value.to_string().into()).await.map(drop),
            Place::Memory(dev) => {
                dev.put(&self.name, key, value);
                Ok(())
            }
        }
    }

    /// Adds to a whole number, which is 0 where there is none; what it is then. Once, whatever becomes of the hub meanwhile.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64, ServiceError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            value: i64,
        }
        match &*self.copal.0 {
            Place::Server(..) => {
                let body = serde_json::json!({"by": by}).to_string().into();
                let answer = self.call(Method::POST, key, "/increment", body).await?;
                let answer: Result<Answer, _> = serde_json::from_slice(&answer);
                answer.map(|it| it.value).map_err(|cause| ServiceError::Value(cause.to_string()))
            }
            Place::Memory(dev) => dev.increment(&self.name, key, by),
        }
    }

    async fn call(
        &self,
        method: Method,
        key: &str,
        more: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, ServiceError> {
        let path = format!("/v1/caches/{}/{}{more}", self.name, utf8_percent_encode(key, NON_ALPHANUMERIC));
        self.copal.ask(method, &path, body, &[], self.fence.as_ref()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn in_memory_it_does_the_same() {
        let cache = Copal(Arc::new(Place::Memory(Dev::default()))).cache("c");
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
        cache.put("k", "text").await.unwrap();
        assert_eq!(cache.get::<String>("k").await.unwrap().unwrap(), "text");
        assert!(cache.get::<u64>("k").await.is_err() && cache.increment("k", 1).await.is_err());
        assert_eq!(
            (cache.increment("n", 2).await.unwrap(), cache.increment("n", -3).await.unwrap()),
            (2, -1)
        );
        assert_eq!(cache.copal.cache("other").get::<u64>("n").await.unwrap(), None);
    }
}
