//! One request's view of one session: what its app reads and changes, and what its answer has to wait for and carry.

mod answer;
mod call;
mod ending;
mod renaming;
mod without;

pub(crate) use answer::Finished;

use super::{SessionError, Witness, cookie, entry::Entry, replica::Attributes, store::Sessions};
use common::{
    config::SaveMode,
    hub_age::{self, HUB_AGE},
    session_id::SessionId,
};
use http::{HeaderMap, HeaderValue};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};

/// One request's view of one session.
#[derive(Debug)]
pub(crate) struct Visit {
    sessions: Arc<Sessions>,
    /// What the app was told: `X-Session-Id`.
    presented: SessionId,
    /// What the browser sent.
    brought: Option<SessionId>,
    /// In a cookie, not in the URL.
    by_cookie: bool,
    /// The request came over TLS.
    secure: bool,
    /// What its web-tier has heard of the hub.
    witness: Witness,
    /// The request's span: the app's calls are work for it.
    scope: Option<traces::Scope>,
    /// The answer has left: nobody else saves what is changed from now on.
    over: AtomicBool,
    /// One call at a time.
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The session's id now.
    id: SessionId,
    /// It was made for this request: nobody can have such a session.
    fresh: bool,
    entry: Option<Arc<Entry>>,
    /// The replica's generation when this request first saw it.
    generation: Option<u64>,
    /// This request's last change.
    changed: Option<u64>,
    /// The session got its id in this request.
    renamed: bool,
    /// It had another one before, which names nothing any more: the browser must hear of the new one, whatever the answer is.
    moved: bool,
    /// This request ended the session that it came with.
    ended: bool,
    /// The entry is this request's alone: memory has no place for another session.
    homeless: bool,
    /// A call failed: the answer that the app gives can't be right.
    failed: Option<SessionError>,
}

/// A request in flight: its app can call for its session while this lives.
#[derive(Debug)]
pub(crate) struct VisitGuard {
    visit: Arc<Visit>,
    handle: u64,
}

/// What an app gets to see of a session: whether it exists, its version on the hub, its attributes.
pub(crate) type Loaded = (bool, u64, Attributes);

impl Visit {
    /// The session's id, which another call may have changed.
    pub(crate) async fn current_id(&self) -> SessionId {
        self.state.lock().await.id.clone()
    }

    /// Does something that the app calls for, as a part of its request.
    pub(crate) async fn within<F: Future>(&self, call: F) -> F::Output {
        traces::Scope::run(self.scope.as_ref(), call).await
    }

    /// Begins a request with these headers, the session that its cookie names, and the one that its URL names. Asks nobody.
    pub(crate) fn begin(
        sessions: &Arc<Sessions>,
        headers: &HeaderMap,
        cookie: Option<SessionId>,
        named: Option<SessionId>,
        secure: bool,
    ) -> VisitGuard {
        let by_cookie = cookie.is_some();
        let brought = cookie.or(named);
        let id = brought.clone().unwrap_or_else(|| sessions.fresh_id());
        if let Some(entry) = brought.as_ref().and_then(|id| sessions.held_entry(id)) {
            sessions.touch(&entry);
        }
        let witness = sessions.witness(headers);
        let state = State {
            id: id.clone(),
            fresh: brought.is_none(),
            entry: None,
            generation: None,
            changed: None,
            renamed: false,
            moved: false,
            ended: false,
            homeless: false,
            failed: None,
        };
        let visit = Arc::new(Self {
            sessions: sessions.clone(),
            presented: id,
            brought,
            by_cookie,
            secure,
            witness,
            scope: traces::Scope::current(),
            over: AtomicBool::new(false),
            state: tokio::sync::Mutex::new(state),
        });
        let mut visits = sessions.visits();
        let handle = loop {
            let handle = rand::random();
            if let std::collections::hash_map::Entry::Vacant(place) = visits.entry(handle) {
                place.insert(visit.clone());
                break handle;
            }
        };
        drop(visits);
        VisitGuard { visit, handle }
    }

    /// Before the app sees the request: its session is loaded now if this server may be cut off from the hub, for then another
    /// server can still take the request.
    ///
    /// # Errors
    /// The session can't be served here.
    pub(crate) async fn assure(&self) -> Result<(), SessionError> {
        let sessions = &self.sessions;
        let Some(id) = self.brought.as_ref().filter(|_| sessions.hub.is_some()) else { return Ok(()) };
        if !sessions.link.is_outlived(self.witness) {
            return Ok(());
        }
        let entry = sessions.entry(id)?;
        let opened = sessions.open(&entry, self.witness).await;
        sessions.forget_nothing(&entry);
        opened.map(|_| ())
    }

    /// Saves in the background what no answer waits for any more: what is changed once the answer has left, or the request was given
    /// up. Called at the end of the request, and of each call after that.
    fn save_late(&self) {
        // Of two that end at once, one sees that the other has ended.
        fence(Ordering::SeqCst);
        if !self.over.load(Ordering::SeqCst) || self.sessions.config.session.save_mode == SaveMode::OnShutdown
        {
            return;
        }
        // Who has the lock will come here.
        let Ok(state) = self.state.try_lock() else { return };
        if let Some(entry) = state.entry.as_ref().filter(|_| !state.homeless) {
            self.sessions.save_in_background(entry);
        }
    }
}

impl State {
    /// A failure of a call is the failure of the request, but for what the app could do better.
    fn note<T>(&mut self, done: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Err(failed) = &done
            && !matches!(failed, SessionError::TooLarge { .. } | SessionError::NotThisRequest)
        {
            self.failed = Some(failed.clone());
        }
        done
    }

    /// From now on this request has another session.
    fn move_to(&mut self, id: SessionId, entry: Option<Arc<Entry>>) {
        self.generation = entry.as_ref().map(|entry| entry.state().replica.generation());
        self.fresh = true;
        self.id = id;
        self.entry = entry;
        self.changed = None;
        (self.renamed, self.moved, self.homeless) = (false, false, false);
    }

    /// From now on it is saved under a fresh id.
    fn go_on_as(&mut self, anew: Arc<Entry>) {
        self.move_to(anew.id.clone(), Some(anew));
        (self.renamed, self.moved) = (true, true);
    }
}

impl VisitGuard {
    /// The visit.
    pub(crate) fn visit(&self) -> &Visit {
        &self.visit
    }

    /// `X-Session-Id`.
    pub(crate) fn session_id(&self) -> &str {
        self.visit.presented.as_str()
    }

    /// Whether the browser has sent a cookie, so that links need not carry the session.
    pub(crate) fn came_by_cookie(&self) -> bool {
        self.visit.by_cookie
    }

    /// `X-Copal-Request`: names the request in calls of the app.
    pub(crate) fn handle(&self) -> String {
        format!("{:016x}", self.handle)
    }
}

impl Drop for VisitGuard {
    /// The answer has ended, or the request was given up: what is unsaved by now goes to the hub without it.
    fn drop(&mut self) {
        self.visit.sessions.visits().remove(&self.handle);
        self.visit.over.store(true, Ordering::SeqCst);
        self.visit.save_late();
        let Ok(state) = self.visit.state.try_lock() else { return };
        if let Some(entry) = &state.entry {
            self.visit.sessions.forget_nothing(entry);
        }
    }
}

impl Sessions {
    /// The session that a cookie names. Where it has several values, from other paths or domains, it is the one of which there is a session:
    /// in memory, else on the hub, which is asked a bounded number of times. Where there is none it is the first, as nobody knows better.
    pub(crate) async fn named_in_cookie(self: &Arc<Self>, headers: &HeaderMap) -> Option<SessionId> {
        let mut ids = cookie::read(headers, &self.config.cookie_name);
        if ids.len() > 1 {
            // Sorting is stable: among those in memory, too, ours come first.
            ids.sort_by_cached_key(|id| {
                !self.held_entry(id).is_some_and(|entry| entry.state().replica.exists())
            });
            let witness = self.witness(headers);
            for place in 0..ids.len() {
                if self.is_session(&ids[place], witness).await == Some(true) {
                    return Some(ids.swap_remove(place));
                }
            }
        }
        ids.into_iter().next()
    }

    /// The session that a URL names, unless there is no such session: anybody can send a user a link, so an id in a
    /// URL never becomes a session's, and the app must not put one into its links under which nothing would be kept. While the hub
    /// can't be asked nobody knows; then it is for the app's calls to say so.
    pub(crate) async fn named_in_url(
        self: &Arc<Self>,
        headers: &HeaderMap,
        named: &HeaderValue,
    ) -> Option<SessionId> {
        let id = SessionId::parse(named.to_str().ok()?)?;
        let exists = self.is_session(&id, self.witness(headers)).await;
        exists.unwrap_or(true).then_some(id)
    }

    /// Whether there is a session of this id; `None` while nobody can say.
    async fn is_session(self: &Arc<Self>, id: &SessionId, witness: Witness) -> Option<bool> {
        let entry = self.entry(id).ok()?;
        let opened = self.open(&entry, witness).await;
        let exists = {
            let state = entry.state();
            state.replica.exists() && !state.removed
        };
        self.forget_nothing(&entry);
        let known = opened.is_ok() || opened.is_err_and(|cause| cause.is_stale());
        (exists || known).then_some(exists)
    }

    /// What a request's web-tier has heard of the hub.
    fn witness(&self, headers: &HeaderMap) -> Witness {
        let age = headers.get(HUB_AGE).and_then(|age| hub_age::parse(age.as_bytes()));
        self.link.witness(age)
    }

    /// The request in flight with this handle.
    pub(crate) fn visit(&self, handle: &str) -> Option<Arc<Visit>> {
        let handle = u64::from_str_radix(handle, 16).ok()?;
        self.visits().get(&handle).cloned()
    }
}
