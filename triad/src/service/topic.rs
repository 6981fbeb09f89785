//! `topic.proto`'s service.

use super::{input, queue};
use crate::{hub::Hub, serve::Caller};
use proto::hub::v1::{
    FollowTopics, ListenTopics, TellTopic, TopicFrame, TopicTold, TopicsFollowed, topics_server::Topics,
};
use std::{pin::Pin, sync::Arc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// Topics of one stream.
const TOPICS_MAX: usize = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct TopicService(pub(crate) Arc<Hub>);

fn check(topics: &[String]) -> Result<(), Status> {
    if topics.len() > TOPICS_MAX {
        let text = format!("topics has {} entries: expected at most {TOPICS_MAX}", topics.len());
        return Err(Status::invalid_argument(text));
    }
    topics.iter().try_for_each(|it| input::service_name("topics", it))
}

#[tonic::async_trait]
impl Topics for TopicService {
    async fn tell(&self, request: Request<TellTopic>) -> Result<Response<TopicTold>, Status> {
        let told = request.into_inner();
        input::service_name("topic", &told.topic)?;
        let message = told.message.as_ref().ok_or_else(|| Status::invalid_argument("message is missing"))?;
        queue::message("message", message)?;
        self.0.must_be_confirmed()?;
        let servers = self.0.feed().topics().tell(&told);
        // One that was deposed meanwhile has told those who listen to it, and others listen to another.
        if !self.0.vouches() {
            return Err(Status::unavailable("no majority has confirmed this leader lately"));
        }
        Ok(Response::new(TopicTold { servers }))
    }

    type ListenStream = Pin<Box<dyn Stream<Item = Result<TopicFrame, Status>> + Send>>;

    async fn listen(&self, request: Request<ListenTopics>) -> Result<Response<Self::ListenStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let ListenTopics { server, stream, topics } = request.into_inner();
        input::server("server", &server)?;
        input::own("server", &server, caller.as_ref())?;
        check(&topics)?;
        self.0.confirm_read().await?;
        let frames = self.0.feed().topics().listen(&server, stream, topics);
        let frames = frames.ok_or_else(|| Status::resource_exhausted("too many servers listen already"))?;
        // A change of leader since the confirmation has ended all streams but this one.
        self.0.must_lead()?;
        self.0.must_stay()?;
        Ok(Response::new(Box::pin(ReceiverStream::new(frames).map(|(frame, _room)| Ok(frame)))))
    }

    async fn follow(&self, request: Request<FollowTopics>) -> Result<Response<TopicsFollowed>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let follow = request.into_inner();
        input::server("server", &follow.server)?;
        input::own("server", &follow.server, caller.as_ref())?;
        check(&follow.topics)?;
        self.0.must_lead()?;
        let number = follow.number;
        match self.0.feed().topics().follow(follow) {
            true => Ok(Response::new(TopicsFollowed { number })),
            false => Err(Status::invalid_argument("stream is none of this hub server's")),
        }
    }
}
