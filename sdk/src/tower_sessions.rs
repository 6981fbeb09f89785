//! A store for the sessions of the crate `tower-sessions`: records are entries of a cache of the cluster (docs/decisions/0022).

use crate::{Cache, Copal, Entry, Environment, Found, ServeError, ServiceError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower_sessions_core::{
    SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};

/// The cache, if nothing else is said.
const CACHE: &str = "tower-sessions";

/// For so long it is known that a session was ended, so that a request that runs meanwhile does not bring it back.
const ENDED: Duration = Duration::from_secs(60);

/// A cache keeps an entry for so long at most.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the last millisecond is of which `expiry_date` can tell: 9999-12-31T23:59:59.999Z.
const EXPIRES_MAX: u64 = 253_402_300_799_999;

/// So many ids are tried for a new session, and so often a save of one that comes and goes.
const TRIES: usize = 5;

/// Keeps the sessions of `tower-sessions` in a cache of the cluster: every server has them, and they outlive each of them.
///
/// ```
/// use axum::{Router, body::Body, http::{Request, header}, routing::get};
/// use sdk::{CopalStore, Environment};
/// use tower::ServiceExt;
/// use tower_sessions::{Session, SessionManagerLayer, session::Error};
///
/// async fn count(session: Session) -> String {
///     let counted = async {
///         let count = session.get::<u64>("count").await?.unwrap_or(0) + 1;
///         session.insert("count", count).await?;
///         Ok::<_, Error>(count)
///     };
///     counted.await.map_or_else(|cause| cause.to_string(), |count| format!("count {count}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Under Copal: `CopalStore::from_env()?`, and at the end `sdk::serve(app).await?`.
/// let store = CopalStore::new(&Environment::in_memory());
/// let app = Router::new().route("/count", get(count)).layer(SessionManagerLayer::new(store));
///
/// let mut cookie = String::new();
/// for expected in ["count 1", "count 2", "count 3"] {
///     let request = Request::get("/count").header(header::COOKIE, &cookie).body(Body::empty()).unwrap();
///     let answer = app.clone().oneshot(request).await.unwrap();
///     cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
///     assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await.unwrap(), expected);
/// }
/// # }
/// ```
///
/// - The cookie is that of `tower-sessions`. Copal's own session, its cookie and its timeouts have nothing to do with it. Any server will do for any
///   request.
/// - A save is on disk on a majority of the hub when it returns. Of requests of one session at the same time the save of one counts, as a whole, as in
///   every store of `tower-sessions`.
/// - A session that was ended (`flush`, `delete`, `cycle_id`) is not brought back, for a minute, by a request that runs meanwhile: its save is an error.
/// - A record has 1 MiB of JSON at most, and lives for 366 days at most after its last save. Records share the room of all caches: where it is full, what
///   was not used for the longest is forgotten.
///
/// docs/sessions.md has more, docs/decisions/0022 why it is so.
#[derive(Debug, Clone)]
pub struct CopalStore {
    cache: Cache,
    /// Whose sessions: the same id is no session of another app.
    owner: String,
    without_stale: bool,
}

/// What is in the cache.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stored {
    Session {
        data: HashMap<String, Value>,
        /// Milliseconds since 1970.
        expires: u64,
    },
    /// It was ended a moment ago.
    Ended,
}

impl CopalStore {
    /// As this process's environment says; with `COPAL_DEV=1` in its memory.
    ///
    /// # Errors
    /// [`ServeError::Environment`]: the process was not started by Copal.
    pub fn from_env() -> std::result::Result<Self, ServeError> {
        Environment::read().map(|environment| Self::new(&environment))
    }

    /// As an environment says.
    pub fn new(environment: &Environment) -> Self {
        let cache = Copal::of(environment).cache(CACHE);
        Self { cache, owner: environment.app.clone(), without_stale: false }
    }

    /// Shares sessions with all apps that say the same name here, which is that of the [cache](Copal::cache) they are in; else each app has its own, in
    /// the cache `tower-sessions`. Those apps need the same cookie as well.
    pub fn shared_as(self, name: &str) -> Self {
        Self { cache: self.cache.copal.cache(name), owner: "shared".to_owned(), ..self }
    }

    /// Fails, rather than go on with what this server knows of a session, while the hub can't be reached: another server may have changed or ended it.
    pub fn without_stale(self) -> Self {
        Self { without_stale: true, ..self }
    }

    fn key(&self, id: &Id) -> String {
        format!("{}/{id}", self.owner)
    }

    async fn put(&self, entry: Entry<'_>, record: &Record, left: Duration) -> Result<bool> {
        let stored = Stored::Session { data: record.data.clone(), expires: expires(record) };
        let ttl = left.clamp(Duration::from_millis(1), TTL_MAX);
        entry.ttl(ttl).put(&stored).await.map_err(failed)
    }
}

#[async_trait]
impl SessionStore for CopalStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        // One that is over would not be found: it is not there to begin with.
        let Some(left) = left(record, SystemTime::now()) else { return Ok(()) };
        for _ in 0..TRIES {
            let key = self.key(&record.id);
            if self.put(self.cache.entry(&key).if_absent(), record, left).await? {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Error::Backend(format!("{TRIES} ids in a row were taken")))
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let Some(left) = left(record, SystemTime::now()) else { return self.delete(&record.id).await };
        let key = self.key(&record.id);
        let mut entry = self.cache.entry(&key).fresh();
        for attempt in 0..TRIES {
            let entry_now = match entry.get::<Value>().await.map_err(failed)? {
                Some(Found { value, .. }) if value == "ended" => {
                    return Err(Error::Backend("the session was ended meanwhile".to_owned()));
                }
                // Another save came between: the two ran at the same time, so that one may be the later. Whoever sends many at once gains nothing.
                Some(_) if attempt > 0 => return Ok(()),
                Some(Found { version, .. }) => entry.clone().if_version(&version),
                // It was forgotten; or the app has cleared what it has not loaded, as a login may: an error would be one at each try.
                None => entry.clone().if_absent(),
            };
            if self.put(entry_now, record, left).await? {
                return Ok(());
            }
            entry = entry.strong();
        }
        Err(Error::Backend(format!("the session came and went {TRIES} times")))
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let key = self.key(id);
        let entry = self.cache.entry(&key);
        let entry = if self.without_stale { entry.fresh() } else { entry };
        match entry.get().await.map_err(failed)?.map(|it| it.value) {
            Some(Stored::Session { expires, .. }) if expires > EXPIRES_MAX => {
                Err(Error::Decode(format!("expires is {expires}: expected milliseconds up to {EXPIRES_MAX}")))
            }
            Some(Stored::Session { data, expires }) => {
                let expiry = UNIX_EPOCH + Duration::from_millis(expires);
                let record = Record { id: *id, data, expiry_date: expiry.into() };
                Ok(left(&record, SystemTime::now()).map(|_| record))
            }
            Some(Stored::Ended) | None => Ok(None),
        }
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let key = self.key(id);
        self.cache.entry(&key).if_present().ttl(ENDED).put(&Stored::Ended).await.map(drop).map_err(failed)
    }
}

/// What is left of a record's time, if anything is.
fn left(record: &Record, now: SystemTime) -> Option<Duration> {
    let expiry = SystemTime::from(record.expiry_date);
    expiry.duration_since(now).ok().filter(|left| !left.is_zero())
}

/// When it expires, in milliseconds since 1970.
fn expires(record: &Record) -> u64 {
    let since = SystemTime::from(record.expiry_date).duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).min(EXPIRES_MAX)
}

fn failed(cause: ServiceError) -> Error {
    match cause {
        ServiceError::Value(text) => Error::Decode(text),
        other => Error::Backend(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
