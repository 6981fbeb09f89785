//! Session writes of concurrent callers travel together: whatever waits when a call may start goes along, nothing waits for
//! company.

use crate::{HubError, MESSAGE_MAX, leader::Leader};
use proto::hub::v1::{
    SessionWrite, WriteSessions, session_outcome::Outcome, session_write::Write,
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

/// Writes in one call, and their bytes unless one write alone is larger.
const WRITES_MAX: usize = 1024;
const BYTES_MAX: usize = 4 << 20;

struct Waiting {
    write: Write,
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
            .try_send(Waiting { write, deadline: end, outcome })
            .map_err(|_| HubError::Overloaded(format!("{QUEUE_MAX} writes are waiting already")))?;
        match tokio::time::timeout_at(end, done).await {
            Ok(Ok(outcome)) => outcome,
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
async fn collect(queue: &mut mpsc::Receiver<Waiting>, held: &mut Option<Waiting>) -> Option<Vec<Waiting>> {
    let first = match held.take() {
        Some(waiting) => waiting,
        None => queue.recv().await?,
    };
    let mut bytes = size(&first.write);
    let mut batch = vec![first];
    while batch.len() < WRITES_MAX {
        let Ok(next) = queue.try_recv() else { break };
        // Its caller has given up; what it wanted to write will come again.
        if next.outcome.is_closed() {
            continue;
        }
        bytes += size(&next.write);
        if bytes > BYTES_MAX {
            *held = Some(next);
            break;
        }
        batch.push(next);
    }
    Some(batch)
}

/// About what the write takes on the wire.
fn size(write: &Write) -> usize {
    const FRAME: usize = 64;
    FRAME
        + match write {
            Write::Save(save) => {
                save.set.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
                    + save.removed.iter().map(String::len).sum::<usize>()
            }
            Write::Touch(_) | Write::Remove(_) | Write::Claim(_) => 0,
        }
}

/// Sends one call until it is answered or its last deadline is over, and hands out the outcomes.
async fn send(leader: &Leader, batch: Vec<Waiting>) {
    let now = Instant::now();
    let deadline = batch.iter().map(|waiting| waiting.deadline).max().unwrap_or(now) - now;
    let (writes, waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|it| (SessionWrite { write: Some(it.write) }, it.outcome)).unzip();
    let request = WriteSessions { writes };
    match call(leader, &request, deadline).await {
        // The hub refuses a call as a whole: whose write it was is found out one by one, so that it harms no other.
        Err(HubError::Refused(_)) if waiting.len() > 1 => {
            for (write, waiting) in request.writes.into_iter().zip(waiting) {
                let alone = WriteSessions { writes: vec![write] };
                let outcome = call(leader, &alone, deadline).await;
                let _ =
                    waiting.send(outcome.and_then(|mut outcomes| outcomes.pop().ok_or_else(unknown_outcome)));
            }
        }
        Ok(outcomes) => {
            for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
                let _ = waiting.send(Ok(outcome));
            }
        }
        Err(error) => {
            for waiting in waiting {
                let _ = waiting.send(Err(error.clone()));
            }
        }
    }
}

/// One outcome a write, in order.
async fn call(
    leader: &Leader,
    request: &WriteSessions,
    deadline: Duration,
) -> Result<Vec<Outcome>, HubError> {
    let called = leader.call(deadline, |channel| {
        let mut client = SessionsClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let request = request.clone();
        async move { client.write(request).await }
    });
    let outcomes = called.await?.outcomes;
    if outcomes.len() != request.writes.len() {
        let (answered, asked) = (outcomes.len(), request.writes.len());
        return Err(HubError::Refused(format!("{answered} outcomes for {asked} writes")));
    }
    outcomes.into_iter().map(|it| it.outcome.ok_or_else(unknown_outcome)).collect()
}

fn unknown_outcome() -> HubError {
    HubError::Refused("an outcome of a kind that this version does not know".into())
}
