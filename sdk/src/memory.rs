//! Sessions in this process's memory, to try an app without Copal. Not for production: a restart forgets all.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Sessions that are kept; then all are forgotten.
const MAX: usize = 10_000;

const COOKIE: &str = "COPAL_DEV_SESSION";

/// Sessions by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<HashMap<String, HashMap<String, Bytes>>>>);

impl Memory {
    /// The session of a request, or a new id.
    pub(crate) fn id(headers: &HeaderMap) -> String {
        let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
        let found = fields
            .flat_map(|field| field.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, value)| {
                *name == COOKIE && value.len() == 32 && value.bytes().all(|it| it.is_ascii_hexdigit())
            });
        found.map_or_else(Self::fresh_id, |(_, value)| value.to_owned())
    }

    pub(crate) fn fresh_id() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    /// What gives the browser this session.
    pub(crate) fn cookie(id: &str) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax")).ok()
    }

    pub(crate) fn load(&self, id: &str) -> HashMap<String, Bytes> {
        self.sessions().get(id).cloned().unwrap_or_default()
    }

    pub(crate) fn update(&self, id: &str, set: HashMap<String, Bytes>, removed: Vec<String>) {
        let mut sessions = self.sessions();
        if sessions.len() >= MAX && !sessions.contains_key(id) {
            sessions.clear();
        }
        let session = sessions.entry(id.to_owned()).or_default();
        session.extend(set);
        for name in removed {
            session.remove(&name);
        }
    }

    pub(crate) fn remove(&self, id: &str) -> HashMap<String, Bytes> {
        self.sessions().remove(id).unwrap_or_default()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
