//! Asks every server of the file how it is, all at once. Whoever looks within the same one and a half seconds gets the same answers, so that ten
//! open pages ask no more than one.

use super::{problem::Problem, record::ClusterRecord};
use cluster_port::Credentials;
use common::{
    clock::Clock,
    config::{Config, Server},
    id::ServerId,
};
use futures_util::future::join_all;
use proto::{
    hub::v1::{App, Member},
    status::v1::{GetStatus, ServerStatus, status_client::StatusClient},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};
use tonic::transport::Channel;
use triad_client::channel;

/// How long a server is given.
pub(crate) const WAIT: Duration = Duration::from_secs(1);

/// How old answers may be that are shown again.
const FRESH: Duration = Duration::from_millis(1500);

/// Connections that nobody has used for so long are closed, and answers that nobody has looked at for so long forgotten.
const IDLE: Duration = Duration::from_secs(60);

/// The longest reason that is kept, in characters.
pub(crate) const WHY_MAX: usize = 300;

/// What all servers of the file said, and what was known besides.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// When it was taken, by this server's clock.
    pub(crate) taken_ms: u64,
    /// Which server asked.
    pub(crate) me: ServerId,
    /// As the hub told this server last.
    pub(crate) members: Arc<Vec<Member>>,
    pub(crate) apps: Arc<BTreeMap<String, App>>,
    /// In the order of the file.
    pub(crate) servers: Vec<Asked>,
}

/// A server of the file, and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) answer: Result<Box<Answer>, Silent>,
}

/// What a server said of itself.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: ServerStatus,
    /// How far its clock is ahead of this server's, in milliseconds, give or take half of the time that the answer took.
    pub(crate) clock_ahead_ms: i64,
}

/// A server that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) why: String,
    /// Since when, as far as this server has asked.
    pub(crate) since_ms: u64,
}

/// Asks the servers.
#[derive(Debug)]
pub(crate) struct Collector {
    me: ServerId,
    credentials: Credentials,
    state: Arc<tokio::sync::Mutex<State>>,
    /// By problem: when it was seen first.
    seen: Mutex<HashMap<String, u64>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Arc<Snapshot>)>,
    /// What was made of a snapshot.
    record: Option<(Arc<Snapshot>, Arc<ClusterRecord>)>,
    /// By server and address.
    channels: HashMap<(String, String), Channel>,
    /// By server: since when it has not answered.
    silent: HashMap<String, u64>,
    /// Closes the connections when nobody looks any more.
    expiry: Option<JoinHandle<()>>,
}

impl Collector {
    pub(crate) fn new(me: &ServerId, credentials: &Credentials) -> Self {
        let (state, seen) = (Arc::default(), Mutex::default());
        Self { me: me.clone(), credentials: credentials.clone(), state, seen }
    }

    /// What all servers say. One that does not answer within [`WAIT`] is told as silent.
    pub(crate) async fn snapshot(
        &self,
        config: &Config,
        members: &Arc<Vec<Member>>,
        apps: &Arc<BTreeMap<String, App>>,
        clock: &dyn Clock,
    ) -> Arc<Snapshot> {
        let mut state = self.state.lock().await;
        if let Some((at, snapshot)) = &state.last
            && clock.now().saturating_duration_since(*at) < FRESH
        {
            return snapshot.clone();
        }
        let servers: Vec<&Server> = config.servers().map(|(_, server)| server).collect();
        let channels: Vec<Channel> = servers.iter().map(|it| self.channel(&mut state, it)).collect();
        let asked = channels.into_iter().map(|channel| ask(channel, clock));
        let answers = join_all(asked).await;
        let now = clock.unix_ms();
        let asked = servers.iter().zip(answers).map(|(server, answer)| {
            let id = server.id.to_string();
            let answer = match answer {
                Ok(answer) => {
                    state.silent.remove(&id);
                    Ok(Box::new(answer))
                }
                Err(why) => Err(Silent { why, since_ms: *state.silent.entry(id.clone()).or_insert(now) }),
            };
            Asked { id, answer }
        });
        let servers: Vec<Asked> = asked.collect();
        state.silent.retain(|id, _| servers.iter().any(|it| it.id == *id));
        let (members, apps, me) = (members.clone(), apps.clone(), self.me.clone());
        let snapshot = Arc::new(Snapshot { taken_ms: now, me, members, apps, servers });
        state.last = Some((clock.now(), snapshot.clone()));
        let expiry = tokio::spawn(expire(self.state.clone()));
        if let Some(before) = state.expiry.replace(expiry) {
            before.abort();
        }
        snapshot
    }

    /// What one server of the file says, asked now; `None`: the file has no such server.
    pub(crate) async fn one(
        &self,
        config: &Config,
        id: &str,
        clock: &dyn Clock,
    ) -> Option<Result<ServerStatus, String>> {
        let (_, server) = config.servers().find(|(_, it)| it.id.as_str() == id)?;
        let channel = self.channel(&mut *self.state.lock().await, server);
        Some(ask(channel, clock).await.map(|it| it.status))
    }

    /// What is made of a snapshot, once.
    pub(crate) async fn record(
        &self,
        snapshot: &Arc<Snapshot>,
        make: impl FnOnce() -> ClusterRecord,
    ) -> Arc<ClusterRecord> {
        let mut state = self.state.lock().await;
        match &state.record {
            Some((of, record)) if Arc::ptr_eq(of, snapshot) => record.clone(),
            _ => {
                let record = Arc::new(make());
                state.record = Some((snapshot.clone(), record.clone()));
                record
            }
        }
    }

    /// Connections to the servers of the file, in its order.
    pub(crate) async fn channels(&self, config: &Config) -> Vec<(String, Channel)> {
        let mut state = self.state.lock().await;
        let servers = config.servers().map(|(_, it)| (it.id.to_string(), self.channel(&mut state, it)));
        servers.collect()
    }

    /// Something was changed: the next look is a new one.
    pub(crate) async fn forget(&self) {
        self.state.lock().await.last = None;
    }

    /// The connection to a server.
    pub(crate) async fn channel_to(&self, server: &Server) -> Channel {
        self.channel(&mut *self.state.lock().await, server)
    }

    fn channel(&self, state: &mut State, server: &Server) -> Channel {
        let (id, address) = (server.id.to_string(), server.cluster_address());
        // Of a former configuration.
        state.channels.retain(|(known, at), _| *known != id || *at == address);
        let dial = || channel(&self.me, &self.credentials, &server.id, &address);
        state.channels.entry((id, address.clone())).or_insert_with(dial).clone()
    }

    /// Fills in since when problems have been there, where nothing else says it: since they were seen first.
    pub(crate) fn remember(&self, problems: &mut [Problem], now_ms: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|key, _| problems.iter().any(|it| it.key == *key));
        for problem in problems {
            let first = *seen.entry(problem.key.clone()).or_insert(now_ms);
            problem.set_since(first);
        }
    }
}

async fn ask(channel: Channel, clock: &dyn Clock) -> Result<Answer, String> {
    let begun = clock.unix_ms();
    let mut client = StatusClient::new(channel);
    match timeout(WAIT, client.get(GetStatus {})).await {
        Ok(Ok(answer)) => {
            let status = answer.into_inner();
            // Halfway between the question and the answer.
            let here = begun.midpoint(clock.unix_ms());
            let clock_ahead_ms =
                i64::try_from(status.now_ms).unwrap_or_default() - i64::try_from(here).unwrap_or_default();
            Ok(Answer { status, clock_ahead_ms })
        }
        Ok(Err(refused)) if refused.code() == tonic::Code::Unimplemented => {
            Err("its version does not know this question".to_owned())
        }
        Ok(Err(refused)) => Err(refused.message().chars().take(WHY_MAX).collect()),
        Err(_) => Err(format!("no answer within {WAIT:?}")),
    }
}

async fn expire(state: Arc<tokio::sync::Mutex<State>>) {
    tokio::time::sleep(IDLE).await;
    let mut state = state.lock().await;
    state.channels.clear();
    (state.last, state.record) = (None, None);
}
