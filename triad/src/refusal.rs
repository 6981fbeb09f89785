//! Why the hub does not do what it was asked, and how that goes over the wire.

use common::id::ServerId;
use std::time::Duration;
use tonic::{Status, metadata::MetadataValue};

/// The metadata that names the leader.
const LEADER: &str = "copal-leader";

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Another server leads, or none is known to.
    #[error("not the hub's leader")]
    NotLeader(Option<u64>),
    /// The queue is full: nothing was written.
    #[error("the hub is overloaded: {0}")]
    Overloaded(String),
    /// No outcome within the time; it is unknown.
    #[error("no outcome within {0:?}: a majority of the hub does not answer")]
    Late(Duration),
    /// A read that no majority has confirmed.
    #[error("the hub can't confirm that it is up to date: {0}")]
    Unconfirmed(String),
    /// A hub server does not know this kind of command: nothing was written.
    #[error(
        "hub server {server} reads commands up to version {reads}, this one is of version {needed}: upgrade all hub servers first"
    )]
    Outdated {
        /// Which one.
        server: ServerId,
        /// What it has said.
        reads: u32,
        /// The command's.
        needed: u32,
    },
    /// A hub server has not said whether it knows this kind of command: nothing was written.
    #[error(
        "hub server {server} does not answer and has not said that it reads commands of version {needed}: it must run once first"
    )]
    Unheard {
        /// Which one.
        server: ServerId,
        /// The command's.
        needed: u32,
    },
    /// Raft does not run here any more.
    #[error("this hub server has stopped: {0}")]
    Stopped(String),
}

impl Refusal {
    /// As `session.proto` says. `servers` are the hub's, in order.
    pub(crate) fn status(&self, servers: &[ServerId]) -> Status {
        let text = self.to_string();
        match self {
            Self::NotLeader(leader) => {
                let name = leader.and_then(|it| servers.get(usize::try_from(it).ok()?));
                let Some(name) = name.and_then(|it| MetadataValue::try_from(it.as_str()).ok()) else {
                    return Status::unavailable("the hub has no leader at the moment");
                };
                let mut status = Status::failed_precondition(text);
                status.metadata_mut().insert(LEADER, name);
                status
            }
            Self::Overloaded(_) => Status::resource_exhausted(text),
            Self::Late(_) => Status::deadline_exceeded(text),
            // Asking again or elsewhere changes nothing.
            Self::Outdated { .. } => Status::unimplemented(text),
            Self::Unconfirmed(_) | Self::Unheard { .. } | Self::Stopped(_) => Status::unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn each_refusal_has_its_status_and_the_leader_is_named() {
        let servers = [ServerId::from("app-a"), ServerId::from("app-b")];
        let moved = Refusal::NotLeader(Some(1)).status(&servers);
        assert_eq!(moved.code(), Code::FailedPrecondition);
        assert_eq!(moved.metadata().get(LEADER).unwrap(), "app-b");
        assert_eq!(Refusal::NotLeader(None).status(&servers).code(), Code::Unavailable);
        assert_eq!(Refusal::NotLeader(Some(9)).status(&servers).code(), Code::Unavailable);
        assert_eq!(Refusal::Overloaded("full".into()).status(&servers).code(), Code::ResourceExhausted);
        let old = Refusal::Outdated { server: "app-b".into(), reads: 1, needed: 2 };
        assert_eq!(old.status(&servers).code(), Code::Unimplemented);
        let unheard = Refusal::Unheard { server: "app-b".into(), needed: 2 };
        assert_eq!(unheard.status(&servers).code(), Code::Unavailable);
        assert_eq!(Refusal::Late(Duration::from_secs(1)).status(&servers).code(), Code::DeadlineExceeded);
    }
}
