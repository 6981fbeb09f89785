//! Raft: the library's storage and network traits over our log, state and gRPC. Nothing outside this folder names the library.

pub(crate) mod bootstrap;
mod codec;
pub(crate) mod frame;
pub(crate) mod log;
pub(crate) mod machine;
mod network;
pub(crate) mod node;
mod promised;
mod server;
mod settings;
pub(crate) mod silence;
mod snapshots;
#[cfg(test)]
mod suite;

use crate::state::Reply;
use bytes::Bytes;
use std::fmt;

/// What a log entry carries: an encoded batch of commands (see [`crate::command`]).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Data(pub(crate) Bytes);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One reply for each command of a batch; none for the library's own entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replies(pub(crate) Vec<Reply>);

/// The library's types. A node's id is its place in the configuration's `triad`; its address is the configuration's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Data;
    type R = Replies;
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Data, u64, ()>;
    type Entry = openraft::impls::Entry<Self::LeaderId, Self::Payload>;
    type AsyncRuntime = openraft::TokioRuntime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(crate) type Raft = openraft::Raft<Types, machine::Machine>;
