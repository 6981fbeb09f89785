//! The session store against a hub in memory: one that can be down, lose answers and be written by others.

mod conflicts;
mod cookies;
mod counting;
mod fake;
mod lifecycle;
mod loss;
mod memory;
mod renaming;
mod renewal;
mod url;
mod witness;

use super::{SessionError, Sessions, SessionsConfig, cookie, link::Link, visit::VisitGuard};
use crate::{app::tests::session_config, session::Visit};
use bytes::Bytes;
use common::{
    clock::{Clock, ManualClock},
    config::SessionConfig,
    hub_age,
    id::ServerIndex,
    session_id::SessionId,
};
use fake::FakeHub;
use http::{HeaderMap, HeaderValue, header};
use proto::hub::v1::{Alive, Snapshot, event};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Attributes in memory, in bytes.
const MEMORY: usize = 40 * 1024 * 1024;

/// A server with its store, on a shared hub.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) link: Arc<Link>,
    pub(super) hub: Arc<FakeHub>,
}

/// A user with a cookie jar.
#[derive(Default, Clone)]
pub(super) struct User {
    pub(super) cookie: Option<String>,
    /// What the web-tier says of the hub.
    pub(super) hub_age: Option<Duration>,
}

impl Server {
    pub(super) fn new(name: &'static str, index: u16, hub: &Arc<FakeHub>, session: SessionConfig) -> Self {
        let clock = Arc::new(ManualClock::new(1_000));
        let link = Arc::new(Link::new(clock.clone() as Arc<dyn Clock>, true));
        let config = SessionsConfig {
            app: "tier||".to_owned(),
            me: name.into(),
            index: ServerIndex(index),
            cookie_name: "S".to_owned(),
            session,
            memory_max: MEMORY,
        };
        let sessions =
            Arc::new(Sessions::new(config, Some(hub.clone()), link.clone(), clock.clone() as Arc<dyn Clock>));
        let server = Self { name, sessions, clock, link, hub: hub.clone() };
        server.link_is_current();
        server
    }

    /// A sign of life of a hub that is well.
    pub(super) fn link_is_current(&self) {
        self.clock.advance(Duration::from_millis(200));
        self.link.heard(&event::Event::Alive(Alive { number: 1 }), Some(self.clock.now()));
    }

    /// Nothing is heard for a minute.
    pub(super) fn is_cut_off(&self) {
        self.clock.advance(Duration::from_secs(60));
    }

    pub(super) fn snapshot(&self) {
        self.link.heard(&event::Event::Snapshot(Snapshot::default()), None);
    }

    /// What the hub has to tell this server.
    pub(super) fn hears(&self) {
        for id in self.hub.moved(self.name) {
            self.sessions.moved(&id);
        }
    }

    pub(super) fn begin(&self, user: &User) -> VisitGuard {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &user.cookie {
            headers.insert(header::COOKIE, HeaderValue::try_from(format!("x=y; S={cookie}")).unwrap());
        }
        if let Some(age) = user.hub_age {
            let text = hub_age::format(age);
            headers.insert(hub_age::HUB_AGE, HeaderValue::from_bytes(text.as_bytes()).unwrap());
        }
        let cookie = cookie::read(&headers, "S").into_iter().next();
        Visit::begin(&self.sessions, &headers, cookie, None, false)
    }

    /// A request with this `Cookie`, as [`crate::process_app`] begins it.
    pub(super) async fn begin_with_cookies(&self, fields: &[&str]) -> VisitGuard {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::try_from(*field).unwrap());
        }
        let cookie = self.sessions.named_in_cookie(&headers).await;
        Visit::begin(&self.sessions, &headers, cookie, None, false)
    }

    /// A request whose URL names a session.
    pub(super) async fn begin_with_url(&self, user: &User, named: &str) -> VisitGuard {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &user.cookie {
            headers.insert(header::COOKIE, HeaderValue::try_from(format!("S={cookie}")).unwrap());
        }
        let cookie = self.sessions.named_in_cookie(&headers).await;
        let named = match &cookie {
            None => self.sessions.named_in_url(&headers, &HeaderValue::try_from(named).unwrap()).await,
            Some(_) => None,
        };
        Visit::begin(&self.sessions, &headers, cookie, named, false)
    }

    /// A whole request that counts, as the demo app does.
    pub(super) async fn count(&self, user: &mut User) -> Result<u64, SessionError> {
        let guard = self.begin(user);
        let count = read(&guard, "count").await? + 1;
        write(&guard, "count", count).await?;
        finish(&guard, user).await?;
        Ok(count)
    }

    /// A whole request that reads.
    pub(super) async fn look(&self, user: &mut User) -> Result<u64, SessionError> {
        let guard = self.begin(user);
        let count = read(&guard, "count").await?;
        finish(&guard, user).await?;
        Ok(count)
    }
}

pub(super) async fn read(guard: &VisitGuard, name: &str) -> Result<u64, SessionError> {
    let (_, _, attributes) = guard.visit().load(guard.session_id()).await?;
    Ok(attributes.get(name).map_or(0, |bytes| std::str::from_utf8(bytes).unwrap().parse().unwrap()))
}

pub(super) async fn write(guard: &VisitGuard, name: &str, value: u64) -> Result<(), SessionError> {
    let set = HashMap::from([(name.to_owned(), Bytes::from(value.to_string()))]);
    guard.visit().update(guard.session_id(), set, Vec::new()).await
}

/// The answer leaves; the browser keeps its cookie.
pub(super) async fn finish(guard: &VisitGuard, user: &mut User) -> Result<(), SessionError> {
    if let Some(cookie) = guard.visit().finish().await?.cookie {
        let text = cookie.to_str().unwrap();
        let value = text.strip_prefix("S=").unwrap().split(';').next().unwrap();
        user.cookie = (!value.is_empty()).then(|| value.to_owned());
    }
    Ok(())
}

pub(super) fn config(change: impl FnOnce(&mut SessionConfig)) -> SessionConfig {
    let mut config = session_config();
    change(&mut config);
    config
}

/// Two servers on one hub.
pub(super) fn pair(session: &SessionConfig) -> (Arc<FakeHub>, Server, Server) {
    let hub = Arc::new(FakeHub::default());
    let a = Server::new("a", 0, &hub, session.clone());
    let b = Server::new("b", 1, &hub, session.clone());
    (hub, a, b)
}

pub(super) fn id(user: &User) -> SessionId {
    SessionId::parse(user.cookie.as_deref().unwrap()).unwrap()
}
