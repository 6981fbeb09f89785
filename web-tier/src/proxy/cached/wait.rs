//! What a request waits for before it is known what is done for it: the disk, or the answer to another one.

use super::{Ask, Forwarded, Plan, Question, asks::Asks, keep, parts::PartAsked, plan_with, serve};
use crate::{
    cache::{
        disk_record::Now,
        fetch::Fetch,
        key::{Key, Wanted},
        near::Found,
    },
    http1::RequestHead,
    proxy::Reply,
};
use std::sync::Arc;

/// What is waited for.
pub(in crate::proxy) enum Wait {
    /// What was kept in memory before, by its key.
    Disk(Box<(Asks, Wanted)>),
    /// The same of a part; the key of the whole.
    DiskPart(Box<(Asks, Wanted, Key)>),
    /// The answer that another request asks for.
    Answer(Box<Following>),
}

/// A request that waits for the answer to another one.
pub(in crate::proxy) struct Following {
    asks: Asks,
    primary: Key,
    why: Forwarded,
    fetch: Arc<Fetch>,
}

impl Wait {
    pub(super) fn for_disk(asks: Asks, key: &Wanted) -> Plan {
        Plan::Wait(Self::Disk(Box::new((asks, key.clone()))))
    }

    pub(super) fn for_part(asks: Asks, key: Wanted, whole: Key) -> Plan {
        Plan::Wait(Self::DiskPart(Box::new((asks, key, whole))))
    }

    pub(super) fn for_answer(
        ask: Ask<'_>,
        asks: Asks,
        (key, why): (&Wanted, Forwarded),
        fetch: Arc<Fetch>,
    ) -> Plan {
        ask.client.worker.counters.cache.collapsed.up();
        Plan::Wait(Self::Answer(Box::new(Following { asks, primary: key.primary(), why, fetch })))
    }

    /// Waits, and goes on as what has come allows; `Err`: a server is asked.
    pub(in crate::proxy) async fn over(
        mut self,
        ask: Ask<'_>,
        head: &mut RequestHead,
    ) -> Result<Reply, Question> {
        loop {
            let plan = match self {
                Self::Disk(waiting) => {
                    let (asks, mut key) = *waiting;
                    let found = from_disk(ask, head, &mut key).await;
                    plan_with(ask, head, asks, &key, found)
                }
                Self::DiskPart(waiting) => {
                    let (asks, mut key, whole) = *waiting;
                    let found = from_disk(ask, head, &mut key).await;
                    PartAsked::plan_with(ask, head, asks, (&key, whole), found)
                }
                Self::Answer(following) => following.over(ask, head).await,
            };
            match plan {
                Plan::Reply(reply) => return Ok(reply),
                Plan::Ask(question) => return Err(question),
                Plan::Wait(next) => self = next,
            }
        }
    }
}

impl Following {
    /// Asks for itself if the answer is not for it.
    async fn over(self, ask: Ask<'_>, head: &RequestHead) -> Plan {
        let Self { asks, primary, why, fetch } = self;
        match fetch.wait(ask.settings.config.collapse_timeout).await {
            Some(entry) if keep::answers(&ask.settings.cache, &entry, head, &primary) => {
                Plan::Reply(serve::collapsed(ask, head, &asks, &Found::far(entry)))
            }
            _ => Plan::pass(ask, why),
        }
    }
}

async fn from_disk(ask: Ask<'_>, head: &RequestHead, key: &mut Wanted) -> Option<Found> {
    let (cache, worker) = (&ask.settings.cache, &ask.client.worker);
    let now = Now { monotonic: worker.now(), wall: worker.wall_seconds() };
    let found = cache.disk()?.bring(cache, key, &head.fields, now).await?;
    worker.counters.cache.from_disk.up();
    Some(found)
}
