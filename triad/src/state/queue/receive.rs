//! Those who ask for messages: they get several at once, or wait for the first one.

use super::{Around, Queues, full, line::Line, names::Kind};
use proto::hub::v1::{ReceiveMessages, queue_outcome::Outcome, queues_full::Of};
use std::sync::Arc;

/// Those who wait to receive, and those of one app.
const RECEIVES_MAX: usize = 10_000;
const APP_RECEIVES_MAX: usize = 2_000;

/// Someone who waits to receive.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Receive {
    pub(super) server: Arc<str>,
    pub(super) app: Arc<str>,
    pub(super) id: u64,
    pub(super) max: u32,
    pub(super) timeout_ms: u64,
    pub(super) until_ms: u64,
}

impl Queues {
    pub(super) fn receive(
        &mut self,
        server: &Arc<str>,
        receive: ReceiveMessages,
        around: &mut Around<'_>,
    ) -> Outcome {
        let ReceiveMessages { queue, app, id, max, wait_ms, timeout_ms } = receive;
        let app = self.app(&app);
        if Kind::of(&queue) == Kind::Subscription && !self.is_subscribed(&queue) {
            return Outcome::Unknown(true);
        }
        if !self.all.contains_key(&*queue)
            && let Err(max) = self.room_for_names(Kind::of(&queue), &app, 1)
        {
            return full(Of::Queues, max as u64);
        }
        let receives = self.apps.get(&app).map_or(0, |it| it.receives);
        let queue = self.queue(&queue, &app);
        let until_ms = around.now_ms.saturating_add(wait_ms);
        let receive = Receive { server: server.clone(), app: app.clone(), id, max, timeout_ms, until_ms };
        let ready = self.all.get(&queue).filter(|it| !it.paused).map_or(0, Line::ready);
        let of = max.min(u32::try_from(ready).unwrap_or(u32::MAX));
        if of > 0 {
            self.hand_to(&queue, &receive, of, around.now_ms, around.changes);
        } else if wait_ms > 0 {
            if self.receives.len() >= RECEIVES_MAX {
                return full(Of::Receiving, RECEIVES_MAX as u64);
            }
            if receives >= APP_RECEIVES_MAX {
                return full(Of::Receiving, APP_RECEIVES_MAX as u64);
            }
            let order = self.next();
            self.put_receive((queue, order), receive);
        }
        Outcome::Receiving(of)
    }

    pub(super) fn put_receive(&mut self, place: (Arc<str>, u64), receive: Receive) {
        self.share(&receive.app, |it| it.receives += 1);
        self.ends.insert((receive.until_ms, super::delivery::End::Receive(place.0.clone(), place.1)));
        self.receives_by_id.insert((receive.server.clone(), receive.id), place.clone());
        self.receives.insert(place, receive);
    }

    pub(super) fn take_receive(&mut self, place: &(Arc<str>, u64)) -> Option<Receive> {
        let receive = self.receives.remove(place)?;
        self.ends.remove(&(receive.until_ms, super::delivery::End::Receive(place.0.clone(), place.1)));
        self.receives_by_id.remove(&(receive.server.clone(), receive.id));
        self.share(&receive.app, |it| it.receives -= 1);
        Some(receive)
    }

    pub(super) fn first_receive(&self, queue: &Arc<str>) -> Option<((Arc<str>, u64), Receive)> {
        let first = self.receives.range((queue.clone(), 0)..).next();
        first.filter(|(place, _)| place.0 == *queue).map(|(place, it)| (place.clone(), it.clone()))
    }

    /// Whether someone waits to receive of a queue.
    pub(super) fn is_received(&self, queue: &Arc<str>) -> bool {
        self.receives.range((queue.clone(), 0)..).next().is_some_and(|(place, _)| place.0 == *queue)
    }

    pub(super) fn stop_receiving(&mut self, server: &Arc<str>, id: u64) {
        if let Some(place) = self.receives_by_id.get(&(server.clone(), id)).cloned() {
            self.take_receive(&place);
        }
    }

    /// Nobody at this server waits any more.
    pub(super) fn stop_receiving_of(&mut self, server: &Arc<str>) {
        let of_server =
            self.receives_by_id.range((server.clone(), 0)..).take_while(|(it, _)| it.0 == *server);
        let places: Vec<_> = of_server.map(|(_, place)| place.clone()).collect();
        places.iter().for_each(|place| drop(self.take_receive(place)));
    }
}
