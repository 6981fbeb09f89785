//! The library's calls to the other hub servers, over gRPC on their cluster ports.

use super::{Types, Vote, codec, silence::Silence, snapshots::SnapshotFile};
use crate::message_size::MESSAGE_MAX;
use cluster_port::{Credentials, Protocol, dial_in_task};
use common::id::ServerId;
use futures_util::{Stream, StreamExt, TryFutureExt};
use hyper_util::rt::TokioIo;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    storage::Snapshot,
};
use proto::hub::v1::{self as wire, raft_client::RaftClient, snapshot_piece::Piece};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// A connect and handshake among hub servers takes no longer.
const CONNECT: Duration = Duration::from_millis(500);

/// Appends that are under way must be answered within one to two of these.
const APPEND_STALL: Duration = Duration::from_secs(3);

/// A piece of a snapshot is taken within this.
const PIECE_STALL: Duration = Duration::from_secs(30);

/// The hub's servers, and a connection each for appends, for small urgent calls and for snapshots: a large append or
/// snapshot does not hold a heartbeat up.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    servers: Arc<Vec<Peer>>,
    silence: Silence,
}

#[derive(Debug)]
struct Peer {
    append: Channel,
    control: Channel,
    snapshot: Channel,
}

impl Peers {
    /// Channels that connect when they are first used. The one for urgent calls is used once a second (the clocks), and
    /// tried while it is idle: a vote must not wait for a connection.
    pub(crate) fn new(me: &ServerId, servers: &[(ServerId, String)], credentials: &Credentials) -> Self {
        let channel = |to: &ServerId, address: &str, idle: bool| {
            channel(me.clone(), to.clone(), address.to_owned(), credentials.clone(), idle)
        };
        let peers = servers.iter().map(|(to, address)| Peer {
            append: channel(to, address, false),
            control: channel(to, address, true),
            snapshot: channel(to, address, false),
        });
        Self { servers: Arc::new(peers.collect()), silence: Silence::default() }
    }

    /// Holds this server's appends and heartbeats back.
    pub(crate) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// How many servers the hub has.
    pub(crate) fn count(&self) -> u64 {
        self.servers.len() as u64
    }

    /// Asks a server who it is, and what its clock says.
    pub(crate) async fn hello(
        &self,
        to: u64,
        hello: wire::HubHello,
        within: Duration,
    ) -> Result<wire::HubHelloReply, Status> {
        let peer = self.peer(to).ok_or_else(|| Status::not_found(format!("the hub has no server {to}")))?;
        let mut client = RaftClient::new(peer.control.clone());
        match timeout(within, client.hello(hello)).await {
            Ok(answered) => Ok(answered?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {within:?}"))),
        }
    }

    /// Asks a server to dial a member.
    pub(crate) async fn dial_member(
        &self,
        to: u64,
        member: wire::DialMember,
        within: Duration,
    ) -> Result<wire::DialedMember, Status> {
        let peer = self.peer(to).ok_or_else(|| Status::not_found(format!("the hub has no server {to}")))?;
        let mut client = RaftClient::new(peer.control.clone());
        match timeout(within, client.dial(member)).await {
            Ok(answered) => Ok(answered?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {within:?}"))),
        }
    }

    fn peer(&self, to: u64) -> Option<&Peer> {
        self.servers.get(usize::try_from(to).ok()?)
    }
}

fn channel(me: ServerId, to: ServerId, address: String, credentials: Credentials, idle: bool) -> Channel {
    let connect = move |_| {
        let (me, to, address, credentials) = (me.clone(), to.clone(), address.clone(), credentials.clone());
        dial_in_task(address, credentials, me, to, Protocol::Grpc, CONNECT).map_ok(TokioIo::new)
    };
    Endpoint::from_static("http://hub")
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(Duration::from_secs(3))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(idle)
        .connect_with_connector_lazy(tower::service_fn(connect))
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Network;

    async fn new_client(&mut self, target: u64, _node: &()) -> Network {
        Network { peers: self.clone(), target, heartbeats: false }
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &()) -> Network {
        Network { peers: self.clone(), target, heartbeats: true }
    }
}

/// The calls to one server.
#[derive(Debug)]
pub(crate) struct Network {
    peers: Peers,
    target: u64,
    heartbeats: bool,
}

type Rpc<T> = Result<T, RPCError<Types>>;

impl Network {
    fn client(&self, which: impl Fn(&Peer) -> &Channel) -> Rpc<RaftClient<Channel>> {
        let unknown = || Unreachable::from_string(format!("the hub has no server {}", self.target));
        let peer = self.peers.peer(self.target).ok_or_else(unknown)?;
        let client = RaftClient::new(which(peer).clone());
        Ok(client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
    }

    async fn ask(
        &self,
        request: VoteRequest<Types>,
        pre: bool,
        option: RPCOption,
    ) -> Rpc<VoteResponse<Types>> {
        let request = wire::RaftVoteRequest {
            vote: Some(codec::put_vote(&request.vote)),
            last: request.last_log_id.as_ref().map(codec::put_log_id),
            leadership_transfer: request.leadership_transfer,
            pre,
        };
        let mut client = self.client(|it| &it.control)?;
        let reply = within(option.hard_ttl(), client.vote(request)).await?;
        let vote = codec::some_vote(reply.vote.as_ref()).map_err(|it| odd(&it))?;
        Ok(VoteResponse::new(vote, reply.last.as_ref().map(codec::log_id), reply.granted))
    }
}

/// What another server could not make sense of may be damaged here, on disk.
async fn doubt(to: u64, file: SnapshotFile, status: &Status) {
    tracing::warn!(
        to,
        cause = status.message(),
        "a hub server could not read the snapshot that this one sent"
    );
    let _or_stopping = tokio::task::spawn_blocking(move || file.examine()).await;
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Rpc<T> {
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(_) => Err(RPCError::Network(NetworkError::from_string(format!("no answer within {limit:?}")))),
    }
}

/// A server that refuses or can't be reached is asked again after a backoff; a call that broke, at once.
fn failed(status: &Status) -> RPCError<Types> {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
            RPCError::Network(NetworkError::from_string(text))
        }
        _ => RPCError::Unreachable(Unreachable::from_string(text)),
    }
}

fn odd(cause: &impl std::fmt::Display) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(cause))
}

/// What is under way on a stream of appends.
#[derive(Debug, Default)]
struct Progress {
    sent: Arc<AtomicU64>,
    answered: u64,
}

impl Progress {
    fn is_waiting(&self) -> bool {
        self.sent.load(Ordering::Relaxed) > self.answered
    }
}

/// The next answer; an error when appends wait and none comes.
async fn next_answer(
    replies: &mut tonic::Streaming<wire::AppendReply>,
    progress: &mut Progress,
) -> Option<Rpc<StreamAppendResult<Types>>> {
    let mut waited = false;
    loop {
        match timeout(APPEND_STALL, replies.next()).await {
            Ok(None) => return None,
            Ok(Some(Ok(reply))) => {
                progress.answered += 1;
                return Some(codec::append_reply(reply).map_err(|it| odd(&it)));
            }
            Ok(Some(Err(status))) => return Some(Err(failed(&status))),
            Err(_) if waited && progress.is_waiting() => {
                let text = format!("no answer to an append within {APPEND_STALL:?}");
                return Some(Err(RPCError::Unreachable(Unreachable::from_string(text))));
            }
            Err(_) => waited = progress.is_waiting(),
        }
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Types>> {
        let once = Box::pin(futures_util::stream::once(async { rpc }));
        let mut replies = self.stream_append(once, option).await?;
        let none = || RPCError::Network(NetworkError::from_string("an append was not answered"));
        Ok(replies.next().await.ok_or_else(none)??.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let heartbeats = self.heartbeats;
        let client = self.client(|it| if heartbeats { &it.control } else { &it.append });
        let progress = Progress::default();
        let (sent, silence) = (progress.sent.clone(), self.peers.silence.clone());
        let speaks = !silence.holds();
        let requests = input.take_while(move |_| std::future::ready(!silence.holds())).map(move |request| {
            sent.fetch_add(1, Ordering::Relaxed);
            codec::put_append(&request)
        });
        Box::pin(async move {
            if !speaks {
                return Err(odd(&"no majority answers this leader: it is silent"));
            }
            let replies = within(APPEND_STALL, client?.append(requests)).await?;
            let answers = futures_util::stream::unfold(Some((replies, progress)), |state| async {
                let (mut replies, mut progress) = state?;
                let answer = next_answer(&mut replies, &mut progress).await?;
                let goes_on = matches!(answer, Ok(Ok(_)));
                Some((answer, goes_on.then_some((replies, progress))))
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        self.ask(rpc, false, option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        self.ask(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        if snapshot.snapshot.is_damaged() {
            return Err(odd(&"this server's snapshot is damaged: a new one is being made").into());
        }
        let start = wire::SnapshotStart {
            vote: Some(codec::put_vote(&vote)),
            last: snapshot.meta.last_log_id.as_ref().map(codec::put_log_id),
            membership: Some(codec::put_stored(&snapshot.meta.last_membership)),
            length: snapshot.snapshot.length,
        };
        let (to, file) = (self.target, snapshot.snapshot.clone());
        let pieces = pieces(start, snapshot.snapshot);
        let mut client = self.client(|it| &it.snapshot)?;
        let sent = async {
            let answered = client.install_snapshot(pieces).await;
            if let Err(status) = &answered
                && status.code() == Code::DataLoss
            {
                doubt(to, file, status).await;
            }
            answered
        };
        let reply = tokio::select! {
            reply = within(option.hard_ttl(), sent) => reply?,
            closed = cancel => return Err(closed.into()),
        };
        let vote = codec::some_vote(reply.vote.as_ref()).map_err(|it| odd(&it))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<Types>> {
        let wire = wire::TransferLeaderRequest {
            from: Some(codec::put_vote(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(codec::put_log_id),
        };
        let mut client = self.client(|it| &it.control)?;
        let reply = within(option.hard_ttl(), client.transfer_leader(wire)).await?;
        if reply.accepted {
            return Ok(Ok(()));
        }
        tracing::info!(why = reply.why_not, to = self.target, "a hub server did not take the leadership");
        Ok(Err(TransferLeaderError::LogNotFlushed { expected: request.last_log_id().copied(), actual: None }))
    }
}

type SnapshotOf = Snapshot<openraft::type_config::alias::CommittedLeaderIdOf<Types>, u64, (), SnapshotFile>;

/// A snapshot's file as a stream, read on a blocking thread as fast as the other side takes it.
fn pieces(start: wire::SnapshotStart, snapshot: SnapshotFile) -> ReceiverStream<wire::SnapshotPiece> {
    let (sender, receiver) = mpsc::channel(4);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let put = |piece: Piece| {
            let sent = timeout(PIECE_STALL, sender.send(wire::SnapshotPiece { piece: Some(piece) }));
            matches!(runtime.block_on(sent), Ok(Ok(())))
        };
        if !put(Piece::Start(start)) {
            return;
        }
        let mut offset = 0;
        while offset < snapshot.length {
            let left = usize::try_from(snapshot.length - offset).unwrap_or(usize::MAX);
            let mut piece = vec![0; left.min(super::snapshots::CHUNK)];
            if let Err(cause) = snapshot.file.read_at(offset, &mut piece) {
                // The receiver finds the file too short and refuses it.
                tracing::error!(%cause, "a snapshot can't be sent");
                return;
            }
            offset += piece.len() as u64;
            if !put(Piece::Data(piece.into())) {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}
