//! What is replicated: a log entry is a batch of commands, stamped by the leader's clock and versioned for rolling upgrades.
//!
//! Adding a kind of command raises [`VERSION`]; a leader writes the new kind only when every hub server has said that it knows it
//! ([`crate::versions`]). A server that meets a newer batch stops with an error: it would diverge if it skipped what it can't read.

use bytes::Bytes;
use prost::Message;
use proto::hub::v1::{
    Author, Batch, Command, QueueWrite, SessionWrite, command, queue_write, session_write::Write,
};

/// The newest batch that this version writes and understands.
pub(crate) const VERSION: u32 = 10;

/// The version that brought [`proto::hub::v1::ExpireUnused`].
pub(crate) const EXPIRE_UNUSED: u32 = 4;

/// The version that brought deployments, and tokens.
const APPS: u32 = 5;

/// The version that brought the audit log: from here on the state makes entries of what administrators do.
pub(crate) const AUDIT: u32 = 6;

/// The version that brought purges of what web-tiers keep.
pub(crate) const PURGES: u32 = 7;

/// The version that brought leases and caches.
pub(crate) const SERVICES: u32 = 8;

/// The version that brought queues and jobs.
pub(crate) const QUEUES: u32 = 9;

/// The version that brought secrets of web-tiers.
const SECRETS: u32 = 10;

/// Why a log entry can't be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The bytes are no batch.
    #[error("a log entry of {length} bytes is not a batch of commands: {cause}")]
    Malformed {
        /// The entry's length.
        length: usize,
        /// What the decoder says.
        cause: prost::DecodeError,
    },
    /// Written by a newer version.
    #[error(
        "a log entry has command version {found}, this server knows {VERSION}: it must be upgraded before it can go on"
    )]
    Version {
        /// The entry's version.
        found: u32,
    },
    /// A command of a kind that this version does not know.
    #[error("command {place} of a log entry is of a kind that this server does not know: upgrade it")]
    Unknown {
        /// Its place in the batch, from 0.
        place: usize,
    },
}

/// The oldest version that has all of these.
pub(crate) fn version(commands: &[Command]) -> u32 {
    commands.iter().map(since).max().unwrap_or(1)
}

/// Encodes a batch for the log. It bears the oldest version that has all its commands, or `least`, so that a hub in the middle of
/// an upgrade goes on.
pub(crate) fn encode(time_ms: u64, least: u32, commands: Vec<Command>) -> Bytes {
    let version = version(&commands).max(least);
    Batch { version, time_ms, commands }.encode_to_vec().into()
}

/// The version that brought a kind of command.
fn since(command: &Command) -> u32 {
    match &command.command {
        Some(command::Command::Session(SessionWrite { write: Some(Write::Rename(_)) })) => 3,
        Some(command::Command::ExpireUnused(_)) => EXPIRE_UNUSED,
        Some(command::Command::NoteAudit(_)) => AUDIT,
        Some(command::Command::NotePurge(_)) => PURGES,
        Some(command::Command::PutSecret(_)) => SECRETS,
        Some(
            command::Command::AcquireLease(_)
            | command::Command::RenewLeases(_)
            | command::Command::ReleaseLeases(_)
            | command::Command::ExpireLeases(_)
            | command::Command::WriteCaches(_)
            | command::Command::ExpireCached(_),
        ) => SERVICES,
        Some(
            command::Command::WriteQueues(_)
            | command::Command::ConsumeQueues(_)
            | command::Command::ManageQueue(_)
            | command::Command::ManageRun(_)
            | command::Command::ClearCache(_)
            | command::Command::ExpireQueues(_)
            | command::Command::DeclareJobs(_)
            | command::Command::ManageJob(_)
            | command::Command::FireJobs(_),
        ) => QUEUES,
        Some(it) if author(it).is_some() => AUDIT,
        Some(command::Command::SetMemberAdmin(_)) => 2,
        Some(
            command::Command::DeployApp(_)
            | command::Command::ReportApp(_)
            | command::Command::UndeployApp(_)
            | command::Command::SetAppStopped(_)
            | command::Command::ExpireRollouts(_)
            | command::Command::CreateToken(_)
            | command::Command::RevokeToken(_)
            | command::Command::ExpireTokens(_),
        ) => APPS,
        Some(
            command::Command::Session(_)
            | command::Command::ExpireSessions(_)
            | command::Command::RegisterMember(_)
            | command::Command::SetMemberState(_),
        )
        | None => 1,
    }
}

/// Who has a command carried out, where it says so.
fn author(command: &command::Command) -> Option<&Author> {
    match command {
        command::Command::SetMemberAdmin(it) => it.author.as_ref(),
        command::Command::DeployApp(it) => it.author.as_ref(),
        command::Command::UndeployApp(it) => it.author.as_ref(),
        command::Command::SetAppStopped(it) => it.author.as_ref(),
        command::Command::CreateToken(it) => it.author.as_ref(),
        command::Command::RevokeToken(it) => it.author.as_ref(),
        command::Command::NoteAudit(it) => it.author.as_ref(),
        command::Command::ManageQueue(it) => it.author.as_ref(),
        command::Command::ManageJob(it) => it.author.as_ref(),
        command::Command::ManageRun(it) => it.author.as_ref(),
        command::Command::ClearCache(it) => it.author.as_ref(),
        _ => None,
    }
}

/// Decodes a log entry. Values share the entry's memory.
pub(crate) fn decode(entry: Bytes) -> Result<Batch, CommandError> {
    let length = entry.len();
    let batch = Batch::decode(entry).map_err(|cause| CommandError::Malformed { length, cause })?;
    if batch.version > VERSION {
        return Err(CommandError::Version { found: batch.version });
    }
    match batch.commands.iter().position(|it| !known(it)) {
        Some(place) => Err(CommandError::Unknown { place }),
        None => Ok(batch),
    }
}

fn known(command: &Command) -> bool {
    match &command.command {
        Some(command::Command::Session(write)) => write.write.is_some(),
        Some(
            command::Command::ExpireSessions(_)
            | command::Command::RegisterMember(_)
            | command::Command::SetMemberState(_)
            | command::Command::SetMemberAdmin(_)
            | command::Command::ExpireUnused(_)
            | command::Command::DeployApp(_)
            | command::Command::ReportApp(_)
            | command::Command::UndeployApp(_)
            | command::Command::SetAppStopped(_)
            | command::Command::ExpireRollouts(_)
            | command::Command::CreateToken(_)
            | command::Command::RevokeToken(_)
            | command::Command::ExpireTokens(_)
            | command::Command::NoteAudit(_)
            | command::Command::NotePurge(_)
            | command::Command::PutSecret(_)
            | command::Command::AcquireLease(_)
            | command::Command::RenewLeases(_)
            | command::Command::ReleaseLeases(_)
            | command::Command::ExpireLeases(_)
            | command::Command::ExpireCached(_)
            | command::Command::ConsumeQueues(_)
            | command::Command::ManageRun(_)
            | command::Command::ClearCache(_)
            | command::Command::ExpireQueues(_)
            | command::Command::DeclareJobs(_)
            | command::Command::FireJobs(_),
        ) => true,
        Some(command::Command::WriteCaches(call)) => call.writes.iter().all(|it| it.write.is_some()),
        Some(command::Command::WriteQueues(call)) => call.writes.iter().all(is_known),
        Some(command::Command::ManageQueue(call)) => call.action.is_some(),
        Some(command::Command::ManageJob(call)) => call.action.is_some(),
        None => false,
    }
}

fn is_known(write: &QueueWrite) -> bool {
    match &write.write {
        Some(queue_write::Write::Settle(settle)) => {
            settle.outcome.is_some() && settle.caches.iter().all(|it| it.write.is_some())
        }
        other => other.is_some(),
    }
}

/// Wraps a session write.
pub(crate) fn session(write: SessionWrite) -> Command {
    Command { command: Some(command::Command::Session(write)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::{ExpireSessions, ExpireUnused, RenameSession, SetMemberAdmin};

    fn expire() -> Command {
        Command { command: Some(command::Command::ExpireSessions(ExpireSessions { limit: 3 })) }
    }

    #[test]
    fn a_batch_survives_the_log() {
        let batch = decode(encode(17, 1, vec![expire()])).unwrap();
        assert_eq!(batch, Batch { version: 1, time_ms: 17, commands: vec![expire()] });
    }

    #[test]
    fn a_batch_bears_the_version_of_its_newest_kind_of_command() {
        let set = SetMemberAdmin::default();
        let admin = Command { command: Some(command::Command::SetMemberAdmin(set.clone())) };
        assert_eq!(decode(encode(17, 1, vec![expire(), admin.clone()])).unwrap().version, 2);
        let rename = session(SessionWrite { write: Some(Write::Rename(RenameSession::default())) });
        assert_eq!(decode(encode(17, 1, vec![rename, expire()])).unwrap().version, 3);
        let unused = command::Command::ExpireUnused(ExpireUnused::default());
        let unused = Command { command: Some(unused) };
        assert_eq!(decode(encode(17, 1, vec![unused, admin])).unwrap().version, EXPIRE_UNUSED);
        let signed =
            SetMemberAdmin { author: Some(Author { user: "ops".into(), ..Author::default() }), ..set };
        let signed = Command { command: Some(command::Command::SetMemberAdmin(signed)) };
        assert_eq!(decode(encode(17, 1, vec![signed])).unwrap().version, AUDIT);
        assert_eq!(decode(encode(17, 1, vec![])).unwrap().version, 1);
        assert_eq!(
            decode(encode(17, 2, vec![])).unwrap(),
            Batch { version: 2, time_ms: 17, commands: vec![] }
        );
    }

    #[test]
    fn a_newer_batch_an_unknown_command_and_garbage_are_refused() {
        let newer = Batch { version: VERSION + 1, time_ms: 1, commands: vec![] }.encode_to_vec();
        let refused = decode(newer.into()).unwrap_err().to_string();
        assert!(refused.contains(&format!("version {}", VERSION + 1)), "{refused}");

        let unknown = encode(1, 1, vec![expire(), Command { command: None }]);
        assert!(matches!(decode(unknown), Err(CommandError::Unknown { place: 1 })));
        let no_write = encode(1, 1, vec![session(SessionWrite { write: None })]);
        assert!(matches!(decode(no_write), Err(CommandError::Unknown { place: 0 })));
        assert!(matches!(
            decode(Bytes::from_static(b"\xff\xff\xff")),
            Err(CommandError::Malformed { length: 3, .. })
        ));
    }
}
