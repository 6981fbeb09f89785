//! An app that is called with the messages of a queue, or by a job.

use super::{
    CORRELATION, GROUP, HeldDelivery, META, QueueError, Queues, jobs, lock,
    outcome::{self, Said},
    step::{self, Step},
    time_left,
};
use crate::{
    body::{Request, full},
    cache::Caches,
    error::RequestError,
    process::{Launch, Processes},
    proxy::{DELIVERY, SOURCE},
    spec::DeployedAs,
    topic::{Called, Topics},
};
use bytes::Bytes;
use common::{
    backoff::Backoff,
    clock::{Clock, SystemClock},
    config::{
        Declarations, DeclaredJob, DeclaredPipeline, DeclaredQueue, DeclaredStep, DeclaredTopic, Retry,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use proto::hub::v1::{Delivery, QueueMessage, QueuePolicy, QueueWindow, SettleDelivery};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Name the kind of delivery.
const QUEUE: &str = "queue";
const JOB: &str = "job";
const TOPIC: &str = "topic";
const PIPELINE: &str = "pipeline";

const MESSAGE_ID: HeaderName = HeaderName::from_static("x-copal-message-id");
const ATTEMPT: HeaderName = HeaderName::from_static("x-copal-attempt");
const DEADLINE: HeaderName = HeaderName::from_static("x-copal-deadline");
const TOKEN: HeaderName = HeaderName::from_static("x-copal-delivery-token");

/// For which time a job is run; in messages of jobs it is the meta of this name.
const DUE: HeaderName = HeaderName::from_static("x-copal-due");
const DUE_META: &str = "due";

/// Of a run of a pipeline: which one, at which step, which part of what was fanned out; and for the step for errors why which step has failed.
const RUN: HeaderName = HeaderName::from_static("x-copal-run");
const STEP: HeaderName = HeaderName::from_static("x-copal-step");
const PART: HeaderName = HeaderName::from_static("x-copal-part");
const ERROR: HeaderName = HeaderName::from_static("x-copal-error");
const FAILED_STEP: HeaderName = HeaderName::from_static("x-copal-failed-step");
const ERROR_META: &str = "copal-error";
const FROM_META: &str = "copal-from";

/// The longest answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// A process that could not be reached is left alone for so long, and for longer and longer.
const UNREACHED: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A version that ends waits so long for the messages that it has.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// After that the rest is cut off, and waits so long for the hub to know.
const GIVE_BACK_MAX: Duration = Duration::from_secs(5);

/// A message whose outcome has no room comes again after this.
const NO_ROOM: Duration = Duration::from_secs(5);

/// A message has its own time, whatever that of requests is.
const NO_OTHER_TIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// What queues need of their server.
#[derive(Debug, Clone)]
pub(crate) struct QueueHost {
    pub(crate) queues: Queues,
    pub(crate) topics: Topics,
    pub(crate) caches: Caches,
    /// Cancelled when this server stops: no message comes here any more.
    pub(crate) stop: CancellationToken,
}

/// The queues and jobs that one version of an app on this server is called with, from [`Consumers::begin`] on.
#[derive(Debug)]
pub(crate) struct Consumers {
    /// The app's name on the hub.
    app: String,
    all: Vec<Arc<Consumer>>,
    jobs: Vec<DeclaredJob>,
    /// Topics whose subscription has to be there.
    durable: Vec<(String, String)>,
    /// Topics that it hears while it is here.
    called: Vec<Arc<Called>>,
    topics: Option<Topics>,
    queues: Option<Queues>,
    deployed_as: DeployedAs,
    begun: Mutex<bool>,
    stop: CancellationToken,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Consumer {
    /// The app's name on the hub.
    app: String,
    /// The queue's name on the hub.
    queue: String,
    source: Source,
    processes: Arc<Processes>,
    caches: Option<Caches>,
    /// The app can tell by its token that it is this server that calls.
    token: HeaderValue,
    window: AtomicU32,
    /// Nothing comes before then: the app has no room, or is not reached.
    paused: watch::Sender<Option<Instant>>,
    unreached: Mutex<Backoff>,
    stop: CancellationToken,
    /// No message is waited for any more.
    cut_off: CancellationToken,
    /// Messages that it has.
    tasks: TaskTracker,
}

/// What an app is called with, as it has declared it.
#[derive(Debug)]
struct Source {
    /// `queue`, `job`, `topic` or `pipeline`, and its name.
    kind: &'static str,
    name: String,
    path: String,
    concurrency: u32,
    timeout: Duration,
    retry: Retry,
    step: Option<Arc<Step>>,
}

impl Source {
    fn of_queue(queue: &DeclaredQueue) -> (String, Self) {
        let DeclaredQueue { name, path, concurrency, timeout, retry } = queue.clone();
        let name = name.as_str().to_owned();
        (name.clone(), Self { kind: QUEUE, name, path, concurrency, timeout, retry, step: None })
    }

    fn of_topic(topic: &DeclaredTopic) -> Option<(String, Self)> {
        let DeclaredTopic { name, path, durable, concurrency, timeout, retry } = topic.clone();
        let (name, durable) = (name.as_str().to_owned(), durable?);
        let queue = format!("topic:{name}:{durable}");
        Some((queue, Self { kind: TOPIC, name, path, concurrency, timeout, retry, step: None }))
    }

    fn of_job(job: &DeclaredJob) -> (String, Self) {
        let DeclaredJob { name, path, timeout, retry, .. } = job.clone();
        let name = name.as_str().to_owned();
        let queue = format!("{}{name}", jobs::QUEUE);
        (queue, Self { kind: JOB, name, path, concurrency: 1, timeout, retry, step: None })
    }

    fn of_pipeline(pipeline: &DeclaredPipeline) -> impl Iterator<Item = (String, Self)> {
        step::steps_of(pipeline).into_iter().map(|(step, declared)| {
            let DeclaredStep { path, concurrency, timeout, retry, .. } = declared;
            let (queue, name) = (step.queue(), step.pipeline_name().to_owned());
            (queue, Self { kind: PIPELINE, name, path, concurrency, timeout, retry, step: Some(step) })
        })
    }
}

impl Consumers {
    /// Those that the app declares; `key` is its name on the hub. None without a host for them.
    pub(crate) fn new(
        (key, deployed_as): (&str, &DeployedAs),
        declared: &Declarations,
        launch: &Launch,
        processes: &Arc<Processes>,
        host: Option<&QueueHost>,
    ) -> Self {
        let stop = host.map_or_else(CancellationToken::new, |host| host.stop.child_token());
        let sources =
            declared.queues.iter().map(Source::of_queue).chain(declared.jobs.iter().map(Source::of_job));
        let sources = sources.chain(declared.topics.iter().filter_map(Source::of_topic));
        let sources = sources.chain(declared.pipelines.iter().flat_map(Source::of_pipeline));
        let all = sources.filter(|_| host.is_some()).map(|(queue, source)| {
            let token = HeaderValue::try_from(format!("Bearer {}", launch.token));
            Arc::new(Consumer {
                app: key.to_owned(),
                queue,
                source,
                processes: processes.clone(),
                caches: host.map(|it| it.caches.clone()),
                token: token.expect("tokens are hexadecimal"),
                window: AtomicU32::new(0),
                paused: watch::Sender::new(None),
                unreached: Mutex::new(Backoff::new(UNREACHED.0, UNREACHED.1)),
                stop: stop.clone(),
                cut_off: CancellationToken::new(),
                tasks: TaskTracker::new(),
            })
        });
        let queues = host.map(|it| it.queues.clone());
        let (app, all, jobs) = (key.to_owned(), all.collect(), declared.jobs.clone());
        let durable = declared
            .topics
            .iter()
            .filter_map(|it| Some((it.name.as_str().to_owned(), it.durable.as_ref()?.as_str().to_owned())));
        let (durable, topics) = (durable.collect(), host.map(|it| it.topics.clone()));
        let called = Called::of(&declared.topics, launch, processes);
        let deployed_as = deployed_as.clone();
        Self { app, all, jobs, durable, called, topics, queues, deployed_as, begun: Mutex::new(false), stop }
    }

    /// Messages may come from now on: this version of the app is in use. The second time it is said again what it declares: another version
    /// may have been in use meanwhile.
    pub(crate) fn begin(&self) {
        static ORDER: AtomicU64 = AtomicU64::new(0);
        let Some(queues) = &self.queues else { return };
        if self.stop.is_cancelled() {
            return;
        }
        // An app that has none any more says so, too.
        let declared = jobs::Declared {
            app: self.app.clone(),
            jobs: self.jobs.clone(),
            durable: self.durable.clone(),
            deployed_as: self.deployed_as.clone(),
        };
        tokio::spawn(declared.say(queues.clone(), self.stop.clone()));
        if std::mem::replace(&mut *lock(&self.begun), true) {
            return;
        }
        for consumer in &self.all {
            let order = ORDER.fetch_add(1, Ordering::Relaxed);
            lock(&queues.0.consumers).insert(order, consumer.clone());
            tokio::spawn(consumer.clone().keep(queues.clone(), order));
        }
        for called in self.topics.iter().flat_map(|_| &self.called) {
            let Some(topics) = self.topics.clone() else { return };
            tokio::spawn(called.clone().run(topics, self.stop.clone()));
        }
    }

    /// No message comes any more, and those that are here end, in so long at most; then others get them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let until = Instant::now() + DRAIN_MAX;
        futures_util::future::join_all(self.all.iter().map(|it| it.end(until))).await;
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Consumer {
    /// What is told to the hub.
    pub(super) fn window(&self) -> QueueWindow {
        let Source { timeout, retry, step, .. } = &self.source;
        let millis = crate::content::millis;
        let policy = QueuePolicy {
            timeout_ms: millis(*timeout),
            attempts: retry.attempts,
            delay_ms: millis(retry.delay),
            factor: retry.factor,
            max_delay_ms: millis(retry.max),
            dead_to: step.as_ref().map(|it| it.dead_to()).unwrap_or_default(),
        };
        QueueWindow {
            queue: self.queue.clone(),
            app: self.app.clone(),
            window: self.window.load(Ordering::Relaxed),
            policy: Some(policy),
        }
    }

    /// Its step, if it is one of this pipeline.
    pub(super) fn step_of(&self, pipeline: &str) -> Option<&Arc<Step>> {
        self.source.step.as_ref().filter(|it| it.pipeline_name() == pipeline)
    }

    /// Whether it is called with this app's messages of this queue.
    pub(super) fn takes(&self, queue: &str, app: &str) -> bool {
        self.queue == queue && self.app == app && !self.stop.is_cancelled()
    }

    /// Whether it can be called with one more now.
    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < self.window.load(Ordering::Relaxed) as usize
    }

    /// It has one more, until this is dropped.
    pub(super) fn begins(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Says how many messages it takes, until it is stopped.
    async fn keep(self: Arc<Self>, queues: Queues, order: u64) {
        let mut paused = self.paused.subscribe();
        while !self.stop.is_cancelled() {
            let until = (*paused.borrow_and_update()).filter(|it| *it > Instant::now());
            let changed = self.processes.changed();
            let healthy = if until.is_some() { 0 } else { self.processes.healthy() };
            let window = self.source.concurrency.saturating_mul(u32::try_from(healthy).unwrap_or(u32::MAX));
            if self.window.swap(window, Ordering::Relaxed) != window || window == 0 {
                queues.say_what_is_taken();
            }
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                _ = paused.changed() => {}
                () = over => {}
                () = self.stop.cancelled() => {}
            }
        }
        lock(&queues.0.consumers).remove(&order);
        queues.say_what_is_taken();
    }

    /// Waits for messages that it has, until then.
    async fn end(&self, until: Instant) {
        self.tasks.close();
        if tokio::time::timeout_at(until, self.tasks.wait()).await.is_ok() {
            return;
        }
        let (app, queue) = (&self.app, &self.queue);
        tracing::warn!(app, queue, "messages go on past their time as the app ends: others get them");
        // What is under way is cut off, and each message is given back.
        self.cut_off.cancel();
        let _rest = tokio::time::timeout(GIVE_BACK_MAX, self.tasks.wait()).await;
    }

    /// Nothing comes for so long.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        self.paused.send_if_modified(|paused| {
            let is_longer = paused.is_none_or(|it| it < until);
            if is_longer {
                *paused = Some(until);
            }
            is_longer
        });
    }

    /// Calls the app with a message, and tells the hub what has come of it.
    pub(super) async fn consume(self: Arc<Self>, queues: &Queues, delivery: Delivery) {
        let left = time_left(&delivery);
        let number = delivery.number;
        if self.stop.is_cancelled() || !queues.is_heard().await {
            return queues.give_back(number, 0, left).await;
        }
        let held = queues.0.held.hold(delivery, self.source.step.clone());
        let message = held.delivery().message.clone().unwrap_or_default();
        let asked = outcome::Asked {
            app: &self.app,
            wants_reply: message.wait_ms > 0,
            step: self.source.step.as_deref(),
            message: &message,
        };
        let settle = match self.answered(&held, &message).await {
            Answered::Said(status, headers, body) => {
                lock(&self.unreached).reset();
                match outcome::of_answer(&asked, status, &headers, body) {
                    Said::Later => return,
                    Said::Settled(settle) => self.with_caches(*settle),
                    Said::NoRoom(time) => {
                        self.pause(time);
                        outcome::given_back(time)
                    }
                }
            }
            Answered::Unreached(why) => {
                // It is the process's fault, and not the message's.
                let wait = lock(&self.unreached).wait(rand::random());
                tracing::debug!(app = self.app, queue = self.queue, why, "no process takes the message");
                self.pause(wait);
                outcome::given_back(wait)
            }
            Answered::Broke(why) => outcome::failed(&why),
            Answered::Late => {
                let (path, timeout) = (&self.source.path, self.source.timeout);
                outcome::failed(&format!("POST {path} was not answered within {timeout:?} (timeout)"))
            }
            Answered::CutOff => outcome::given_back(Duration::ZERO),
        };
        self.settle(queues, number, settle, held.until()).await;
        queues.0.held.forget(number);
    }

    /// What it writes to caches is written as each of them has it.
    fn with_caches(&self, mut settle: SettleDelivery) -> SettleDelivery {
        let Some(caches) = &self.caches else { return settle };
        let writes = std::mem::take(&mut settle.caches).into_iter().map(|it| caches.beside(it));
        match writes.collect() {
            Ok(writes) => SettleDelivery { caches: writes, ..settle },
            Err(why) => outcome::failed(&format!("its outcome can't be: {why}")),
        }
    }

    async fn settle(&self, queues: &Queues, number: u64, settle: SettleDelivery, until: Instant) {
        let settle = SettleDelivery { delivery: number, ..settle };
        match queues.settle_surely(settle, until).await {
            Ok(()) => {}
            // There is no room for what it publishes: not the message's fault.
            Err(cause @ QueueError::Full(_)) => {
                let (app, queue) = (&self.app, &self.queue);
                tracing::debug!(app, queue, %cause, "a message is given back: there is no room for what it publishes");
                let back = SettleDelivery { delivery: number, ..outcome::given_back(NO_ROOM) };
                let _unknown = queues.settle_surely(back, until).await;
            }
            // What it asked for can't be: it is tried again.
            Err(cause @ (QueueError::Refused(_) | QueueError::StaleFence)) => {
                let failed = SettleDelivery { delivery: number, ..outcome::failed(&cause.to_string()) };
                let _unknown = queues.settle_surely(failed, until).await;
            }
            Err(cause) => {
                let (app, queue) = (&self.app, &self.queue);
                tracing::warn!(app, queue, %cause, "the hub does not know what came of a message: it is delivered again");
            }
        }
    }

    /// Calls the app, as long as the message is its: it may ask for more time meanwhile.
    async fn answered(&self, held: &HeldDelivery, message: &QueueMessage) -> Answered {
        let mut answer = std::pin::pin!(self.post(held.delivery(), message));
        loop {
            let until = held.until();
            tokio::select! {
                answered = &mut answer => return answered,
                () = tokio::time::sleep_until(until) => {}
                () = self.cut_off.cancelled() => return Answered::CutOff,
            }
            if held.until() <= until {
                return Answered::Late;
            }
        }
    }

    async fn post(&self, delivery: &Delivery, message: &QueueMessage) -> Answered {
        let backend = match self.processes.pick_idlest() {
            Ok(backend) => backend,
            Err(cause) => return Answered::Unreached(cause.to_string()),
        };
        let request = self.request(delivery, message);
        let response = match backend.send_within(request, NO_OTHER_TIME).await {
            Ok(response) => response,
            Err(cause @ (RequestError::AppUnavailable { .. } | RequestError::Short(_))) => {
                return Answered::Unreached(cause.to_string());
            }
            Err(cause) => return Answered::Broke(cause.to_string()),
        };
        let (head, body) = response.into_parts();
        match Limited::new(body, ANSWER_MAX).collect().await {
            Ok(body) => Answered::Said(head.status, head.headers, body.to_bytes()),
            Err(cause) if cause.is::<LengthLimitError>() => {
                Answered::Broke(format!("its answer is longer than {ANSWER_MAX} bytes"))
            }
            Err(cause) => Answered::Broke(format!("its answer broke off: {cause}")),
        }
    }

    fn request(&self, delivery: &Delivery, message: &QueueMessage) -> Request {
        let QueueMessage { body, content_type, group, correlation, meta, run, join, part, .. } = message;
        let mut request = http::Request::new(full(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.source.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        };
        put(header::HOST, "localhost");
        put(header::CONTENT_LENGTH, &body.len().to_string());
        put(DELIVERY, self.source.kind);
        put(SOURCE, &self.source.name);
        put(MESSAGE_ID, &delivery.id.to_string());
        put(ATTEMPT, &delivery.attempt.to_string());
        put(DEADLINE, &SystemClock.unix_ms().saturating_add(delivery.left_ms).to_string());
        put(TOKEN, &delivery.number.to_string());
        for (name, value) in
            [(header::CONTENT_TYPE, content_type), (GROUP, group), (CORRELATION, correlation)]
        {
            if !value.is_empty() {
                put(name, value);
            }
        }
        let step = self.source.step.as_ref();
        if let Some(step) = step {
            put(RUN, &run.to_string());
            put(STEP, step.name());
        }
        if *join > 0 {
            put(PART, &part.to_string());
        }
        for it in meta {
            if self.source.kind == JOB && it.name == DUE_META {
                put(DUE, &it.value);
            } else if it.name == ERROR_META && step.is_some_and(|it| it.is_for_errors()) {
                put(ERROR, &it.value.replace(|it: char| it.is_control(), " "));
            } else if let Some(step) = step.filter(|step| it.name == FROM_META && step.is_for_errors()) {
                put(FAILED_STEP, &step.pipeline().name_of_queue(&it.value));
            } else if let Ok(name) = HeaderName::try_from(format!("{META}{}", it.name)) {
                put(name, &it.value);
            }
        }
        headers.insert(header::AUTHORIZATION, self.token.clone());
        request
    }
}

/// What became of a call.
enum Answered {
    Said(StatusCode, HeaderMap, Bytes),
    /// No process has seen it.
    Unreached(String),
    /// Nobody knows what the app has done.
    Broke(String),
    /// There was no answer in time.
    Late,
    /// Its app ends.
    CutOff,
}
