//! Which server takes a request: the state of each, and the choice among them. Pure: the time comes in as an argument, nothing
//! here waits or connects. One for each worker and cluster.

mod server;

pub(crate) use server::{Presence, ServerState, Sockets, Standing, Ticket};

use common::{
    config::{Cluster, Strategy},
    id::ServerId,
    rendezvous, session_id,
};
use proto::hub::v1::Member;
use std::time::Instant;

/// A request is tried this often: once, and twice more.
pub(crate) const TRIES_MAX: usize = 3;

/// The servers that a request has tried and is not to try again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tried([Option<u16>; TRIES_MAX]);

impl Tried {
    /// Adds a server.
    pub(crate) fn add(&mut self, server: usize) {
        let server = u16::try_from(server).ok();
        if let Some(free) = self.0.iter_mut().find(|it| it.is_none()) {
            *free = server;
        }
    }

    fn has(&self, server: usize) -> bool {
        self.0.iter().flatten().any(|it| usize::from(*it) == server)
    }
}

/// The servers of one cluster, as one worker sees them.
#[derive(Debug)]
pub(crate) struct Balance {
    servers: Vec<ServerState>,
    ids: Vec<ServerId>,
    /// Smooth weighted round robin (nginx's): each server's credit.
    credits: Vec<i64>,
    /// Where the search for the least loaded begins, so that equals take turns.
    turn: usize,
}

impl Balance {
    /// The servers of `cluster`, all of them believed to be well.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            servers: cluster.servers.iter().map(ServerState::new).collect(),
            ids: cluster.servers.iter().map(|server| server.id.clone()).collect(),
            credits: vec![0; cluster.servers.len()],
            turn: 0,
        }
    }

    /// The state of a server.
    pub(crate) fn server(&mut self, index: usize) -> &mut ServerState {
        &mut self.servers[index]
    }

    /// Takes over what the hub knows of the members. Returns what that means for the sockets to each server, in order.
    pub(crate) fn members_changed(&mut self, members: &[Member]) -> Vec<Sockets> {
        let servers = self.ids.iter().zip(&mut self.servers).map(|(id, server)| {
            let member = members.iter().find(|member| member.id == id.as_str());
            server.member_seen(member.map(|it| (it.state(), it.started_ms)))
        });
        servers.collect()
    }

    /// The server for a request: the session's home if it can take it, else the session's backup, which all web-tiers choose
    /// alike; without a session by `strategy`. When none is well, the one whose fail window ends first: it may be better than
    /// a refusal. `None` when the hub knows every server to be gone, or all have been tried.
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        session: Option<&str>,
        strategy: Strategy,
        tried: Tried,
    ) -> Option<usize> {
        if self.servers.len() == 1 {
            return (!tried.has(0) && self.servers[0].standing(now) != Standing::Away).then_some(0);
        }
        let home = session.and_then(|id| Some((id, session_id::home(id, self.servers.len())?)));
        let chosen = match home {
            Some((_, home)) if self.takes_own(now, usize::from(home.0), tried) => Some(usize::from(home.0)),
            Some((id, _)) => self.backup(now, id, tried),
            None => self.by_strategy(now, strategy, tried),
        };
        chosen.or_else(|| self.least_bad(now, tried))
    }

    /// Whether a server can take a request of one of its own sessions: a draining one still does.
    fn takes_own(&self, now: Instant, index: usize, tried: Tried) -> bool {
        !tried.has(index) && matches!(self.servers[index].standing(now), Standing::Well | Standing::Probe)
    }

    /// Whether a server can take a request that could go elsewhere.
    fn takes_any(&self, now: Instant, index: usize, tried: Tried) -> bool {
        self.takes_own(now, index, tried) && self.servers[index].presence() != Presence::Draining
    }

    /// By rendezvous hash, so that the sessions of a lost server spread over all others and each stays with its own. Servers
    /// that are to be probed come last: a session that moved should not move again to a server that may still be ill.
    fn backup(&self, now: Instant, id: &str, tried: Tried) -> Option<usize> {
        let among = |standing: Standing| {
            let servers = self.ids.iter().enumerate().filter(move |(index, _)| {
                self.takes_any(now, *index, tried) && self.servers[*index].standing(now) == standing
            });
            rendezvous::choose(id, servers.map(|(index, id)| (id.as_str(), index)))
        };
        among(Standing::Well).or_else(|| among(Standing::Probe))
    }

    fn by_strategy(&mut self, now: Instant, strategy: Strategy, tried: Tried) -> Option<usize> {
        match strategy {
            Strategy::RoundRobin => self.round_robin(now, tried),
            Strategy::Adaptive | Strategy::LeastConnection => self.least_active(now, tried),
        }
    }

    /// Smooth weighted round robin: each gains its weight, the richest is taken and pays the sum.
    fn round_robin(&mut self, now: Instant, tried: Tried) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for index in 0..self.servers.len() {
            if !self.takes_any(now, index, tried) {
                continue;
            }
            let weight = i64::from(self.servers[index].weight());
            sum += weight;
            self.credits[index] += weight;
            if best.is_none_or(|best| self.credits[index] > self.credits[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        self.credits[best] -= sum;
        Some(best)
    }

    /// The fewest requests in flight for its weight; equals take turns.
    fn least_active(&mut self, now: Instant, tried: Tried) -> Option<usize> {
        let count = self.servers.len();
        let mut best: Option<usize> = None;
        for step in 0..count {
            let index = (self.turn + step) % count;
            let better = |best: usize| self.servers[index].load_below(&self.servers[best]);
            if self.takes_any(now, index, tried) && best.is_none_or(better) {
                best = Some(index);
            }
        }
        let best = best?;
        self.turn = (best + 1) % count;
        Some(best)
    }

    /// A draining server rather than one in its fail window; among those the one that ends first.
    fn least_bad(&self, now: Instant, tried: Tried) -> Option<usize> {
        let mut untried = (0..self.servers.len()).filter(|index| !tried.has(*index));
        if let Some(draining) = untried.clone().find(|index| self.takes_own(now, *index, tried)) {
            return Some(draining);
        }
        let windows = untried.by_ref().filter_map(|index| match self.servers[index].standing(now) {
            Standing::Failing(until) => Some((until, index)),
            Standing::Well | Standing::Probe | Standing::Away => None,
        });
        windows.min().map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests;
