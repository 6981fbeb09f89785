//! Asks a server for a stale answer anew while it is served (RFC 5861 §3), by a request of our own in the name of the client whose request came.

use super::{Ask, Found, asks, asks::Asks, keep, lead::normalise};
use crate::{
    cache::{
        fetch::{Lead, Turn},
        key::{Key, Wanted},
        settings::CacheSettings,
    },
    http1::{RequestHead, ResponseHead},
    proxy::{Way, prepare::prepare, try_servers},
    route::trusted::Asker,
    upstream::{
        exchange::{BodyError, ClientSide, Outgoing},
        sticky::Stickiness,
    },
    worker::client::Client,
};
use http::StatusCode;
use std::{
    io,
    net::IpAddr,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{task::spawn_local, time::timeout};

/// How long such a request may take until its answer's head is there.
const WAIT: Duration = Duration::from_secs(30);

/// Nobody: a request without a body, whose answer is for the cache.
pub(in crate::proxy) struct Nobody;

impl ClientSide for Nobody {
    fn drop_trailers(&mut self) {}

    fn poll_body(&mut self, _: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<Result<bool, BodyError>> {
        Poll::Ready(Ok(true))
    }

    fn poll_inform(&mut self, _: &mut Context<'_>, _: &mut ResponseHead) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn has_ended(&self) -> bool {
        false
    }
}

/// Begins such a request, if nobody asks already.
pub(super) fn spawn(ask: Ask<'_>, head: &RequestHead, asks: &Asks, found: &Found, primary: &Key) {
    let cache = &ask.settings.cache;
    let Turn::Lead(lead) = cache.fetches.turn(cache, &Wanted::of(&found.entry.key)) else { return };
    let of_a_user = ask.is_of_a_user(head);
    let client = ask.client.stream();
    let mut head = head.copy();
    normalise(&mut head, asks);
    if found.entry.has_validator() {
        asks::ask_whether_changed(&mut head, &found.entry);
    } else {
        asks::drop_conditions(&mut head);
    }
    let outgoing = prepare(&client, ask.asker, ask.way, &mut head, ask.edits);
    let request = Refresh {
        upstream: ask.way.upstream.clone(),
        strategy: ask.way.strategy,
        address: ask.asker.address,
        secure: ask.asker.secure,
        settings: ask.settings.clone(),
        found: found.clone(),
        primary: primary.clone(),
        asks: asks.of_whom(),
        of_a_user,
        client,
        head,
    };
    spawn_local(timeout(WAIT, request.run(outgoing, lead)));
}

struct Refresh {
    upstream: Rc<crate::upstream::Upstream>,
    strategy: common::config::Strategy,
    address: IpAddr,
    secure: bool,
    settings: CacheSettings,
    found: Found,
    primary: Key,
    /// Whose request it is in the name of.
    asks: Asks,
    /// It is known to be of one user.
    of_a_user: bool,
    client: Rc<Client>,
    head: RequestHead,
}

impl Refresh {
    async fn run(mut self, outgoing: Outgoing, lead: Lead) {
        let (client, stickiness) = (self.client.clone(), Stickiness::None);
        let way = Way {
            upstream: &self.upstream,
            strategy: self.strategy,
            sticky: false,
            stickiness: &stickiness,
            session_url: None,
            mirrors: &[],
            // What was private to whoever asked is private to him here.
            knows_user: self.of_a_user,
            hash: None,
        };
        let asker = Asker::of_ours(self.secure);
        let ask = Ask { client: &client, asker: &asker, way: &way, edits: &[], settings: &self.settings };
        let asked_s = client.worker.wall_seconds();
        let passed = try_servers(&client, &way, &mut self.head, (outgoing, self.address), &mut Nobody).await;
        let entry = &self.found.entry;
        // What is stale serves on as long as it may.
        let Ok(passed) = passed else { return entry.life.failed(entry.age(client.worker.now())) };
        let (head, asks, primary) = (&self.head, &self.asks, &self.primary);
        let status = passed.answer.head.status;
        if status == StatusCode::NOT_MODIFIED && self.found.entry.has_validator() {
            client.worker.counters.cache.revalidated.up();
            drop(keep::freshen(ask, head, asks, (primary, &self.found), (passed, asked_s), lead));
            return;
        }
        if status.is_server_error() {
            entry.life.failed(entry.age(client.worker.now()));
            return passed.discard(&head.method);
        }
        match keep::storable(ask, head, asks, &passed, asked_s) {
            Ok(storable) => drop(keep::begin(ask, head, primary, storable, passed, lead)),
            Err(cause) => {
                if cause.is_of_the_answer() {
                    // It is not to be kept any more.
                    self.settings.cache.forget_url(primary.url());
                    lead.refused();
                }
                passed.discard(&head.method);
            }
        }
    }
}
