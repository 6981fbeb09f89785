//! A message: what was published, and where it stands.

use bytes::Bytes;
use proto::hub::v1::{MessageMeta, QueueMessage};
use std::sync::Arc;

/// What a message takes beside its body and texts: itself, its places in the maps, and why its last attempt has failed, whether it has or not: what is
/// there takes no more room later. Measured: bench/README.md.
const MESSAGE: u64 = 600;

/// The same of one with a group, a key, or someone who waits.
const EXTRA: u64 = 300;

/// One of a run: of an error with which it goes to the step for errors, too.
const OF_RUN: u64 = 1000;

/// What is said of such an error is a part of that.
fn bytes_of_meta(meta: &[MessageMeta]) -> usize {
    let others = meta.iter().filter(|it| !it.name.starts_with(OWN_META));
    others.map(|it| it.name.len() + it.value.len() + 64).sum()
}

/// Metas that no app gives begin so.
const OWN_META: &str = "copal-";

/// What a message has of whose priority nothing was said.
const PRIORITY: u32 = 4;

/// The greatest priority.
pub(crate) const PRIORITY_MAX: u32 = 9;

/// A message of a queue. Kept small, as there are very many (bench/README.md, "Queues"): 96 bytes beside its body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) body: Bytes,
    pub(super) origin: Arc<Origin>,
    pub(super) published_ms: u64,
    /// 0: never.
    pub(super) expires_ms: u64,
    /// Smaller ones of the same priority go first.
    pub(super) order: u64,
    pub(super) status: Status,
    /// Deliveries that were begun, and not given back.
    pub(super) attempts: u32,
    pub(super) priority: u8,
    pub(super) extra: Option<Arc<Extra>>,
}

/// What messages that follow each other mostly have in common: they share it.
#[derive(Debug, PartialEq)]
pub(super) struct Origin {
    /// Who has published it.
    pub(super) app: Arc<str>,
    content_type: String,
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    /// It is ready at this time.
    Delayed(u64),
    /// Behind another one of its group; then it is ready, but not before this time.
    Waiting(u64),
    /// By this delivery it is someone's.
    Assigned(u64),
}

/// What most messages don't have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Extra {
    group: Option<Arc<str>>,
    unique: Option<Arc<str>>,
    correlation: String,
    meta: Vec<MessageMeta>,
    asker: Option<Asker>,
    run: Option<RunPlace>,
}

/// Of which run a message is, and which part of what was fanned out; `join` 0: all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunPlace {
    pub(super) run: u64,
    pub(super) join: u64,
    pub(super) part: u32,
}

/// Who waits for a reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asker {
    pub(super) server: Arc<str>,
    pub(super) started_ms: u64,
    pub(super) until_ms: u64,
    pub(super) ask: u64,
}

/// A text that may be missing.
fn some(text: String) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// About what a message will take.
pub(super) fn bytes_of(message: &QueueMessage) -> u64 {
    let texts = message.group.len() + message.unique.len() + message.correlation.len();
    let meta = bytes_of_meta(&message.meta);
    let has_extra = texts + meta > 0 || message.wait_ms > 0 || message.run > 0;
    let fixed = MESSAGE + if has_extra { EXTRA } else { 0 } + if message.run > 0 { OF_RUN } else { 0 };
    fixed + (2 * texts + meta + message.body.len() + message.content_type.len()) as u64
}

impl Origin {
    /// The same as that of one of `others`, if it is.
    pub(super) fn of(
        message: &QueueMessage,
        app: &Arc<str>,
        others: [Option<&Arc<Message>>; 2],
    ) -> Arc<Self> {
        let is_same = |it: &&Arc<Self>| it.app == *app && it.content_type == message.content_type;
        let same = others.into_iter().flatten().map(|it| &it.origin).find(is_same);
        let new = || Arc::new(Self { app: app.clone(), content_type: message.content_type.clone() });
        same.map_or_else(new, Arc::clone)
    }
}

/// When a message was published, and when its time is over; 0: never.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) published_ms: u64,
    pub(super) expires_ms: u64,
}

impl Times {
    /// Of what is published at `now_ms`.
    pub(super) fn of(message: &QueueMessage, now_ms: u64) -> Self {
        let expires_ms = if message.ttl_ms == 0 { 0 } else { now_ms.saturating_add(message.ttl_ms) };
        Self { published_ms: now_ms, expires_ms }
    }
}

impl Message {
    /// Of what was published; `asker` waits for its reply. It stands nowhere yet.
    pub(super) fn new(
        message: QueueMessage,
        origin: Arc<Origin>,
        asker: Option<Asker>,
        Times { published_ms, expires_ms }: Times,
    ) -> Self {
        let QueueMessage { body, priority, group, unique, correlation, meta, run, join, part, .. } = message;
        let run = (run > 0).then_some(RunPlace { run, join, part });
        let extra = Extra { group: some(group), unique: some(unique), correlation, meta, asker, run };
        let priority = priority.unwrap_or(PRIORITY).min(PRIORITY_MAX);
        Self {
            // The log's entry, of which it is a part, is larger.
            body: Bytes::copy_from_slice(&body),
            origin,
            published_ms,
            expires_ms,
            order: 0,
            status: Status::Waiting(0),
            attempts: 0,
            priority: u8::try_from(priority).unwrap_or(u8::MAX),
            extra: (extra != Extra::default()).then(|| Arc::new(extra)),
        }
    }

    /// As it was published.
    pub(super) fn told(&self, queue: &str) -> QueueMessage {
        let text = |it: Option<&Arc<str>>| it.map(ToString::to_string).unwrap_or_default();
        let extra = self.extra.as_deref();
        let run = self.run();
        QueueMessage {
            run: run.map_or(0, |it| it.run),
            join: run.map_or(0, |it| it.join),
            part: run.map_or(0, |it| it.part),
            queue: queue.to_owned(),
            body: self.body.clone(),
            content_type: self.origin.content_type.clone(),
            priority: Some(self.priority.into()),
            ttl_ms: if self.expires_ms == 0 { 0 } else { self.expires_ms.saturating_sub(self.published_ms) },
            group: text(self.group()),
            unique: text(self.unique()),
            correlation: extra.map(|it| it.correlation.clone()).unwrap_or_default(),
            meta: extra.map(|it| it.meta.clone()).unwrap_or_default(),
            app: self.app().to_string(),
            // For whom it is done: whether its reply is wanted.
            wait_ms: self.asker().map_or(0, |it| it.until_ms.saturating_sub(self.published_ms)),
            ..QueueMessage::default()
        }
    }

    /// Who has published it.
    pub(super) fn app(&self) -> &Arc<str> {
        &self.origin.app
    }

    pub(super) fn group(&self) -> Option<&Arc<str>> {
        self.extra.as_ref()?.group.as_ref()
    }

    pub(super) fn unique(&self) -> Option<&Arc<str>> {
        self.extra.as_ref()?.unique.as_ref()
    }

    pub(super) fn run(&self) -> Option<RunPlace> {
        self.extra.as_ref()?.run
    }

    pub(super) fn asker(&self) -> Option<&Asker> {
        self.extra.as_ref()?.asker.as_ref()
    }

    /// Its time is over.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> u64 {
        let of_extra = |it: &Extra| {
            let text = |it: &Option<Arc<str>>| it.as_ref().map_or(0, |it| it.len());
            let texts = text(&it.group) + text(&it.unique) + it.correlation.len();
            let of_run = if it.run.is_some() { OF_RUN } else { 0 };
            EXTRA + of_run + (2 * texts + bytes_of_meta(&it.meta)) as u64
        };
        let extra = self.extra.as_deref().map_or(0, of_extra);
        MESSAGE + extra + (self.body.len() + self.origin.content_type.len()) as u64
    }
}
