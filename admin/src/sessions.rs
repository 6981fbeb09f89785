//! Sessions: how many each app has on the hub and in servers' memories, who has one, and the end of one by an operator. Values are shown to
//! nobody, and a session's id is in no URL and no log line.

use crate::{
    HUB_WAIT, Inner,
    ask::{SilentServer, ask_all},
    refusal::Refusal,
    sign_in::SignedIn,
    status::collect::Snapshot,
};
use common::{config::Config, session_id::SessionId};
use proto::{
    hub::v1::{AppSessions, AuditKind, FoundSession, NoteAudit},
    session::v1::{FindHeld, ForgetHeld, HeldSession, memory_client::MemoryClient},
    status::v1::Sessions,
};
use serde::{Deserialize, Serialize};

/// The longest body of a question, in bytes.
const BODY_MAX: usize = 1024;

/// `GET /api/v1/sessions`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SessionsRecord {
    /// On the hub.
    pub(crate) sessions: u64,
    /// That they take there.
    pub(crate) bytes: u64,
    /// New ones that the hub refused for want of memory, since its leader began.
    pub(crate) refused: u64,
    /// On the hub by app, the largest first.
    pub(crate) apps: Vec<AppSessionsRecord>,
    /// Why it is not known by app; none when it is.
    pub(crate) unknown: Option<String>,
    /// In servers' memories.
    pub(crate) servers: Vec<ServerSessionsRecord>,
}

/// An app's sessions on the hub.
#[derive(Debug, Serialize)]
pub(crate) struct AppSessionsRecord {
    pub(crate) app: String,
    pub(crate) sessions: u64,
    pub(crate) bytes: u64,
}

/// An app's sessions in a server's memory; counts are since the app started there.
#[derive(Debug, Serialize)]
pub(crate) struct ServerSessionsRecord {
    pub(crate) server: String,
    pub(crate) app: String,
    pub(crate) held: u64,
    pub(crate) bytes: u64,
    /// With changes that the hub does not have yet.
    pub(crate) unsaved: u64,
    pub(crate) saves: u64,
    /// Conflicts in which both servers' changes were kept.
    pub(crate) merged: u64,
    /// Conflicts in the same attribute: answered 503.
    pub(crate) stale: u64,
    /// The same, found after an answer that had not waited for the hub.
    pub(crate) superseded: u64,
    /// Sessions that were gone from the hub when their changes came there.
    pub(crate) lost: u64,
    pub(crate) unsaved_answers: u64,
    /// Visitors who got none for want of memory.
    pub(crate) without_session: u64,
}

/// `POST /api/v1/sessions/find` and `…/invalidate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    id: String,
}

/// What there is of an id.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FoundRecord {
    /// On the hub; one an app at most.
    pub(crate) hub: Vec<HubSessionRecord>,
    /// In servers' memories.
    pub(crate) servers: Vec<HeldSessionRecord>,
    pub(crate) silent: Vec<SilentServer>,
}

/// A session on the hub.
#[derive(Debug, Serialize)]
pub(crate) struct HubSessionRecord {
    pub(crate) app: String,
    /// Whose memory has it; none: nobody's.
    pub(crate) owner: Option<String>,
    pub(crate) version: u64,
    pub(crate) created_ago_ms: u64,
    /// When the hub heard last that it is in use.
    pub(crate) used_ago_ms: u64,
    /// 0: it never expires.
    pub(crate) timeout_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) attribute_count: u64,
    pub(crate) attributes: Vec<AttributeRecord>,
}

/// A copy of it in a server's memory.
#[derive(Debug, Serialize)]
pub(crate) struct HeldSessionRecord {
    pub(crate) server: String,
    pub(crate) app: String,
    /// The hub's version that it is a copy of; 0: the hub has none.
    pub(crate) version: u64,
    pub(crate) unsaved: bool,
    /// The hub is asked before it is used again.
    pub(crate) stale: bool,
    pub(crate) only_here: bool,
    pub(crate) used_ago_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) attribute_count: u64,
    pub(crate) attributes: Vec<AttributeRecord>,
}

/// An attribute, without its value.
#[derive(Debug, Serialize)]
pub(crate) struct AttributeRecord {
    pub(crate) name: String,
    /// Of its value.
    pub(crate) bytes: u64,
}

/// What an operator has ended.
#[derive(Debug, Serialize)]
pub(crate) struct EndedRecord {
    /// The apps that had one.
    pub(crate) apps: Vec<String>,
    /// The servers that had it in memory.
    pub(crate) servers: Vec<String>,
    /// Those that could not be told. The hub has told the one that had it, or will when it is back.
    pub(crate) silent: Vec<SilentServer>,
}

impl SessionsRecord {
    /// Of what is known of all servers, and what the hub said.
    pub(crate) fn of(snapshot: &Snapshot, counted: Result<Vec<AppSessions>, String>) -> Self {
        let hubs = || snapshot.answers().filter_map(|(_, it)| it.status.hub.as_ref());
        // Followers are a moment behind.
        let most = |of: fn(&proto::status::v1::Hub) -> u64| hubs().map(of).max().unwrap_or_default();
        let servers = snapshot.answers().flat_map(|(server, answer)| {
            let apps = answer.status.app_tier.iter().flat_map(|it| &it.apps);
            apps.filter_map(|app| Some(ServerSessionsRecord::of(server, &app.name, app.sessions.as_ref()?)))
        });
        let mut servers: Vec<_> = servers.collect();
        servers.sort_by(|a, b| (&a.app, &a.server).cmp(&(&b.app, &b.server)));
        let (apps, unknown) = match counted {
            Ok(apps) => (apps, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let app = |it: AppSessions| AppSessionsRecord { app: it.app, sessions: it.sessions, bytes: it.bytes };
        Self {
            sessions: most(|it| it.sessions),
            bytes: most(|it| it.session_bytes),
            refused: most(|it| it.refused_sessions),
            apps: apps.into_iter().map(app).collect(),
            unknown,
            servers,
        }
    }
}

impl ServerSessionsRecord {
    fn of(server: &str, app: &str, sessions: &Sessions) -> Self {
        Self {
            server: server.to_owned(),
            app: app.to_owned(),
            held: sessions.held,
            bytes: sessions.bytes,
            unsaved: sessions.unsaved,
            saves: sessions.saves,
            merged: sessions.merged,
            stale: sessions.stale,
            superseded: sessions.superseded,
            lost: sessions.lost,
            unsaved_answers: sessions.unsaved_answers,
            without_session: sessions.without_session,
        }
    }
}

impl HubSessionRecord {
    pub(crate) fn of(session: FoundSession) -> Self {
        let attributes = session.attributes.into_iter();
        Self {
            app: session.app,
            owner: Some(session.owner).filter(|it| !it.is_empty()),
            version: session.version,
            created_ago_ms: session.created_ago_ms,
            used_ago_ms: session.used_ago_ms,
            timeout_ms: session.timeout_ms,
            bytes: session.bytes,
            attribute_count: session.attribute_count,
            attributes: attributes.map(|it| AttributeRecord { name: it.name, bytes: it.bytes }).collect(),
        }
    }
}

impl HeldSessionRecord {
    pub(crate) fn of(server: &str, session: HeldSession) -> Self {
        let attributes = session.attributes.into_iter();
        Self {
            server: server.to_owned(),
            app: session.app,
            version: session.version,
            unsaved: session.unsaved,
            stale: session.stale,
            only_here: session.only_here,
            used_ago_ms: session.used_ago_ms,
            bytes: session.bytes,
            attribute_count: session.attribute_count,
            attributes: attributes.map(|it| AttributeRecord { name: it.name, bytes: it.bytes }).collect(),
        }
    }
}

/// The id in a question's body.
///
/// # Errors
/// It is not `{"id": …}`, or what it names is no session's id.
pub(crate) fn named(body: &str) -> Result<String, Refusal> {
    if body.len() > BODY_MAX {
        return Err(Refusal::Body(format!("the body has {} bytes: expected {{\"id\": …}}", body.len())));
    }
    // Its own words would repeat the id.
    let named: Named = serde_json::from_str(body)
        .map_err(|_| Refusal::Body("expected the JSON object {\"id\": …} as body".to_owned()))?;
    id(&named.id)
}

/// A session's id, as somebody has copied it.
///
/// # Errors
/// It is none. It is not repeated.
pub(crate) fn id(text: &str) -> Result<String, Refusal> {
    let id = SessionId::parse(text.trim()).ok_or_else(|| {
        let length = text.trim().chars().count();
        let expected = "expected 1 to 128 letters, digits, - and _, as the cookie has it";
        Refusal::Body(format!("that is no session id ({length} characters): {expected}"))
    })?;
    Ok(id.as_str().to_owned())
}

impl Inner {
    /// The sessions of the whole cluster, in numbers.
    pub(crate) async fn sessions(&self, config: &Config) -> SessionsRecord {
        let counted = async {
            let counted = tokio::time::timeout(HUB_WAIT / 5, self.hub.count_sessions(HUB_WAIT / 5)).await;
            match counted {
                Ok(counted) => counted.map(|it| it.apps).map_err(|why| why.to_string()),
                Err(_) => Err("the hub does not answer".to_owned()),
            }
        };
        let (counted, snapshot) = tokio::join!(counted, self.snapshot(config));
        SessionsRecord::of(&snapshot, counted)
    }

    /// What there is of an id.
    ///
    /// # Errors
    /// The hub does not answer.
    pub(crate) async fn find_session(&self, config: &Config, id: &str) -> Result<FoundRecord, Refusal> {
        let held = ask_all(self.collector.channels(config).await, |_, channel| {
            let question = FindHeld { id: id.to_owned() };
            async move { MemoryClient::new(channel).find(question).await }
        });
        let (hub, held) = tokio::join!(self.hub.find_session(id, HUB_WAIT), held);
        let servers = held.said.into_iter().flat_map(|(server, said)| {
            said.sessions.into_iter().map(move |it| HeldSessionRecord::of(&server, it))
        });
        Ok(FoundRecord {
            hub: hub?.into_iter().map(HubSessionRecord::of).collect(),
            servers: servers.collect(),
            silent: held.silent,
        })
    }

    /// Ends the sessions of an id, on the hub and in all memories: who comes with it begins anew.
    ///
    /// # Errors
    /// The user may not, or the hub does not answer.
    pub(crate) async fn invalidate_session(
        &self,
        config: &Config,
        asker: &SignedIn,
        id: &str,
    ) -> Result<EndedRecord, Refusal> {
        asker.must_operate()?;
        let found = self.find_session(config, id).await?;
        let mut held_by: Vec<String> = found.servers.into_iter().map(|it| it.app).collect();
        held_by.sort_unstable();
        held_by.dedup();
        let apps = self.hub.invalidate_session(id, &held_by, HUB_WAIT).await.map_err(Refusal::Unsure)?;
        let told = ask_all(self.collector.channels(config).await, |_, channel| {
            let question = ForgetHeld { id: id.to_owned() };
            async move { MemoryClient::new(channel).forget(question).await }
        });
        let told = told.await;
        let had = told.said.into_iter().filter(|(_, said)| !said.apps.is_empty());
        let servers: Vec<String> = had.map(|(server, _)| server).collect();
        tracing::info!(user = asker.user.name, ?apps, ?servers, "an operator has ended a session");
        // Without its id, which is a secret of its user's.
        self.note(NoteAudit {
            kind: AuditKind::Action.into(),
            author: Some(asker.author("")),
            action: "end-session".to_owned(),
            target: apps.join(", "),
            outcome: if apps.is_empty() { "no such session" } else { "done" }.to_owned(),
            ..NoteAudit::default()
        });
        Ok(EndedRecord { apps, servers, silent: told.silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_and_never_repeated() {
        assert_eq!(named("{\"id\": \" aaXyz-_1 \"}").unwrap(), "aaXyz-_1");
        for body in
            ["", "{}", "{\"id\": 7}", "{\"id\": \"secret!\"}", "{\"id\": \"x\", \"secret\": 1}", "secret"]
        {
            let refusal = named(body).unwrap_err().to_string();
            assert!(refusal.contains("expected") && !refusal.contains("secret"), "{refusal}");
        }
        assert!(named(&format!("{{\"id\": \"{}\"}}", "x".repeat(2000))).is_err());
    }
}
