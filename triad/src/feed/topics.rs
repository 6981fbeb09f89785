//! Servers that listen to topics: what is told goes to each that listens to its topic, in one order for all, and nothing of it is kept.

use proto::hub::v1::{FollowTopics, TellTopic, TopicFrame, TopicsFollowed, topic_frame::Frame};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What waits for one reader: so many frames, and so many bytes of messages. What is more it misses.
const PENDING: usize = 1024;
const PENDING_BYTES: usize = 4 << 20;

/// Streams at once: every server has one.
const STREAMS_MAX: usize = 4096;

/// A frame, and its part of the room of its reader.
pub(crate) type Told = (TopicFrame, Option<OwnedSemaphorePermit>);

/// Those who listen.
#[derive(Debug, Default)]
pub(crate) struct Topics(Mutex<BTreeMap<(String, u64), Listener>>);

#[derive(Debug)]
struct Listener {
    topics: HashSet<String>,
    frames: mpsc::Sender<Told>,
    room: Arc<Semaphore>,
    /// Messages that it has missed, and was not told of yet.
    missed: u64,
}

impl Listener {
    /// False: it is gone.
    fn tell(&mut self, frame: Frame, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes.clamp(1, PENDING_BYTES)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) else {
            self.missed += 1;
            return !self.frames.is_closed();
        };
        if self.missed > 0 {
            let missed = TopicFrame { frame: Some(Frame::Missed(self.missed)) };
            match self.frames.try_send((missed, None)) {
                Ok(()) => self.missed = 0,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.missed += 1;
                    return true;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
        }
        match self.frames.try_send((TopicFrame { frame: Some(frame) }, Some(room))) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server listens from now on; `None`: too many do.
    pub(crate) fn listen(
        &self,
        server: &str,
        stream: u64,
        topics: Vec<String>,
    ) -> Option<mpsc::Receiver<Told>> {
        let mut all = self.lock();
        all.retain(|_, it| !it.frames.is_closed());
        if all.len() >= STREAMS_MAX {
            return None;
        }
        let (frames, receiver) = mpsc::channel(PENDING);
        let room = Arc::new(Semaphore::new(PENDING_BYTES));
        let mut listener = Listener { topics: topics.into_iter().collect(), frames, room, missed: 0 };
        listener.tell(Frame::Listening(TopicsFollowed { number: 0 }), 0);
        all.insert((server.to_owned(), stream), listener);
        Some(receiver)
    }

    /// A stream's topics, in place of those before; false: it is none of these.
    pub(crate) fn follow(&self, follow: FollowTopics) -> bool {
        let FollowTopics { server, stream, topics, number } = follow;
        let mut all = self.lock();
        let Some(listener) = all.get_mut(&(server, stream)) else { return false };
        listener.topics = topics.into_iter().collect();
        listener.tell(Frame::Listening(TopicsFollowed { number }), 0)
    }

    /// Tells all who listen to a topic; how many.
    pub(crate) fn tell(&self, told: &TellTopic) -> u32 {
        let bytes = told.message.as_ref().map_or(0, |it| it.body.len() + 256);
        let (mut all, mut count) = (self.lock(), 0);
        all.retain(|_, listener| {
            if !listener.topics.contains(&told.topic) {
                return true;
            }
            count += 1;
            listener.tell(Frame::Message(told.clone()), bytes)
        });
        count
    }

    /// Ends all streams: this server leads no more.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::QueueMessage;

    fn told(topic: &str, bytes: usize) -> TellTopic {
        let message = QueueMessage { body: vec![0; bytes].into(), ..QueueMessage::default() };
        TellTopic { topic: topic.to_owned(), message: Some(message) }
    }

    fn drain(receiver: &mut mpsc::Receiver<Told>) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok((frame, _room)) = receiver.try_recv() {
            seen.push(match frame.frame.unwrap() {
                Frame::Listening(it) => format!("listening {}", it.number),
                Frame::Message(it) => it.topic,
                Frame::Missed(count) => format!("missed {count}"),
            });
        }
        seen
    }

    #[test]
    fn each_hears_of_its_topics_and_of_no_others() {
        let topics = Topics::default();
        let mut a = topics.listen("a", 1, vec!["x".into()]).unwrap();
        let mut b = topics.listen("b", 2, vec!["x".into(), "y".into()]).unwrap();
        assert_eq!(
            (topics.tell(&told("x", 1)), topics.tell(&told("y", 1)), topics.tell(&told("z", 1))),
            (2, 1, 0)
        );
        let follow = |server: &str| {
            topics.follow(FollowTopics {
                server: server.into(),
                stream: 1,
                topics: vec!["y".into()],
                number: 7,
            })
        };
        assert_eq!((follow("a"), follow("b")), (true, false));
        topics.tell(&told("x", 1));
        topics.tell(&told("y", 1));
        assert_eq!(drain(&mut a), ["listening 0", "x", "listening 7", "y"]);
        assert_eq!(drain(&mut b), ["listening 0", "x", "y", "x", "y"]);
        drop(a);
        assert_eq!(topics.tell(&told("y", 1)), 2);
        assert_eq!(topics.tell(&told("y", 1)), 1, "who is gone is forgotten");
        topics.end();
        assert!(b.try_recv().is_ok() && b.try_recv().is_ok());
        assert!(matches!(b.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }

    #[test]
    fn who_is_slow_is_told_what_it_has_missed_and_holds_nobody_up() {
        let topics = Topics::default();
        let mut slow = topics.listen("a", 1, vec!["x".into()]).unwrap();
        for _ in 0..10 {
            topics.tell(&told("x", 1 << 20));
        }
        assert_eq!(drain(&mut slow), ["listening 0", "x", "x", "x"]);
        topics.tell(&told("x", 1));
        assert_eq!(drain(&mut slow), ["missed 7", "x"]);
        for _ in 0..2 * PENDING {
            topics.tell(&told("x", 1));
        }
        assert!(drain(&mut slow).len() <= PENDING);
    }
}
