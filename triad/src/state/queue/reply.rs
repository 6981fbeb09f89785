//! Replies for whoever waits for what becomes of a message. They take the room of the app that asks.

use super::{
    Queues,
    delivery::End,
    message::{Asker, Message},
};
use crate::state::change::Change;
use bytes::Bytes;
use proto::hub::v1::{DeliveryDone, MessageReply, message_reply::Outcome};
use std::sync::Arc;

/// A reply that waits for whoever asked, beside its body.
const REPLY: u64 = 300;

/// Why there is none.
const NO_ROOM: &str = "it was handled, but there is no room for its reply (queue-memory-max)";

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) reply: Arc<MessageReply>,
    /// Of the app that asks.
    pub(super) app: Arc<str>,
    pub(super) until_ms: u64,
}

impl Reply {
    pub(super) fn bytes(&self) -> u64 {
        self.reply.outcome.as_ref().map_or(REPLY, bytes_of)
    }
}

fn bytes_of(outcome: &Outcome) -> u64 {
    let texts = match outcome {
        Outcome::Done(done) | Outcome::Halted(done) => done.body.len() + done.content_type.len(),
        Outcome::Failed(why) => why.len(),
    };
    REPLY + texts as u64
}

impl Queues {
    /// Tells whoever waits that a message is done.
    pub(super) fn reply_done(
        &mut self,
        id: u64,
        message: &Message,
        done: DeliveryDone,
        max_bytes: u64,
        around: (u64, &mut Vec<Change>),
    ) {
        if message.asker().is_none() {
            return;
        }
        // The log's entry, of which it is a part, is larger.
        let body = Bytes::copy_from_slice(&done.body);
        let outcome = Outcome::Done(DeliveryDone { body, ..done });
        let (bytes, own) = (bytes_of(&outcome), self.apps.get(message.app()).map_or(0, |it| it.bytes));
        let fits = self.bytes + bytes <= max_bytes && own + bytes <= max_bytes / 2;
        self.reply(id, message, if fits { outcome } else { Outcome::Failed(NO_ROOM.to_owned()) }, around);
    }

    /// Tells whoever waits for a message's reply.
    pub(super) fn reply(
        &mut self,
        id: u64,
        message: &Message,
        outcome: Outcome,
        around: (u64, &mut Vec<Change>),
    ) {
        let (now_ms, changes) = around;
        let Some(Asker { server, started_ms, until_ms, ask }) = message.asker().cloned() else { return };
        let is_there = self.servers.get(&server).is_some_and(|it| it.started_ms == started_ms);
        if until_ms <= now_ms || !is_there {
            return;
        }
        let number = self.next();
        let reply = Arc::new(MessageReply { number, id, ask, outcome: Some(outcome) });
        self.put_reply(&server, number, Reply { reply, app: message.app().clone(), until_ms });
        changes.push(Change::Delivered(server));
    }

    pub(super) fn put_reply(&mut self, server: &Arc<str>, number: u64, reply: Reply) {
        let bytes = reply.bytes();
        self.bytes += bytes;
        self.share(&reply.app, |it| it.bytes += bytes);
        self.ends.insert((reply.until_ms, End::Reply(server.clone(), number)));
        self.replies.insert((server.clone(), number), reply);
    }

    pub(super) fn take_reply(&mut self, server: &Arc<str>, number: u64) {
        if let Some(reply) = self.replies.remove(&(server.clone(), number)) {
            let bytes = reply.bytes();
            self.bytes -= bytes;
            self.share(&reply.app, |it| it.bytes -= bytes);
            self.ends.remove(&(reply.until_ms, End::Reply(server.clone(), number)));
        }
    }

    /// The process that waited for them is gone.
    pub(super) fn forget_replies_of(&mut self, server: &Arc<str>) {
        let of_server = self.replies.range((server.clone(), 0)..).take_while(|(it, _)| it.0 == *server);
        let numbers: Vec<u64> = of_server.map(|(it, _)| it.1).collect();
        numbers.into_iter().for_each(|number| self.take_reply(server, number));
    }
}
