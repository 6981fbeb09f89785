//! Caches of apps, as the hub's leader is asked for them. Writes of concurrent callers travel together; each has a number, so that a call that is sent
//! again counts once.

use crate::{
    Hub, HubError, MESSAGE_MAX,
    leader::{Leader, TRY_TIMEOUT},
};
use prost::Message;
use proto::hub::v1::{
    CacheWrite, CachedLoaded, CachesDescribed, DescribeCaches, LoadCached, WriteCaches,
    cache_outcome::Outcome, caches_client::CachesClient,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

/// Writes that wait for a call; a further one is refused.
const QUEUE_MAX: usize = 16_384;

/// Calls under way at once.
const CALLS_MAX: usize = 3;

/// Writes in one call, and their bytes unless one write alone is larger.
const WRITES_MAX: usize = 1024;
const BYTES_MAX: usize = 3 << 20;

/// A write whose caller waits for no longer than this is not begun.
const TIME_MIN: Duration = Duration::from_millis(100);

struct Waiting {
    write: CacheWrite,
    deadline: Instant,
    outcome: oneshot::Sender<Result<Outcome, HubError>>,
}

/// Writes to caches, of one process of a server. Clones share the queue.
#[derive(Debug, Clone)]
pub struct CacheWriter {
    queue: mpsc::Sender<Waiting>,
}

impl Hub {
    /// What writes to caches for this process, which was started at `started_ms`. There may be one alone in a process: its writes are numbered.
    pub fn cache_writer(&self, started_ms: u64) -> CacheWriter {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(self.leader.clone(), started_ms, waiting));
        CacheWriter { queue }
    }

    /// A value as of now; with a watch the hub tells that watch's server when it changes.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn load_cached(&self, load: LoadCached, deadline: Duration) -> Result<CachedLoaded, HubError> {
        self.leader
            .call(deadline, TRY_TIMEOUT, |channel| {
                let mut client = CachesClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
                let request = crate::traced(load.clone());
                async move { client.load(request).await }
            })
            .await
    }

    /// How the caches are.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn describe_caches(&self, deadline: Duration) -> Result<CachesDescribed, HubError> {
        self.leader
            .call(deadline, TRY_TIMEOUT, |channel| async move {
                CachesClient::new(channel).describe(DescribeCaches {}).await
            })
            .await
    }
}

impl CacheWriter {
    /// Writes, once, whatever becomes of the hub's leader meanwhile.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may have happened, and is not sent again.
    pub async fn write(&self, write: CacheWrite, deadline: Duration) -> Result<Outcome, HubError> {
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

/// Ends when the last [`CacheWriter`] is dropped.
async fn run(leader: Arc<Leader>, started_ms: u64, mut queue: mpsc::Receiver<Waiting>) {
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
            let call = WriteCaches {
                server,
                started_ms,
                first: number,
                settled: under_way.settled(),
                writes: batch.writes,
                max_bytes: 0,
            };
            let outcomes = send_all(&leader, call, batch.deadline).await;
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

struct Batch {
    writes: Vec<CacheWrite>,
    waiting: Vec<oneshot::Sender<Result<Outcome, HubError>>>,
    deadline: Instant,
}

/// Waits for the first write and takes along what is there, up to the bounds. `held` keeps the one that did not fit.
async fn collect(queue: &mut mpsc::Receiver<Waiting>, held: &mut Option<Waiting>) -> Option<Batch> {
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

impl Waiting {
    /// Whether its caller is there, and has time to wait for it.
    fn is_awaited(&self) -> bool {
        !self.outcome.is_closed() && self.deadline.saturating_duration_since(Instant::now()) > TIME_MIN
    }
}

/// Sends a call. The hub refuses it as a whole: whose write it was is found by halves, so that it harms no other.
async fn send_all(
    leader: &Leader,
    call: WriteCaches,
    deadline: Instant,
) -> Vec<Result<Option<Outcome>, HubError>> {
    let (mut parts, mut outcomes) = (vec![call], Vec::new());
    while let Some(mut call) = parts.pop() {
        let count = call.writes.len();
        match send(leader, call.clone(), deadline).await {
            Err(HubError::Refused(_)) if count > 1 => {
                let second = call.writes.split_off(count / 2);
                let first = call.first + (count / 2) as u64;
                parts.push(WriteCaches { first, writes: second, ..call.clone() });
                parts.push(call);
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

async fn send(
    leader: &Leader,
    call: WriteCaches,
    deadline: Instant,
) -> Result<Vec<Option<Outcome>>, HubError> {
    let deadline = deadline.saturating_duration_since(Instant::now());
    let written = leader.call(deadline, TRY_TIMEOUT, |channel| {
        let mut client = CachesClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let request = call.clone();
        async move { client.write(request).await }
    });
    Ok(written.await?.outcomes.into_iter().map(|it| it.outcome).collect())
}
