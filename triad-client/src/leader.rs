//! Who leads the hub: remembered, corrected by what the servers answer, searched for in turn when nobody knows.

use crate::{HubConfig, HubError, channel, succession::Succession};
use common::{backoff::Backoff, id::ServerId};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tonic::{Code, Response, Status, transport::Channel};

/// One try of a small call may take this long; another server may have taken over meanwhile.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_millis(1500);

/// Waits between tries while an election is under way: what is left of it when it is over delays every write.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The metadata in which a follower names the leader.
const LEADER_METADATA: &str = "copal-leader";

/// The hub's servers, and which of them is believed to lead.
#[derive(Debug)]
pub(crate) struct Leader {
    servers: Vec<(ServerId, Channel)>,
    me: ServerId,
    believed: AtomicUsize,
    succession: Succession,
}

/// What a failed try means for the next one.
enum Verdict {
    /// Ask this server now.
    Redirected(usize),
    /// Ask the next server after a wait.
    Elsewhere(String),
    /// Tell the caller.
    Final(HubError),
}

impl Leader {
    pub(crate) fn new(config: HubConfig) -> Self {
        let servers = config
            .servers
            .iter()
            .map(|(id, address)| (id.clone(), channel(&config.me, &config.credentials, id, address)));
        let (believed, succession) = (AtomicUsize::new(0), Succession::new());
        Self { servers: servers.collect(), me: config.me, believed, succession }
    }

    /// The calling server.
    pub(crate) fn me(&self) -> &ServerId {
        &self.me
    }

    /// The server believed to lead, with its place.
    pub(crate) fn believed(&self) -> Option<(usize, &ServerId, Channel)> {
        let place = self.believed.load(Ordering::Relaxed);
        self.servers.get(place).map(|(id, channel)| (place, id, channel.clone()))
    }

    /// All servers, with their places.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (usize, &ServerId, Channel)> {
        self.servers.iter().enumerate().map(|(place, (id, channel))| (place, id, channel.clone()))
    }

    /// The server at `place` has just proved that it leads.
    pub(crate) fn found(&self, place: usize) {
        self.believed.store(place, Ordering::Relaxed);
    }

    /// Calls the leader until it answers or `deadline` is over; a try is given `patience`, or ends when another server leads
    /// meanwhile. `call` may run several times.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Duration,
        patience: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, HubError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + deadline;
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        let mut redirects = 0;
        let mut last = String::from("not tried");
        // A try that was not answered may be carried out yet: what is said afterwards is not all that there is to say.
        let mut is_unknown = false;
        loop {
            let Some((place, server, channel)) = self.believed() else {
                return Err(HubError::Refused("the configuration names no hub server".into()));
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HubError::Unavailable { deadline, last });
            }
            let tried = tokio::select! {
                tried = tokio::time::timeout(left.min(patience), call(channel)) => tried,
                to = self.succession.after(place, &self.servers) => {
                    tracing::debug!(%server, "the hub's leader is silent and another leads");
                    is_unknown = true;
                    last = format!("{server} is silent and another leads");
                    self.believe(place, to);
                    continue;
                }
            };
            let status = match tried {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            match self.judge(server, &status) {
                Verdict::Final(HubError::Overloaded(said)) if is_unknown => last = said,
                Verdict::Final(error) => return Err(error),
                // Two servers that each believe the other leads are in the middle of an election: wait then.
                Verdict::Redirected(to) if redirects < self.servers.len() => {
                    redirects += 1;
                    self.believe(place, to);
                    last = format!("{server} is not the leader");
                    continue;
                }
                Verdict::Redirected(to) => self.believe(place, to),
                Verdict::Elsewhere(said) => {
                    is_unknown = true;
                    last = said;
                    self.believe(place, (place + 1) % self.servers.len());
                }
            }
            redirects = 0;
            let wait = backoff.wait(rand::random());
            tokio::time::sleep(wait.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Moves the belief on, unless another caller already has.
    fn believe(&self, from: usize, to: usize) {
        let _ = self.believed.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn judge(&self, server: &ServerId, status: &Status) -> Verdict {
        let said = format!("{server}: {} ({:?})", status.message(), status.code());
        match status.code() {
            Code::FailedPrecondition => {
                let named = status.metadata().get(LEADER_METADATA).and_then(|value| value.to_str().ok());
                let place = named.and_then(|id| self.servers.iter().position(|(it, _)| it.as_str() == id));
                // One that refuses and names itself is at its end, or just beginning to lead.
                let other = place.filter(|&it| self.servers[it].0 != *server);
                other.map_or(Verdict::Elsewhere(said), Verdict::Redirected)
            }
            Code::ResourceExhausted => Verdict::Final(HubError::Overloaded(said)),
            Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange | Code::PermissionDenied => {
                Verdict::Final(HubError::Refused(said))
            }
            _ => Verdict::Elsewhere(said),
        }
    }
}
