//! Which server takes a request: the state of each, and the choice among them. Pure: the time comes in as an argument, nothing
//! here waits or connects. One for each worker and cluster.

mod backend;
pub(crate) mod budget;
mod draw;
pub(crate) mod health;
mod latency;
mod outliers;
mod report;
mod server;
pub(crate) mod sticky_cookie;
pub(crate) mod sticky_token;
mod turns;
mod warmup;
mod window;

pub(crate) use backend::Backend;
pub(crate) use outliers::Verdict;
pub(crate) use server::{Openness, ServerState, Sockets, Standing, Ticket};

use common::{
    config::{Cluster, OutlierDetection, Strategy},
    id::ServerId,
    rendezvous, session_id,
};
use draw::Draw;
use latency::Latency;
use outliers::Outliers;
use proto::{hub::v1::Member, status::v1::WorkerView};
use server::ERRORS;
use std::{collections::HashMap, time::Instant};
use turns::{Turn, Turns};

/// A request is tried this often: once, and twice more.
pub(crate) const TRIES_MAX: usize = 3;

/// Up to so many servers are all looked at; of more, two are drawn and the better one is taken, which is nearly as good
/// (Mitzenmacher, "The Power of Two Choices") and takes the same time for a thousand servers as for ten.
const SCAN_MAX: usize = 8;

/// So many draws find two servers that are well while half of them are. Then they are looked for in order.
const DRAWS: usize = 8;

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

    /// Whether this is the first try. A request that has failed once is not to find out whether other servers are well.
    fn is_first(&self) -> bool {
        self.0[0].is_none()
    }

    fn has(&self, server: usize) -> bool {
        self.0.iter().flatten().any(|it| usize::from(*it) == server)
    }
}

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity<'a> {
    /// Anywhere.
    None,
    /// To a session of ours: its id names its home.
    Session(&'a str),
    /// To this server, by a sticky token: its session lives there alone. `key` is what all web-tiers choose its backup by.
    Server {
        /// The server.
        index: usize,
        /// The request's session cookie, or the token itself.
        key: &'a str,
    },
    /// To whichever server all web-tiers choose for this key, where its session lives alone.
    Key(&'a str),
    /// The same, but any other will do: what it is for is no more than likely to be there.
    Hash(&'a str),
}

impl Affinity<'_> {
    /// Whether its session lives on its server alone: elsewhere the user would begin a new one. (Sessions of ours are on the hub.)
    pub(crate) fn is_bound(self) -> bool {
        matches!(self, Self::Server { .. } | Self::Key(_))
    }
}

/// The servers of one cluster, as one worker sees them.
#[derive(Debug)]
pub(crate) struct Balance {
    servers: Vec<ServerState>,
    ids: Vec<ServerId>,
    /// `round-robin`.
    turns: Turns,
    /// Many servers for the other strategies.
    draw: Draw,
    /// Where the search among few servers begins, so that equals take turns.
    turn: usize,
    /// All servers' answers together.
    latency: Latency,
    /// Some are backups.
    has_backups: bool,
    /// Backups are left alone by the present request: another server can take it.
    backups_rest: bool,
    /// Who fails more than others, if anyone wants to know.
    outliers: Option<Outliers>,
}

/// How a server does for a request that may go anywhere, the best first.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Rank {
    /// To be probed: left to its load it might wait for ever.
    Probe,
    /// Well, with its load.
    Well(f32),
    /// Well, but it has as many requests as its warm-up allows.
    Full(f32),
    /// To be probed, and not by this request.
    Unsure,
    /// It answers 503.
    Busy(f32),
}

impl Balance {
    /// The servers of `cluster`, all of them believed to be well. No two workers should have the same `seed`.
    pub(crate) fn new(cluster: &Cluster, seed: u64) -> Self {
        Self::of(cluster.servers.iter().map(Backend::from), seed).ejecting(cluster.outlier_detection)
    }

    /// The same, where servers that fail more than others are ejected.
    pub(crate) fn ejecting(mut self, settings: Option<OutlierDetection>) -> Self {
        self.outliers = settings.map(|settings| Outliers::new(settings, self.servers.len()));
        self
    }

    /// Any servers, foreign ones included. At most 65,535; there are never more in a file.
    pub(crate) fn of(backends: impl IntoIterator<Item = Backend>, seed: u64) -> Self {
        let (ids, servers): (Vec<_>, Vec<_>) =
            backends.into_iter().map(|backend| (backend.id.clone(), ServerState::new(&backend))).unzip();
        let weights: Vec<_> = servers.iter().map(ServerState::weight).collect();
        Self {
            turns: Turns::new(&weights),
            draw: Draw::new(seed, &weights),
            turn: 0,
            latency: Latency::of_all(),
            has_backups: servers.iter().any(ServerState::is_backup),
            backups_rest: false,
            outliers: None,
            servers,
            ids,
        }
    }

    /// Takes over what `former` knows of its server `of`, which is the server `index` here.
    pub(crate) fn take_over(&mut self, index: usize, former: &Self, of: usize) {
        self.servers[index] = former.servers[of].successor(&self.servers[index]);
        self.latency = former.latency;
        if let (Some(outliers), Some(known)) = (&mut self.outliers, &former.outliers) {
            outliers.take_over(index, known.server(of));
        } else {
            self.servers[index].eject(Instant::now(), None);
        }
    }

    /// The state of a server.
    pub(crate) fn server(&mut self, index: usize) -> &mut ServerState {
        &mut self.servers[index]
    }

    /// A server as the status page shows it.
    pub(crate) fn report(&self, index: usize, now: Instant) -> WorkerView {
        let ejections = self.outliers.as_ref().map_or(0, |it| it.server(index).ejections());
        WorkerView { ejections, ..self.servers[index].report(now) }
    }

    /// The head of a server's answer has come, with this status. 503 makes it busy; anything else heals it, unless trouble came
    /// after the request began.
    pub(crate) fn answered(&mut self, index: usize, now: Instant, ticket: &mut Ticket, status: u16) {
        if let Some(outliers) = &mut self.outliers {
            outliers.note(index, status >= ERRORS);
        }
        if let Some(taken) = self.servers[index].answered(now, ticket, status) {
            self.latency.note(now, taken);
        }
    }

    /// A connection to a server could not be made, or it could not look at a request: see [`ServerState::connect_failed`].
    pub(crate) fn connect_failed(&mut self, index: usize, now: Instant) -> bool {
        if let Some(outliers) = &mut self.outliers {
            outliers.note(index, true);
        }
        self.servers[index].connect_failed(now)
    }

    /// A connection broke, or was silent for too long: see [`ServerState::read_failed`].
    pub(crate) fn read_failed(&mut self, index: usize, now: Instant, ticket: &Ticket) -> bool {
        if let Some(outliers) = &mut self.outliers {
            outliers.note(index, true);
        }
        self.servers[index].read_failed(now, ticket)
    }

    /// Decides which servers are ejected from now on. To be called a few times a second.
    pub(crate) fn judge(&mut self, now: Instant) -> Vec<Verdict> {
        let (Some(outliers), servers) = (&mut self.outliers, &mut self.servers) else { return Vec::new() };
        let takes = |index: usize| {
            let server = &servers[index];
            let works = matches!(server.standing(now), Standing::Well | Standing::Probe);
            works && server.openness() == Openness::All
        };
        let verdicts = outliers.decide(now, takes);
        for verdict in &verdicts {
            let (Verdict::Ejected { server, .. } | Verdict::Returned { server }) = *verdict;
            servers[server].eject(now, outliers.server(server).ejected());
        }
        verdicts
    }

    /// Takes over what the hub knows of the members. Returns what that means for the sockets to each server, in order.
    pub(crate) fn members_changed(&mut self, now: Instant, members: &[Member]) -> Vec<Sockets> {
        let members: HashMap<_, _> = members.iter().map(|member| (member.id.as_str(), member)).collect();
        let servers = self.ids.iter().zip(&mut self.servers);
        servers.map(|(id, server)| server.member_seen(now, members.get(id.as_str()).copied())).collect()
    }

    /// [`Self::choose_for`] a request with or without a session of ours.
    #[cfg(test)]
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        session: Option<&str>,
        strategy: Strategy,
        tried: Tried,
    ) -> Option<usize> {
        self.choose_for(now, session.map_or(Affinity::None, Affinity::Session), strategy, tried)
    }

    /// The server for a request: the one that it belongs to if that can take it, else the backup, which all web-tiers choose
    /// alike; one that belongs nowhere by `strategy`. When none is well, the one that is least ill: it may be better than a
    /// refusal. `None` when no server may be used, or all have been tried.
    pub(crate) fn choose_for(
        &mut self,
        now: Instant,
        affinity: Affinity<'_>,
        strategy: Strategy,
        tried: Tried,
    ) -> Option<usize> {
        self.backups_rest = self.has_backups && self.others_can(now, tried);
        let (home, key) = self.home(affinity);
        if let Some(home) = home.filter(|home| self.takes_own(now, *home, tried, affinity.is_bound())) {
            return Some(home);
        }
        let chosen = match key {
            Some(key) => self.backup(now, key, tried),
            None => self.by_strategy(now, strategy, tried),
        };
        chosen.or_else(|| self.least_bad(now, home, tried))
    }

    fn home<'a>(&self, affinity: Affinity<'a>) -> (Option<usize>, Option<&'a str>) {
        match affinity {
            Affinity::None => (None, None),
            Affinity::Session(id) => match session_id::home(id, self.servers.len()) {
                Some(home) => (Some(usize::from(home.0)), Some(id)),
                None => (None, None),
            },
            Affinity::Server { index, key } => (Some(index).filter(|it| *it < self.servers.len()), Some(key)),
            Affinity::Key(key) | Affinity::Hash(key) => {
                let all = self.ids.iter().enumerate().filter(|(index, _)| !self.servers[*index].is_backup());
                (rendezvous::choose(key, all.map(|(index, id)| (id.as_str(), index))), Some(key))
            }
        }
    }

    /// Whether a server can take a request of one of its own sessions: a draining one still does. One that is `bound` to it leaves it
    /// only if it can't be reached, or is not to be: an app that answers 503, or breaks a connection, ends nobody's session.
    fn takes_own(&self, now: Instant, index: usize, tried: Tried, bound: bool) -> bool {
        let server = &self.servers[index];
        !tried.has(index)
            && match server.standing(now) {
                Standing::Well | Standing::Probe => true,
                Standing::Busy { own_sessions } => own_sessions || bound,
                Standing::Failing(_) => bound && !server.is_unreachable(),
                Standing::Ejected(_) => bound,
                Standing::Away => false,
            }
    }

    /// Whether a server can take a request that could go elsewhere, if it is well.
    fn takes_any(&self, index: usize, tried: Tried) -> bool {
        let server = &self.servers[index];
        server.openness() == Openness::All && !tried.has(index) && !(self.backups_rest && server.is_backup())
    }

    /// Whether a server that is no backup can take a request that could go anywhere.
    fn others_can(&self, now: Instant, tried: Tried) -> bool {
        self.servers.iter().enumerate().any(|(index, server)| {
            let works = || matches!(server.standing(now), Standing::Well | Standing::Probe);
            !server.is_backup() && server.openness() == Openness::All && !tried.has(index) && works()
        })
    }

    /// The next one by rendezvous hash, so that the sessions of a lost server spread over all others and each stays with its own. Servers
    /// that are to be probed come last but for busy ones: a session that moved should not move again to one that may still be
    /// ill.
    fn backup(&self, now: Instant, key: &str, tried: Tried) -> Option<usize> {
        let among = |fits: fn(Standing) -> bool| {
            let servers = self.ids.iter().enumerate().filter(move |(index, _)| {
                self.takes_any(*index, tried) && fits(self.servers[*index].standing(now))
            });
            rendezvous::choose(key, servers.map(|(index, id)| (id.as_str(), index)))
        };
        among(|it| it == Standing::Well)
            .or_else(|| among(|it| it == Standing::Probe))
            .or_else(|| among(|it| matches!(it, Standing::Busy { .. })))
    }

    fn by_strategy(&mut self, now: Instant, strategy: Strategy, tried: Tried) -> Option<usize> {
        let chosen = match strategy {
            Strategy::RoundRobin => self.by_turn(now, tried),
            Strategy::Adaptive | Strategy::LeastConnection if self.servers.len() > SCAN_MAX => {
                self.by_draw(now, strategy, tried)
            }
            Strategy::Adaptive | Strategy::LeastConnection => None,
        };
        chosen.or_else(|| self.by_scan(now, strategy, tried))
    }

    /// The next whose turn it is and that is well.
    fn by_turn(&mut self, now: Instant, tried: Tried) -> Option<usize> {
        let Self { servers, turns, backups_rest, .. } = self;
        turns.next(|index| {
            let server = &servers[index];
            let well = match server.standing(now) {
                Standing::Well => !server.is_full(now),
                Standing::Probe => tried.is_first(),
                Standing::Busy { .. } | Standing::Failing(_) | Standing::Ejected(_) | Standing::Away => false,
            };
            let rests = *backups_rest && server.is_backup();
            let takes = well && !rests && server.openness() == Openness::All && !tried.has(index);
            (if takes { Turn::Take } else { Turn::Pass }, server.weight(), server.sixteenths(now))
        })
    }

    /// The better of two that are well and drawn by chance, or one that is to be probed.
    fn by_draw(&mut self, now: Instant, strategy: Strategy, tried: Tried) -> Option<usize> {
        let mut first: Option<(f32, usize)> = None;
        for _ in 0..DRAWS {
            let index = self.draw.next();
            let load = match self.rank(now, index, strategy, tried) {
                Some(Rank::Probe) => return Some(index),
                Some(Rank::Well(load)) => load,
                Some(Rank::Full(_) | Rank::Unsure | Rank::Busy(_)) | None => continue,
            };
            match first {
                None => first = Some((load, index)),
                Some((_, other)) if other == index => {}
                Some((other_load, other)) => return Some(if load < other_load { index } else { other }),
            }
        }
        first.map(|(_, index)| index)
    }

    /// The best of all; equals take turns. Of many, the better of the first two that are well: the search begins where the
    /// last one ended, so each gets its turn.
    fn by_scan(&mut self, now: Instant, strategy: Strategy, tried: Tried) -> Option<usize> {
        let count = self.servers.len();
        let enough = if count > SCAN_MAX { 2 } else { count };
        let mut best: Option<(Rank, usize)> = None;
        let mut well = 0;
        for index in (self.turn..count).chain(0..self.turn) {
            let Some(rank) = self.rank(now, index, strategy, tried) else { continue };
            if best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, index));
            }
            well += usize::from(matches!(rank, Rank::Well(_)));
            if rank == Rank::Probe || well == enough {
                break;
            }
        }
        let (_, best) = best?;
        self.turn = (best + 1) % count;
        Some(best)
    }

    /// How a server does for a request that may go anywhere; `None` when it can't take it.
    fn rank(&self, now: Instant, index: usize, strategy: Strategy, tried: Tried) -> Option<Rank> {
        if !self.takes_any(index, tried) {
            return None;
        }
        let server = &self.servers[index];
        let load = || match strategy {
            Strategy::Adaptive => server.adaptive_load(now, &self.latency),
            Strategy::LeastConnection | Strategy::RoundRobin => server.load(now),
        };
        match server.standing(now) {
            Standing::Probe if tried.is_first() => Some(Rank::Probe),
            Standing::Probe => Some(Rank::Unsure),
            Standing::Well if server.is_full(now) => Some(Rank::Full(load())),
            Standing::Well => Some(Rank::Well(load())),
            Standing::Busy { .. } => Some(Rank::Busy(load())),
            Standing::Failing(_) | Standing::Ejected(_) | Standing::Away => None,
        }
    }

    /// The least loaded of those that work but should get nothing new: draining ones, and a home that is busy. Else that of those
    /// that are ejected, as they answer at least. Else the one whose fail window ends first. One that is for its own sessions is left to
    /// them.
    fn least_bad(&self, now: Instant, home: Option<usize>, tried: Tried) -> Option<usize> {
        let mut working: Option<(f32, usize)> = None;
        let mut ejected: Option<(f32, usize)> = None;
        let mut failing: Option<(Instant, usize)> = None;
        let lighter = |least: &mut Option<(f32, usize)>, load, index| {
            if least.is_none_or(|(least, _)| load < least) {
                *least = Some((load, index));
            }
        };
        for (index, server) in self.servers.iter().enumerate() {
            let own_only = server.openness() == Openness::OwnSessions && home != Some(index);
            if own_only || tried.has(index) {
                continue;
            }
            match server.standing(now) {
                Standing::Well | Standing::Probe | Standing::Busy { .. } => {
                    lighter(&mut working, server.load(now), index);
                }
                Standing::Ejected(_) => lighter(&mut ejected, server.load(now), index),
                Standing::Failing(until) if failing.is_none_or(|(first, _)| until < first) => {
                    failing = Some((until, index));
                }
                Standing::Failing(_) | Standing::Away => {}
            }
        }
        working.or(ejected).map(|(_, index)| index).or(failing.map(|(_, index)| index))
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
