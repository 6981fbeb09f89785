//! Queues, as this server sees them (docs/queues.md): messages are the hub's; it hands some to this server, which calls an app with each, and tells the
//! hub what has come of it.

mod ask;
mod consumer;
mod held;
mod jobs;
mod message;
mod outcome;
mod step;

pub(crate) use consumer::{Consumers, QueueHost};
pub(crate) use held::{HeldDelivery, Pull};
pub(crate) use message::{CORRELATION, GROUP, META, of_grpc, of_headers, of_json, queue_name};
pub(crate) use step::{first_queue_of, step_of};

use crate::{lease::ServicesConfig, session::Link};
use consumer::Consumer;
use held::Held;
use proto::hub::v1::{
    BrowseQueue, BrowsedMessage, Delivery, DeliveryGivenBack, Fence, ManageQueue, Member, MemberAdmin,
    MessageReply, MessagesPublished, PublishMessages, QueueManaged, QueueMessage, QueueWindow, QueueWrite,
    QueuesDescribed, QueuesFull, ReceiveMessages, SettleDelivery, SubscribeTopic, UnsubscribeTopic,
    manage_queue::Action, queue_outcome::Outcome, queue_write::Write, queues_full::Of, settle_delivery,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use step::{Step, Way};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use triad_client::{Hub, HubError, QueueWriter, Takes};

/// The hub is waited for so long.
const WRITE_MAX: Duration = Duration::from_secs(5);
const READ_MAX: Duration = Duration::from_secs(3);

/// The wait before the hub is told again what has come of a delivery.
const AGAIN: Duration = Duration::from_millis(200);

/// What is handed to this server and finds nobody is given back, for so long.
const NOBODY_MS: u64 = 1_000;

/// A hub that is not heard right now is waited for so long before an app is called: what it has handed out may be another's by now.
const HEARD_MAX: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why something was not done to a queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The hub did not answer: it may have happened, or not.
    #[error("the hub can't be reached: {0}")]
    HubLost(String),
    /// The hub refused.
    #[error("{0}")]
    Refused(String),
    /// There is no room.
    #[error("{}", full_text(.0))]
    Full(QueuesFull),
    /// The same of jobs.
    #[error("there are {0} jobs of this app, or twice as many in all, already: as many as there may be")]
    TooManyJobs(u32),
    /// The same of what they publish.
    #[error("jobs take {0} bytes of this app already, or twice as many in all: as many as they may")]
    NoRoomForJobs(u64),
    /// A job whose times make no sense.
    #[error("{0}")]
    BadJob(String),
    /// Another app has made a job with this name, or it is declared.
    #[error("a job with this name is {0}'s, or declared in an app.yaml")]
    OthersJob(String),
    /// There is no such subscription.
    #[error("there is no such subscription: PUT makes it")]
    Unknown,
    /// A lease is not held any more.
    #[error("the lease of X-Copal-Fence is not held with this token any more")]
    StaleFence,
    /// The delivery is not this server's any more.
    #[error("the delivery is over: it took too long, or was settled before; another may have the message")]
    Over,
}

fn full_text(full: &QueuesFull) -> String {
    let max = full.max;
    match full.of() {
        Of::All => format!("messages take {max} bytes already, as much as they may (queue-memory-max)"),
        Of::App => {
            format!("this app's messages take {max} bytes already, half of what all may (queue-memory-max)")
        }
        Of::Queues => format!("there are {max} queues already, as many as there may be"),
        Of::Runs => format!("there are {max} runs of pipelines already, as many as there may be"),
        Of::Receiving => format!("{max} wait to receive already, as many as there may be"),
    }
}

impl From<HubError> for QueueError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Unavailable { .. } => Self::HubLost(error.to_string()),
            HubError::Overloaded(_) | HubError::NoRoom | HubError::Refused(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

/// Messages of one queue that this server takes at once, and queues of which it takes any: as the hub has it.
const WINDOW_MAX: u32 = 10_000;
const WINDOWS_MAX: usize = 8000;

/// Who waits for a reply; by a number of this process's own.
type Asking = HashMap<u64, oneshot::Sender<MessageReply>>;

/// The queues. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Queues(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Hub,
    writer: QueueWriter,
    link: Arc<Link>,
    /// What this server's apps take.
    takes: watch::Sender<Takes>,
    consumers: Mutex<BTreeMap<u64, Arc<Consumer>>>,
    /// An operator has taken this server out: it takes nothing.
    disabled: AtomicBool,
    asking: Mutex<Asking>,
    /// Who waits to receive.
    receiving: Mutex<HashMap<u64, mpsc::UnboundedSender<Delivery>>>,
    held: Held,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether no message comes to this server any more.
fn is_disabled(members: &[Member], me: &str) -> bool {
    members.iter().any(|it| it.id == me && it.admin() == MemberAdmin::Disabled)
}

impl Queues {
    /// Needs a running tokio runtime; its tasks end when all handles are gone.
    pub(crate) fn start(services: &ServicesConfig, me: &str, link: Arc<Link>) -> Self {
        let ServicesConfig { hub, stream, members, started_ms, .. } = services.clone();
        let (takes, taken) = watch::channel(None);
        let mut deliveries = hub.deliveries(started_ms, taken, stream);
        let inner = Arc::new(Inner {
            writer: hub.queue_writer(started_ms),
            hub,
            link,
            takes,
            consumers: Mutex::default(),
            disabled: AtomicBool::new(is_disabled(&members.borrow(), me)),
            asking: Mutex::default(),
            receiving: Mutex::default(),
            held: Held::default(),
        });
        tokio::spawn(Self::go_by(Arc::downgrade(&inner), members, me.to_owned()));
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(delivered) = deliveries.next().await {
                let Some(inner) = weak.upgrade() else { return };
                let queues = Self(inner);
                for reply in delivered.replies {
                    if let Some(asker) = lock(&queues.0.asking).remove(&reply.ask) {
                        let _gone = asker.send(reply);
                    }
                }
                for delivery in delivered.deliveries {
                    queues.delivered(delivery);
                }
            }
        });
        Self(inner)
    }

    /// Takes messages, or none, as operators say of this server.
    async fn go_by(inner: Weak<Inner>, mut members: watch::Receiver<Arc<Vec<Member>>>, me: String) {
        while members.changed().await.is_ok() {
            let Some(inner) = inner.upgrade() else { return };
            let disabled = is_disabled(&members.borrow_and_update(), &me);
            if inner.disabled.swap(disabled, Ordering::Relaxed) != disabled {
                Self(inner).say_what_is_taken();
            }
        }
    }

    /// The hub has handed a message to this server.
    fn delivered(&self, delivery: Delivery) {
        let inner = &self.0;
        let unwanted = if delivery.receive != 0 {
            let waiting = lock(&inner.receiving).get(&delivery.receive).cloned();
            match waiting {
                Some(waiting) => waiting.send(delivery).err().map(|it| it.0),
                None => Some(delivery),
            }
        } else {
            let queue = delivery.message.as_ref().map_or("", |it| &it.queue);
            let consumers = lock(&inner.consumers);
            // The newest that has room for it: of two versions of an app the newer one, as long as it takes any.
            let mut found = consumers.values().rev().filter(|it| it.takes(queue, &delivery.app)).peekable();
            let first = found.peek().copied().cloned();
            let found = found.find(|it| it.has_room()).cloned().or(first);
            drop(consumers);
            match found {
                Some(consumer) => {
                    let (queues, task) = (self.clone(), consumer.begins());
                    tokio::spawn(async move {
                        consumer.consume(&queues, delivery).await;
                        drop(task);
                    });
                    None
                }
                None => Some(delivery),
            }
        };
        if let Some(delivery) = unwanted {
            let queues = self.clone();
            tokio::spawn(
                async move { queues.give_back(delivery.number, NOBODY_MS, time_left(&delivery)).await },
            );
        }
    }

    /// Says anew what this server takes.
    fn say_what_is_taken(&self) {
        // It is put together while nobody else says something: what is older never takes the place of what is newer.
        self.0.takes.send_if_modified(|takes| {
            let windows = self.windows();
            let is_news = if windows.is_empty() {
                takes.as_ref().is_some_and(|it| !it.is_empty())
            } else {
                takes.as_ref() != Some(&windows)
            };
            if is_news {
                *takes = Some(windows);
            }
            is_news
        });
    }

    /// What this server takes now.
    fn windows(&self) -> Vec<QueueWindow> {
        if self.0.disabled.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut windows = BTreeMap::<(String, String), QueueWindow>::new();
        for consumer in lock(&self.0.consumers).values() {
            let QueueWindow { queue, app, window, policy } = consumer.window();
            let sum = windows.entry((queue.clone(), app.clone())).or_insert_with(|| QueueWindow {
                queue,
                app,
                window: 0,
                policy: None,
            });
            sum.window = sum.window.saturating_add(window).min(WINDOW_MAX);
            // The newest version says how its queues are treated.
            sum.policy = policy;
        }
        if windows.len() > WINDOWS_MAX {
            let queues = windows.len();
            tracing::warn!(
                queues,
                max = WINDOWS_MAX,
                "apps of this server take more queues than it may: it takes the first of them"
            );
        }
        windows.into_values().take(WINDOWS_MAX).collect()
    }

    /// The hub's answers to this process come from now on.
    fn listen(&self) {
        self.0.takes.send_if_modified(|takes| {
            let is_news = takes.is_none();
            takes.get_or_insert_default();
            is_news
        });
    }

    async fn write(
        &self,
        write: Write,
        fence: Option<Fence>,
        limit: Duration,
    ) -> Result<Outcome, QueueError> {
        let write = QueueWrite { fence, write: Some(write) };
        match self.0.writer.write(write, limit).await? {
            Outcome::Full(full) => Err(QueueError::Full(full)),
            Outcome::StaleFence(_) => Err(QueueError::StaleFence),
            Outcome::Over(_) => Err(QueueError::Over),
            Outcome::Answered(_) => Err(QueueError::HubLost("nobody knows what came of it".to_owned())),
            Outcome::Unknown(_) => Err(QueueError::Unknown),
            Outcome::Refused(why) => Err(QueueError::Refused(why)),
            other => Ok(other),
        }
    }

    /// A step of a pipeline that an app of this server declares.
    pub(crate) fn pipeline(&self, name: &str) -> Option<Arc<Step>> {
        let consumers = lock(&self.0.consumers);
        consumers.values().rev().find_map(|it| it.step_of(name)).cloned()
    }

    /// Publishes messages, all or none.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn publish(
        &self,
        messages: Vec<QueueMessage>,
        fence: Option<Fence>,
    ) -> Result<MessagesPublished, QueueError> {
        match self.write(Write::Publish(PublishMessages { messages }), fence, WRITE_MAX).await? {
            Outcome::Published(published) => Ok(published),
            _ => Err(QueueError::Refused("the hub answered another question".to_owned())),
        }
    }

    /// Publishes a message to the durable subscriptions of a topic, `queue`; all or none.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn publish_to_topic(
        &self,
        message: QueueMessage,
        fence: Option<Fence>,
    ) -> Result<MessagesPublished, QueueError> {
        match self.write(Write::PublishToTopic(message), fence, WRITE_MAX).await? {
            Outcome::Published(published) => Ok(published),
            _ => Err(QueueError::Refused("the hub answered another question".to_owned())),
        }
    }

    /// A durable subscription is there from now on.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn subscribe(&self, topic: &str, name: &str, app: &str) -> Result<(), QueueError> {
        let (topic, name, app) = (topic.to_owned(), name.to_owned(), app.to_owned());
        self.write(Write::Subscribe(SubscribeTopic { topic, name, app }), None, WRITE_MAX).await.map(drop)
    }

    /// A durable subscription ends, with what was not taken of it.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn unsubscribe(&self, topic: &str, name: &str) -> Result<(), QueueError> {
        let (topic, name) = (topic.to_owned(), name.to_owned());
        self.write(Write::Unsubscribe(UnsubscribeTopic { topic, name }), None, WRITE_MAX).await.map(drop)
    }

    /// Receives up to `max` messages, as soon as there is one.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn receive(
        &self,
        (queue, app): (&str, &str),
        max: u32,
        wait: Duration,
        timeout: Option<Duration>,
    ) -> Result<Vec<Arc<HeldDelivery>>, QueueError> {
        self.listen();
        let id = rand::random::<u64>() | 1;
        let (sender, deliveries) = mpsc::unbounded_channel();
        lock(&self.0.receiving).insert(id, sender);
        let mut receiving = Receiving { queues: self, id, is_waiting: true, deliveries, unread: Vec::new() };
        let millis = crate::content::millis;
        let receive = ReceiveMessages {
            queue: queue.to_owned(),
            app: app.to_owned(),
            id,
            max,
            wait_ms: millis(wait),
            timeout_ms: timeout.map_or(0, millis),
        };
        let until = Instant::now() + wait + WRITE_MAX;
        let Outcome::Receiving(count) = self.write(Write::Receive(receive), None, WRITE_MAX).await? else {
            return Err(QueueError::Refused("the hub answered another question".to_owned()));
        };
        let mut wanted = count;
        if count == 0 {
            // The hub waits for nobody who does not.
            receiving.is_waiting = !wait.is_zero();
            let first = tokio::time::timeout(wait, receiving.deliveries.recv()).await;
            let Ok(Some(first)) = first else { return Ok(Vec::new()) };
            wanted = first.of.max(1) - 1;
            receiving.unread.push(first);
        }
        receiving.is_waiting = false;
        // They come together; only a loss of the hub's leader comes between.
        while wanted > 0 {
            let Ok(Some(delivery)) = tokio::time::timeout_at(until, receiving.deliveries.recv()).await else {
                break;
            };
            receiving.unread.push(delivery);
            wanted -= 1;
        }
        let unread = std::mem::take(&mut receiving.unread);
        Ok(unread.into_iter().map(|it| self.0.held.hold(it, None)).collect())
    }

    /// A delivery that an app of this server has.
    pub(crate) fn held(&self, number: u64, app: &str) -> Option<Arc<HeldDelivery>> {
        self.0.held.get(number).filter(|it| it.app() == app)
    }

    /// Says what has come of a delivery, once.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn settle(
        &self,
        held: &HeldDelivery,
        settle: SettleDelivery,
        fence: Option<Fence>,
    ) -> Result<(), QueueError> {
        let settle = match held.step() {
            Some(step) => of_step(step, held, settle)?,
            None => settle,
        };
        let is_over = !matches!(settle.outcome, Some(settle_delivery::Outcome::ExtendMs(_)));
        let settled = self.write(Write::Settle(settle), fence, WRITE_MAX).await;
        if is_over && matches!(settled, Ok(_) | Err(QueueError::Over)) {
            self.0.held.forget(held.number());
        }
        settled.map(drop)
    }

    /// Says it again and again until the hub has heard it, or the delivery's time is over anyway.
    async fn settle_surely(&self, settle: SettleDelivery, until: Instant) -> Result<(), QueueError> {
        loop {
            match self.write(Write::Settle(settle.clone()), None, WRITE_MAX).await {
                Err(QueueError::HubLost(_)) if Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                other => return other.map(drop),
            }
        }
    }

    async fn give_back(&self, delivery: u64, after_ms: u64, left: Duration) {
        let outcome = settle_delivery::Outcome::GivenBack(DeliveryGivenBack { after_ms });
        let settle = SettleDelivery { delivery, outcome: Some(outcome), ..SettleDelivery::default() };
        if let Err(cause) = self.settle_surely(settle, Instant::now() + left).await {
            tracing::debug!(delivery, %cause, "a message was not given back: the hub gives it to another in its time");
        }
    }

    /// Whether the hub is heard; waits for it for a while.
    async fn is_heard(&self) -> bool {
        let heard = async {
            while self.0.link.current().is_none() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        self.0.link.current().is_some() || tokio::time::timeout(HEARD_MAX, heard).await.is_ok()
    }

    /// How all of them are.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn describe(&self) -> Result<QueuesDescribed, QueueError> {
        Ok(self.0.hub.describe_queues(READ_MAX).await?)
    }

    /// Messages of one.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn browse(&self, browse: BrowseQueue) -> Result<Vec<BrowsedMessage>, QueueError> {
        Ok(self.0.hub.browse_queue(browse, READ_MAX).await?)
    }

    /// Makes dead messages ready again.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) async fn replay(&self, queue: &str, ids: Vec<u64>) -> Result<QueueManaged, QueueError> {
        let action = Some(Action::Replay(proto::hub::v1::ReplayMessages { ids }));
        let manage = ManageQueue { queue: queue.to_owned(), action, ..ManageQueue::default() };
        Ok(self.0.hub.replay_queue(manage).await?)
    }
}

/// How long a delivery is this server's yet.
fn time_left(delivery: &Delivery) -> Duration {
    Duration::from_millis(delivery.left_ms)
}

/// What comes of a delivery that an app settles later: a step's message goes on to the next one.
fn of_step(step: &Step, held: &HeldDelivery, settle: SettleDelivery) -> Result<SettleDelivery, QueueError> {
    let mut settle = settle;
    if let Some(settle_delivery::Outcome::Done(done)) = &mut settle.outcome {
        let message = held.delivery().message.clone().unwrap_or_default();
        settle.advance = step.advance(Way::default(), &message, done).map_err(QueueError::Refused)?;
    }
    Ok(settle)
}

/// Someone waits to receive. Whoever goes away gives back what has come.
struct Receiving<'a> {
    queues: &'a Queues,
    id: u64,
    /// The hub may hand it something yet.
    is_waiting: bool,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    unread: Vec<Delivery>,
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        lock(&self.queues.0.receiving).remove(&self.id);
        self.deliveries.close();
        let mut unread = std::mem::take(&mut self.unread);
        while let Ok(delivery) = self.deliveries.try_recv() {
            unread.push(delivery);
        }
        let (queues, id, is_waiting) = (self.queues.clone(), self.id, self.is_waiting);
        if !is_waiting && unread.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for delivery in unread {
                queues.give_back(delivery.number, 0, time_left(&delivery)).await;
            }
            if is_waiting {
                // What is handed out meanwhile finds nobody, and is given back.
                let _unknown = queues.write(Write::StopReceiving(id), None, WRITE_MAX).await;
            }
        });
    }
}
