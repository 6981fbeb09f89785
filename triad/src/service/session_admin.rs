//! `session_admin.proto`'s service: sessions as an operator asks for them, without their values.

use super::input;
use crate::{command, hub::Hub};
use proto::hub::v1::{
    AppSessions, CountSessions, FindSession, FoundAttribute, FoundSession, FoundSessions, InvalidateSession,
    RemoveSession, SessionCounts, SessionKey, SessionRecord, SessionWrite, SessionsInvalidated,
    session_admin_server::SessionAdmin, session_write::Write,
};
use std::{collections::BTreeSet, sync::Arc};
use tonic::{Request, Response, Status};

/// Apps and attributes that are told at most.
const APPS_MAX: usize = 1000;
const ATTRIBUTES_MAX: usize = 200;

/// Apps that a caller may name.
const HELD_BY_MAX: usize = 100;

/// What a removal takes in the log, beside its key.
const REMOVAL_BYTES: usize = 64;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct SessionAdminService(pub(crate) Arc<Hub>);

impl SessionAdminService {
    /// The sessions of an id, of whatever app.
    fn of_id(&self, id: &str) -> Vec<SessionRecord> {
        let applied = self.0.node().view().read();
        let state = &applied.state;
        let keys =
            state.memory().apps().map(|(app, ..)| SessionKey { app: app.to_owned(), id: id.to_owned() });
        keys.filter_map(|key| Some(state.session(&key)?.record(key))).collect()
    }
}

#[tonic::async_trait]
impl SessionAdmin for SessionAdminService {
    async fn count(&self, _: Request<CountSessions>) -> Result<Response<SessionCounts>, Status> {
        let mut apps: Vec<AppSessions> = {
            let applied = self.0.node().view().read();
            let apps = applied.state.memory().apps();
            apps.map(|(app, sessions, bytes)| AppSessions { app: app.to_owned(), sessions, bytes }).collect()
        };
        apps.sort_by_key(|it| std::cmp::Reverse(it.bytes));
        apps.truncate(APPS_MAX);
        Ok(Response::new(SessionCounts { apps }))
    }

    async fn find(&self, request: Request<FindSession>) -> Result<Response<FoundSessions>, Status> {
        let FindSession { id } = request.into_inner();
        input::session_id("id", &id)?;
        self.0.confirm_session_read().await?;
        let now_ms = self.0.time_ms();
        let now_ms = self.0.node().view().read().state.session_ms_at(now_ms);
        let sessions = self.of_id(&id).into_iter().map(|it| found(it, now_ms)).collect();
        Ok(Response::new(FoundSessions { sessions }))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateSession>,
    ) -> Result<Response<SessionsInvalidated>, Status> {
        let InvalidateSession { id, held_by } = request.into_inner();
        input::session_id("id", &id)?;
        if held_by.len() > HELD_BY_MAX {
            let count = held_by.len();
            return Err(Status::invalid_argument(format!(
                "held_by has {count} entries: expected at most {HELD_BY_MAX}"
            )));
        }
        for app in &held_by {
            input::app("held_by", app)?;
        }
        self.0.confirm_session_read().await?;
        let records = self.of_id(&id).into_iter().filter_map(|it| Some(it.key?.app));
        let apps: BTreeSet<String> = records.chain(held_by).collect();
        let bytes = apps.iter().map(|app| REMOVAL_BYTES + app.len() + id.len()).sum();
        let removals = apps.iter().map(|app| {
            let key = SessionKey { app: app.clone(), id: id.clone() };
            command::session(SessionWrite { write: Some(Write::Remove(RemoveSession { key: Some(key) })) })
        });
        let removals: Vec<_> = removals.collect();
        if !removals.is_empty() {
            self.0.propose(removals, bytes).await?;
        }
        Ok(Response::new(SessionsInvalidated { apps: apps.into_iter().collect() }))
    }
}

fn found(record: SessionRecord, now_ms: u64) -> FoundSession {
    let SessionRecord { key, version, attributes, owner, created_ms, accessed_ms, timeout_ms, .. } = record;
    let bytes = |name: &str, value: usize| (name.len() + value) as u64;
    let mut named: Vec<FoundAttribute> = attributes
        .iter()
        .map(|(name, value)| FoundAttribute { name: name.clone(), bytes: value.len() as u64 })
        .collect();
    named.sort_by(|a, b| a.name.cmp(&b.name));
    named.truncate(ATTRIBUTES_MAX);
    FoundSession {
        app: key.map(|it| it.app).unwrap_or_default(),
        owner,
        version,
        created_ago_ms: now_ms.saturating_sub(created_ms),
        used_ago_ms: now_ms.saturating_sub(accessed_ms),
        timeout_ms,
        bytes: attributes.iter().map(|(name, value)| bytes(name, value.len())).sum(),
        attribute_count: attributes.len() as u64,
        attributes: named,
    }
}
