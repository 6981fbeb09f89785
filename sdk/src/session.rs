//! The user's session in a handler.

use crate::{
    error::SessionError,
    memory::Memory,
    remote::{Call, Remote},
};
use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::sync::{Mutex, MutexGuard};

/// The user's session: an axum extractor; clones are the same session.
///
/// Attributes are bytes with a name. [`get`](Self::get) and [`set`](Self::set) keep them as JSON, which other languages can read
/// as well. Changes are kept until the handler returns and are then sent together.
///
/// ```
/// use axum::{Router, body::Body, http::{Request, header}, routing::{get, post}};
/// use sdk::{Session, SessionError, SessionLayer};
/// use tower::ServiceExt;
///
/// async fn login(session: Session) -> Result<&'static str, SessionError> {
///     // Nobody who knew the old id shares the login.
///     session.change_id().await?;
///     session.set("user", "anna").await?;
///     Ok("welcome")
/// }
///
/// async fn home(session: Session) -> Result<String, SessionError> {
///     let user = session.get::<String>("user").await?;
///     Ok(user.unwrap_or_else(|| "nobody".to_owned()))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let app = Router::new().route("/", get(home)).route("/login", post(login));
///
/// // Under Copal: `sdk::serve(app).await?`. An app's own tests do without:
/// let app = app.layer(SessionLayer::in_memory());
/// let answer = app.clone().oneshot(Request::post("/login").body(Body::empty()).unwrap()).await.unwrap();
/// let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
/// let request = Request::get("/").header(header::COOKIE, cookie).body(Body::empty()).unwrap();
/// let answer = app.oneshot(request).await.unwrap();
/// assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await.unwrap(), "anna");
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// Links are to carry it: the user has sent no cookie.
    in_links: bool,
    state: Mutex<State>,
}

/// Where the session is.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// On the server of this app.
    Remote(Remote),
    /// In this process.
    Memory(Memory),
    /// Nowhere: the request did not come through Copal.
    Nowhere,
}

#[derive(Debug)]
struct State {
    call: Call,
    /// As they were loaded; `None`: not yet.
    loaded: Option<HashMap<String, Bytes>>,
    set: HashMap<String, Bytes>,
    removed: BTreeSet<String>,
    /// A local session has another id than the browser knows.
    renamed: bool,
    over: bool,
}

impl Session {
    pub(crate) fn new(store: Store, call: Call) -> Self {
        Self::with_links(store, call, false)
    }

    /// `in_links`: the user takes no cookies, perhaps, and URLs may name sessions.
    pub(crate) fn with_links(store: Store, call: Call, in_links: bool) -> Self {
        let state = State {
            call,
            loaded: None,
            set: HashMap::new(),
            removed: BTreeSet::new(),
            renamed: false,
            over: false,
        };
        Self { inner: Arc::new(Inner { store, in_links, state: Mutex::new(state) }) }
    }

    /// An attribute, read as JSON; `None` when there is none.
    ///
    /// # Errors
    /// See [`SessionError`]; [`SessionError::Value`] when it is not such a value.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SessionError> {
        let Some(bytes) = self.get_bytes(name).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|cause| wrong(name, &cause))
    }

    /// Sets an attribute, written as JSON.
    ///
    /// # Errors
    /// See [`SessionError`]; [`SessionError::Value`] when it can't be written as JSON.
    pub async fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), SessionError> {
        let bytes = serde_json::to_vec(value).map_err(|cause| wrong(name, &cause))?;
        self.set_bytes(name, bytes).await
    }

    /// An attribute as it is.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn get_bytes(&self, name: &str) -> Result<Option<Bytes>, SessionError> {
        let mut state = self.open().await?;
        if let Some(value) = state.set.get(name) {
            return Ok(Some(value.clone()));
        }
        if state.removed.contains(name) {
            return Ok(None);
        }
        Ok(self.loaded(&mut state).await?.get(name).cloned())
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn set_bytes(&self, name: &str, value: impl Into<Bytes>) -> Result<(), SessionError> {
        let mut state = self.open().await?;
        state.removed.remove(name);
        state.set.insert(name.to_owned(), value.into());
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn remove(&self, name: &str) -> Result<(), SessionError> {
        let mut state = self.open().await?;
        state.set.remove(name);
        state.removed.insert(name.to_owned());
        Ok(())
    }

    /// The attributes' names, sorted.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn names(&self) -> Result<Vec<String>, SessionError> {
        let mut state = self.open().await?;
        let mut names: BTreeSet<String> = self.loaded(&mut state).await?.keys().cloned().collect();
        names.retain(|name| !state.removed.contains(name));
        names.extend(state.set.keys().cloned());
        Ok(names.into_iter().collect())
    }

    /// Ends the session everywhere, with its changes. What is set afterwards begins a new one.
    ///
    /// # Errors
    /// See [`SessionError`]: the session may live on then.
    pub async fn invalidate(&self) -> Result<(), SessionError> {
        let mut state = self.open().await?;
        state.set.clear();
        state.removed.clear();
        match &self.inner.store {
            Store::Remote(remote) => remote.invalidate(&state.call).await?,
            Store::Memory(memory) => {
                memory.remove(&state.call.session);
                state.call.session = Memory::fresh_id();
                state.renamed = true;
            }
            Store::Nowhere => return Err(SessionError::NoSession),
        }
        state.loaded = Some(HashMap::new());
        Ok(())
    }

    /// Gives the session a new id: call it when a user logs in, so that nobody who knew the old id shares the login.
    ///
    /// # Errors
    /// See [`SessionError`]: the session has its old id then.
    pub async fn change_id(&self) -> Result<(), SessionError> {
        let mut state = self.open().await?;
        self.send(&mut state).await?;
        match &self.inner.store {
            Store::Remote(remote) => state.call.session = remote.change_id(&state.call).await?,
            Store::Memory(memory) => {
                let attributes = memory.remove(&state.call.session);
                state.call.session = Memory::fresh_id();
                state.renamed = true;
                memory.update(&state.call.session, attributes, Vec::new());
            }
            Store::Nowhere => return Err(SessionError::NoSession),
        }
        Ok(())
    }

    /// A link to a page of this app, a path perhaps with a query, as it is to stand in an answer: with the session's id in it if the
    /// user has sent no cookie and the rule of the web-tier has `session-url: true`. What leads elsewhere (`https:`, `//host`) is left
    /// alone: the id is a secret. After [`change_id`](Self::change_id) it has the new id.
    pub async fn link(&self, path: &str) -> String {
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let leads_elsewhere = path.starts_with("//") || path[..end].contains([':', '\\']);
        if !self.inner.in_links || leads_elsewhere {
            return path.to_owned();
        }
        let state = self.inner.state.lock().await;
        format!("{};jsessionid={}{}", &path[..end], state.call.session, &path[end..])
    }

    /// The handler has returned: sends the changes. The session's id, if it is a local one that the browser has to be given.
    pub(crate) async fn finish(&self) -> Result<Option<String>, SessionError> {
        let mut state = self.inner.state.lock().await;
        state.over = true;
        let changed = self.send(&mut state).await?;
        let local = matches!(self.inner.store, Store::Memory(_))
            && (changed || state.renamed || state.loaded.is_some());
        Ok(local.then(|| state.call.session.clone()))
    }

    async fn open(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.inner.state.lock().await;
        if state.over { Err(SessionError::Over) } else { Ok(state) }
    }

    async fn loaded<'a>(&self, state: &'a mut State) -> Result<&'a HashMap<String, Bytes>, SessionError> {
        if state.loaded.is_none() {
            state.loaded = Some(match &self.inner.store {
                Store::Remote(remote) => remote.load(&state.call).await?,
                Store::Memory(memory) => memory.load(&state.call.session),
                Store::Nowhere => return Err(SessionError::NoSession),
            });
        }
        Ok(state.loaded.get_or_insert_default())
    }

    /// Sends the changes, if there are any. They stay changes until they have arrived.
    async fn send(&self, state: &mut State) -> Result<bool, SessionError> {
        if state.set.is_empty() && state.removed.is_empty() {
            return Ok(false);
        }
        let (set, removed) = (state.set.clone(), state.removed.iter().cloned().collect());
        match &self.inner.store {
            Store::Remote(remote) => remote.update(&state.call, set, removed).await?,
            Store::Memory(memory) => memory.update(&state.call.session, set, removed),
            Store::Nowhere => return Err(SessionError::NoSession),
        }
        let (set, removed) = (std::mem::take(&mut state.set), std::mem::take(&mut state.removed));
        if let Some(loaded) = &mut state.loaded {
            loaded.extend(set);
            loaded.retain(|name, _| !removed.contains(name));
        }
        Ok(true)
    }
}

fn wrong(name: &str, cause: &serde_json::Error) -> SessionError {
    SessionError::Value { name: name.to_owned(), cause: cause.to_string() }
}

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        parts.extensions.get::<Self>().cloned().ok_or(SessionError::NoLayer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn links_carry_the_session_where_cookies_do_not() {
        let session = |in_links| {
            let call = Call { request: String::new(), session: "aaX".to_owned() };
            Session::with_links(Store::Nowhere, call, in_links)
        };
        for (path, link) in [
            ("count", "count;jsessionid=aaX"),
            ("/a/b?c=d;e#f", "/a/b;jsessionid=aaX?c=d;e#f"),
            ("./", "./;jsessionid=aaX"),
            ("", ";jsessionid=aaX"),
            ("#top", ";jsessionid=aaX#top"),
            ("https://elsewhere/x", "https://elsewhere/x"),
            ("//elsewhere/x", "//elsewhere/x"),
            ("/\\elsewhere", "/\\elsewhere"),
            ("mailto:a@b", "mailto:a@b"),
        ] {
            assert_eq!(session(true).link(path).await, link);
            assert_eq!(session(false).link(path).await, path);
        }
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_still_a_change() {
        let call = Call { request: String::new(), session: String::new() };
        let session = Session::new(Store::Nowhere, call);
        session.set("cart", &[1, 2]).await.unwrap();
        assert!(matches!(session.change_id().await, Err(SessionError::NoSession)));
        assert_eq!(session.get::<Vec<u32>>("cart").await.unwrap(), Some(vec![1, 2]));
        assert!(matches!(session.finish().await, Err(SessionError::NoSession)), "and is not lost in silence");
    }
}
