//! One request's view of one session: what its app reads and changes, and what its answer has to wait for and carry.

use super::{
    SessionError, cookie,
    entry::{Entry, Heard},
    replica::{Attributes, Replica},
    store::{Sessions, count},
};
use bytes::Bytes;
use common::{
    config::{OnHubLoss, SaveMode},
    session_id::SessionId,
};
use http::{HeaderMap, HeaderValue};
use proto::hub::v1::{
    RemoveSession, SaveSession, SessionKey, session_outcome::Outcome, session_write::Write,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::MutexGuard;
use triad_client::HubError;

/// Largest value of an attribute.
const VALUE_MAX: usize = 16 * 1024 * 1024;

/// Largest name of an attribute.
const NAME_MAX: usize = 1024;

/// Largest session: all names and values.
const SESSION_MAX: usize = 32 * 1024 * 1024;

/// Ids shorter than ours could be guessed: they are honoured for routing, but no session is made under them.
const REUSABLE_MIN: usize = 24;

/// One request's view of one session.
#[derive(Debug)]
pub(crate) struct Visit {
    sessions: Arc<Sessions>,
    /// What the app was told: `X-Session-Id`.
    presented: SessionId,
    /// What the browser sent.
    cookie: Option<SessionId>,
    /// The request came over TLS.
    secure: bool,
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
    /// This request ended the session that it came with.
    ended: bool,
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
    /// Begins a request with these headers. Asks nobody.
    pub(crate) fn begin(sessions: &Arc<Sessions>, headers: &HeaderMap, secure: bool) -> VisitGuard {
        let cookie = cookie::read(headers, &sessions.config.cookie_name);
        let id = cookie.clone().unwrap_or_else(|| sessions.fresh_id());
        if let Some(entry) = cookie.as_ref().and_then(|id| sessions.held_entry(id)) {
            sessions.touch(&entry);
        }
        let state = State {
            id: id.clone(),
            fresh: cookie.is_none(),
            entry: None,
            generation: None,
            changed: None,
            renamed: false,
            ended: false,
            failed: None,
        };
        let visit = Arc::new(Self {
            sessions: sessions.clone(),
            presented: id,
            cookie,
            secure,
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

    /// The attributes, for the app.
    ///
    /// # Errors
    /// See [`SessionError`]; the request's answer will then be a 503.
    pub(crate) async fn load(&self, session_id: &str) -> Result<Loaded, SessionError> {
        let mut state = self.call(session_id).await?;
        let loaded = self.loaded(&mut state).await;
        state.note(loaded)
    }

    async fn loaded(&self, state: &mut State) -> Result<Loaded, SessionError> {
        let Some(entry) = self.opened(state, false).await? else { return Ok((false, 0, Attributes::new())) };
        let held = entry.state();
        Ok((held.replica.exists(), held.replica.version(), held.replica.attributes()))
    }

    /// Changes attributes; makes the session if there is none.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub(crate) async fn update(
        &self,
        session_id: &str,
        set: HashMap<String, Bytes>,
        removed: Vec<String>,
    ) -> Result<(), SessionError> {
        for (name, size, max) in set
            .iter()
            .flat_map(|(name, value)| [(name, name.len(), NAME_MAX), (name, value.len(), VALUE_MAX)])
        {
            if size > max {
                let name: String = name.chars().take(64).collect();
                return Err(SessionError::TooLarge { what: format!("attribute {name:?}"), size, max });
            }
        }
        let mut state = self.call(session_id).await?;
        let updated = self.updated(&mut state, set, removed).await;
        if self.over.load(Ordering::Acquire) {
            self.save_late(&state);
        }
        state.note(updated)
    }

    async fn updated(
        &self,
        state: &mut State,
        set: Attributes,
        removed: Vec<String>,
    ) -> Result<(), SessionError> {
        let Some(entry) = self.opened(state, true).await? else { return Err(SessionError::Stale) };
        let mut held = entry.state();
        let grown =
            held.replica.size() + set.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if grown > SESSION_MAX {
            return Err(SessionError::TooLarge {
                what: "the session".to_owned(),
                size: grown,
                max: SESSION_MAX,
            });
        }
        held.replica.update(set, removed);
        held.used = self.sessions.clock.now();
        if self.sessions.hub.is_none() {
            held.replica.settle();
        }
        // Equal values are no change: such a request has only read.
        if held.replica.is_dirty() {
            state.changed = Some(held.replica.sequence());
        }
        state.renamed |= self.cookie.as_ref() != Some(&entry.id);
        Ok(())
    }

    /// Ends the session everywhere.
    ///
    /// # Errors
    /// See [`SessionError`]; [`SessionError::HubLost`]: it may live on.
    pub(crate) async fn invalidate(&self, session_id: &str) -> Result<(), SessionError> {
        let mut state = self.call(session_id).await?;
        if !state.fresh || state.entry.is_some() {
            let entry = match &state.entry {
                Some(entry) => entry.clone(),
                None => self.sessions.entry(&state.id)?,
            };
            let removed = self.remove(&entry, None).await;
            state.note(removed)?;
        }
        let fresh = self.sessions.fresh_id();
        state.move_to(fresh, None);
        state.ended = true;
        Ok(())
    }

    /// Moves the session to a new id; the answer gives the browser the new cookie.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub(crate) async fn change_id(&self, session_id: &str) -> Result<SessionId, SessionError> {
        let mut state = self.call(session_id).await?;
        let fresh = self.sessions.fresh_id();
        let opened = self.opened(&mut state, false).await;
        let entry = state.note(opened)?.filter(|entry| entry.state().replica.exists());
        let Some(entry) = entry else {
            state.move_to(fresh.clone(), None);
            return Ok(fresh);
        };
        let moved = self.remove(&entry, Some(&fresh)).await;
        let moved = state.note(moved)?;
        state.move_to(fresh.clone(), moved);
        state.renamed = true;
        Ok(fresh)
    }

    /// Before the answer's head leaves: makes the changes as safe as `save-mode` says, and returns the `Set-Cookie`.
    ///
    /// # Errors
    /// The answer must not leave.
    pub(crate) async fn finish(&self) -> Result<Option<HeaderValue>, SessionError> {
        let mut state = self.state.lock().await;
        self.over.store(true, Ordering::Release);
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        if let Some(entry) = state.entry.clone() {
            self.settle(&mut state, &entry).await?;
        }
        let (name, config) = (&self.sessions.config.cookie_name, self.sessions.cookie());
        Ok(if state.renamed {
            cookie::set(name, &state.id, config, self.secure)
        } else if state.ended && self.cookie.is_some() {
            cookie::clear(name, config, self.secure)
        } else {
            None
        })
    }

    async fn settle(&self, state: &mut State, entry: &Arc<Entry>) -> Result<(), SessionError> {
        let sessions = &self.sessions;
        if sessions.hub.is_none() {
            return Ok(());
        }
        let generation = state.generation.unwrap_or(u64::MAX);
        if state.changed.is_none() {
            // Read only: while this request ran, the process may have been stopped and the session moved on.
            sessions.open(entry).await?;
            if generation != u64::MAX && entry.state().replica.generation() != generation {
                return Err(SessionError::Stale);
            }
        }
        if sessions.config.session.always_save_session {
            let mut held = entry.state();
            held.replica.save_all();
            if held.replica.exists() {
                state.changed = Some(held.replica.sequence());
            }
        }
        let Some(changed) = state.changed else { return Ok(()) };
        // A change on a copy that has moved away meanwhile waits for the hub's word in every mode.
        if sessions.config.session.save_mode == SaveMode::BeforeResponse || entry.state().stale {
            match sessions.save(entry, changed, generation).await {
                Err(SessionError::HubLost(why))
                    if sessions.config.session.on_hub_loss == OnHubLoss::Serve =>
                {
                    answered_unsaved(entry, changed, generation, why)?;
                    count(&sessions.counters.unsaved_answers);
                    return Ok(());
                }
                done => done?,
            }
        }
        entry.state().replica.answered(changed);
        Ok(())
    }

    /// Changes that no answer waits for.
    fn save_late(&self, state: &State) {
        if let Some(entry) = &state.entry
            && self.sessions.config.session.save_mode != SaveMode::OnShutdown
        {
            self.sessions.save_in_background(entry);
        }
    }

    /// Begins a call of the app.
    async fn call(&self, session_id: &str) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state.lock().await;
        if session_id != self.presented.as_str() && session_id != state.id.as_str() {
            return Err(SessionError::NotThisRequest);
        }
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None => Ok(state),
        }
    }

    /// The session's entry, current and as this request saw it before. `None`: there is no session; with `make`, there is one
    /// to be made.
    async fn opened(&self, state: &mut State, make: bool) -> Result<Option<Arc<Entry>>, SessionError> {
        if state.fresh && state.entry.is_none() {
            if !make {
                return Ok(None);
            }
            return self.made(state).map(Some);
        }
        let entry = match &state.entry {
            Some(entry) => entry.clone(),
            None => self.sessions.entry(&state.id)?,
        };
        self.sessions.open(&entry).await?;
        state.entry = Some(entry.clone());
        let (exists, generation) = {
            let held = entry.state();
            if held.removed {
                return Err(SessionError::Stale);
            }
            (held.replica.exists(), held.replica.generation())
        };
        if *state.generation.get_or_insert(generation) != generation {
            return Err(SessionError::Stale);
        }
        let reusable =
            self.sessions.config.session.reuse_session_id && entry.id.as_str().len() >= REUSABLE_MIN;
        if !exists && !reusable && !state.fresh {
            self.sessions.forget(&entry);
            let fresh = self.sessions.fresh_id();
            state.move_to(fresh, None);
            return if make { self.made(state).map(Some) } else { Ok(None) };
        }
        Ok(Some(entry))
    }

    /// An entry for a session that nobody can have yet.
    fn made(&self, state: &mut State) -> Result<Arc<Entry>, SessionError> {
        let entry = self.sessions.entry(&state.id)?;
        {
            let mut held = entry.state();
            let heard = held.heard(&self.sessions.link);
            held.verified(heard);
            state.generation = Some(held.replica.generation());
        }
        state.entry = Some(entry.clone());
        Ok(entry)
    }

    /// Removes the session from the hub and from memory; with `to`, after it was saved under that id, whose entry is returned.
    async fn remove(
        &self,
        entry: &Arc<Entry>,
        to: Option<&SessionId>,
    ) -> Result<Option<Arc<Entry>>, SessionError> {
        let sessions = &self.sessions;
        let limit = sessions.config.session.save_timeout;
        let removed = async {
            let _gate = entry.gate.lock().await;
            let (attributes, local) = {
                let held = entry.state();
                (held.replica.attributes(), held.replica.is_local() && held.known)
            };
            let moved = match to {
                Some(id) => Some(self.copy(id, attributes).await?),
                None => None,
            };
            if let Some(hub) = sessions.hub.as_ref().filter(|_| !local) {
                let remove = RemoveSession { key: Some(sessions.key(&entry.id)) };
                hub.write(Write::Remove(remove), limit).await?;
            }
            entry.state().removed = true;
            Ok(moved)
        };
        let moved = match tokio::time::timeout(limit, removed).await {
            Ok(Ok(moved)) => moved,
            Ok(Err(HubError::Refused(why))) => return Err(SessionError::Refused(why)),
            Ok(Err(cause)) => return Err(SessionError::HubLost(cause.to_string())),
            Err(_) => return Err(SessionError::HubLost(format!("no answer within {limit:?}"))),
        };
        entry.outcome.notify_waiters();
        sessions.forget(entry);
        if let Some(moved) = &moved {
            sessions.put(moved.clone());
        }
        Ok(moved)
    }

    /// A new session with these attributes, on the hub and as an entry that is not in memory yet.
    async fn copy(&self, id: &SessionId, attributes: Attributes) -> Result<Arc<Entry>, HubError> {
        let sessions = &self.sessions;
        let save_id = rand::random();
        let key: SessionKey = sessions.key(id);
        let heard = Heard { epoch: sessions.link.epoch(), moves: 0 };
        let limit = sessions.config.session.save_timeout;
        if let Some(hub) = &sessions.hub {
            let save = SaveSession {
                key: Some(key),
                base_version: 0,
                save_id,
                set: attributes.clone(),
                removed: Vec::new(),
                owner: sessions.config.me.as_str().to_owned(),
                timeout_ms: sessions.hub_timeout_ms(),
            };
            match hub.write(Write::Save(save), limit).await? {
                Outcome::Version(_) => {}
                other => return Err(HubError::Refused(format!("a new session was answered with {other:?}"))),
            }
        }
        let entry = Entry::new(id.clone(), sessions.clock.now());
        {
            let mut held = entry.state();
            held.replica = Replica::created(attributes, save_id);
            held.verified(heard);
        }
        Ok(Arc::new(entry))
    }
}

/// An answer leaves whose changes the hub does not have, because it can't be reached (`why`).
///
/// # Errors
/// [`SessionError::Stale`]: the changes were dropped just now. [`SessionError::HubLost`]: the hub has said that they were made on
/// an outdated copy.
fn answered_unsaved(entry: &Entry, changed: u64, generation: u64, why: String) -> Result<(), SessionError> {
    // One lock from the look to the mark: a saver may be at work on these very changes.
    let mut held = entry.state();
    if held.removed || held.replica.has_dropped(generation) {
        return Err(SessionError::Stale);
    }
    if held.stale {
        return Err(SessionError::HubLost(why));
    }
    held.replica.answered(changed);
    Ok(())
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
        self.renamed = false;
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

    /// `X-Copal-Request`: names the request in calls of the app.
    pub(crate) fn handle(&self) -> String {
        format!("{:016x}", self.handle)
    }
}

impl Drop for VisitGuard {
    /// The answer has ended, or the request was given up: what is unsaved by now goes to the hub without it.
    fn drop(&mut self) {
        self.visit.sessions.visits().remove(&self.handle);
        self.visit.over.store(true, Ordering::Release);
        // A call that is under way sees that the request is over, and saves by itself.
        let Ok(state) = self.visit.state.try_lock() else { return };
        self.visit.save_late(&state);
        if let Some(entry) = &state.entry {
            self.visit.sessions.forget_nothing(entry);
        }
    }
}

impl Sessions {
    /// The request in flight with this handle.
    pub(crate) fn visit(&self, handle: &str) -> Option<Arc<Visit>> {
        let handle = u64::from_str_radix(handle, 16).ok()?;
        self.visits().get(&handle).cloned()
    }
}
