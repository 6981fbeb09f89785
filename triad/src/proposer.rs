//! Makes log entries of what arrives: whatever waits while earlier entries are under way goes into one, so that Raft's cost and
//! the disk's sync are shared. Nothing waits for company: a command that is alone leaves alone.

use crate::{command, raft::node::Node, refusal::Refusal, state::Reply, time::HubTime};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use proto::hub::v1::Command;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Commands in one entry.
const ENTRY_COMMANDS: usize = 4096;
/// Bytes in one entry, unless one request alone is larger.
const ENTRY_BYTES: usize = 4 << 20;
/// Entries under way at once: one that is being written, one that follows, one that is being acknowledged.
const ENTRIES: usize = 3;
/// Requests that wait.
const QUEUE: usize = 16_384;
/// Bytes that wait or are under way.
const BYTES: usize = 128 << 20;
/// An outcome is awaited so long.
const LATE: Duration = Duration::from_secs(5);

type Replied = oneshot::Sender<Result<Vec<Reply>, Refusal>>;

#[derive(Debug)]
struct Proposal {
    commands: Vec<Command>,
    /// The entry's version is this at least.
    least: u32,
    bytes: usize,
    reply: Replied,
    room: OwnedSemaphorePermit,
}

/// Where the services hand commands in. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Proposal>,
    room: Arc<Semaphore>,
}

impl Proposer {
    /// Starts the task that makes entries; it ends when all handles are gone.
    pub(crate) fn start(node: Node, time: Arc<HubTime>) -> Self {
        let (queue, proposals) = mpsc::channel(QUEUE);
        tokio::spawn(run(node, time, proposals));
        Self { queue, room: Arc::new(Semaphore::new(BYTES)) }
    }

    /// Replicates `commands`, of about `bytes` bytes, in one entry; one reply each.
    pub(crate) async fn propose(&self, commands: Vec<Command>, bytes: usize) -> Result<Vec<Reply>, Refusal> {
        self.send(commands, 1, bytes).await
    }

    /// Has the log say that all servers read `version`.
    pub(crate) async fn mark(&self, version: u32) -> Result<(), Refusal> {
        self.send(Vec::new(), version, 1).await.map(drop)
    }

    async fn send(&self, commands: Vec<Command>, least: u32, bytes: usize) -> Result<Vec<Reply>, Refusal> {
        let overloaded = |what: &str| Refusal::Overloaded(format!("{what} wait already"));
        let room = u32::try_from(bytes.clamp(1, BYTES)).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(room);
        let room = room.map_err(|_| overloaded(&format!("{BYTES} bytes")))?;
        let (reply, wait) = oneshot::channel();
        self.queue.try_send(Proposal { commands, least, bytes, reply, room }).map_err(
            |cause| match cause {
                mpsc::error::TrySendError::Full(_) => overloaded(&format!("{QUEUE} requests")),
                mpsc::error::TrySendError::Closed(_) => Refusal::Stopped("the hub is stopping".to_owned()),
            },
        )?;
        match tokio::time::timeout(LATE, wait).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Refusal::Stopped("the hub is stopping".to_owned())),
            Err(_) => Err(Refusal::Late(LATE)),
        }
    }
}

/// Those whose commands are in one entry.
struct Waiting(Vec<(usize, Replied, OwnedSemaphorePermit)>);

impl Waiting {
    fn answer(self, outcome: Result<Vec<Reply>, Refusal>) {
        match outcome {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for (count, reply, _room) in self.0 {
                    let _gone = reply.send(Ok(replies.by_ref().take(count).collect()));
                }
            }
            Err(refusal) => {
                for (_, reply, _room) in self.0 {
                    let _gone = reply.send(Err(refusal.clone()));
                }
            }
        }
    }
}

async fn run(node: Node, time: Arc<HubTime>, mut proposals: mpsc::Receiver<Proposal>) {
    let mut under_way = FuturesUnordered::new();
    let mut next = None;
    loop {
        tokio::select! {
            biased;
            Some((result, waiting)) = under_way.next(), if !under_way.is_empty() => {
                let waiting: Waiting = waiting;
                waiting.answer(Node::settle(result));
            }
            first = first(&mut next, &mut proposals), if under_way.len() < ENTRIES => {
                let Some(first) = first else { break };
                let (commands, least, waiting) = collect(first, &mut next, &mut proposals);
                if waiting.0.is_empty() {
                    continue;
                }
                let state_ms = node.view().read().state.time_ms();
                let now_ms = time.now_ms(node.position().term, state_ms);
                match node.submit(command::encode(now_ms, least, commands)).await {
                    Ok(outcome) => under_way.push(outcome.map(move |it| (it, waiting))),
                    Err(refusal) => waiting.answer(Err(refusal)),
                }
            }
        }
    }
    while let Some((result, waiting)) = under_way.next().await {
        waiting.answer(Node::settle(result));
    }
}

async fn first(next: &mut Option<Proposal>, proposals: &mut mpsc::Receiver<Proposal>) -> Option<Proposal> {
    match next.take() {
        Some(proposal) => Some(proposal),
        None => proposals.recv().await,
    }
}

/// Takes what waits and fits into one entry; what no longer fits becomes `next`. Those who gave up are left out.
fn collect(
    first: Proposal,
    next: &mut Option<Proposal>,
    proposals: &mut mpsc::Receiver<Proposal>,
) -> (Vec<Command>, u32, Waiting) {
    let mut commands = Vec::new();
    let mut waiting = Waiting(Vec::new());
    let mut bytes = 0;
    let mut least = 1;
    let mut candidate = Some(first);
    while let Some(proposal) = candidate {
        let fits = commands.is_empty()
            || (bytes + proposal.bytes <= ENTRY_BYTES
                && commands.len() + proposal.commands.len() <= ENTRY_COMMANDS);
        if !fits {
            *next = Some(proposal);
            break;
        }
        if !proposal.reply.is_closed() {
            bytes += proposal.bytes;
            least = least.max(proposal.least);
            waiting.0.push((proposal.commands.len(), proposal.reply, proposal.room));
            if commands.is_empty() {
                commands = proposal.commands;
            } else {
                commands.extend(proposal.commands);
            }
        }
        candidate = proposals.try_recv().ok();
    }
    (commands, least, waiting)
}
