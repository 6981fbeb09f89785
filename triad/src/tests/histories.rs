//! Histories of sessions that several clients save, load, claim, rename and remove at once while servers and network fail: each must be
//! linearizable. docs/hub.md says how to run it for longer.

use super::{
    harness::{LIMIT, SimDisks, TestHub, save, session_key, until},
    linearizable::{Operation, check},
};
use proto::hub::v1::{
    ClaimSession, LoadSession, RemoveSession, RenameSession, SessionRecord, SessionWrite, WriteSessions,
    session_outcome::Outcome, session_write::Write, sessions_client::SessionsClient,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// Clients at once that go where the leader is.
const CLIENTS: usize = 4;
/// Clients at once that stay at one server, whoever leads, and read: a deposed leader is asked all the time.
const READERS: usize = 3;
/// Sessions at once; one that was removed is followed by another.
const SESSIONS: usize = 3;
/// A client waits so long for an answer before it asks another server.
const TRY: Duration = Duration::from_millis(250);
/// A client asks so often.
const TRIES: usize = 12;
/// How long a fault lasts at most: longer than an election takes.
const FAULT: Duration = Duration::from_millis(1600);
/// How long those last that are over by themselves.
const SHORT: Duration = Duration::from_millis(500);

/// What a client asks of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Save {
        owner: usize,
        base: u64,
        id: u64,
    },
    Load,
    Claim,
    Remove,
    /// To an id of which nobody else hears.
    Rename {
        owner: usize,
        base: u64,
        id: u64,
    },
}

impl Input {
    /// Whether it may have changed something though nobody was told.
    fn changes(&self) -> bool {
        matches!(self, Self::Save { .. } | Self::Remove | Self::Rename { .. })
    }
}

/// What it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Version(u64),
    /// The hub's record: its version and the save that made it.
    Found(u64, u64),
    Conflict(u64, u64),
    Missing,
}

/// What `session.proto` promises of one session, for a time in which nothing expires and no tombstone is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Model {
    version: u64,
    /// The save that made the version; `None` when there is no session.
    saved: Option<u64>,
    /// It is not created again.
    removed: bool,
    /// The rename that ended it, and the version that it made.
    renamed: Option<(u64, u64)>,
    /// Owner, save and version of each owner's last save, the oldest first.
    saves: Vec<(usize, u64, u64)>,
}

impl Model {
    fn apply(&self, input: &Input) -> (Self, Output) {
        let mut next = self.clone();
        let output = match *input {
            Input::Load | Input::Claim => {
                self.saved.map_or(Output::Missing, |it| Output::Found(self.version, it))
            }
            Input::Remove => {
                next.removed = true;
                next.saves.clear();
                next.saved.take().map_or(Output::Missing, |_| Output::Version(0))
            }
            Input::Save { owner, base, id } => next.save(owner, base, id),
            Input::Rename { base, id, .. } => next.rename(base, id),
        };
        (next, output)
    }

    fn rename(&mut self, base: u64, id: u64) -> Output {
        if let Some((_, version)) = self.renamed.filter(|it| it.0 == id) {
            return Output::Version(version);
        }
        let Some(saved) = self.saved else { return Output::Missing };
        if base != self.version {
            return Output::Conflict(self.version, saved);
        }
        self.renamed = Some((id, self.version + 1));
        (self.saved, self.removed) = (None, true);
        self.saves.clear();
        Output::Version(self.version + 1)
    }

    fn save(&mut self, owner: usize, base: u64, id: u64) -> Output {
        match self.saved {
            None if base > 0 || self.removed => return Output::Missing,
            None => {}
            Some(saved) => {
                if let Some(before) = self.saves.iter().find(|it| it.1 == id) {
                    return Output::Version(before.2);
                }
                if base != self.version {
                    return Output::Conflict(self.version, saved);
                }
            }
        }
        self.version += 1;
        self.saved = Some(id);
        self.saves.retain(|it| it.0 != owner);
        self.saves.push((owner, id, self.version));
        if self.saves.len() > 8 {
            self.saves.remove(0);
        }
        Output::Version(self.version)
    }
}

type Histories = HashMap<String, Vec<Operation<Input, Output>>>;

/// What all clients write down.
#[derive(Debug, Clone)]
struct Book {
    start: Instant,
    round: u64,
    histories: Arc<Mutex<Histories>>,
    /// By place: how many sessions were removed.
    removed: Arc<Mutex<[u64; SESSIONS]>>,
}

impl Book {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }

    /// The session that is used now at a place.
    fn session(&self, place: usize) -> (u64, String) {
        let removed = self.removed.lock().unwrap()[place];
        (removed, format!("r{}-s{place}-{removed}", self.round))
    }

    fn add(&self, session: &str, operation: Operation<Input, Output>) {
        self.histories.lock().unwrap().entry(session.to_owned()).or_default().push(operation);
    }
}

struct Client {
    me: usize,
    servers: Vec<SessionsClient<Channel>>,
    at: usize,
    /// Another one after each save whose outcome is open, as `session.proto` wants it.
    owner: usize,
    saves: u64,
    /// By session: the version that was seen last.
    seen: HashMap<String, u64>,
    rng: StdRng,
    book: Book,
}

impl Client {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let place = self.rng.random_range(0..SESSIONS);
            let (removed, session) = self.book.session(place);
            let input = if self.me < CLIENTS { self.choose(&session) } else { Input::Load };
            let ends = matches!(input, Input::Rename { .. });
            match self.ask(&session, input).await {
                Some(Output::Version(_)) if ends => self.book.removed.lock().unwrap()[place] = removed + 1,
                Some(
                    Output::Version(version @ 1..) | Output::Found(version, _) | Output::Conflict(version, _),
                ) => {
                    self.seen.insert(session, version);
                }
                // It was removed.
                Some(Output::Version(0)) => self.book.removed.lock().unwrap()[place] = removed + 1,
                Some(Output::Missing) if matches!(input, Input::Save { .. }) => {
                    self.book.removed.lock().unwrap()[place] = removed + 1;
                }
                Some(Output::Missing) | None => {}
            }
            let pause = Duration::from_micros(self.rng.random_range(1000..10_000));
            tokio::time::sleep(pause).await;
        }
    }

    fn choose(&mut self, session: &str) -> Input {
        let (owner, base) = (self.owner, self.seen.get(session).copied().unwrap_or(0));
        let choice = self.rng.random_range(0..100);
        self.saves += 1;
        let id = (self.owner as u64) << 32 | self.saves;
        match choice {
            0..45 => Input::Save { owner, base, id },
            45..90 => Input::Load,
            90..98 => Input::Claim,
            98 => Input::Rename { owner, base, id },
            _ => Input::Remove,
        }
    }

    /// Asks one server after the other until one answers, and writes it all down. An answer is that to the last try; the tries
    /// before it may have been carried out as well, if they were writes.
    async fn ask(&mut self, session: &str, input: Input) -> Option<Output> {
        let first = self.book.now();
        let write = |called, answered| Operation { caller: self.me, called, input, answered };
        for tried in 0..TRIES {
            let called = self.book.now();
            let server = self.servers[self.at].clone();
            let answer = tokio::time::timeout(TRY, call(server, session, input, self.owner)).await;
            if let Ok(Ok(output)) = answer {
                if tried > 0 && input.changes() {
                    self.book.add(session, write(first, None));
                }
                self.book.add(session, write(called, Some((self.book.now(), output))));
                return Some(output);
            }
            if self.me >= CLIENTS {
                return None;
            }
            self.at = (self.at + 1) % self.servers.len();
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        if input.changes() {
            self.book.add(session, write(first, None));
        }
        self.owner += CLIENTS + READERS;
        None
    }
}

async fn call(
    mut server: SessionsClient<Channel>,
    session: &str,
    input: Input,
    owner: usize,
) -> Result<Output, Status> {
    let key = Some(session_key(session));
    let write = match input {
        Input::Load => {
            let loaded = server.load(LoadSession { key }).await?.into_inner().session;
            return Ok(loaded.map_or(Output::Missing, |it| found(&it)));
        }
        Input::Save { owner, base, id } => {
            let Write::Save(save) = save(session, base, id, &id.to_string()) else { unreachable!() };
            Write::Save(proto::hub::v1::SaveSession { owner: format!("app-{owner}"), ..save })
        }
        Input::Claim => Write::Claim(ClaimSession { key, owner: format!("app-{owner}") }),
        Input::Remove => Write::Remove(RemoveSession { key }),
        Input::Rename { owner, base, id } => Write::Rename(RenameSession {
            key,
            to: format!("{session}-renamed-{id}"),
            base_version: base,
            save_id: id,
            owner: format!("app-{owner}"),
            timeout_ms: 0,
        }),
    };
    let write = WriteSessions { writes: vec![SessionWrite { write: Some(write) }] };
    let outcomes = server.write(write).await?.into_inner().outcomes;
    Ok(match outcomes.into_iter().next().unwrap().outcome.unwrap() {
        Outcome::Version(version) => Output::Version(version),
        Outcome::Missing(_) => Output::Missing,
        Outcome::Claimed(it) => found(&it),
        Outcome::Conflict(it) => {
            found(&it);
            Output::Conflict(it.version, it.save_id)
        }
        Outcome::NoRoom(_) => panic!("there is memory for {session}"),
    })
}

fn found(record: &SessionRecord) -> Output {
    assert_eq!(super::harness::value(record), record.save_id.to_string(), "half a save: {record:?}");
    Output::Found(record.version, record.save_id)
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The leader's machine loses power, and with it what was not synced.
    LeaderLosesPower,
    AllLosePower,
    /// A follower is away while the leader purges its log: it comes back to a snapshot.
    FollowerMissesALot,
    /// All connections of the leader break, and no new one comes about.
    LeaderCut,
    /// What the leader and the others say to each other comes late, all of it at once; clients reach the leader all the time.
    LeaderHeld,
    LeaderDeaf,
    LeaderMute,
    /// The leader's process does nothing for a while, wherever it is.
    LeaderPaused,
    HandOver,
    SlowNetwork,
    /// While the leader is paused the others go on; then one of them dies and the other loses its disk.
    StaleMeetsWiped,
}
use Fault::{
    AllLosePower, FollowerMissesALot, HandOver, LeaderCut, LeaderDeaf, LeaderHeld, LeaderLosesPower,
    LeaderMute, LeaderPaused, SlowNetwork, StaleMeetsWiped,
};

pub(super) const ALL: [Fault; 10] = [
    LeaderLosesPower,
    AllLosePower,
    FollowerMissesALot,
    LeaderCut,
    LeaderHeld,
    LeaderDeaf,
    LeaderMute,
    LeaderPaused,
    HandOver,
    SlowNetwork,
];

pub(super) async fn inflict(hub: &mut TestHub, fault: Fault, rng: &mut StdRng) {
    let leader = hub.leader().await;
    let other = (leader + rng.random_range(1..3)) % 3;
    let lasts =
        matches!(fault, LeaderCut | LeaderHeld | LeaderDeaf | LeaderMute | LeaderPaused | StaleMeetsWiped);
    let length = if lasts { FAULT } else { SHORT }.mul_f64(rng.random_range(0.8..1.0));
    match fault {
        LeaderLosesPower => {
            hub.crash(leader, rng.random()).await;
            tokio::time::sleep(length / 2).await;
            hub.start(leader).await;
        }
        AllLosePower => {
            hub.crash_all(rng.random()).await;
            for at in 0..3 {
                hub.start(at).await;
            }
            // Who has just started elects nobody for a while.
            hub.leader().await;
        }
        FollowerMissesALot => {
            hub.kill(other).await;
            tokio::time::sleep(length / 2).await;
            hub.triad(leader).hub.node().snapshot_and_purge().await;
            hub.start(other).await;
        }
        LeaderCut => hub.part(Some(leader)),
        LeaderHeld => hub.hold(Some(leader), Some(leader)),
        LeaderDeaf => hub.hold(Some(leader), None),
        LeaderMute => hub.hold(None, Some(leader)),
        LeaderPaused => hub.pause(leader, length),
        HandOver => hub.triad(leader).hub.node().transfer(other as u64).await,
        SlowNetwork => hub.network.change(|it| it.delay = Duration::from_millis(30)),
        StaleMeetsWiped => stale_meets_wiped(hub, leader, other, length).await,
    }
    tokio::time::sleep(length).await;
    hub.network.change(|it| *it = super::network::Links::default());
    // Some writes of whoever leads now, before the next fault.
    let settled = rng.random_range(150..300);
    tokio::time::sleep(Duration::from_millis(settled)).await;
}

async fn stale_meets_wiped(hub: &mut TestHub, stale: usize, wiped: usize, length: Duration) {
    let third = 3 - stale - wiped;
    hub.pause(stale, length);
    tokio::time::sleep(length * 4 / 5).await;
    hub.crash(third, 0).await;
    hub.crash(wiped, 0).await;
    hub.sims[wiped] = SimDisks::default();
    hub.start(wiped).await;
    tokio::time::sleep(length).await;
    hub.start(third).await;
    hub.ready(wiped).await;
}

/// Runs clients beside `faults`, then checks what they saw and that all servers have the same.
async fn round(hub: &mut TestHub, seed: u64, faults: &[Fault]) {
    let mut rng = StdRng::seed_from_u64(seed);
    let book =
        Book { start: Instant::now(), round: seed, histories: Arc::default(), removed: Arc::default() };
    let stop = CancellationToken::new();
    let client = |me: usize, rng: &mut StdRng| Client {
        me,
        servers: (0..3).map(|at| hub.sessions(at)).collect(),
        at: me % 3,
        owner: me,
        saves: 0,
        seen: HashMap::new(),
        rng: StdRng::seed_from_u64(rng.next_u64()),
        book: book.clone(),
    };
    let clients: Vec<Client> = (0..CLIENTS + READERS).map(|me| client(me, &mut rng)).collect();
    let running: Vec<_> = clients.into_iter().map(|it| tokio::spawn(it.run(stop.clone()))).collect();
    for &fault in faults {
        inflict(hub, fault, &mut rng).await;
    }
    stop.cancel();
    for client in running {
        tokio::time::timeout(LIMIT, client).await.expect("a client ends").unwrap();
    }
    let sessions: Vec<String> = book.histories.lock().unwrap().keys().cloned().collect();
    for session in sessions {
        let called = book.now();
        let output = hub.load(&session).await.map_or(Output::Missing, |it| found(&it));
        let answered = Some((book.now(), output));
        book.add(&session, Operation { caller: CLIENTS + READERS, called, input: Input::Load, answered });
    }
    agree(hub, seed).await;
    let histories = std::mem::take(&mut *book.histories.lock().unwrap());
    let mut answered = 0;
    for (session, history) in histories {
        answered += history.iter().filter(|it| it.answered.is_some()).count();
        if let Err(text) = check(&Model::default(), history, Model::apply) {
            panic!("session {session}, seed {seed}, faults {faults:?}: {text}");
        }
    }
    assert!(answered > 50 * faults.len(), "{answered} answers are too few to say anything");
}

/// Waits until all servers have applied the same, and compares what they have.
pub(super) async fn agree(hub: &TestHub, seed: u64) {
    let last = hub.triad(hub.leader().await).status().applied;
    let reached = |at: usize| hub.triad(at).status().applied >= last;
    until("all servers have applied all", || (0..3).all(reached)).await;
    let states = || [0, 1, 2].map(|at| hub.triad(at).hub.node().view().read().clone());
    let mut all = states();
    // A command of the leader's own may come in between.
    for _ in 0..100 {
        if all.iter().all(|it| it.last == all[0].last) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        all = states();
    }
    for it in &all[1..] {
        assert_eq!(it.last, all[0].last);
        assert!(it.state == all[0].state, "seed {seed}: the servers have applied the same, and differ");
    }
}

/// Three servers on disks that lose what was not synced.
pub(super) async fn hub() -> TestHub {
    let mut hub = TestHub::new(3);
    hub.simulate_disks();
    hub.threads = true;
    hub.start_all().await;
    hub
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_are_linearizable_when_servers_fail() {
    let faults = [LeaderLosesPower, FollowerMissesALot, LeaderPaused];
    round(&mut hub().await, 1, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_are_linearizable_when_the_network_fails() {
    round(&mut hub().await, 2, &[SlowNetwork, LeaderHeld, LeaderMute]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_are_linearizable_when_a_stale_leader_meets_a_server_without_data() {
    round(&mut hub().await, 3, &[StaleMeetsWiped]).await;
}

/// The first seed lets all lose power with writes under way: a leader that came back in its old term once answered reads without them.
///
/// `COPAL_HISTORIES_SECONDS` and `COPAL_HISTORIES_SEED` make it longer and another one.
#[tokio::test(flavor = "multi_thread")]
async fn histories_are_linearizable_whatever_fails() {
    let number = |name: &str| std::env::var(name).ok().map(|it| it.parse::<u64>().unwrap());
    let length = Duration::from_secs(number("COPAL_HISTORIES_SECONDS").unwrap_or(0));
    let first = number("COPAL_HISTORIES_SEED").unwrap_or(118);
    let mut hub = hub().await;
    let start = Instant::now();
    for seed in first.. {
        let mut rng = StdRng::seed_from_u64(seed);
        let faults: Vec<Fault> = (0..2).map(|_| ALL[rng.random_range(0..ALL.len())]).collect();
        round(&mut hub, seed, &faults).await;
        if start.elapsed() >= length {
            break;
        }
    }
}

#[test]
fn the_model_does_as_the_protocol_says() {
    let save = |owner, base, id| Input::Save { owner, base, id };
    let mut model = Model::default();
    for (input, expected) in [
        (Input::Load, Output::Missing),
        (save(0, 3, 9), Output::Missing),
        (save(0, 0, 10), Output::Version(1)),
        (save(1, 1, 11), Output::Version(2)),
        (save(0, 0, 10), Output::Version(1)),
        (save(2, 1, 12), Output::Conflict(2, 11)),
        (Input::Claim, Output::Found(2, 11)),
        (Input::Remove, Output::Version(0)),
        (Input::Remove, Output::Missing),
        (save(0, 0, 13), Output::Missing),
    ] {
        let (next, output) = model.apply(&input);
        assert_eq!(output, expected, "{input:?} on {model:?}");
        model = next;
    }
}
