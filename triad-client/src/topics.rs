//! Topics, as the hub's leader is asked for them, and what is told on those that this process listens to.

use crate::{
    Hub, HubError, MESSAGE_MAX, WatchStream,
    leader::{Leader, TRY_TIMEOUT},
};
use common::backoff::Backoff;
use proto::hub::v1::{
    FollowTopics, ListMembers, ListenTopics, QueueMessage, TellTopic, TopicFrame,
    members_client::MembersClient, topic_frame::Frame, topics_client::TopicsClient,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

/// Waits before the hub is listened to again.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The answer to a stream's begin, and to a word on its topics.
const BEGIN_MAX: Duration = Duration::from_secs(2);

/// How often it is looked whether the hub is heard on another stream by now.
const LOOK: Duration = Duration::from_millis(100);

/// What waits for its reader.
const PENDING: usize = 256;

/// What is heard.
#[derive(Debug, Clone, PartialEq)]
pub enum TopicHeard {
    /// From here on nothing is missed of these topics.
    Listening(Arc<BTreeSet<String>>),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// What was published.
        message: Box<QueueMessage>,
    },
    /// Some messages were missed, of whatever topic.
    Missed,
}

impl Hub {
    /// Tells all who listen now; how many servers do.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] some may have heard it, and may hear it again.
    pub async fn tell_topic(
        &self,
        topic: &str,
        message: QueueMessage,
        deadline: Duration,
    ) -> Result<u32, HubError> {
        let tell = TellTopic { topic: topic.to_owned(), message: Some(message) };
        let told = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let tell = tell.clone();
            async move { TopicsClient::new(channel).tell(tell).await }
        });
        Ok(told.await?.servers)
    }

    /// Listens to topics, those that there are at a time, until the receiver is dropped. While there are none the hub is not asked.
    pub fn listen_topics(
        &self,
        topics: watch::Receiver<Arc<BTreeSet<String>>>,
        stream: WatchStream,
    ) -> mpsc::Receiver<TopicHeard> {
        let (sender, heard) = mpsc::channel(PENDING);
        tokio::spawn(Listener { leader: self.leader.clone(), topics, stream, sender }.run());
        heard
    }
}

struct Listener {
    leader: Arc<Leader>,
    topics: watch::Receiver<Arc<BTreeSet<String>>>,
    stream: WatchStream,
    sender: mpsc::Sender<TopicHeard>,
}

/// Why a stream was left.
enum Left {
    Ended(Status),
    Over,
}

impl Listener {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        let mut was_listening = false;
        loop {
            if self.topics.wait_for(|it| !it.is_empty()).await.is_err() {
                return;
            }
            match self.follow(&mut was_listening).await {
                Left::Over => return,
                Left::Ended(status) => tracing::debug!(%status, "topics are not heard"),
            }
            if std::mem::take(&mut was_listening) {
                backoff.reset();
                if self.sender.send(TopicHeard::Missed).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait(rand::random())) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    fn wanted(&mut self) -> (Arc<BTreeSet<String>>, Vec<String>) {
        let topics = self.topics.borrow_and_update().clone();
        let list = topics.iter().cloned().collect();
        (topics, list)
    }

    async fn begin(&self, stream: u64, topics: Vec<String>) -> Result<Streaming<TopicFrame>, Status> {
        let Some((_, _, channel)) = self.leader.believed() else {
            return Err(Status::unavailable("the configuration names no hub server"));
        };
        let listen = ListenTopics { server: self.leader.me().as_str().to_owned(), stream, topics };
        let mut client = TopicsClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let begun = tokio::time::timeout(BEGIN_MAX, client.listen(listen)).await;
        Ok(begun.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
    }

    /// Finds out who leads, for the next try.
    async fn find_leader(&self) {
        let found = self.leader.call(BEGIN_MAX, TRY_TIMEOUT, |channel| async move {
            MembersClient::new(channel).list(ListMembers {}).await
        });
        if let Err(cause) = found.await {
            tracing::debug!(%cause, "nobody leads the hub");
        }
    }

    /// Says which topics are listened to from now on; those, unless there is none left.
    async fn say(&mut self, stream: u64, number: u64) -> Result<Arc<BTreeSet<String>>, Status> {
        let (said, topics) = self.wanted();
        let follow = FollowTopics { server: self.leader.me().as_str().to_owned(), stream, topics, number };
        let followed = self.leader.call(BEGIN_MAX, TRY_TIMEOUT, |channel| {
            let follow = follow.clone();
            async move { TopicsClient::new(channel).follow(follow).await }
        });
        followed.await.map_err(|cause| Status::unavailable(cause.to_string()))?;
        if said.is_empty() {
            return Err(Status::cancelled("nobody listens here any more"));
        }
        Ok(said)
    }

    async fn follow(&mut self, was_listening: &mut bool) -> Left {
        let id = rand::random::<u64>() | 1;
        let (mut said, list) = self.wanted();
        let mut frames = match self.begin(id, list).await {
            Ok(frames) => frames,
            Err(status) => {
                self.find_leader().await;
                return Left::Ended(status);
            }
        };
        let mut heard_on = self.stream.name();
        let (mut looks, mut number) = (tokio::time::interval(LOOK), 0);
        loop {
            tokio::select! {
                frame = frames.message() => {
                    let frame = match frame {
                        Ok(Some(frame)) => frame.frame,
                        Ok(None) => return Left::Ended(Status::unavailable("the hub server ended it")),
                        Err(status) => return Left::Ended(status),
                    };
                    let Some(heard) = frame.and_then(|it| heard(it, number, &said)) else { continue };
                    *was_listening |= matches!(heard, TopicHeard::Listening(_));
                    if self.sender.send(heard).await.is_err() {
                        return Left::Over;
                    }
                }
                changed = self.topics.changed() => {
                    if changed.is_err() {
                        return Left::Over;
                    }
                    number += 1;
                    said = match self.say(id, number).await {
                        Ok(said) => said,
                        Err(status) => return Left::Ended(status),
                    };
                }
                _ = looks.tick() => {
                    let now = self.stream.name();
                    // Where it was not heard at all yet, it has not moved.
                    if heard_on == 0 {
                        heard_on = now;
                    }
                    if now != heard_on && now != 0 {
                        return Left::Ended(Status::unavailable("the hub is heard elsewhere"));
                    }
                }
                () = self.sender.closed() => return Left::Over,
            }
        }
    }
}

/// What a frame says; `said`: the topics that were asked for last, by the word with this number.
fn heard(frame: Frame, number: u64, said: &Arc<BTreeSet<String>>) -> Option<TopicHeard> {
    match frame {
        // Of a word that another has followed: that is coming.
        Frame::Listening(it) => (it.number == number).then(|| TopicHeard::Listening(said.clone())),
        Frame::Message(TellTopic { topic, message }) => {
            Some(TopicHeard::Message { topic, message: Box::new(message.unwrap_or_default()) })
        }
        Frame::Missed(_) => Some(TopicHeard::Missed),
    }
}
