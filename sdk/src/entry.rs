//! An entry of a cache: with the time that it is kept for, its version, and writes under a condition (docs/caches.md).

use crate::{
    Cache, ServiceError,
    services::{Place, refused},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// One key of a [`Cache`], and how it is read and written.
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sdk::ServiceError> {
/// # let cache = sdk::Copal::of(&sdk::Environment::in_memory()).cache("prices");
/// let entry = cache.entry("apple").ttl(Duration::from_secs(60));
/// assert!(entry.clone().if_absent().put(&30).await?);
/// assert!(!entry.clone().if_absent().put(&35).await?);
///
/// // Changed by nobody meanwhile, or not put.
/// let found = entry.get::<u64>().await?.expect("it was put");
/// assert!(entry.clone().if_version(&found.version).put(&(found.value + 1)).await?);
/// assert!(!entry.clone().if_version(&found.version).put(&(found.value + 1)).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    cache: &'a Cache,
    key: &'a str,
    ttl: Option<Duration>,
    condition: Condition,
    read: Read,
}

/// Which value an entry has: it never has the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// For [`Entry::if_version`].
    pub version: Version,
}

/// When a write is carried out.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// Whatever is there.
    None,
    /// Nothing is.
    Absent,
    /// Something is.
    Present,
    /// This is.
    Is(Version),
}

/// Where a read is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// A copy near, an old one too where the hub can't be asked.
    Near,
    /// A copy near, unless it is an old one.
    Fresh,
    /// The hub.
    Strong,
}

impl Cache {
    /// One key of it.
    pub fn entry<'a>(&'a self, key: &'a str) -> Entry<'a> {
        Entry { cache: self, key, ttl: None, condition: Condition::None, read: Read::Near }
    }
}

impl Entry<'_> {
    /// What is put is kept for so long: 1 ms to 366 days; else the write is refused.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// A write is carried out only if nothing is there.
    pub fn if_absent(self) -> Self {
        Self { condition: Condition::Absent, ..self }
    }

    /// A write is carried out only if something is there.
    pub fn if_present(self) -> Self {
        Self { condition: Condition::Present, ..self }
    }

    /// A write is carried out only if this is there still.
    pub fn if_version(self, version: &Version) -> Self {
        Self { condition: Condition::Is(version.clone()), ..self }
    }

    /// Reads no copy of which nobody knows whether it is old: where the hub can't be asked, the read fails.
    pub fn fresh(self) -> Self {
        Self { read: Read::Fresh, ..self }
    }

    /// Reads what the hub has now.
    pub fn strong(self) -> Self {
        Self { read: Read::Strong, ..self }
    }

    /// What is there.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn get<T: DeserializeOwned>(&self) -> Result<Option<Found<T>>, ServiceError> {
        let found = match &*self.cache.copal.0 {
            Place::Server(..) => self.read().await?,
            Place::Memory(dev) => {
                let found = dev.get(&self.cache.name, self.key);
                found.map(|(value, version)| (value.to_string().into(), Version(version)))
            }
        };
        let Some((value, version)) = found else { return Ok(None) };
        let value = serde_json::from_slice(&value).map_err(|cause| ServiceError::Value(cause.to_string()))?;
        Ok(Some(Found { value, version }))
    }

    /// Puts a value; `false`: the condition was not met.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn put<T: Serialize + ?Sized>(&self, value: &T) -> Result<bool, ServiceError> {
        let value = serde_json::to_value(value).map_err(|cause| ServiceError::Value(cause.to_string()))?;
        if let Place::Memory(dev) = &*self.cache.copal.0 {
            return dev.put_if((&self.cache.name, self.key), value, self.ttl, &self.condition);
        }
        let query = self.ttl.map(|ttl| format!("?ttl={}ms", ttl.as_millis()));
        let answer = self.call(Method::PUT, &query.unwrap_or_default(), value.to_string().into()).await?;
        is_done(&answer)
    }

    /// Removes what is there; `false`: there was nothing, or the condition was not met.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn remove(&self) -> Result<bool, ServiceError> {
        if let Place::Memory(dev) = &*self.cache.copal.0 {
            return Ok(dev.remove_if(&self.cache.name, self.key, &self.condition));
        }
        let answer = self.call(Method::DELETE, "", Vec::new()).await?;
        if answer.status() == StatusCode::NOT_FOUND { Ok(false) } else { is_done(&answer) }
    }

    async fn read(&self) -> Result<Option<(Bytes, Version)>, ServiceError> {
        const STRONG: &str = "?consistency=strong";
        let query = if self.read == Read::Strong { STRONG } else { "" };
        let mut answer = self.call(Method::GET, query, Vec::new()).await?;
        if self.read == Read::Fresh && text(answer.headers(), "x-copal-cache") == Some("stale") {
            // It waits for an election.
            answer = self.call(Method::GET, STRONG, Vec::new()).await?;
        }
        match answer.status() {
            StatusCode::OK => {
                let version = text(answer.headers(), header::ETAG.as_str()).unwrap_or_default();
                let version = Version(version.to_owned());
                Ok(Some((answer.into_body(), version)))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(&answer)),
        }
    }

    async fn call(
        &self,
        method: Method,
        query: &str,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, ServiceError> {
        let condition = match &self.condition {
            _ if method == Method::GET => None,
            Condition::None => None,
            Condition::Absent => Some(("if-none-match", "*".to_owned())),
            Condition::Present => Some(("if-match", "*".to_owned())),
            Condition::Is(Version(version)) => Some(("if-match", version.clone())),
        };
        let (path, fence) = (format!("{}{query}", self.cache.path(self.key)), self.cache.fence.as_ref());
        self.cache.copal.answer(method, &path, body, condition.as_slice(), fence).await
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|it| it.to_str().ok())
}

/// Whether a write was carried out.
fn is_done(answer: &Response<Bytes>) -> Result<bool, ServiceError> {
    match answer.status() {
        StatusCode::PRECONDITION_FAILED => Ok(false),
        status if status.is_success() => Ok(true),
        _ => Err(refused(answer)),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cache, Copal, Environment};
    use std::time::Duration;

    fn cache() -> Cache {
        Copal::of(&Environment::in_memory()).cache("c")
    }

    #[tokio::test]
    async fn in_memory_it_refuses_what_the_hub_would() {
        let cache = cache();
        let long = Duration::from_secs(366 * 24 * 3600 + 1);
        let refused = [
            (cache.entry("k").ttl(Duration::ZERO).put(&1).await, "ttl is 0ns: expected a time from 1ms"),
            (cache.entry("k").ttl(long).put(&1).await, "ttl is 31622401s"),
            (cache.entry("").put(&1).await, "the key has 0 bytes: expected 1 to 512"),
            (cache.entry(&"k".repeat(513)).put(&1).await, "the key has 513 bytes"),
            (cache.entry("k").put(&"v".repeat(1 << 20)).await, "the value is longer than 1048576 bytes"),
            (
                cache.copal.cache("a/b").entry("k").put(&1).await,
                "the cache's name is \"a/b\": expected 1 to 63",
            ),
        ];
        for (answer, words) in refused {
            let text = answer.unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
        assert!(cache.increment("", 1).await.is_err() && cache.put("", &1).await.is_err());
        assert!(cache.entry("k").put(&"v".repeat((1 << 20) - 2)).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn in_memory_room_is_bounded() {
        let cache = cache();
        cache.entry("short").ttl(Duration::from_secs(1)).put(&0).await.unwrap();
        for number in 0..9_999 {
            cache.put(&number.to_string(), &number).await.unwrap();
        }
        // What is over makes room, then what was put first.
        tokio::time::advance(Duration::from_secs(1)).await;
        cache.put("one", &1).await.unwrap();
        assert_eq!(cache.get::<u64>("0").await.unwrap(), Some(0));
        cache.put("another", &1).await.unwrap();
        assert_eq!(cache.get::<u64>("0").await.unwrap(), None);
        assert_eq!(cache.get::<u64>("1").await.unwrap(), Some(1));
        cache.put("another", &2).await.unwrap();
        assert_eq!(cache.get::<u64>("1").await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn in_memory_conditions_hold_as_on_the_hub() {
        let cache = cache();
        let entry = || cache.entry("k");
        assert!(!entry().if_present().put(&1).await.unwrap() && entry().if_absent().put(&1).await.unwrap());
        assert!(!entry().if_absent().put(&2).await.unwrap() && entry().if_present().put(&1).await.unwrap());
        let first = entry().get::<u64>().await.unwrap().unwrap();
        assert!(entry().if_version(&first.version).put(&2).await.unwrap());
        // The same value again is another version.
        assert!(entry().put(&1).await.unwrap() && !entry().if_version(&first.version).put(&3).await.unwrap());
        assert!(!entry().if_version(&first.version).remove().await.unwrap());
        assert_eq!(entry().strong().get::<u64>().await.unwrap().unwrap().value, 1);
        assert!(entry().get::<String>().await.is_err());
        assert!(entry().remove().await.unwrap() && !entry().remove().await.unwrap());
        assert!(!entry().if_version(&first.version).put(&3).await.unwrap());
        assert_eq!(entry().fresh().get::<u64>().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn in_memory_a_value_ends_with_its_time() {
        let cache = cache();
        let entry = || cache.entry("k").ttl(Duration::from_secs(10));
        assert!(entry().put(&1).await.unwrap());
        assert_eq!(cache.increment("k", 1).await.unwrap(), 2);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
        assert!(entry().if_absent().put(&1).await.unwrap());
        // Without a time it stays.
        cache.put("k", &1).await.unwrap();
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
    }
}
