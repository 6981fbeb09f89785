//! The library's types as wire messages, and back. What comes in is checked: a field that must be there and is not is named.

use super::{Data, Entry, LogId, StoredMembership, Types, Vote};
use openraft::{EntryPayload, Membership, impls::leader_id_adv::LeaderId};
use proto::hub::v1 as wire;
use std::collections::BTreeSet;
use wire::raft_entry::Payload;

/// A message that can't be what it says it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// A field is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A membership without voters, or with voters that are no nodes.
    #[error("a membership is not valid: {0}")]
    Membership(String),
}

pub(crate) fn put_vote(vote: &Vote) -> wire::RaftVote {
    wire::RaftVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote(vote: &wire::RaftVote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, node_id: vote.node }, committed: vote.committed }
}

pub(crate) fn some_vote(it: Option<&wire::RaftVote>) -> Result<Vote, CodecError> {
    it.map(vote).ok_or(CodecError::Missing("the vote"))
}

pub(crate) fn put_log_id(id: &LogId) -> wire::RaftLogId {
    wire::RaftLogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id(id: &wire::RaftLogId) -> LogId {
    LogId::new(LeaderId { term: id.term, node_id: id.node }, id.index)
}

pub(crate) fn put_entry(entry: &Entry) -> wire::RaftEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(data) => Some(Payload::Batch(data.0.clone())),
        EntryPayload::Membership(membership) => Some(Payload::Membership(put_membership(membership))),
    };
    wire::RaftEntry { log_id: Some(put_log_id(&entry.log_id)), payload }
}

pub(crate) fn entry(it: wire::RaftEntry) -> Result<Entry, CodecError> {
    let log_id = log_id(&it.log_id.ok_or(CodecError::Missing("an entry's log id"))?);
    let payload = match it.payload {
        None => EntryPayload::Blank,
        Some(Payload::Batch(batch)) => EntryPayload::Normal(Data(batch)),
        Some(Payload::Membership(it)) => EntryPayload::Membership(membership(it)?),
    };
    Ok(Entry { log_id, payload })
}

fn put_membership(it: &Membership<u64, ()>) -> wire::RaftMembership {
    let nodes = |ids: &BTreeSet<u64>| wire::RaftNodes { ids: ids.iter().copied().collect() };
    wire::RaftMembership {
        configs: it.get_joint_config().iter().map(nodes).collect(),
        nodes: it.nodes().map(|(&id, ())| id).collect(),
    }
}

fn membership(it: wire::RaftMembership) -> Result<Membership<u64, ()>, CodecError> {
    let configs: Vec<BTreeSet<u64>> =
        it.configs.into_iter().map(|config| config.ids.into_iter().collect()).collect();
    let nodes: BTreeSet<u64> = it.nodes.into_iter().collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|cause| CodecError::Membership(cause.to_string()))
}

pub(crate) fn put_stored(it: &StoredMembership) -> wire::RaftStoredMembership {
    wire::RaftStoredMembership {
        log_id: it.log_id().as_ref().map(put_log_id),
        membership: Some(put_membership(it.membership())),
    }
}

pub(crate) fn stored(it: Option<wire::RaftStoredMembership>) -> Result<StoredMembership, CodecError> {
    let it = it.ok_or(CodecError::Missing("the membership"))?;
    let log = it.log_id.as_ref().map(log_id);
    Ok(StoredMembership::new(log, membership(it.membership.unwrap_or_default())?))
}

pub(crate) fn put_append(it: &openraft::raft::AppendEntriesRequest<Types>) -> wire::AppendEntries {
    wire::AppendEntries {
        vote: Some(put_vote(&it.vote)),
        prev: it.prev_log_id.as_ref().map(put_log_id),
        commit: it.leader_commit.as_ref().map(put_log_id),
        entries: it.entries.iter().map(put_entry).collect(),
    }
}

pub(crate) fn append(
    it: wire::AppendEntries,
) -> Result<openraft::raft::AppendEntriesRequest<Types>, CodecError> {
    Ok(openraft::raft::AppendEntriesRequest {
        vote: some_vote(it.vote.as_ref())?,
        prev_log_id: it.prev.as_ref().map(log_id),
        leader_commit: it.commit.as_ref().map(log_id),
        entries: it.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn put_append_reply(it: &openraft::raft::StreamAppendResult<Types>) -> wire::AppendReply {
    use openraft::raft::StreamAppendError;
    use wire::append_reply::Reply;
    let reply = match it {
        Ok(last) => Reply::Done(wire::AppendDone { last: last.as_ref().map(put_log_id) }),
        Err(StreamAppendError::Conflict(at)) => Reply::Conflict(put_log_id(at)),
        Err(StreamAppendError::HigherVote(vote)) => Reply::HigherVote(put_vote(vote)),
    };
    wire::AppendReply { reply: Some(reply) }
}

pub(crate) fn append_reply(
    it: wire::AppendReply,
) -> Result<openraft::raft::StreamAppendResult<Types>, CodecError> {
    use openraft::raft::StreamAppendError;
    use wire::append_reply::Reply;
    match it.reply.ok_or(CodecError::Missing("the reply to an append"))? {
        Reply::Done(done) => Ok(Ok(done.last.as_ref().map(log_id))),
        Reply::Conflict(at) => Ok(Err(StreamAppendError::Conflict(log_id(&at)))),
        Reply::HigherVote(it) => Ok(Err(StreamAppendError::HigherVote(vote(&it)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn id(index: u64) -> LogId {
        LogId::new(LeaderId { term: 3, node_id: 2 }, index)
    }

    #[test]
    fn entries_survive_the_wire() {
        let membership =
            Membership::new(vec![[0, 1].into(), [0, 1, 2].into()], BTreeSet::from([0, 1, 2])).unwrap();
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Data(Bytes::from_static(b"batch"))),
            EntryPayload::Membership(membership),
        ] {
            let sent = Entry { log_id: id(7), payload };
            assert_eq!(entry(put_entry(&sent)).unwrap(), sent);
        }
    }

    #[test]
    fn replies_and_votes_survive_the_wire() {
        use openraft::raft::StreamAppendError;
        let vote = Vote::new_committed(5, 1);
        for reply in [
            Ok(None),
            Ok(Some(id(9))),
            Err(StreamAppendError::Conflict(id(4))),
            Err(StreamAppendError::HigherVote(vote)),
        ] {
            assert_eq!(append_reply(put_append_reply(&reply)).unwrap(), reply);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = entry(wire::RaftEntry::default()).unwrap_err().to_string();
        assert!(refused.contains("log id"), "{refused}");
        assert!(append(wire::AppendEntries::default()).unwrap_err().to_string().contains("vote"));
        let voters = wire::RaftMembership { configs: vec![wire::RaftNodes { ids: vec![1] }], nodes: vec![] };
        assert!(matches!(membership(voters), Err(CodecError::Membership(_))));
    }
}
