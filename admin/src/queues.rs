//! The queues of apps: how each is, what is in it, and what an operator does to it.

use crate::{HUB_WAIT, Inner, refusal::Refusal, sign_in::SignedIn};
use base64ct::{Base64, Encoding};
use percent_encoding::percent_decode_str;
use proto::hub::v1::{
    BrowseQueue, BrowsedMessage, ManageQueue, PurgeMessages, QueueDescription, QueueMessage, QueuesDescribed,
    ReplayMessages, browse_queue::Which, manage_queue::Action,
};
use serde::{Deserialize, Serialize};
use triad_client::HubError;

/// Messages of one answer, and bytes of the body of each.
const MESSAGES_MAX: u32 = 200;
const BODY_MAX: u32 = 4 << 10;

/// Messages that are replayed by their ids at a time.
const IDS_MAX: usize = 1000;

/// The longest body of a request, in bytes.
const REQUEST_MAX: usize = 64 << 10;

/// `GET /api/v1/queues`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct QueuesRecord {
    /// That all messages take on each server of the hub; none: see `unknown`.
    pub(crate) bytes: Option<u64>,
    /// `queue-memory-max`.
    pub(crate) capacity_bytes: Option<u64>,
    /// By name.
    pub(crate) queues: Vec<QueueRecord>,
    /// Why the hub has not said; none when it has.
    pub(crate) unknown: Option<String>,
}

/// A queue. Counts are since it was made.
#[derive(Debug, Default, Serialize)]
pub(crate) struct QueueRecord {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    /// That someone has.
    pub(crate) assigned: u64,
    /// Behind another of their group.
    pub(crate) waiting: u64,
    pub(crate) dead: u64,
    pub(crate) bytes: u64,
    /// The age of the oldest that is not dead, in milliseconds; none: there is none.
    pub(crate) oldest_ms: Option<u64>,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) settled: u64,
    pub(crate) failed: u64,
    pub(crate) died: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
    /// Messages a second in the last minute; none: the hub's leader has not seen enough yet.
    pub(crate) published_per_s: Option<f64>,
    pub(crate) settled_per_s: Option<f64>,
    /// For how long someone had a message that was settled, in milliseconds: on average, and the last one. None: none was.
    pub(crate) took_ms: Option<f64>,
    pub(crate) last_took_ms: Option<u64>,
    pub(crate) consumers: Vec<QueueConsumerRecord>,
}

/// Who takes messages of a queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueConsumerRecord {
    pub(crate) server: String,
    /// The app's name on the hub.
    pub(crate) app: String,
    /// Messages that it takes at once.
    pub(crate) window: u32,
    pub(crate) assigned: u32,
}

/// `GET /api/v1/queues/{queue}/messages`.
#[derive(Debug, Serialize)]
pub(crate) struct MessagesRecord {
    pub(crate) messages: Vec<MessageRecord>,
}

/// A message. Its id is a text: it has more digits than JavaScript's numbers.
#[derive(Debug, Default, Serialize)]
pub(crate) struct MessageRecord {
    pub(crate) id: String,
    pub(crate) attempts: u32,
    pub(crate) published_ms: u64,
    pub(crate) priority: u32,
    pub(crate) group: String,
    /// Of a pipeline, to which it belongs.
    pub(crate) run: Option<String>,
    pub(crate) app: String,
    pub(crate) content_type: String,
    /// Of the whole body.
    pub(crate) bytes: u64,
    /// The beginning of the body, if it is a text; else none.
    pub(crate) text: Option<String>,
    /// The same in base64, if it is none.
    pub(crate) base64: Option<String>,
    /// When it is ready, its delivery is over, or it died, in milliseconds since 1970; 0: now.
    pub(crate) at_ms: u64,
    /// Who has it.
    pub(crate) server: String,
    /// What its last attempt failed of.
    pub(crate) why: String,
}

/// What came of an action.
#[derive(Debug, Serialize)]
pub(crate) struct QueueDoneRecord {
    /// Messages that it was done to.
    pub(crate) count: u64,
}

/// What is done to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueVerb {
    Pause,
    Resume,
    Purge,
    Replay,
}

/// Which messages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessagesQuery {
    pub(crate) which: Which,
    pub(crate) after: u64,
    pub(crate) limit: u32,
    /// Of each body.
    pub(crate) body_max: u32,
}

/// Where messages of a queue stand, by the word for it.
pub(crate) const WHICH: [(&str, Which); 5] = [
    ("ready", Which::Ready),
    ("delayed", Which::Delayed),
    ("waiting", Which::Waiting),
    ("assigned", Which::Assigned),
    ("dead", Which::Dead),
];

/// The body of a purge: `{"dead": true}`; of a replay: `{"ids": ["17"]}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct How {
    dead: bool,
    ids: Vec<String>,
}

impl QueueVerb {
    /// By its word in the path.
    pub(crate) fn of(word: &str) -> Result<Self, Refusal> {
        match word {
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "purge" => Ok(Self::Purge),
            "replay" => Ok(Self::Replay),
            _ => Err(Refusal::NotFound),
        }
    }

    fn action(self, body: &str) -> Result<Action, Refusal> {
        let expected = match self {
            Self::Pause | Self::Resume => "expected no body",
            Self::Purge => "expected no body, or {\"dead\": true}",
            Self::Replay => "expected no body, or {\"ids\": [\"17\", …]}",
        };
        let refused = |why: String| Refusal::Body(format!("{why}: {expected}"));
        if body.len() > REQUEST_MAX {
            return Err(refused(format!("the body has {} bytes", body.len())));
        }
        let how: How = if body.trim().is_empty() {
            How::default()
        } else {
            serde_json::from_str(body).map_err(|cause| refused(cause.to_string()))?
        };
        if how.dead && self != Self::Purge || !how.ids.is_empty() && self != Self::Replay {
            return Err(refused("the body is another action's".to_owned()));
        }
        let id = |it: &String| it.parse().map_err(|_| refused(format!("{it:?} is no id")));
        Ok(match self {
            Self::Pause => Action::Pause(true),
            Self::Resume => Action::Pause(false),
            Self::Purge => Action::Purge(PurgeMessages { dead: how.dead }),
            Self::Replay if how.ids.len() > IDS_MAX => {
                return Err(refused(format!("{} ids, of which there may be {IDS_MAX}", how.ids.len())));
            }
            Self::Replay => {
                Action::Replay(ReplayMessages { ids: how.ids.iter().map(id).collect::<Result<_, _>>()? })
            }
        })
    }
}

impl MessagesQuery {
    /// Of a query: `which`, `after`, `limit`.
    ///
    /// # Errors
    /// It has something else.
    pub(crate) fn of(query: &str) -> Result<Self, Refusal> {
        let mut read = Self { which: Which::Dead, after: 0, limit: 50, body_max: BODY_MAX };
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            let refused = |expected: &str| {
                Refusal::Body(format!(
                    "{name} is {:?}: expected {expected}",
                    value.chars().take(40).collect::<String>()
                ))
            };
            match name {
                "which" => {
                    let known = WHICH.iter().find(|(word, _)| *word == value);
                    let known = known.ok_or_else(|| refused("ready, delayed, waiting, assigned or dead"))?;
                    read.which = known.1;
                }
                "after" => read.after = value.parse().map_err(|_| refused("a message's id"))?,
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=MESSAGES_MAX).contains(it));
                    read.limit = limit.ok_or_else(|| refused("a number from 1 to 200"))?;
                }
                _ => return Err(Refusal::Body(format!("{name:?}: expected which, after or limit"))),
            }
        }
        Ok(read)
    }
}

impl QueuesRecord {
    fn of(described: Result<QueuesDescribed, String>) -> Self {
        match described {
            Ok(described) => Self {
                bytes: Some(described.bytes),
                capacity_bytes: Some(described.max_bytes),
                queues: described.queues.into_iter().map(QueueRecord::of).collect(),
                unknown: None,
            },
            Err(why) => Self { unknown: Some(why), ..Self::default() },
        }
    }
}

impl QueueRecord {
    fn of(it: QueueDescription) -> Self {
        let counts = it.counts.unwrap_or_default();
        let consumers = it.consumers.into_iter().map(|it| QueueConsumerRecord {
            server: it.server,
            app: it.app,
            window: it.window,
            assigned: it.assigned,
        });
        Self {
            name: it.name,
            paused: it.paused,
            ready: it.ready,
            delayed: it.delayed,
            assigned: it.assigned,
            waiting: it.waiting,
            dead: it.dead,
            bytes: it.bytes,
            oldest_ms: (it.oldest_ms > 0).then(|| it.now_ms.saturating_sub(it.oldest_ms)),
            published: counts.published,
            delivered: counts.delivered,
            settled: counts.settled,
            failed: counts.failed,
            died: counts.died,
            expired: counts.expired,
            purged: counts.purged,
            published_per_s: it.published_per_s,
            settled_per_s: it.settled_per_s,
            took_ms: (counts.timed > 0).then(|| counts.took_ms as f64 / counts.timed as f64),
            last_took_ms: (counts.timed > 0).then_some(counts.last_took_ms),
            consumers: consumers.collect(),
        }
    }
}

impl MessageRecord {
    fn of(it: BrowsedMessage) -> Self {
        let QueueMessage { body, content_type, priority, group, app, run, .. } =
            it.message.unwrap_or_default();
        // A cut may go through a letter.
        let text = match std::str::from_utf8(&body) {
            Ok(text) => Some(text.to_owned()),
            Err(cause) if cause.error_len().is_none() && it.body_bytes > body.len() as u64 => {
                Some(String::from_utf8_lossy(&body[..cause.valid_up_to()]).into_owned())
            }
            Err(_) => None,
        };
        Self {
            id: it.id.to_string(),
            attempts: it.attempts,
            published_ms: it.published_ms,
            priority: priority.unwrap_or_default(),
            group,
            run: (run > 0).then(|| run.to_string()),
            app,
            content_type,
            bytes: it.body_bytes,
            base64: text.is_none().then(|| Base64::encode_string(&body)),
            text,
            at_ms: it.at_ms,
            server: it.server,
            why: it.why,
        }
    }
}

impl Inner {
    /// The queues, as the hub has them.
    pub(crate) async fn queues(&self) -> QueuesRecord {
        let wait = HUB_WAIT / 5;
        let described = match tokio::time::timeout(wait, self.hub.describe_queues(wait)).await {
            Ok(described) => described.map_err(|why| why.to_string()),
            Err(_late) => Err("the hub does not answer".to_owned()),
        };
        QueuesRecord::of(described)
    }

    /// Messages of a queue: what apps have put there may be somebody's secret.
    ///
    /// # Errors
    /// The user may not, or there is no such queue.
    pub(crate) async fn queue_messages(
        &self,
        asker: &SignedIn,
        queue: &str,
        query: &MessagesQuery,
    ) -> Result<MessagesRecord, Refusal> {
        asker.must_operate()?;
        let MessagesQuery { which, after, limit, body_max } = *query;
        let browse = BrowseQueue { queue: queue.to_owned(), which: which.into(), after, limit, body_max };
        match self.hub.browse_queue(browse, HUB_WAIT).await {
            Ok(messages) => {
                Ok(MessagesRecord { messages: messages.into_iter().map(MessageRecord::of).collect() })
            }
            Err(HubError::Refused(_)) => Err(Refusal::NoQueue(queue.to_owned())),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Pauses a queue, resumes, purges or replays it.
    ///
    /// # Errors
    /// The user may not, what is asked makes no sense, or there is no such queue.
    pub(crate) async fn manage_queue(
        &self,
        asker: &SignedIn,
        queue: &str,
        verb: QueueVerb,
        body: &str,
    ) -> Result<QueueDoneRecord, Refusal> {
        asker.must_operate()?;
        let (action, author) = (Some(verb.action(body)?), Some(asker.author("")));
        let manage = ManageQueue { queue: queue.to_owned(), action, author, ..ManageQueue::default() };
        let managed = match self.hub.manage_queue(manage).await {
            Err(HubError::Refused(_)) => return Err(Refusal::NoQueue(queue.to_owned())),
            managed => managed?,
        };
        if managed.unknown {
            return Err(Refusal::NoQueue(queue.to_owned()));
        }
        let count = managed.count;
        tracing::info!(user = asker.user.name, queue, ?verb, count, "an operator has changed a queue");
        Ok(QueueDoneRecord { count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_or_named() {
        let query = |text: &str| MessagesQuery::of(text).map_err(|it| it.to_string());
        let none = MessagesQuery { which: Which::Dead, after: 0, limit: 50, body_max: BODY_MAX };
        assert_eq!(query("").unwrap(), none);
        let read = MessagesQuery { which: Which::Delayed, after: 7, limit: 3, ..none };
        assert_eq!(query("which=delayed&after=7&limit=3").unwrap(), read);
        for (wrong, named) in [
            ("which=all", "which is \"all\""),
            ("limit=0", "limit is \"0\""),
            ("after=x", "after is"),
            ("x=1", "\"x\""),
        ] {
            assert!(query(wrong).unwrap_err().contains(named), "{wrong}");
        }
        let action = |verb: QueueVerb, body: &str| verb.action(body).map_err(|it| it.to_string());
        assert_eq!(action(QueueVerb::Pause, ""), Ok(Action::Pause(true)));
        assert_eq!(
            action(QueueVerb::Purge, "{\"dead\": true}"),
            Ok(Action::Purge(PurgeMessages { dead: true }))
        );
        let ids = Action::Replay(ReplayMessages { ids: vec![17] });
        assert_eq!(action(QueueVerb::Replay, "{\"ids\": [\"17\"]}"), Ok(ids));
        for (verb, body) in [
            (QueueVerb::Pause, "{\"dead\": true}"),
            (QueueVerb::Purge, "{\"ids\": [\"1\"]}"),
            (QueueVerb::Replay, "{\"ids\": [\"x\"]}"),
            (QueueVerb::Replay, "{"),
        ] {
            assert!(action(verb, body).unwrap_err().contains("expected"), "{body}");
        }
    }

    #[test]
    fn a_body_is_a_text_or_base64() {
        let record = |body: &[u8], whole: u64| {
            let message = QueueMessage { body: body.to_vec().into(), ..QueueMessage::default() };
            MessageRecord::of(BrowsedMessage {
                message: Some(message),
                body_bytes: whole,
                ..BrowsedMessage::default()
            })
        };
        assert_eq!(record("ä".as_bytes(), 2).text.as_deref(), Some("ä"));
        assert_eq!(record(b"x\xc3", 9).text.as_deref(), Some("x"));
        let bytes = record(b"x\xc3", 2);
        assert_eq!((bytes.text, bytes.base64.as_deref()), (None, Some("eMM=")));
        let of_run = |run: u64| {
            let message = Some(QueueMessage { run, ..QueueMessage::default() });
            MessageRecord::of(BrowsedMessage { message, ..BrowsedMessage::default() }).run
        };
        assert_eq!((of_run(0), of_run(17).as_deref()), (None, Some("17")));
    }
}
