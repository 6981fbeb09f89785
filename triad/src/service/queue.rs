//! `queue.proto`'s service.

use super::{audit, cache, input, job, pipeline};
use crate::{
    copies::Place,
    hub::Hub,
    serve::Caller,
    state::{
        Reply,
        job::job_of,
        queue::{
            JOB_QUEUES_MAX, PRIORITY_MAX, QUEUES_MAX, STEP_QUEUES_MAX, SUBSCRIPTION_QUEUES_MAX, step_of,
            subscription_of,
        },
    },
};
use prost::Message;
use proto::hub::v1::{
    BrowseQueue, CacheWrite, Command, ConsumeQueues, DeliverMessages, Delivered, DescribeQueues, GetRun,
    ListRuns, ManageQueue, ManageRun, QueueBrowsed, QueueManaged, QueueMessage, QueuePolicy, QueueWrite,
    QueuesConsumed, QueuesDescribed, QueuesWritten, ReceiveMessages, RunDescription, RunManaged, RunsListed,
    SettleDelivery, WriteQueues, command, manage_queue::Action, queue_write::Write, queues_server::Queues,
    settle_delivery,
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// Writes in one call.
const WRITES_MAX: usize = 4096;

/// Messages of one publish, and what a settlement may publish and write to caches.
const MESSAGES_MAX: usize = 1000;
const BESIDE_MAX: usize = 100;

/// The longest body, content type, text of a message, and its further headers.
pub(super) const BODY_MAX: usize = 1 << 20;
pub(super) const TYPE_MAX: usize = 256;
const TEXT_MAX: usize = 256;
const META_MAX: usize = 32;
const META_TEXT_MAX: usize = 1024;

/// Why a delivery failed, in bytes.
const WHY_MAX: usize = 2048;

/// The longest time: ten years; and that for which someone waits.
pub(super) const TIME_MAX_MS: u64 = 10 * 366 * 24 * 3600 * 1000;
const WAIT_MAX_MS: u64 = 600_000;

/// What one consumer takes at once, and the queues that a server's process says something of.
const WINDOW_MAX: u32 = 10_000;
const WINDOWS_MAX: usize = QUEUES_MAX + JOB_QUEUES_MAX + SUBSCRIPTION_QUEUES_MAX + STEP_QUEUES_MAX;

/// What is handed out in one message of a stream: so many, and about so many bytes.
const HANDED: (usize, usize) = (256, 2 << 20);

/// Messages of a stream that wait for its reader.
const STREAM: usize = 4;

/// Streams at once: every server has one.
const STREAMS_MAX: usize = 4096;

/// A leader that no majority has confirmed for a moment looks again after this; and a stream on which nothing happens.
const UNCONFIRMED: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(1);

/// Messages that are told at a time, and their bodies' bytes in all.
const BROWSED_MAX: u32 = 1000;
const BROWSED_BYTES: usize = 8 << 20;

/// Runs that are told at a time, and pipelines.
const RUNS_MAX: u32 = 200;
const PIPELINES_MAX: usize = 2_000;

/// Messages that one command purges, or replays: others' writes wait for it.
const MANAGED: u32 = 2_000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct QueueService {
    hub: Arc<Hub>,
    streams: Arc<Semaphore>,
}

fn unexpected() -> Status {
    Status::internal("the hub's state answered another question")
}

impl QueueService {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    async fn propose(&self, command: command::Command, bytes: usize) -> Result<Reply, Status> {
        let replies = self.hub.propose(vec![Command { command: Some(command) }], bytes).await?;
        replies.into_iter().next().ok_or_else(unexpected)
    }

    async fn do_manage(&self, mut call: ManageQueue) -> Result<Response<QueueManaged>, Status> {
        (call.upto, call.after, call.limit) = (0, 0, MANAGED);
        let (mut count, bytes) = (0, call.encoded_len() + 64);
        loop {
            let Reply::QueueManaged(managed) =
                self.propose(command::Command::ManageQueue(call.clone()), bytes).await?
            else {
                return Err(unexpected());
            };
            count += managed.count;
            if !managed.more {
                return Ok(Response::new(QueueManaged { count, ..managed }));
            }
            (call.upto, call.after) = (managed.last, managed.after);
        }
    }
}

#[tonic::async_trait]
impl Queues for QueueService {
    async fn write(&self, request: Request<WriteQueues>) -> Result<Response<QueuesWritten>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut call = request.into_inner();
        input::server("server", &call.server)?;
        input::own("server", &call.server, caller.as_ref())?;
        few("writes", call.writes.len(), WRITES_MAX)?;
        at_most("first", call.first, u64::MAX - WRITES_MAX as u64)?;
        for (place, write) in call.writes.iter().enumerate() {
            check(place, write)?;
        }
        let now_ms = self.hub.time_ms();
        for write in &mut call.writes {
            if let Some(Write::PutJob(put)) = &mut write.write {
                job::complete_put(put, now_ms);
            }
        }
        let (count, bytes, written) = (call.writes.len(), call.encoded_len(), places(&call.writes));
        (call.max_bytes, call.cache_max_bytes) = (self.hub.queue_memory_max(), self.hub.cache_memory_max());
        let Reply::QueuesWritten(outcomes) = self.propose(command::Command::WriteQueues(call), bytes).await?
        else {
            return Err(unexpected());
        };
        if outcomes.outcomes.len() != count {
            let found = outcomes.outcomes.len();
            return Err(Status::internal(format!("{count} writes have {found} outcomes")));
        }
        self.hub.feed().copies_are_gone(&written).await;
        Ok(Response::new(outcomes))
    }

    type DeliverStream = Pin<Box<dyn Stream<Item = Result<Delivered, Status>> + Send>>;

    async fn deliver(
        &self,
        request: Request<DeliverMessages>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let call = request.into_inner();
        input::server("server", &call.server)?;
        input::own("server", &call.server, caller.as_ref())?;
        self.hub.confirm_read().await?;
        self.hub.must_stay()?;
        let room = self.streams.clone().try_acquire_owned();
        let room =
            room.map_err(|_| Status::resource_exhausted(format!("{STREAMS_MAX} servers listen already")))?;
        let (sender, receiver) = mpsc::channel(STREAM);
        let hub = self.hub.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = hand(&hub, call, &sender) => ended,
                () = sender.closed() => return,
            };
            // Whoever listens is told why, if it still does.
            let _gone = tokio::time::timeout(IDLE, sender.send(Err(ended))).await;
            drop(room);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn consume(&self, request: Request<ConsumeQueues>) -> Result<Response<QueuesConsumed>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let call = request.into_inner();
        input::server("server", &call.server)?;
        input::own("server", &call.server, caller.as_ref())?;
        few("windows", call.windows.len(), WINDOWS_MAX)?;
        for (place, window) in call.windows.iter().enumerate() {
            let field = |name: &str| format!("windows[{place}].{name}");
            // A job's own queue, too.
            queue_name(&field("queue"), &window.queue)?;
            input::app(&field("app"), &window.app)?;
            at_most(&field("window"), window.window.into(), WINDOW_MAX.into())?;
            if let Some(policy) = &window.policy {
                policy_is_ok(&field("policy"), policy)?;
            }
        }
        let bytes = call.encoded_len();
        match self.propose(command::Command::ConsumeQueues(call), bytes).await? {
            Reply::QueuesConsumed(consumed) => Ok(Response::new(consumed)),
            _ => Err(unexpected()),
        }
    }

    async fn describe(&self, _request: Request<DescribeQueues>) -> Result<Response<QueuesDescribed>, Status> {
        self.hub.confirm_read().await?;
        let now_ms = self.hub.time_ms();
        // A clone costs nothing, and holds up nobody.
        let queues = self.hub.node().view().read().state.queues().clone();
        let (bytes, max_bytes) = (queues.bytes(), self.hub.queue_memory_max());
        let mut queues: Vec<_> = queues.describe(now_ms).collect();
        self.hub.queue_rates().tell(self.hub.now(), &mut queues);
        Ok(Response::new(QueuesDescribed { queues, bytes, max_bytes }))
    }

    async fn browse(&self, request: Request<BrowseQueue>) -> Result<Response<QueueBrowsed>, Status> {
        let mut call = request.into_inner();
        queue_name("queue", &call.queue)?;
        call.limit = call.limit.clamp(1, BROWSED_MAX);
        self.hub.confirm_read().await?;
        let queues = self.hub.node().view().read().state.queues().clone();
        let Some(mut messages) = queues.browse(&call) else {
            let text = format!("there is no queue {:?}", call.queue);
            return Err(Status::out_of_range(text));
        };
        let mut bytes = 0;
        let fits = messages.iter().take_while(|it| {
            bytes += 512 + it.message.as_ref().map_or(0, |it| it.body.len());
            bytes <= BROWSED_BYTES
        });
        let fits = fits.count().max(1);
        messages.truncate(fits);
        Ok(Response::new(QueueBrowsed { messages }))
    }

    async fn run(&self, request: Request<GetRun>) -> Result<Response<RunDescription>, Status> {
        let call = request.into_inner();
        input::service_name("pipeline", &call.pipeline)?;
        self.hub.confirm_read().await?;
        let applied = self.hub.node().view().read();
        Ok(Response::new(applied.state.queues().run(&call.pipeline, call.run)))
    }

    async fn list_runs(&self, request: Request<ListRuns>) -> Result<Response<RunsListed>, Status> {
        let mut call = request.into_inner();
        call.limit = call.limit.clamp(1, RUNS_MAX);
        if !call.pipeline.is_empty() {
            input::service_name("pipeline", &call.pipeline)?;
        }
        self.hub.confirm_read().await?;
        let queues = self.hub.node().view().read().state.queues().clone();
        if call.pipeline.is_empty() {
            let pipelines = queues.pipelines().take(PIPELINES_MAX).collect();
            return Ok(Response::new(RunsListed { pipelines, ..RunsListed::default() }));
        }
        Ok(Response::new(queues.list_runs(&call)))
    }

    async fn manage_run(&self, request: Request<ManageRun>) -> Result<Response<RunManaged>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut call = request.into_inner();
        input::service_name("pipeline", &call.pipeline)?;
        audit::check(call.author.as_ref())?;
        call.author = audit::signed(&self.hub, call.author, caller.as_ref());
        let bytes = call.encoded_len();
        match self.propose(command::Command::ManageRun(call), bytes).await? {
            Reply::RunManaged(managed) => Ok(Response::new(managed)),
            _ => Err(unexpected()),
        }
    }

    async fn replay(&self, request: Request<ManageQueue>) -> Result<Response<QueueManaged>, Status> {
        let call = request.into_inner();
        queue_name("queue", &call.queue)?;
        let Some(Action::Replay(replay)) = &call.action else {
            return Err(Status::invalid_argument("action: expected replay"));
        };
        few("ids", replay.ids.len(), MESSAGES_MAX)?;
        self.do_manage(ManageQueue { author: None, ..call }).await
    }

    async fn manage(&self, request: Request<ManageQueue>) -> Result<Response<QueueManaged>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut call = request.into_inner();
        queue_name("queue", &call.queue)?;
        audit::check(call.author.as_ref())?;
        match &call.action {
            None => return Err(Status::invalid_argument("action is missing")),
            Some(Action::Replay(replay)) => few("ids", replay.ids.len(), MESSAGES_MAX)?,
            Some(Action::Pause(_) | Action::Purge(_)) => {}
        }
        call.author = audit::signed(&self.hub, call.author, caller.as_ref());
        self.do_manage(call).await
    }
}

/// Sends a server's process what it is handed, until it is none of the hub's any more, or this server leads no more.
async fn hand(hub: &Hub, call: DeliverMessages, sender: &mpsc::Sender<Result<Delivered, Status>>) -> Status {
    let DeliverMessages { server, started_ms, mut after_delivery, mut after_reply } = call;
    let woken = hub.feed().deliveries(&server);
    let known = || hub.node().view().read().state.queues().server(&server);
    let begun = known();
    if begun.is_none_or(|(started, _)| started != started_ms) {
        return Status::aborted("this process has not said what it takes");
    }
    loop {
        let mut woken = std::pin::pin!(woken.notified());
        woken.as_mut().enable();
        if let Err(status) = hub.must_lead().and_then(|()| hub.must_stay()) {
            return status;
        }
        // What was handed out by one that is deposed may be another's by now.
        if !hub.vouches() {
            tokio::time::sleep(UNCONFIRMED).await;
            continue;
        }
        let now_ms = hub.time_ms();
        let (server_now, (deliveries, replies)) = {
            let applied = hub.node().view().read();
            let queues = applied.state.queues();
            (queues.server(&server), queues.handed(&server, (after_delivery, after_reply), HANDED, now_ms))
        };
        if server_now != begun {
            return Status::aborted("what this process had was given to others");
        }
        if deliveries.is_empty() && replies.is_empty() {
            let _idle = tokio::time::timeout(IDLE, woken).await;
            continue;
        }
        after_delivery = deliveries.last().map_or(after_delivery, |it| it.number);
        after_reply = replies.last().map_or(after_reply, |it| it.number);
        if sender.send(Ok(Delivered { deliveries, replies })).await.is_err() {
            return Status::cancelled("nobody listens");
        }
    }
}

/// A queue's name, or that of the own queue of a job, a subscription, or a pipeline's step.
pub(super) fn queue_name(field: &str, queue: &str) -> Result<(), Status> {
    match subscription_of(queue).or_else(|| step_of(queue)) {
        Some((of, name)) => {
            input::service_name(field, of)?;
            input::service_name(field, name)
        }
        None => input::service_name(field, job_of(queue).unwrap_or(queue)),
    }
}

pub(super) fn few(field: &str, count: usize, max: usize) -> Result<(), Status> {
    at_most(&format!("{field}'s length"), count as u64, max as u64)
}

pub(super) fn at_most(field: &str, found: u64, max: u64) -> Result<(), Status> {
    if found <= max {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} is {found}: expected at most {max}")))
}

fn check(place: usize, write: &QueueWrite) -> Result<(), Status> {
    let field = |name: &str| format!("writes[{place}].{name}");
    match &write.write {
        Some(Write::Publish(publish)) => {
            few(&field("publish.messages"), publish.messages.len(), MESSAGES_MAX)?;
            all_of_one_app(&field("publish"), &publish.messages)
        }
        Some(Write::Settle(settle)) => settlement(&field("settle"), settle),
        Some(Write::Receive(ReceiveMessages { queue, app, id, max, wait_ms, timeout_ms })) => {
            queue_name(&field("receive.queue"), queue)?;
            input::app(&field("receive.app"), app)?;
            if *id == 0 || *max == 0 {
                return Err(Status::invalid_argument(format!(
                    "{}: expected an id and a max",
                    field("receive")
                )));
            }
            at_most(&field("receive.max"), (*max).into(), MESSAGES_MAX as u64)?;
            at_most(&field("receive.wait_ms"), *wait_ms, WAIT_MAX_MS)?;
            at_most(&field("receive.timeout_ms"), *timeout_ms, TIME_MAX_MS)
        }
        // A job is looked at where its times are: what is wrong with it is its outcome.
        Some(Write::StopReceiving(_) | Write::PutJob(_)) => Ok(()),
        Some(Write::BeginRun(it)) => pipeline::begin(&field("begin_run"), it),
        Some(Write::PublishToTopic(it)) => message(&field("publish_to_topic"), it),
        Some(Write::Subscribe(it)) => {
            input::service_name(&field("subscribe.topic"), &it.topic)?;
            input::service_name(&field("subscribe.name"), &it.name)?;
            input::app(&field("subscribe.app"), &it.app)
        }
        Some(Write::Unsubscribe(it)) => {
            input::service_name(&field("unsubscribe.topic"), &it.topic)?;
            input::service_name(&field("unsubscribe.name"), &it.name)
        }
        Some(Write::RemoveJob(it)) => {
            input::service_name(&field("remove_job.name"), &it.name)?;
            input::app(&field("remove_job.app"), &it.app)
        }
        Some(Write::RunJob(it)) => input::service_name(&field("run_job.name"), &it.name),
        None => Err(Status::invalid_argument(format!("{} is missing", field("write")))),
    }
}

fn all_of_one_app(field: &str, messages: &[QueueMessage]) -> Result<(), Status> {
    messages.iter().enumerate().try_for_each(|(place, it)| message(&format!("{field}[{place}]"), it))?;
    if messages.windows(2).all(|it| it[0].app == it[1].app) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field}: expected messages of one app")))
}

/// What a message may hold that an app publishes.
pub(super) fn message(field: &str, message: &QueueMessage) -> Result<(), Status> {
    input::service_name(&format!("{field}.queue"), &message.queue)?;
    message_of_any(field, message)
}

/// The same of a message to any queue.
pub(super) fn message_of_any(field: &str, message: &QueueMessage) -> Result<(), Status> {
    let of = |name: &str| format!("{field}.{name}");
    if (message.run, message.join, message.part) != (0, 0, 0) {
        return Err(Status::invalid_argument(format!("{}: it is the hub's to say", of("run"))));
    }
    input::app(&of("app"), &message.app)?;
    at_most(&of("body's length"), message.body.len() as u64, BODY_MAX as u64)?;
    input::text(&of("content_type"), &message.content_type, TYPE_MAX)?;
    at_most(&of("priority"), message.priority.unwrap_or_default().into(), PRIORITY_MAX.into())?;
    for (name, text) in [
        ("group", &message.group),
        ("unique", &message.unique),
        ("idempotency_key", &message.idempotency_key),
        ("correlation", &message.correlation),
    ] {
        input::text(&of(name), text, TEXT_MAX)?;
    }
    few(&of("meta"), message.meta.len(), META_MAX)?;
    for it in &message.meta {
        if it.name.starts_with("copal-") {
            let text = format!("{} is {:?}: it is the hub's to say", of("meta.name"), it.name);
            return Err(Status::invalid_argument(text));
        }
        input::text(&of("meta.name"), &it.name, TEXT_MAX)?;
        input::text(&of("meta.value"), &it.value, META_TEXT_MAX)?;
    }
    for (name, ms) in [("ttl_ms", message.ttl_ms), ("delay_ms", message.delay_ms), ("key_ms", message.key_ms)]
    {
        at_most(&of(name), ms, TIME_MAX_MS)?;
    }
    at_most(&of("wait_ms"), message.wait_ms, WAIT_MAX_MS)
}

fn settlement(field: &str, settle: &SettleDelivery) -> Result<(), Status> {
    let of = |name: &str| format!("{field}.{name}");
    few(&of("publish"), settle.publish.len(), BESIDE_MAX)?;
    all_of_one_app(&of("publish"), &settle.publish)?;
    few(&of("caches"), settle.caches.len(), BESIDE_MAX)?;
    settle.advance.iter().try_for_each(|it| pipeline::advance(&of("advance"), it))?;
    settle.caches.iter().enumerate().try_for_each(|(place, it)| cache::check(place, it))?;
    match &settle.outcome {
        Some(settle_delivery::Outcome::Done(done)) => {
            at_most(&of("done.body's length"), done.body.len() as u64, BODY_MAX as u64)?;
            input::text(&of("done.content_type"), &done.content_type, TYPE_MAX)
        }
        Some(settle_delivery::Outcome::GivenBack(it)) => at_most(&of("after_ms"), it.after_ms, TIME_MAX_MS),
        Some(settle_delivery::Outcome::Failed(it)) => {
            at_most(&of("after_ms"), it.after_ms, TIME_MAX_MS)?;
            input::text(&of("why"), &it.why, WHY_MAX)
        }
        Some(settle_delivery::Outcome::Dead(why)) => input::text(&of("why"), why, WHY_MAX),
        Some(settle_delivery::Outcome::ExtendMs(ms)) => at_most(&of("extend_ms"), *ms, TIME_MAX_MS),
        None => Err(Status::invalid_argument(format!("{} is missing", of("outcome")))),
    }
}

fn policy_is_ok(field: &str, policy: &QueuePolicy) -> Result<(), Status> {
    let QueuePolicy { timeout_ms, attempts: _, delay_ms, factor, max_delay_ms, dead_to } = policy;
    if !dead_to.is_empty() {
        queue_name(&format!("{field}.dead_to"), dead_to)?;
    }
    for (name, ms) in [("timeout_ms", timeout_ms), ("delay_ms", delay_ms), ("max_delay_ms", max_delay_ms)] {
        at_most(&format!("{field}.{name}"), *ms, TIME_MAX_MS)?;
    }
    at_most(&format!("{field}.factor"), (*factor).into(), 100_000)
}

/// Of what settlements write to caches there may be copies that are outdated.
fn places(writes: &[QueueWrite]) -> Vec<Place> {
    let settled = writes.iter().filter_map(|it| match &it.write {
        Some(Write::Settle(settle)) => Some(&settle.caches),
        _ => None,
    });
    let written: Vec<CacheWrite> = settled.flatten().cloned().collect();
    cache::places(&written)
}
