//! Topics, as this server hears them (docs/topics.md): who listens here - apps by streams of events, and by a path that is called - hears what is told from then
//! on. Durable subscriptions are queues, and none of this.

use crate::{
    body::full,
    process::{Launch, Processes},
    proxy::{DELIVERY, SOURCE},
    queue::{CORRELATION, META},
};
use common::config::DeclaredTopic;
use http::{HeaderName, HeaderValue, Method, header};
use http_body_util::BodyExt;
use proto::hub::v1::QueueMessage;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use triad_client::{Hub, HubError, TopicHeard, WatchStream};

/// Those who listen on this server, to whatever topics.
const LISTENERS_MAX: usize = 1024;

/// Messages that wait for one of them; what is more it misses.
const PENDING: usize = 256;

/// The hub is waited for so long.
const TELL_MAX: Duration = Duration::from_secs(5);

/// An app is called with a message for so long at most.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Names the kind of delivery.
const TOPIC: &str = "topic";

/// What a listener hears.
#[derive(Debug, Clone)]
pub(crate) enum TopicEvent {
    /// From here on nothing is missed.
    Ready,
    Message(Arc<QueueMessage>),
    /// Something was missed.
    Missed,
}

#[derive(Debug)]
struct Listening {
    id: u64,
    events: mpsc::Sender<TopicEvent>,
    is_ready: bool,
    /// It has missed something, and was not told yet.
    missed: bool,
}

impl Listening {
    /// What finds no room is missed, and so is what comes until half of the room is free again: else it would hear of little but that.
    fn tell(&mut self, event: TopicEvent) {
        if self.missed && self.events.capacity() >= PENDING / 2 {
            self.missed = self.events.try_send(TopicEvent::Missed).is_err();
        }
        self.missed = self.missed || self.events.try_send(event).is_err();
    }
}

/// The topics. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Topics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Hub,
    listening: Mutex<HashMap<String, Vec<Listening>>>,
    wanted: watch::Sender<Arc<BTreeSet<String>>>,
    next: std::sync::atomic::AtomicU64,
}

/// Someone who listens; no longer when it is dropped.
#[derive(Debug)]
pub(crate) struct TopicListener {
    topics: Topics,
    topic: String,
    id: u64,
    events: mpsc::Receiver<TopicEvent>,
}

impl Topics {
    /// Needs a running tokio runtime; its task ends when all handles are gone.
    pub(crate) fn start(hub: Hub, stream: WatchStream) -> Self {
        let wanted = watch::Sender::new(Arc::new(BTreeSet::new()));
        let mut heard = hub.listen_topics(wanted.subscribe(), stream);
        let (listening, next) = (Mutex::default(), std::sync::atomic::AtomicU64::new(1));
        let inner = Arc::new(Inner { hub, listening, wanted, next });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(heard) = heard.recv().await {
                let Some(inner) = weak.upgrade() else { return };
                inner.heard(heard);
            }
        });
        Self(inner)
    }

    /// Tells all who listen now, on whatever server; how many servers have such.
    ///
    /// # Errors
    /// See [`HubError`].
    pub(crate) async fn tell(&self, topic: &str, message: QueueMessage) -> Result<u32, HubError> {
        self.0.hub.tell_topic(topic, message, TELL_MAX).await
    }

    /// Hears what is told on a topic from now on; `None`: too many listen on this server already.
    pub(crate) fn listen(&self, topic: &str) -> Option<TopicListener> {
        let mut listening = self.0.lock();
        if listening.values().map(Vec::len).sum::<usize>() >= LISTENERS_MAX {
            return None;
        }
        let id = self.0.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (events, receiver) = mpsc::channel(PENDING);
        let new = Listening { id, events, is_ready: false, missed: false };
        listening.entry(topic.to_owned()).or_default().push(new);
        self.0.say(&listening, true);
        Some(TopicListener { topics: self.clone(), topic: topic.to_owned(), id, events: receiver })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Listening>>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the hub's listener which topics are wanted. `anew`: though they are the same, for who has just come and is to hear from when on.
    fn say(&self, listening: &HashMap<String, Vec<Listening>>, anew: bool) {
        let topics: BTreeSet<String> = listening.keys().cloned().collect();
        self.wanted.send_if_modified(|wanted| {
            let is_news = anew || **wanted != topics;
            *wanted = Arc::new(topics);
            is_news
        });
    }

    fn heard(&self, heard: TopicHeard) {
        let mut listening = self.lock();
        match heard {
            TopicHeard::Listening(topics) => {
                for (_, all) in listening.iter_mut().filter(|(topic, _)| topics.contains(*topic)) {
                    for it in all.iter_mut().filter(|it| !it.is_ready) {
                        it.is_ready = true;
                        it.tell(TopicEvent::Ready);
                    }
                }
            }
            TopicHeard::Message { topic, message } => {
                let message = Arc::new(*message);
                let here = listening.get_mut(&topic).into_iter().flatten().filter(|it| it.is_ready);
                here.for_each(|it| it.tell(TopicEvent::Message(message.clone())));
            }
            TopicHeard::Missed => {
                let all = listening.values_mut().flatten().filter(|it| it.is_ready);
                all.for_each(|it| it.tell(TopicEvent::Missed));
            }
        }
    }
}

impl TopicListener {
    /// The next event.
    pub(crate) async fn next(&mut self) -> TopicEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The hub's listener has ended with this server.
            None => std::future::pending().await,
        }
    }
}

impl Drop for TopicListener {
    fn drop(&mut self) {
        let mut listening = self.topics.0.lock();
        if let Some(all) = listening.get_mut(&self.topic) {
            all.retain(|it| it.id != self.id);
            if all.is_empty() {
                listening.remove(&self.topic);
            }
        }
        self.topics.0.say(&listening, false);
    }
}

/// An app that is called with what is told on a topic, on each server, as long as its version is in use.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) topic: DeclaredTopic,
    pub(crate) processes: Arc<Processes>,
    pub(crate) token: HeaderValue,
}

impl Called {
    /// Those that an app declares, but for the durable ones.
    pub(crate) fn of(
        topics: &[DeclaredTopic],
        launch: &Launch,
        processes: &Arc<Processes>,
    ) -> Vec<Arc<Self>> {
        let token =
            HeaderValue::try_from(format!("Bearer {}", launch.token)).expect("tokens are hexadecimal");
        let plain = topics.iter().filter(|it| it.durable.is_none());
        let called = plain.map(|topic| {
            Arc::new(Self { topic: topic.clone(), processes: processes.clone(), token: token.clone() })
        });
        called.collect()
    }

    /// Calls it with one message after the other until it is stopped. One that fails is not tried again: nothing of it is kept.
    pub(crate) async fn run(self: Arc<Self>, topics: Topics, stop: CancellationToken) {
        let name = self.topic.name.as_str();
        let Some(mut listener) = topics.listen(name) else {
            tracing::warn!(topic = name, "too many listen to topics on this server: an app is not called");
            return;
        };
        while let Some(event) = stop.run_until_cancelled(listener.next()).await {
            match event {
                TopicEvent::Ready => {}
                TopicEvent::Missed => {
                    tracing::warn!(topic = name, "an app may have missed messages of a topic");
                }
                TopicEvent::Message(message) => {
                    let called = tokio::time::timeout(CALL_MAX, self.call(&message)).await;
                    let why = match called {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => why,
                        Err(_) => format!("no answer within {CALL_MAX:?}"),
                    };
                    tracing::debug!(topic = name, why, "an app has not taken a message of a topic");
                }
            }
        }
    }

    async fn call(&self, message: &QueueMessage) -> Result<(), String> {
        let backend = self.processes.pick_idlest().map_err(|cause| cause.to_string())?;
        let mut request = http::Request::new(full(message.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.topic.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(header::HOST, "localhost");
        put(header::CONTENT_LENGTH, &message.body.len().to_string());
        put(DELIVERY, TOPIC);
        put(SOURCE, self.topic.name.as_str());
        for (name, value) in
            [(header::CONTENT_TYPE, &message.content_type), (CORRELATION, &message.correlation)]
        {
            if !value.is_empty() {
                put(name, value);
            }
        }
        for it in &message.meta {
            if let Ok(name) = HeaderName::try_from(format!("{META}{}", it.name)) {
                put(name, &it.value);
            }
        }
        headers.insert(header::AUTHORIZATION, self.token.clone());
        let response = backend.send(request).await.map_err(|cause| cause.to_string())?;
        let status = response.status();
        // Read to its end, so that the connection serves the next one.
        let _ended = http_body_util::Limited::new(response.into_body(), 64 << 10).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }
}
