//! The service `Queues`.

use super::{Answers, InFlight, Services, answers, caller};
use crate::{
    content,
    local_api::{
        LocalApi,
        answer::Problem,
        input::{self, millis},
        queues::{self, AFTER, MESSAGE_MAX, MESSAGES_MAX, TIMEOUT, WAIT, WHY_MAX},
    },
    queue::{HeldDelivery, Pull, Queues as AllQueues, of_grpc},
    registry::Running,
};
use futures_util::{future::join_all, stream};
use proto::{
    app::v1::{
        Message, QueueAskReply, QueueAskRequest, QueueDelivery, QueueDone, QueuePublishReply,
        QueuePublishRequest, QueueReceiveRequest, QueueRefusal, QueueSettleReply, QueueSettleRequest,
        QueueSettlement, queue_receive_request::From as Source, queue_settlement::Outcome as Said,
        queues_server::Queues,
    },
    hub::v1::{Delivery, DeliveryDone, DeliveryGivenBack, Fence, QueueMessage, settle_delivery::Outcome},
};
use std::{ops::RangeInclusive, time::Duration};
use tonic::{Request, Response, Status};

/// Messages of one stream that are unsettled at once.
const CREDIT_MAX: u32 = 1_000;

/// Deliveries that are settled by one call.
const SETTLEMENTS_MAX: usize = 100;

#[tonic::async_trait]
impl Queues for Services {
    async fn publish(
        &self,
        request: Request<QueuePublishRequest>,
    ) -> Result<Response<QueuePublishReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(publish(&self.0, &caller, request.into_inner()).await?))
    }

    async fn ask(&self, request: Request<QueueAskRequest>) -> Result<Response<QueueAskReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(ask(&self.0, &caller, request.into_inner()).await?))
    }

    type ReceiveStream = Answers<QueueDelivery>;

    async fn receive(
        &self,
        request: Request<QueueReceiveRequest>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        let (caller, in_flight) = (caller(&request)?, InFlight::of(&request)?);
        let pull = pull(&self.0, &caller, request.into_inner())?;
        let deliveries = stream::unfold(pull, |mut pull| async {
            let next = pull.next().await;
            Some((next.map(|it| delivered(&it)).map_err(Problem::from), pull))
        });
        Ok(answers(in_flight, deliveries))
    }

    async fn settle(
        &self,
        request: Request<QueueSettleRequest>,
    ) -> Result<Response<QueueSettleReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(settle(&self.0, &caller, request.into_inner()).await?))
    }
}

async fn publish(
    api: &LocalApi,
    caller: &Running,
    request: QueuePublishRequest,
) -> Result<QueuePublishReply, Problem> {
    let QueuePublishRequest { queue, messages, fence } = request;
    let (name, fence) = (input::name("queue", &queue)?, input::told_fence(fence)?);
    input::not_many("messages", messages.len(), MESSAGES_MAX)?;
    let messages = messages.into_iter().enumerate().map(|(place, it)| {
        let message = of_grpc(&format!("messages[{place}]"), it, MESSAGE_MAX)?;
        Ok::<_, Problem>(queues::addressed(caller, &name, message))
    });
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let came = queues::queues(api)?.publish(messages, fence).await?;
    Ok(QueuePublishReply { ids: came.ids, repeated: came.repeated })
}

async fn ask(api: &LocalApi, caller: &Running, request: QueueAskRequest) -> Result<QueueAskReply, Problem> {
    let QueueAskRequest { queue, message, wait_ms, fence } = request;
    let (name, fence) = (input::name("queue", &queue)?, input::told_fence(fence)?);
    let wait = millis("wait_ms", wait_ms, &WAIT)?;
    let wait = wait.ok_or_else(|| Problem::bad("wait_ms is 0: expected how long the reply is waited for"))?;
    let message = of_grpc("message", message.unwrap_or_default(), MESSAGE_MAX)?;
    let message = queues::addressed(caller, &name, message);
    let (id, done) = queues::asked(queues::queues(api)?, message, fence, wait).await?;
    Ok(QueueAskReply { id, body: done.body, content_type: done.content_type })
}

/// Who receives, of a queue or of a subscription, which has one of its own.
fn pull(api: &LocalApi, caller: &Running, request: QueueReceiveRequest) -> Result<Pull, Problem> {
    let QueueReceiveRequest { from, credit, timeout_ms } = request;
    let queue = match from {
        Some(Source::Queue(name)) => input::name("queue", &name)?.as_str().to_owned(),
        Some(Source::Subscription(it)) => super::topics::queue_of(&it)?,
        None => return Err(Problem::bad("expected a queue or a subscription")),
    };
    if credit > CREDIT_MAX {
        return Err(Problem::bad(format!("credit is {credit}: expected 1 to {CREDIT_MAX}")));
    }
    let timeout = millis("timeout_ms", timeout_ms, &TIMEOUT)?;
    let credit = usize::try_from(credit.max(1)).unwrap_or(1);
    let queues = queues::queues(api)?.clone();
    Ok(Pull::new(queues, (&queue, caller.app.sessions.app()), credit, timeout))
}

fn delivered(held: &HeldDelivery) -> QueueDelivery {
    let Delivery { id, attempt, published_ms, message, .. } = held.delivery();
    let Message { body, content_type, group, correlation, meta, .. } =
        told(message.clone().unwrap_or_default());
    let left = held.until().saturating_duration_since(tokio::time::Instant::now());
    QueueDelivery {
        token: held.number(),
        id: *id,
        attempt: *attempt,
        left_ms: content::millis(left),
        published_ms: *published_ms,
        body,
        content_type,
        group,
        correlation,
        meta,
    }
}

/// What is told of a message to who gets it.
pub(super) fn told(message: QueueMessage) -> Message {
    let QueueMessage { body, content_type, group, correlation, meta, .. } = message;
    let meta = meta.into_iter().map(|it| (it.name, it.value)).collect();
    Message { body, content_type, group, correlation, meta, ..Message::default() }
}

async fn settle(
    api: &LocalApi,
    caller: &Running,
    request: QueueSettleRequest,
) -> Result<QueueSettleReply, Problem> {
    let QueueSettleRequest { settlements, fence } = request;
    let (queues, fence) = (queues::queues(api)?, input::told_fence(fence)?);
    input::not_many("settlements", settlements.len(), SETTLEMENTS_MAX)?;
    let said = settlements.into_iter().enumerate().map(|(place, it)| said(place, it));
    let said = said.collect::<Result<Vec<_>, _>>()?;
    let count = said.len();
    let settled = said.into_iter().map(|it| settle_one(queues, caller, it, fence.clone()));
    let refused: Vec<_> = join_all(settled).await.into_iter().filter_map(Result::err).collect();
    if refused.len() < count {
        let refused = refused.into_iter().map(|(token, problem)| {
            let (code, detail) = problem.told();
            QueueRefusal { token, code: code.to_owned(), detail: detail.to_owned() }
        });
        return Ok(QueueSettleReply { refused: refused.collect() });
    }
    // Nothing has happened: who settles one at a time is told so as by any other call.
    let first = refused.into_iter().next();
    Err(first.map_or_else(|| Problem::bad("settlements has no entries"), |(_, problem)| problem))
}

async fn settle_one(
    queues: &AllQueues,
    caller: &Running,
    (token, outcome): (u64, Outcome),
    fence: Option<Fence>,
) -> Result<(), (u64, Problem)> {
    let settled = async {
        let held = queues::held(queues, caller, token)?;
        queues::settle(queues, &held, outcome, fence).await
    };
    settled.await.map_err(|problem| (token, problem))
}

/// Which delivery, and what has come of it.
fn said(place: usize, settlement: QueueSettlement) -> Result<(u64, Outcome), Problem> {
    let field = |key: &str| format!("settlements[{place}].{key}");
    let time = |key: &str, ms, bounds: &RangeInclusive<Duration>| millis(&field(key), ms, bounds).map(|_| ms);
    let QueueSettlement { token, outcome } = settlement;
    let outcome = match outcome {
        Some(Said::Done(QueueDone { body, content_type })) => {
            input::not_longer(&field("done.body"), &body, MESSAGE_MAX)?;
            content::content_type_is_ok(&content_type)?;
            Outcome::Done(DeliveryDone { body, content_type })
        }
        Some(Said::Retry(it)) => queues::another_attempt(time("retry.after_ms", it.after_ms, &AFTER)?),
        Some(Said::GiveBack(it)) => {
            let after_ms = time("give_back.after_ms", it.after_ms, &AFTER)?;
            Outcome::GivenBack(DeliveryGivenBack { after_ms })
        }
        Some(Said::Dead(it)) if it.why.len() <= WHY_MAX => Outcome::Dead(it.why),
        Some(Said::Dead(_)) => {
            let field = field("dead.why");
            return Err(Problem::bad(format!("{field}: expected a text of at most {WHY_MAX} bytes")));
        }
        // No time at all is not one of those that there may be.
        Some(Said::Extend(it)) if it.time_ms == 0 => {
            return Err(Problem::bad(format!("{} is 0: expected a time", field("extend.time_ms"))));
        }
        Some(Said::Extend(it)) => Outcome::ExtendMs(time("extend.time_ms", it.time_ms, &TIMEOUT)?),
        None => {
            let field = field("outcome");
            let text = format!("{field}: expected one of done, retry, give_back, dead and extend");
            return Err(Problem::bad(text));
        }
    };
    Ok((token, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::app::v1::{QueueDead, QueueExtend, QueueGiveBack, QueueRetry};

    #[test]
    fn what_has_come_of_a_delivery_is_one_of_five() {
        let of = |outcome| said(3, QueueSettlement { token: 7, outcome: Some(outcome) });
        let done = QueueDone { body: "x".into(), content_type: "text/plain".to_owned() };
        assert!(matches!(of(Said::Done(done)).unwrap(), (7, Outcome::Done(it)) if it.body == "x"));
        let failed = of(Said::Retry(QueueRetry { after_ms: 0 })).unwrap().1;
        // 0 is what the queue says: another attempt at once is after 1 ms.
        assert!(matches!(failed, Outcome::Failed(it) if it.after_ms == 1));
        let back = of(Said::GiveBack(QueueGiveBack { after_ms: 5 })).unwrap().1;
        assert!(matches!(back, Outcome::GivenBack(it) if it.after_ms == 5));
        let dead = of(Said::Dead(QueueDead { why: "no".to_owned() })).unwrap().1;
        assert!(matches!(dead, Outcome::Dead(why) if why == "no"));
        let extend = of(Said::Extend(QueueExtend { time_ms: 2000 })).unwrap().1;
        assert!(matches!(extend, Outcome::ExtendMs(2000)));
    }

    #[test]
    fn what_is_refused_is_named() {
        let refused = |outcome| format!("{:?}", said(3, QueueSettlement { token: 7, outcome }).unwrap_err());
        let long = QueueDone { body: vec![0; MESSAGE_MAX + 1].into(), ..QueueDone::default() };
        let kind = QueueDone { content_type: "a\nb".to_owned(), ..QueueDone::default() };
        for (outcome, text) in [
            (None, "settlements[3].outcome: expected one of"),
            (Some(Said::Done(long)), "settlements[3].done.body has 262145 bytes"),
            (Some(Said::Done(kind)), "the content type has 3 bytes"),
            (Some(Said::Retry(QueueRetry { after_ms: u64::MAX })), "settlements[3].retry.after_ms is"),
            (Some(Said::Dead(QueueDead { why: "x".repeat(1025) })), "settlements[3].dead.why: expected"),
            (Some(Said::Extend(QueueExtend { time_ms: 999 })), "settlements[3].extend.time_ms is 999"),
            (Some(Said::Extend(QueueExtend { time_ms: 0 })), "settlements[3].extend.time_ms is 0"),
        ] {
            let found = refused(outcome);
            assert!(found.contains(text), "{found}");
        }
    }
}
