//! The hub's client: finds the leader, batches writes, retries within a deadline, joins the members, watches with resume.

mod apps;
mod audit;
mod caches;
mod channel;
mod cpu;
mod jobs;
mod leader;
mod leases;
mod membership;
mod numbered;
mod pulse;
mod purges;
mod queues;
mod secrets;
mod session_admin;
mod status;
mod succession;
#[cfg(test)]
mod tests;
mod tokens;
mod topics;
mod watch;
mod writer;

pub use caches::CacheWriter;
pub use channel::channel;
pub use membership::Membership;
pub use pulse::Pulse;
pub use queues::{Deliveries, QueueWriter, Takes};
pub use topics::TopicHeard;
pub use watch::{Heard, Leases, Purges, Secrets, Tokens, Watch, WatchStream, WatchTask};

use cluster_port::Credentials;
use common::id::ServerId;
use leader::{Leader, TRY_TIMEOUT};
use proto::hub::v1::{
    Author, ListMembers, LoadSession, Member, MemberAdmin, SessionKey, SessionRecord, SetMemberAdmin,
    members_client::MembersClient, session_outcome::Outcome, session_write::Write,
    sessions_client::SessionsClient,
};
use std::{sync::Arc, time::Duration};

/// The largest message that the hub sends or takes, in bytes: one session of that size, or many small ones.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;

/// Whom to ask, and as whom.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The calling server.
    pub me: ServerId,
    /// What it shows the hub's servers.
    pub credentials: Credentials,
    /// The hub's servers and their `host:port`, in the file's order.
    pub servers: Vec<(ServerId, String)>,
}

/// Why a call to the hub failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HubError {
    /// No answer from a leader within the deadline; a write may or may not have happened and can be sent again safely.
    #[error("the hub did not answer within {deadline:?}: {last}")]
    Unavailable {
        /// The caller's deadline.
        deadline: Duration,
        /// What the last try said.
        last: String,
    },
    /// The hub's or this client's queue is full: nothing was written.
    #[error("the hub is overloaded: {0}")]
    Overloaded(String),
    /// The hub has no memory for another session, or for a larger one: nothing was written.
    #[error("the hub has no memory for it (session-memory-max)")]
    NoRoom,
    /// The hub refused the request: sending it again is of no use.
    #[error("the hub refused the request: {0}")]
    Refused(String),
}

impl HubError {
    /// The same, told to whoever has waited for so long: a call that began later had less time.
    fn of_wait(self, deadline: Duration) -> Self {
        match self {
            Self::Unavailable { last, .. } => Self::Unavailable { deadline, last },
            other => other,
        }
    }
}

/// A handle on the hub; clones share connections and queues.
#[derive(Debug, Clone)]
pub struct Hub {
    leader: Arc<Leader>,
    writer: writer::Writer,
}

impl Hub {
    /// A handle; connects when it is first used. Needs a running tokio runtime.
    pub fn new(config: HubConfig) -> Self {
        let leader = Arc::new(Leader::new(config));
        let writer = writer::Writer::start(leader.clone());
        Self { leader, writer }
    }

    /// Writes one session; writes of concurrent callers share calls and the hub's disk syncs.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn write(&self, write: Write, deadline: Duration) -> Result<Outcome, HubError> {
        self.writer.write(write, deadline).await
    }

    /// Linearizable read of one session; `None` when there is none.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn load(&self, key: SessionKey, deadline: Duration) -> Result<Option<SessionRecord>, HubError> {
        let request = LoadSession { key: Some(key) };
        let loaded = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let mut client = SessionsClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
            let request = traced(request.clone());
            async move { client.load(request).await }
        });
        Ok(loaded.await?.session)
    }

    /// The members as the hub's leader has them.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn members(&self, deadline: Duration) -> Result<Vec<Member>, HubError> {
        let listed = self.leader.call(deadline, TRY_TIMEOUT, |channel| async move {
            MembersClient::new(channel).list(ListMembers {}).await
        });
        Ok(listed.await?.members)
    }

    /// Takes a member out of the balancing of every web-tier, or puts it back; it holds when the member's process is started
    /// again. Returns the member as it is now, once that is on disk on a majority of the hub.
    ///
    /// # Errors
    /// See [`HubError`]; refused when no such member has ever registered.
    pub async fn set_admin(
        &self,
        id: &ServerId,
        admin: MemberAdmin,
        author: Author,
        deadline: Duration,
    ) -> Result<Member, HubError> {
        let author = Some(author);
        let request = SetMemberAdmin { id: id.as_str().to_owned(), admin: admin.into(), author };
        let set = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = request.clone();
            async move { MembersClient::new(channel).set_admin(request).await }
        });
        set.await?.member.ok_or_else(|| HubError::Refused(format!("{id}: an answer without the member")))
    }

    /// The hub server that answers as its leader.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn leader(&self, deadline: Duration) -> Result<ServerId, HubError> {
        self.members(deadline).await?;
        let believed = self.leader.believed().map(|(_, server, _)| server.clone());
        believed.ok_or_else(|| HubError::Refused("the configuration names no hub server".into()))
    }

    /// Registers `member` and keeps it alive with heartbeats until [`Membership::leave`] or a drop.
    pub fn join(&self, member: Member, heartbeat_interval: Duration) -> Membership {
        Membership::start(self.leader.clone(), member, heartbeat_interval)
    }

    /// Follows the hub's events until the returned [`Watch`]'s task is dropped, through every change of leader.
    pub fn watch(&self) -> Watch {
        watch::start(self.leader.clone())
    }
}

/// Names the span that this is asked for, if there is one.
fn traced<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(value) = traces::current().and_then(|it| it.to_string().parse().ok()) {
        request.metadata_mut().insert("traceparent", value);
    }
    request
}
