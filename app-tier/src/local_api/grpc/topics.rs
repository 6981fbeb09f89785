//! The service `Topics`.

use super::{Answers, InFlight, Services, answers, caller, queues::told};
use crate::{
    local_api::{
        LocalApi,
        answer::Problem,
        input,
        queues::{self, addressed},
        topics::{self, MESSAGE_MAX},
    },
    queue::of_grpc,
    registry::Running,
    topic,
};
use common::service_name::ServiceName;
use futures_util::stream;
use proto::app::v1::{
    DeleteSubscriptionReply, DeleteSubscriptionRequest, PutSubscriptionReply, PutSubscriptionRequest,
    Subscription, TopicEvent, TopicPublishReply, TopicPublishRequest, TopicSubscribeRequest,
    topic_event::Kind, topics_server::Topics,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Topics for Services {
    async fn publish(
        &self,
        request: Request<TopicPublishRequest>,
    ) -> Result<Response<TopicPublishReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(publish(&self.0, &caller, request.into_inner()).await?))
    }

    type SubscribeStream = Answers<TopicEvent>;

    async fn subscribe(
        &self,
        request: Request<TopicSubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let in_flight = InFlight::of(&request)?;
        let listener = topics::listener(&self.0, &input::name("topic", &request.into_inner().topic)?)?;
        let events = stream::unfold(listener, |mut listener| async {
            let (kind, message) = match listener.next().await {
                topic::TopicEvent::Ready => (Kind::Ready, None),
                topic::TopicEvent::Missed => (Kind::Missed, None),
                topic::TopicEvent::Message(message) => (Kind::Message, Some(told((*message).clone()))),
            };
            Some((Ok(TopicEvent { kind: kind.into(), message }), listener))
        });
        Ok(answers(in_flight, events))
    }

    async fn put_subscription(
        &self,
        request: Request<PutSubscriptionRequest>,
    ) -> Result<Response<PutSubscriptionReply>, Status> {
        let caller = caller(&request)?;
        let (topic, name) = names(request.into_inner().subscription.as_ref())?;
        let queues = queues::queues(&self.0)?;
        let app = caller.app.sessions.app();
        queues.subscribe(topic.as_str(), name.as_str(), app).await.map_err(Problem::from)?;
        Ok(Response::new(PutSubscriptionReply {}))
    }

    async fn delete_subscription(
        &self,
        request: Request<DeleteSubscriptionRequest>,
    ) -> Result<Response<DeleteSubscriptionReply>, Status> {
        let (topic, name) = names(request.into_inner().subscription.as_ref())?;
        let queues = queues::queues(&self.0)?;
        queues.unsubscribe(topic.as_str(), name.as_str()).await.map_err(Problem::from)?;
        Ok(Response::new(DeleteSubscriptionReply {}))
    }
}

async fn publish(
    api: &LocalApi,
    caller: &Running,
    request: TopicPublishRequest,
) -> Result<TopicPublishReply, Problem> {
    let TopicPublishRequest { topic, message, fence } = request;
    let (name, fence) = (input::name("topic", &topic)?, input::told_fence(fence)?);
    let message = of_grpc("message", message.unwrap_or_default(), MESSAGE_MAX)?;
    let message = addressed(caller, &name, message);
    let (ids, listening_servers) = topics::published(api, topics::topics(api)?, message, fence).await?;
    Ok(TopicPublishReply { ids, listening_servers })
}

fn names(subscription: Option<&Subscription>) -> Result<(ServiceName, ServiceName), Problem> {
    let it = subscription.ok_or_else(|| Problem::bad("subscription is missing"))?;
    Ok((input::name("topic", &it.topic)?, input::name("subscription", &it.name)?))
}

/// The queue of a durable subscription.
pub(super) fn queue_of(subscription: &Subscription) -> Result<String, Problem> {
    let (topic, name) = names(Some(subscription))?;
    Ok(topics::queue_of(&topic, &name))
}
