//! A queue: how it is, who takes its messages, the messages themselves, and what an operator does to them.

use super::{
    Figure, Frame, Page,
    actions::Done,
    form::Form,
    format::{NONE, ago, beginning, bytes, count, duration, path_part},
    html,
    queues::{Kind, oldest},
    text,
};
use crate::{
    AnswerBody, Inner,
    browser::Visitor,
    queues::{MessageRecord, MessagesQuery, QueueRecord, QueueVerb, WHICH},
    refusal::Refusal,
    sign_in::SignedIn,
    status::record::ClusterRecord,
    timestamp,
};
use askama::Template;
use common::config::Config;
use http::{HeaderMap, Response, StatusCode};
use proto::hub::v1::browse_queue::Which;

/// Messages on a page, and how much of each: of its body so many bytes are asked for.
const MESSAGES: u32 = 40;
const BODY_BYTES: u32 = 1 << 10;
const BODY: usize = 400;
const WHY: usize = 300;
const LINES: usize = 8;

/// Consumers that are shown; the JSON has all.
const CONSUMERS: usize = 100;

#[derive(Debug, Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    name: String,
    path: String,
    kind: Kind,
    paused: bool,
    has_dead: bool,
    figures: Vec<Figure>,
    consumers: Vec<Consumer>,
    more_consumers: usize,
    /// Which messages are shown, as a word.
    which: &'static str,
    choices: Vec<Choice>,
    /// What the time of a message is called; empty: it has none.
    time: &'static str,
    messages: Vec<Message>,
    /// Why they are not shown.
    why: String,
    /// The id after which the next ones come, if there may be more.
    later: Option<String>,
    is_first: bool,
}

/// Messages that can be looked at.
#[derive(Debug)]
struct Choice {
    word: &'static str,
    number: String,
    chosen: bool,
}

#[derive(Debug)]
struct Consumer {
    server: String,
    app: String,
    assigned: String,
    window: String,
}

#[derive(Debug)]
struct Message {
    id: String,
    details: String,
    attempts: String,
    published: String,
    at: String,
    size: String,
    content_type: String,
    body: String,
    why: String,
}

/// What of a queue is looked at.
#[derive(Debug)]
pub(super) struct Looked<'a> {
    pub(super) queue: &'a QueueRecord,
    pub(super) query: MessagesQuery,
    /// The messages, or why they are not shown.
    pub(super) messages: Result<Vec<MessageRecord>, String>,
}

/// Which messages an address asks for. What makes no sense says nothing.
pub(super) fn messages_query(form: &Form) -> MessagesQuery {
    let which = WHICH.iter().find(|(word, _)| *word == form.field("which"));
    MessagesQuery {
        which: which.map_or(Which::Dead, |(_, which)| *which),
        after: form.field("after").parse().unwrap_or_default(),
        limit: MESSAGES,
        body_max: BODY_BYTES,
    }
}

/// The way back to a queue's page, from a form on it.
pub(super) fn way_back(queue: &str, form: &Form) -> String {
    let which = WHICH.iter().find(|(word, _)| *word == form.field("which")).map_or("dead", |(word, _)| word);
    format!("/queues/{}?which={which}", path_part(queue))
}

impl Inner {
    /// The page of a queue, or that there is no such queue.
    pub(super) async fn queue_page(
        &self,
        config: &Config,
        prefix: &str,
        name: &str,
        (visitor, headers, form): (&Visitor, &HeaderMap, &Form),
    ) -> Response<AnswerBody> {
        let query = messages_query(form);
        let asker = SignedIn::new(visitor.user.clone(), None, headers);
        let (queues, messages, cluster) =
            tokio::join!(self.queues(), self.queue_messages(&asker, name, &query), self.cluster(config));
        let Some(queue) = queues.queues.iter().find(|it| it.name == name) else {
            let refusal = Refusal::NoQueue(beginning(name, 100, 1));
            let why = match queues.unknown {
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
                None => (refusal.status(), refusal.to_string()),
            };
            return self.refused_page(config, prefix, (Page::Queues, visitor), why).await;
        };
        let messages = messages.map(|it| it.messages).map_err(|refusal| refusal.to_string());
        let looked = Looked { queue, query, messages };
        let frame = Frame::new(prefix, Page::Queues, visitor, &cluster);
        html(StatusCode::OK, render(frame, &cluster, &looked))
    }

    /// Does what a form asks for.
    pub(super) async fn queue_form(
        &self,
        asker: &SignedIn,
        queue: &str,
        verb: QueueVerb,
        form: &Form,
    ) -> Result<Done, Refusal> {
        let body = match (verb, form.field("what"), form.field("id")) {
            (QueueVerb::Purge, "rest", _) => String::new(),
            (QueueVerb::Purge, "dead", _) => "{\"dead\": true}".to_owned(),
            (QueueVerb::Purge, ..) => {
                return Err(Refusal::Body("expected which messages to drop".to_owned()));
            }
            (QueueVerb::Replay, _, id) if !id.is_empty() => serde_json::json!({"ids": [id]}).to_string(),
            _ => String::new(),
        };
        let done = self.manage_queue(asker, queue, verb, &body).await?;
        Ok(match verb {
            QueueVerb::Pause => "queue-paused",
            QueueVerb::Resume => "queue-resumed",
            _ if done.count == 0 => "queue-nothing",
            QueueVerb::Purge => "queue-purged",
            QueueVerb::Replay => "queue-replayed",
        })
    }
}

/// The page as HTML.
pub(super) fn render(frame: Frame, cluster: &ClusterRecord, looked: &Looked<'_>) -> String {
    text(&QueuePage::new(frame, cluster, looked))
}

impl QueuePage {
    fn new(frame: Frame, cluster: &ClusterRecord, looked: &Looked<'_>) -> Self {
        let Looked { queue, query, messages } = looked;
        let numbers = [queue.ready, queue.delayed, queue.waiting, queue.assigned, queue.dead];
        let choice = |((word, which), number): (&(&'static str, Which), u64)| Choice {
            word,
            number: count(number),
            chosen: *which == query.which,
        };
        let choices: Vec<_> = WHICH.iter().zip(numbers).map(choice).collect();
        let which = choices.iter().find(|it| it.chosen).map_or("dead", |it| it.word);
        let (shown, why) = match messages {
            Ok(messages) => (&messages[..], String::new()),
            Err(why) => (&[][..], why.clone()),
        };
        let last = shown.last().filter(|_| shown.len() as u64 >= u64::from(query.limit));
        let now = cluster.taken.as_deref();
        Self {
            frame,
            name: queue.name.clone(),
            path: path_part(&queue.name),
            kind: Kind::of(&queue.name),
            paused: queue.paused,
            has_dead: queue.dead > 0,
            figures: figures(queue),
            consumers: queue.consumers.iter().take(CONSUMERS).map(Consumer::of).collect(),
            more_consumers: queue.consumers.len().saturating_sub(CONSUMERS),
            which,
            choices,
            time: match query.which {
                Which::Delayed => "Ready",
                Which::Assigned => "Its time ends",
                Which::Dead => "Died",
                Which::Ready | Which::Waiting => "",
            },
            messages: shown.iter().map(|it| Message::of(it, query.which, now)).collect(),
            why,
            later: last.map(|it| it.id.clone()),
            is_first: query.after == 0,
        }
    }
}

fn figures(queue: &QueueRecord) -> Vec<Figure> {
    vec![
        Figure::new("Oldest", oldest(queue), ""),
        Figure::new("Memory", bytes(queue.bytes), ""),
        Figure::new("Published", count(queue.published), ""),
        Figure::new("Handed out", count(queue.delivered), ""),
        Figure::new("Settled", count(queue.settled), ""),
        Figure::new("Failed attempts", count(queue.failed), ""),
        Figure::new("Died", count(queue.died), ""),
        Figure::new("Expired", count(queue.expired), ""),
        Figure::new("Purged", count(queue.purged), ""),
    ]
}

impl Consumer {
    fn of(it: &crate::queues::QueueConsumerRecord) -> Self {
        Self {
            server: it.server.clone(),
            app: it.app.clone(),
            assigned: count(it.assigned.into()),
            window: count(it.window.into()),
        }
    }
}

impl Message {
    fn of(message: &MessageRecord, which: Which, now: Option<&str>) -> Self {
        let published = timestamp::format(message.published_ms);
        let body = match (&message.text, &message.base64) {
            (Some(text), _) => beginning(text, BODY, LINES),
            (None, Some(base64)) => format!("base64: {}", beginning(base64, BODY / 4, LINES)),
            (None, None) => String::new(),
        };
        let group =
            (!message.group.is_empty()).then(|| format!("group {}", beginning(&message.group, 100, 1)));
        let app = (!message.app.is_empty()).then(|| format!("by {}", beginning(&message.app, 100, 1)));
        let details = [Some(format!("priority {}", message.priority)), group, app];
        Self {
            id: message.id.clone(),
            details: details.into_iter().flatten().collect::<Vec<_>>().join(", "),
            attempts: count(message.attempts.into()),
            published: match ago(published.as_deref(), now) {
                none if none.is_empty() => NONE.to_owned(),
                ago => format!("{ago} ago"),
            },
            at: at(message, which, now),
            size: bytes(message.bytes),
            content_type: beginning(&message.content_type, 100, 1),
            // More than was asked for is there.
            body: if message.bytes > u64::from(BODY_BYTES) && !body.ends_with('…') {
                body + "…"
            } else {
                body
            },
            why: beginning(&message.why, WHY, LINES),
        }
    }
}

/// When it becomes something else, or has become what it is.
fn at(message: &MessageRecord, which: Which, now: Option<&str>) -> String {
    let Some(now) = now.and_then(timestamp::parse).filter(|_| message.at_ms > 0) else {
        return NONE.to_owned();
    };
    let left = || duration(message.at_ms.saturating_sub(now) / 1000);
    match which {
        Which::Dead => format!("{} ago", duration(now.saturating_sub(message.at_ms) / 1000)),
        Which::Assigned => format!("in {}, {}", left(), message.server),
        _ => format!("in {}", left()),
    }
}
