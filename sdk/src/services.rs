//! What an app shares with the others of its cluster, by the local API (docs/local-api.md): caches here, queues in `queue`.

use crate::{Environment, ServeError, daemon::Fence, dev::Dev, environment::Token};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::UnixStream, time::timeout};

/// A call takes at most this long; the server's own limits are below.
const CALL_MAX: Duration = Duration::from_secs(75);

/// What of a name a path can't have as it is: the server says then what is wrong with it.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServiceError> {
/// // Under Copal: `sdk::Environment::read()?`, or `sdk::Copal::from_env()?` at once.
/// let environment = sdk::Environment::in_memory();
/// let copal = sdk::Copal::of(&environment);
/// copal.cache("prices").put("apple", &30).await?;
/// copal.queue("orders").publish("apple").await?;
/// # Ok(())
/// # }
/// ```
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

    /// A cache of the cluster: its name is 1 to 63 of `a`–`z`, `0`–`9`, `.`, `_` and `-`. With another its calls are refused.
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
        let answer = self.answer(method, path, body, headers, fence).await?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(refused(&answer)) }
    }

    /// One call, and its whole answer, whatever its status; in memory an empty one.
    pub(crate) async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
        fence: Option<&Fence>,
    ) -> Result<Response<Bytes>, ServiceError> {
        match &*self.0 {
            Place::Server(socket, token) => {
                Self::call((socket, token), (method, path), body, headers, fence).await
            }
            Place::Memory(_) => Ok(Response::new(Bytes::new())),
        }
    }

    /// One call. A connection to a socket costs little, and none can be dead.
    async fn call(
        (socket, token): (&PathBuf, &Token),
        (method, path): (Method, &str),
        body: Vec<u8>,
        headers: &[(&'static str, String)],
        fence: Option<&Fence>,
    ) -> Result<Response<Bytes>, ServiceError> {
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
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|cause| away(&cause))?.to_bytes();
            connection.abort();
            Ok(Response::from_parts(head, body))
        };
        let late = || ServiceError::Unavailable(format!("no answer within {CALL_MAX:?}"));
        timeout(CALL_MAX, called).await.map_err(|_| late())?
    }
}

/// What an answer without success says.
pub(crate) fn refused(answer: &Response<Bytes>) -> ServiceError {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
        detail: String,
    }
    match serde_json::from_slice::<Problem>(answer.body()) {
        Ok(Problem { code, detail }) if code == "hub-lost" => ServiceError::Unavailable(detail),
        Ok(Problem { code, detail }) => ServiceError::Refused { code, detail },
        Err(_) => ServiceError::Unavailable(format!("an answer with {}", answer.status())),
    }
}

/// A cache. Values are JSON.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServiceError> {
/// let cache = sdk::Copal::of(&sdk::Environment::in_memory()).cache("visits");
/// assert_eq!(cache.get::<String>("last").await?, None);
/// cache.put("last", "anna").await?;
/// assert_eq!(cache.get::<String>("last").await?.as_deref(), Some("anna"));
/// assert_eq!(cache.increment("all", 1).await?, 1);
/// assert_eq!(cache.increment("all", 10).await?, 11);
/// # Ok(())
/// # }
/// ```
///
/// With a time to live, and only if nobody else was first: [`Cache::entry`].
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) copal: Copal,
    pub(crate) name: String,
    pub(crate) fence: Option<Fence>,
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
                Some((value, _)) => T::deserialize(value),
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
            Place::Memory(dev) => dev.put(&self.name, key, value),
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
        let path = format!("{}{more}", self.path(key));
        self.copal.ask(method, &path, body, &[], self.fence.as_ref()).await
    }

    /// Where a key of it is.
    pub(crate) fn path(&self, key: &str) -> String {
        let (name, key) = (utf8_percent_encode(&self.name, NAME), utf8_percent_encode(key, NON_ALPHANUMERIC));
        format!("/v1/caches/{name}/{key}")
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
