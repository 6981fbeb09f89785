//! `watch.proto`'s service.

use super::input;
use crate::{
    copies::{Place, place},
    hub::Hub,
    probe,
    serve::Caller,
};
use cluster_port::Rights;
use proto::hub::v1::{
    AliveAsked, AskAlive, CachesFollowed, ChangesConfirmed, ChangesTold, ConfirmChanges, Event, FollowCaches,
    Snapshot, TellChanges, WatchEvents, watch_server::Watch,
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Extensions, Request, Response, Status};

/// Caches that one server follows, and changes that are told at a time.
const FOLLOWED_MAX: usize = 1000;
const TOLD_MAX: usize = 10_000;

/// Watchers at once: every server of a cluster has one.
const WATCHERS: usize = 4096;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct WatchService(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl Watch for WatchService {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn events(&self, request: Request<WatchEvents>) -> Result<Response<Self::EventsStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let with_secrets = hears_secrets(request.extensions());
        let watch = request.into_inner();
        input::server("server", &watch.server)?;
        input::own("server", &watch.server, caller.as_ref())?;
        // The state of a leader that a majority has confirmed: what it has not, no watcher could have seen.
        self.0.confirm_read().await?;
        if self.0.feed().watchers() >= WATCHERS {
            return Err(Status::resource_exhausted(format!("{WATCHERS} servers watch already")));
        }
        // As it was before the watch begins: one that a later term's duties meet is ended.
        let term = self.0.node().position().term;
        let events = self.0.feed().watch(&watch, (with_secrets, term), || {
            let applied = self.0.node().view().read();
            let revision = applied.last.map_or(0, |it| it.index);
            let (members, apps) = (applied.state.members(), applied.state.apps());
            let (members, apps) = (members.iter().cloned().collect(), apps.iter().cloned().collect());
            let tokens = applied.state.tokens().iter().cloned().collect();
            let purges = applied.state.purges().iter().cloned().collect();
            let leases = applied.state.leases().iter().cloned().collect();
            let kept = applied.state.secrets().iter().filter(|_| with_secrets);
            let secrets = kept.cloned().collect();
            (revision, Snapshot { members, apps, tokens, purges, leases, secrets, with_secrets })
        });
        // A change of leader since the confirmation has ended all watches but this one, and so has a hand-over.
        self.0.must_lead()?;
        self.0.must_stay()?;
        Ok(Response::new(Box::pin(Watching { hub: self.0.clone(), server: watch.server, events })))
    }

    async fn confirm(&self, request: Request<ConfirmChanges>) -> Result<Response<ChangesConfirmed>, Status> {
        self.0.must_lead()?;
        self.0.feed().confirm(request.get_ref());
        Ok(Response::new(ChangesConfirmed {}))
    }

    async fn follow(&self, request: Request<FollowCaches>) -> Result<Response<CachesFollowed>, Status> {
        let FollowCaches { watch, caches } = request.into_inner();
        if caches.len() > FOLLOWED_MAX {
            let text = format!("caches has {} entries: expected at most {FOLLOWED_MAX}", caches.len());
            return Err(Status::invalid_argument(text));
        }
        caches.iter().try_for_each(|it| input::service_name("caches", it))?;
        self.0.must_lead()?;
        match self.0.feed().follow(watch, caches) {
            true => Ok(Response::new(CachesFollowed {})),
            false => Err(Status::invalid_argument(
                "watch is no stream of events here, or of a server that was late lately",
            )),
        }
    }

    async fn tell(&self, request: Request<TellChanges>) -> Result<Response<ChangesTold>, Status> {
        let TellChanges { watch, changed } = request.into_inner();
        let changed = changed.unwrap_or_default();
        if changed.keys.len() + changed.caches.len() > TOLD_MAX {
            return Err(Status::invalid_argument(format!("changed has more than {TOLD_MAX} entries")));
        }
        self.0.must_be_confirmed()?;
        self.0.feed().tell_of(watch, &changed);
        let keys = changed.keys.iter().map(|it| place(&it.cache, &it.key));
        let written: Vec<Place> = keys.chain(changed.caches.iter().map(|it| place(it, ""))).collect();
        self.0.feed().copies_are_gone(&written).await;
        // One that was deposed meanwhile has told nobody.
        if !self.0.vouches() {
            return Err(Status::unavailable("no majority has confirmed this leader lately"));
        }
        Ok(Response::new(ChangesTold {}))
    }

    async fn ask(&self, request: Request<AskAlive>) -> Result<Response<AliveAsked>, Status> {
        // After the question has come: what is sent now was sent later than the question.
        if self.0.vouches() {
            self.0.feed().answer(request.get_ref());
        }
        Ok(Response::new(AliveAsked {}))
    }
}

/// Secrets are the web-tiers' own.
fn hears_secrets(extensions: &Extensions) -> bool {
    extensions.get::<Rights>().is_some_and(|it| it.listens)
}

/// A watcher's stream. Its end without the leader's doing may be the watcher's end: a killed process closes its connections.
struct Watching {
    hub: Arc<Hub>,
    server: String,
    events: mpsc::Receiver<Event>,
}

impl Stream for Watching {
    type Item = Result<Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx).map(|it| it.map(Ok))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            probe::suspect(&self.hub, &self.server);
        }
    }
}
