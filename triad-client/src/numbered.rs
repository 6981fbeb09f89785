//! Writes that are numbered: those of concurrent callers travel together, and a call that is sent again counts once, whatever becomes of the hub's leader
//! meanwhile.

use crate::{
    HubError,
    leader::{Leader, TRY_TIMEOUT},
};
use prost::Message;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use tonic::{Response, Status, transport::Channel};

/// Writes that wait for a call; a further one is refused. So is one when all that wait have so many bytes.
const QUEUE_MAX: usize = 16_384;
const QUEUE_BYTES: u32 = 128 << 20;

/// Calls under way at once.
const CALLS_MAX: usize = 3;

/// Writes in one call, and their bytes unless one write alone is larger.
const WRITES_MAX: usize = 1024;
const BYTES_MAX: usize = 3 << 20;

/// A write whose caller waits for no longer than this is not begun.
const TIME_MIN: Duration = Duration::from_millis(100);

/// A call's place in the order of its process's writes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) server: String,
    pub(crate) started_ms: u64,
    /// The first write's number.
    pub(crate) first: u64,
    /// All writes before this number are answered, or given up.
    pub(crate) settled: u64,
}

/// A kind of writes.
pub(crate) trait Writes: 'static {
    type Write: Message + Clone + Default + 'static;
    type Outcome: Send + 'static;
    type Answer: Send + 'static;

    /// Sends a call.
    fn send(
        channel: Channel,
        place: Place,
        writes: Vec<Self::Write>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;

    /// What came of each write; `None`: of a kind that this version does not know.
    fn outcomes(answer: Self::Answer) -> Vec<Option<Self::Outcome>>;
}

struct Waiting<W: Writes> {
    write: W::Write,
    deadline: Instant,
    outcome: oneshot::Sender<Result<W::Outcome, HubError>>,
    _room: tokio::sync::OwnedSemaphorePermit,
}

/// Writes of one kind, of one process of a server. Clones share the queue.
pub(crate) struct Writer<W: Writes> {
    queue: mpsc::Sender<Waiting<W>>,
    room: Arc<Semaphore>,
}

impl<W: Writes> Clone for Writer<W> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), room: self.room.clone() }
    }
}

impl<W: Writes> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<W: Writes> Writer<W> {
    /// For the process that was started at `started_ms`. There may be one alone of a kind: its writes are numbered.
    pub(crate) fn start(leader: Arc<Leader>, started_ms: u64) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run::<W>(leader, started_ms, waiting));
        Self { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)) }
    }

    /// Writes, once.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may have happened, and is not sent again.
    pub(crate) async fn write(&self, write: W::Write, deadline: Duration) -> Result<W::Outcome, HubError> {
        let (outcome, done) = oneshot::channel();
        let end = Instant::now() + deadline;
        let full = || HubError::Overloaded("too many writes are waiting already".to_owned());
        let bytes = u32::try_from(write.encoded_len()).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| full())?;
        let waiting = Waiting { write, deadline: end, outcome, _room: room };
        self.queue.try_send(waiting).map_err(|_| full())?;
        match tokio::time::timeout_at(end, done).await {
            Ok(Ok(outcome)) => outcome.map_err(|it| it.of_wait(deadline)),
            Ok(Err(_gone)) => Err(HubError::Unavailable { deadline, last: "the writer has stopped".into() }),
            Err(_late) => {
                Err(HubError::Unavailable { deadline, last: "the write is still on its way".into() })
            }
        }
    }
}

/// The first numbers of the calls that are under way.
#[derive(Debug, Default)]
struct UnderWay(Mutex<BTreeSet<u64>>);

impl UnderWay {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All writes before this number are answered, or given up.
    fn settled(&self) -> u64 {
        self.change(|it| it.first().copied().unwrap_or_default())
    }
}

/// Ends when the last [`Writer`] is dropped.
async fn run<W: Writes>(leader: Arc<Leader>, started_ms: u64, mut queue: mpsc::Receiver<Waiting<W>>) {
    let (calls, under_way) = (Arc::new(Semaphore::new(CALLS_MAX)), Arc::new(UnderWay::default()));
    let (mut held, mut first) = (None, 1);
    loop {
        let Ok(place) = calls.clone().acquire_owned().await else { return };
        let Some(batch) = collect(&mut queue, &mut held).await else { return };
        let number = first;
        first += batch.writes.len() as u64;
        under_way.change(|it| it.insert(number));
        let (leader, under_way) = (leader.clone(), under_way.clone());
        tokio::spawn(async move {
            let server = leader.me().as_str().to_owned();
            let at = Place { server, started_ms, first: number, settled: under_way.settled() };
            let outcomes = send_all::<W>(&leader, at, batch.writes, batch.deadline).await;
            under_way.change(|it| it.remove(&number));
            for (waiting, outcome) in batch.waiting.into_iter().zip(outcomes) {
                let _gone = waiting.send(outcome.and_then(|it| it.ok_or_else(odd)));
            }
            drop(place);
        });
    }
}

fn odd() -> HubError {
    HubError::Refused("an outcome of a kind that this version does not know".into())
}

struct Batch<W: Writes> {
    writes: Vec<W::Write>,
    waiting: Vec<oneshot::Sender<Result<W::Outcome, HubError>>>,
    deadline: Instant,
}

/// Waits for the first write and takes along what is there, up to the bounds. `held` keeps the one that did not fit.
async fn collect<W: Writes>(
    queue: &mut mpsc::Receiver<Waiting<W>>,
    held: &mut Option<Waiting<W>>,
) -> Option<Batch<W>> {
    let first = loop {
        let next = match held.take() {
            Some(waiting) => waiting,
            None => queue.recv().await?,
        };
        if next.is_awaited() {
            break next;
        }
    };
    let mut bytes = first.write.encoded_len();
    let mut batch =
        Batch { writes: vec![first.write], waiting: vec![first.outcome], deadline: first.deadline };
    while batch.writes.len() < WRITES_MAX {
        let Ok(next) = queue.try_recv() else { break };
        if !next.is_awaited() {
            continue;
        }
        bytes += next.write.encoded_len();
        if bytes > BYTES_MAX {
            *held = Some(next);
            break;
        }
        // What nobody waits for any more is not to be sent again.
        batch.deadline = batch.deadline.min(next.deadline);
        batch.writes.push(next.write);
        batch.waiting.push(next.outcome);
    }
    Some(batch)
}

impl<W: Writes> Waiting<W> {
    /// Whether its caller is there, and has time to wait for it.
    fn is_awaited(&self) -> bool {
        !self.outcome.is_closed() && self.deadline.saturating_duration_since(Instant::now()) > TIME_MIN
    }
}

/// Sends a call. The hub refuses it as a whole: whose write it was is found by halves, so that it harms no other.
async fn send_all<W: Writes>(
    leader: &Leader,
    place: Place,
    writes: Vec<W::Write>,
    deadline: Instant,
) -> Vec<Result<Option<W::Outcome>, HubError>> {
    let (mut parts, mut outcomes) = (vec![(place, writes)], Vec::new());
    while let Some((place, mut writes)) = parts.pop() {
        let count = writes.len();
        match send::<W>(leader, &place, &writes, deadline).await {
            Err(HubError::Refused(_)) if count > 1 => {
                let second = writes.split_off(count / 2);
                let first = place.first + (count / 2) as u64;
                parts.push((Place { first, ..place.clone() }, second));
                parts.push((place, writes));
            }
            Err(error) => outcomes.extend((0..count).map(|_| Err(error.clone()))),
            Ok(came) => {
                let odd = came.len() != count;
                outcomes.extend(came.into_iter().map(Ok).chain((0..count).map(|_| Ok(None))).take(count));
                debug_assert!(!odd, "one outcome a write");
            }
        }
    }
    outcomes
}

async fn send<W: Writes>(
    leader: &Leader,
    place: &Place,
    writes: &[W::Write],
    deadline: Instant,
) -> Result<Vec<Option<W::Outcome>>, HubError> {
    let deadline = deadline.saturating_duration_since(Instant::now());
    let written =
        leader.call(deadline, TRY_TIMEOUT, |channel| W::send(channel, place.clone(), writes.to_vec()));
    Ok(W::outcomes(written.await?))
}
