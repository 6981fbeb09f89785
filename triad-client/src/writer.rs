//! Session writes of concurrent callers travel together: whatever waits when a call may start goes along, nothing waits for
//! company.

use crate::{HubError, MESSAGE_MAX, leader::Leader};
use prost::Message;
use proto::hub::v1::{
    SessionOutcome, SessionWrite, WriteSessions, session_outcome::Outcome, session_write::Write,
    sessions_client::SessionsClient,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

/// Writes that wait for a call; a further one is refused.
const QUEUE_MAX: usize = 16_384;

/// Calls under way at once: one in the hub's disk sync while the next is on its way.
const CALLS_MAX: usize = 3;

/// Writes in one call, and their encoded bytes unless one write alone is larger; both below what the hub takes.
const WRITES_MAX: usize = 1024;
const BYTES_MAX: usize = 3 << 20;

/// Claims in one call: each brings a whole session back.
const CLAIMS_MAX: usize = 32;

/// The hub's leader is given this long for a call, and longer for a large one, before it is asked again: a second copy of
/// the same writes would only add to its load. A leader that is paused or cut off is found out by its connection.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
const BYTES_PER_SECOND: usize = 4 << 20;

struct Waiting {
    write: SessionWrite,
    deadline: Instant,
    outcome: oneshot::Sender<Result<Outcome, HubError>>,
}

/// The queue's entrance.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

impl Writer {
    pub(crate) fn start(leader: Arc<Leader>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(leader, waiting));
        Self { queue }
    }

    pub(crate) async fn write(&self, write: Write, deadline: Duration) -> Result<Outcome, HubError> {
        let (outcome, done) = oneshot::channel();
        let end = Instant::now() + deadline;
        self.queue
            .try_send(Waiting { write: SessionWrite { write: Some(write) }, deadline: end, outcome })
            .map_err(|_| HubError::Overloaded(format!("{QUEUE_MAX} writes are waiting already")))?;
        match tokio::time::timeout_at(end, done).await {
            Ok(Ok(outcome)) => outcome.map_err(|it| it.of_wait(deadline)),
            Ok(Err(_gone)) => Err(HubError::Unavailable { deadline, last: "the writer has stopped".into() }),
            Err(_late) => {
                Err(HubError::Unavailable { deadline, last: "the write is still on its way".into() })
            }
        }
    }
}

/// Ends when the last [`Writer`] is dropped.
async fn run(leader: Arc<Leader>, mut queue: mpsc::Receiver<Waiting>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let mut held = None;
    loop {
        let Ok(place) = calls.clone().acquire_owned().await else { return };
        let Some(batch) = collect(&mut queue, &mut held).await else { return };
        let leader = leader.clone();
        tokio::spawn(async move {
            send(&leader, batch).await;
            drop(place);
        });
    }
}

/// Waits for the first write and takes along what is there, up to the bounds. `held` keeps the one that did not fit.
async fn collect(queue: &mut mpsc::Receiver<Waiting>, held: &mut Option<Waiting>) -> Option<Batch> {
    let first = match held.take() {
        Some(waiting) => waiting,
        None => queue.recv().await?,
    };
    let mut batch = Batch::default();
    batch.push(first);
    while batch.writes.len() < WRITES_MAX && batch.claims < CLAIMS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        // Its caller has given up; what it wanted to write will come again.
        if next.outcome.is_closed() {
            continue;
        }
        if batch.bytes + next.write.encoded_len() > BYTES_MAX {
            *held = Some(next);
            break;
        }
        batch.push(next);
    }
    Some(batch)
}

/// The writes of one call and those who wait for them, in the same order.
#[derive(Default)]
struct Batch {
    writes: Vec<SessionWrite>,
    waiting: Vec<oneshot::Sender<Result<Outcome, HubError>>>,
    deadline: Option<Instant>,
    bytes: usize,
    claims: usize,
}

impl Batch {
    fn push(&mut self, next: Waiting) {
        /// A write's tag and length in the call.
        const FRAME: usize = 8;
        self.bytes += next.write.encoded_len() + FRAME;
        self.claims += usize::from(matches!(next.write.write, Some(Write::Claim(_))));
        self.deadline = self.deadline.max(Some(next.deadline));
        self.writes.push(next.write);
        self.waiting.push(next.outcome);
    }

    /// Takes the second half away.
    fn split(&mut self) -> Self {
        let half = self.writes.len() / 2;
        Self { writes: self.writes.split_off(half), waiting: self.waiting.split_off(half), ..*self }
    }

    fn answer(self, outcomes: Result<Vec<Result<Outcome, HubError>>, HubError>) {
        match outcomes {
            Ok(outcomes) => {
                for (waiting, outcome) in self.waiting.into_iter().zip(outcomes) {
                    let _ = waiting.send(outcome);
                }
            }
            Err(error) => {
                for waiting in self.waiting {
                    let _ = waiting.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Sends one call until it is answered or its last deadline is over, and hands out the outcomes. The hub refuses a call as a
/// whole: whose write it was is found by halves, so that it harms no other.
async fn send(leader: &Leader, batch: Batch) {
    let mut parts = vec![batch];
    while let Some(mut batch) = parts.pop() {
        match call(leader, &batch).await {
            Err(HubError::Refused(_)) if batch.writes.len() > 1 => {
                let second = batch.split();
                parts.extend([second, batch]);
            }
            outcomes => batch.answer(outcomes),
        }
    }
}

/// One outcome a write, in order.
async fn call(leader: &Leader, batch: &Batch) -> Result<Vec<Result<Outcome, HubError>>, HubError> {
    let now = Instant::now();
    let deadline = batch.deadline.unwrap_or(now).saturating_duration_since(now);
    let seconds = u32::try_from(batch.bytes / BYTES_PER_SECOND).unwrap_or(u32::MAX);
    let patience = TRY_TIMEOUT.saturating_add(Duration::from_secs(seconds.into()));
    let called = leader.call(deadline, patience, |channel| {
        let mut client = SessionsClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let request = WriteSessions { writes: batch.writes.clone() };
        async move { client.write(request).await }
    });
    let outcomes = called.await?.outcomes;
    if outcomes.len() != batch.writes.len() {
        let (answered, asked) = (outcomes.len(), batch.writes.len());
        return Err(HubError::Refused(format!("{answered} outcomes for {asked} writes")));
    }
    Ok(outcomes.into_iter().map(outcome).collect())
}

fn outcome(answered: SessionOutcome) -> Result<Outcome, HubError> {
    match answered.outcome {
        Some(Outcome::NoRoom(_)) => Err(HubError::NoRoom),
        other => other.ok_or_else(unknown_outcome),
    }
}

fn unknown_outcome() -> HubError {
    HubError::Refused("an outcome of a kind that this version does not know".into())
}
