//! Queues of apps, as the hub's leader is asked for them, and what it hands to this process.

use crate::{
    Hub, HubError, MESSAGE_MAX, WatchStream,
    leader::{Leader, TRY_TIMEOUT},
    numbered::{Place, Writer, Writes},
};
use common::backoff::Backoff;
use proto::hub::v1::{
    BrowseQueue, BrowsedMessage, ConsumeQueues, DeliverMessages, Delivered, DescribeQueues, GetRun, ListRuns,
    ManageQueue, ManageRun, QueueManaged, QueueWindow, QueueWrite, QueuesConsumed, QueuesDescribed,
    QueuesWritten, RunDescription, RunManaged, RunsListed, WriteQueues, queue_outcome::Outcome,
    queues_client::QueuesClient,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Response, Status, Streaming, transport::Channel};

/// Waits before the hub is asked again what it has for this process.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// A word on what this process takes is waited for so long.
const CONSUME_MAX: Duration = Duration::from_secs(5);

/// The answer to a stream's begin.
const BEGIN_MAX: Duration = Duration::from_secs(2);

/// How often it is looked whether the hub is heard on another stream by now.
const LOOK: Duration = Duration::from_millis(100);

/// What the hub has no room for is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// A purge, or a replay, of many messages takes many commands.
const MANAGE_MAX: Duration = Duration::from_secs(60);

/// What was handed out and waits for its reader: the windows are its bound.
const DELIVERED: usize = 64;

/// Writes to queues.
struct OfQueues;

impl Writes for OfQueues {
    type Write = QueueWrite;
    type Outcome = Outcome;
    type Answer = QueuesWritten;

    async fn send(
        channel: Channel,
        place: Place,
        writes: Vec<QueueWrite>,
    ) -> Result<Response<QueuesWritten>, Status> {
        let Place { server, started_ms, first, settled } = place;
        let call =
            WriteQueues { server, started_ms, first, settled, writes, max_bytes: 0, cache_max_bytes: 0 };
        let client = QueuesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        client.max_encoding_message_size(MESSAGE_MAX).write(call).await
    }

    fn outcomes(answer: QueuesWritten) -> Vec<Option<Outcome>> {
        answer.outcomes.into_iter().map(|it| it.outcome).collect()
    }
}

/// Writes to queues, of one process of a server. Clones share the queue.
#[derive(Debug, Clone)]
pub struct QueueWriter(Writer<OfQueues>);

impl QueueWriter {
    /// Writes, once, whatever becomes of the hub's leader meanwhile.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may have happened, and is not sent again.
    pub async fn write(&self, write: QueueWrite, deadline: Duration) -> Result<Outcome, HubError> {
        self.0.write(write, deadline).await
    }
}

/// What a process takes. `None`: it does not listen.
pub type Takes = Option<Vec<QueueWindow>>;

/// What the hub hands to this process, in order, through every change of leader; what is handed again after a loss is another delivery. Ends when
/// the sender of what it takes is dropped.
#[derive(Debug)]
pub struct Deliveries {
    delivered: mpsc::Receiver<Delivered>,
}

impl Deliveries {
    /// The next ones.
    pub async fn next(&mut self) -> Option<Delivered> {
        self.delivered.recv().await
    }
}

impl Hub {
    /// What writes to queues for this process, which was started at `started_ms`. There may be one alone in a process.
    pub fn queue_writer(&self, started_ms: u64) -> QueueWriter {
        QueueWriter(Writer::start(self.leader.clone(), started_ms))
    }

    /// Tells the hub what this process takes, and hears what it is handed. `stream` says where the hub is heard.
    pub fn deliveries(
        &self,
        started_ms: u64,
        takes: watch::Receiver<Takes>,
        stream: WatchStream,
    ) -> Deliveries {
        let (sender, delivered) = mpsc::channel(DELIVERED);
        let listener = Listener {
            leader: self.leader.clone(),
            started_ms,
            takes,
            stream,
            sender,
            number: 0,
            after_delivery: 0,
            after_reply: 0,
            say_again: None,
        };
        tokio::spawn(listener.run());
        Deliveries { delivered }
    }

    /// How the queues are.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn describe_queues(&self, deadline: Duration) -> Result<QueuesDescribed, HubError> {
        let described = self.leader.call(deadline, TRY_TIMEOUT, |channel| async move {
            let mut client = QueuesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
            client.describe(DescribeQueues {}).await
        });
        described.await
    }

    /// What has come of a run of a pipeline.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn pipeline_run(&self, get: GetRun, deadline: Duration) -> Result<RunDescription, HubError> {
        let told = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let get = get.clone();
            async move { QueuesClient::new(channel).max_decoding_message_size(MESSAGE_MAX).run(get).await }
        });
        told.await
    }

    /// Some runs of a pipeline; of none, how many each has.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn list_runs(&self, list: ListRuns, deadline: Duration) -> Result<RunsListed, HubError> {
        let listed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let mut client = QueuesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
            let list = list.clone();
            async move { client.list_runs(list).await }
        });
        listed.await
    }

    /// Ends a run of a pipeline, for an operator.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may have ended.
    pub async fn end_run(&self, manage: ManageRun, deadline: Duration) -> Result<RunManaged, HubError> {
        let managed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let manage = manage.clone();
            async move { QueuesClient::new(channel).manage_run(manage).await }
        });
        managed.await
    }

    /// Messages of one.
    ///
    /// # Errors
    /// See [`HubError`]; refused where there is no such queue.
    pub async fn browse_queue(
        &self,
        browse: BrowseQueue,
        deadline: Duration,
    ) -> Result<Vec<BrowsedMessage>, HubError> {
        let browsed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let mut client = QueuesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
            let browse = browse.clone();
            async move { client.browse(browse).await }
        });
        Ok(browsed.await?.messages)
    }

    /// Makes dead messages ready again.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] some may be.
    pub async fn replay_queue(&self, manage: ManageQueue) -> Result<QueueManaged, HubError> {
        let managed = self.leader.call(MANAGE_MAX, MANAGE_MAX, |channel| {
            let manage = manage.clone();
            async move { QueuesClient::new(channel).replay(manage).await }
        });
        managed.await
    }

    /// Pauses a queue, resumes, purges or replays it, for an operator.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn manage_queue(&self, manage: ManageQueue) -> Result<QueueManaged, HubError> {
        let managed = self.leader.call(MANAGE_MAX, MANAGE_MAX, |channel| {
            let manage = manage.clone();
            async move { QueuesClient::new(channel).manage(manage).await }
        });
        managed.await
    }
}

struct Listener {
    leader: Arc<Leader>,
    started_ms: u64,
    takes: watch::Receiver<Takes>,
    stream: WatchStream,
    sender: mpsc::Sender<Delivered>,
    /// Of the last word on what it takes.
    number: u64,
    after_delivery: u64,
    after_reply: u64,
    /// What it takes is to be said again then: there was no room for some of it.
    say_again: Option<Instant>,
}

/// Why a stream was left.
enum Left {
    Ended(Status),
    /// Nobody reads any more, or says what is taken.
    Over,
}

impl Listener {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        loop {
            // Whoever never takes a message costs the hub nothing.
            if self.takes.wait_for(Option::is_some).await.is_err() {
                return;
            }
            let before = (self.after_delivery, self.after_reply);
            let left = match self.consume().await {
                Ok(()) => self.follow().await,
                Err(cause) => Left::Ended(Status::unavailable(cause.to_string())),
            };
            match left {
                Left::Over => return,
                Left::Ended(status) if status.code() == Code::InvalidArgument => {
                    tracing::warn!(%status, "the hub hands out nothing");
                }
                Left::Ended(status) => tracing::debug!(%status, "the hub hands out nothing"),
            }
            if before != (self.after_delivery, self.after_reply) {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait(rand::random())) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Says what this process takes.
    async fn consume(&mut self) -> Result<(), HubError> {
        self.number += 1;
        let windows = self.takes.borrow_and_update().clone().unwrap_or_default();
        let server = self.leader.me().as_str().to_owned();
        let consume = ConsumeQueues { server, started_ms: self.started_ms, number: self.number, windows };
        let consumed = self.leader.call(CONSUME_MAX, TRY_TIMEOUT, |channel| {
            let consume = consume.clone();
            async move { QueuesClient::new(channel).consume(consume).await }
        });
        let QueuesConsumed { outdated, no_room } = consumed.await?;
        if outdated {
            return Err(HubError::Refused("another process of this server has followed".to_owned()));
        }
        self.say_again = (no_room > 0).then(|| Instant::now() + SAY_AGAIN);
        if no_room > 0 {
            tracing::warn!(
                queues = no_room,
                "the hub has no room for queues whose messages this server takes: it is asked again"
            );
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Streaming<Delivered>, Status> {
        let Some((_, _, channel)) = self.leader.believed() else {
            return Err(Status::unavailable("the configuration names no hub server"));
        };
        let call = DeliverMessages {
            server: self.leader.me().as_str().to_owned(),
            started_ms: self.started_ms,
            after_delivery: self.after_delivery,
            after_reply: self.after_reply,
        };
        let mut client = QueuesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let begun = tokio::time::timeout(BEGIN_MAX, client.deliver(call)).await;
        Ok(begun.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
    }

    async fn follow(&mut self) -> Left {
        let mut stream = match self.begin().await {
            Ok(stream) => stream,
            Err(status) => return Left::Ended(status),
        };
        let heard_on = self.stream.name();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(delivered)) => {
                        let delivery = delivered.deliveries.last().map_or(0, |it| it.number);
                        let reply = delivered.replies.last().map_or(0, |it| it.number);
                        self.after_delivery = self.after_delivery.max(delivery);
                        self.after_reply = self.after_reply.max(reply);
                        if self.sender.send(delivered).await.is_err() {
                            return Left::Over;
                        }
                    }
                    Ok(None) => return Left::Ended(Status::unavailable("the hub server ended it")),
                    Err(status) => return Left::Ended(status),
                },
                changed = self.takes.changed() => {
                    if changed.is_err() {
                        return Left::Over;
                    }
                    if let Err(cause) = self.consume().await {
                        return Left::Ended(Status::unavailable(cause.to_string()));
                    }
                }
                _ = looks.tick() => {
                    if self.say_again.is_some_and(|it| it <= Instant::now())
                        && let Err(cause) = self.consume().await
                    {
                        return Left::Ended(Status::unavailable(cause.to_string()));
                    }
                    let now = self.stream.name();
                    if now != heard_on && now != 0 {
                        return Left::Ended(Status::unavailable("the hub is heard elsewhere"));
                    }
                }
                () = self.sender.closed() => return Left::Over,
            }
        }
    }
}
