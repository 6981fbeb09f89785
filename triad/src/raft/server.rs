//! What the other hub servers call: `raft.proto`'s service, handed to the library.

use super::{
    Raft, SnapshotMeta, Types, Vote,
    bootstrap::{self, Standing},
    codec::{self, CodecError},
    machine::View,
    settings,
    snapshots::Snapshots,
};
use crate::dial;
use common::clock::Clock;
use futures_util::{Stream, StreamExt};
use openraft::{
    raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest},
    storage::Snapshot,
};
use proto::hub::v1::{self as wire, snapshot_piece::Piece};
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

/// The library answers, or its core is stuck.
const ANSWER: Duration = Duration::from_secs(5);

/// A piece of a snapshot comes within this.
const PIECE_STALL: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct RaftService {
    raft: Raft,
    snapshots: Snapshots,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    view: View,
    /// Bytes that sessions may take here.
    session_memory_max: u64,
}

impl RaftService {
    pub(crate) fn new(
        raft: Raft,
        snapshots: Snapshots,
        standing: Arc<Standing>,
        clock: Arc<dyn Clock>,
        view: View,
        session_memory_max: u64,
    ) -> Self {
        Self { raft, snapshots, standing, clock, view, session_memory_max }
    }

    fn refuse_without_data(&self) -> Result<(), Status> {
        if self.standing.may_vote() {
            return Ok(());
        }
        Err(Status::failed_precondition(
            "this server has lost its data: it does not vote until a leader has brought it up to date",
        ))
    }
}

/// Refuses what this server must not acknowledge: see [`Standing::may_follow`].
fn refuse_to_follow(standing: &Standing, leader: &Vote) -> Result<(), Status> {
    if standing.may_follow(leader) {
        return Ok(());
    }
    let text = format!("this server has lost its data: it does not know yet that it may follow {leader}");
    Err(Status::failed_precondition(text))
}

fn invalid(cause: &CodecError) -> Status {
    Status::invalid_argument(cause.to_string())
}

fn stopped(cause: &impl std::fmt::Display) -> Status {
    Status::unavailable(format!("Raft does not run here: {cause}"))
}

async fn answer<T>(call: impl Future<Output = T>) -> Result<T, Status> {
    timeout(ANSWER, call)
        .await
        .map_err(|_| Status::deadline_exceeded(format!("Raft did not answer within {ANSWER:?}")))
}

/// Why a stream of requests was ended here.
type Refused = Arc<OnceLock<Status>>;

/// The requests of a stream up to its end or first error, or the first one that this server refuses.
fn requests(
    stream: Streaming<wire::AppendEntries>,
    standing: Arc<Standing>,
    refused: Refused,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send {
    let decode = move |request: Result<wire::AppendEntries, Status>| {
        let request = request.and_then(|it| {
            let request = codec::append(it).map_err(|cause| {
                tracing::error!(%cause, "an append from another hub server makes no sense");
                invalid(&cause)
            })?;
            refuse_to_follow(&standing, &request.vote).map(|()| request)
        });
        // If the stream itself broke, nobody hears of it.
        std::future::ready(request.map_err(|status| refused.set(status)).ok())
    };
    stream.then(decode).take_while(|it| std::future::ready(it.is_some())).filter_map(std::future::ready)
}

#[tonic::async_trait]
impl wire::raft_server::Raft for RaftService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<wire::AppendReply, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendEntries>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (standing, refused) = (self.standing.clone(), Refused::default());
        let requests = requests(request.into_inner(), standing.clone(), refused.clone());
        let replies = self.raft.stream_append(requests);
        let replies = replies.map(move |reply| match reply {
            Ok(reply) => {
                // A conflict of logs is a leader's word as well, and it counts the answer.
                if !matches!(reply, Err(StreamAppendError::HigherVote(_))) {
                    standing.hear_leader();
                }
                Ok(codec::put_append_reply(&reply))
            }
            Err(fatal) => Err(stopped(&fatal)),
        });
        let end = futures_util::stream::once(async move { refused.get().cloned().map(Err) });
        Ok(Response::new(Box::pin(replies.chain(end.filter_map(std::future::ready)))))
    }

    async fn vote(
        &self,
        request: Request<wire::RaftVoteRequest>,
    ) -> Result<Response<wire::RaftVoteReply>, Status> {
        self.refuse_without_data()?;
        let request = request.into_inner();
        if !request.leadership_transfer && self.standing.is_bound() {
            let text =
                format!("this server has heard the hub's leader within {:?}, or may have", settings::LEASE);
            return Err(Status::failed_precondition(text));
        }
        let vote = VoteRequest {
            vote: codec::some_vote(request.vote.as_ref()).map_err(|it| invalid(&it))?,
            last_log_id: request.last.as_ref().map(codec::log_id),
            leadership_transfer: request.leadership_transfer,
        };
        let reply = if request.pre {
            answer(self.raft.pre_vote(vote)).await
        } else {
            answer(self.raft.vote(vote)).await
        };
        let reply = reply?.map_err(|it| stopped(&it))?;
        Ok(Response::new(wire::RaftVoteReply {
            vote: Some(codec::put_vote(&reply.vote)),
            last: reply.last_log_id.as_ref().map(codec::put_log_id),
            granted: reply.vote_granted,
        }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPiece>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        let mut pieces = request.into_inner();
        let Some(Piece::Start(start)) = next_piece(&mut pieces).await? else {
            return Err(Status::invalid_argument("a snapshot must begin with its start"));
        };
        let vote = codec::some_vote(start.vote.as_ref()).map_err(|it| invalid(&it))?;
        refuse_to_follow(&self.standing, &vote)?;
        let expected = SnapshotMeta {
            last_log_id: start.last.as_ref().map(codec::log_id),
            last_membership: codec::stored(start.membership).map_err(|it| invalid(&it))?,
        };
        let disk = |cause: std::io::Error| Status::internal(cause.to_string());
        let mut receiving = self.snapshots.receive("receiving").map_err(disk)?;
        while let Some(piece) = next_piece(&mut pieces).await? {
            let Piece::Data(data) = piece else {
                return Err(Status::invalid_argument("a snapshot has one start"));
            };
            if receiving.length() + data.len() as u64 > start.length {
                return Err(Status::invalid_argument(format!(
                    "a snapshot of {} bytes is longer",
                    start.length
                )));
            }
            let add = move || receiving.add(&data).map(|()| receiving);
            receiving = tokio::task::spawn_blocking(add).await.map_err(|it| stopped(&it))?.map_err(disk)?;
        }
        if receiving.length() != start.length {
            let text = format!("a snapshot of {} bytes ended after {}", start.length, receiving.length());
            tracing::warn!(text, "the snapshot that the hub's leader has sent is not whole");
            return Err(Status::data_loss(text));
        }
        let check = move || {
            let content = receiving.check().map_err(|cause| {
                tracing::error!(%cause, "the snapshot that the hub's leader has sent can't be read: this server waits for another");
                Status::data_loss(cause.to_string())
            })?;
            receiving.finish(Some(content)).map_err(disk)
        };
        let file = tokio::task::spawn_blocking(check).await.map_err(|it| stopped(&it))??;
        tracing::info!(bytes = start.length, last = ?expected.last_log_id, "took in a snapshot of the hub");
        let snapshot = Snapshot { meta: expected, snapshot: file };
        let reply = self.raft.install_full_snapshot(vote, snapshot).await.map_err(|it| stopped(&it))?;
        Ok(Response::new(wire::SnapshotReply { vote: Some(codec::put_vote(&reply.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderReply>, Status> {
        self.refuse_without_data()?;
        let request = request.into_inner();
        let from = codec::some_vote(request.from.as_ref()).map_err(|it| invalid(&it))?;
        let transfer = TransferLeaderRequest::new(from, request.to, request.last.as_ref().map(codec::log_id));
        let outcome = answer(self.raft.handle_transfer_leader(transfer)).await?.map_err(|it| stopped(&it))?;
        let reply = match outcome {
            Ok(()) => wire::TransferLeaderReply { accepted: true, why_not: String::new() },
            Err(why) => wire::TransferLeaderReply { accepted: false, why_not: why.to_string() },
        };
        Ok(Response::new(reply))
    }

    async fn dial(&self, request: Request<wire::DialMember>) -> Result<Response<wire::DialedMember>, Status> {
        let asked = request.into_inner();
        // The address is this server's own knowledge: nobody makes it dial anything else.
        let address = {
            let applied = self.view.read();
            let member = applied.state.members().get(&asked.id);
            member.filter(|it| it.started_ms == asked.started_ms).map(|it| it.address.clone())
        };
        let refused = match address {
            Some(address) => dial::is_refused(&address).await,
            None => false,
        };
        Ok(Response::new(wire::DialedMember { refused }))
    }

    async fn hello(&self, request: Request<wire::HubHello>) -> Result<Response<wire::HubHelloReply>, Status> {
        tracing::trace!(node = request.get_ref().node, "a hub server asks who is there and what time it is");
        let reply = bootstrap::answer(&self.raft, &self.standing, request.get_ref()).await;
        let (unix_ms, session_memory_max) = (self.clock.unix_ms(), self.session_memory_max);
        Ok(Response::new(wire::HubHelloReply { unix_ms, session_memory_max, ..reply }))
    }
}

async fn next_piece(pieces: &mut Streaming<wire::SnapshotPiece>) -> Result<Option<Piece>, Status> {
    match timeout(PIECE_STALL, pieces.message()).await {
        Ok(piece) => Ok(piece?.and_then(|it| it.piece)),
        Err(_) => Err(Status::deadline_exceeded(format!("no piece of the snapshot within {PIECE_STALL:?}"))),
    }
}
