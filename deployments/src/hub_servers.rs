//! The hub's servers, each asked for its own objects: what is stored is safe when a majority has it on disk.

use crate::{disk_full, pack_pipe, service};
use bytes::Bytes;
use cluster_port::Credentials;
use common::id::ServerId;
use futures_util::{Stream, StreamExt, stream::FuturesUnordered};
use proto::hub::v1::{
    AskRoom, FetchObjects, ObjectIds, ObjectVerified, PackChunk, PackStored, VerifyObject,
    objects_client::ObjectsClient,
};
use repository::{ObjectId, Repository};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Response, Status, transport::Channel};

/// A question to one server.
const ASK: Duration = Duration::from_secs(10);

/// A pack that makes no progress is given up.
const STALLED: Duration = Duration::from_secs(30);

/// What follows a pack's last byte: verifying and syncing it.
const SETTLE: Duration = Duration::from_secs(300);

/// A majority has spoken: the others are waited for so long.
const OTHERS: Duration = Duration::from_millis(300);

/// A majority has taken a part of a pack: the others are waited for so long.
const LAG: Duration = Duration::from_secs(2);

/// What has to stay free on a hub server's disk when something was stored, for its log and its other files.
const MARGIN: u64 = 64 << 20;

/// Ids in one question.
const IDS: usize = 100_000;

/// Chunks that wait for a slow server.
const UNDER_WAY: usize = 16;

/// Why objects are not safe, or not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Too few servers of the hub answer.
    #[error("{have} of {of} hub servers have it, a majority is needed: {causes}")]
    NoMajority {
        /// How many said yes.
        have: usize,
        /// How many there are.
        of: usize,
        /// What the others said.
        causes: String,
    },
    /// Too few servers of the hub have room for it. Nothing of it is kept.
    #[error("disk full on {servers}; {have} of {of} hub servers can keep it, a majority is needed")]
    DiskFull {
        /// Which they are, and what each says.
        servers: String,
        /// How many have it, or room for it.
        have: usize,
        /// How many there are.
        of: usize,
    },
    /// What was sent is wrong: no server will take it.
    #[error("{0}")]
    Refused(String),
    /// No server of the hub could hand it out.
    #[error("no hub server hands out {id}: {causes}")]
    Nowhere {
        /// What was asked for.
        id: ObjectId,
        /// What each said.
        causes: String,
    },
}

/// A commit of which a majority has everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCommit {
    /// The tree of its files.
    pub tree: ObjectId,
    /// The first line of its message, up to 500 characters.
    pub subject: String,
}

/// The hub's servers as one; clones share the connections.
#[derive(Debug, Clone)]
pub struct HubServers {
    pub(crate) servers: Arc<[(ServerId, ObjectsClient<Channel>)]>,
    /// Which of them is asked first for what one alone has to hand out.
    pub(crate) first: usize,
}

impl HubServers {
    /// `servers` with the `host:port` of their cluster ports; connections are made when they are first used.
    pub fn new(me: &ServerId, credentials: &Credentials, servers: &[(ServerId, String)]) -> Self {
        let client = |(id, address): &(ServerId, String)| {
            (id.clone(), ObjectsClient::new(triad_client::channel(me, credentials, id, address)))
        };
        Self {
            servers: servers.iter().map(client).collect(),
            first: first(me, servers.iter().map(|(id, _)| id)),
        }
    }

    /// All of them, as they are asked in turn.
    fn in_turn(&self) -> impl Iterator<Item = &(ServerId, ObjectsClient<Channel>)> {
        self.servers.iter().cycle().skip(self.first).take(self.servers.len())
    }

    /// Asks all servers the same; the answers of those who have any, if they are a majority. The others are not waited for then for
    /// longer than a moment.
    async fn ask_all<T, F>(
        &self,
        within: Duration,
        ask: impl Fn(ObjectsClient<Channel>) -> F,
    ) -> Result<Vec<T>, PublishError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let asked = self.servers.iter().map(|(id, client)| {
            let asked = tokio::time::timeout(within, ask(client.clone()));
            let late = move |_| Err(Status::deadline_exceeded(format!("no answer within {within:?}")));
            async move { (id.clone(), asked.await.unwrap_or_else(late)) }
        });
        gather(asked.collect(), self.servers.len(), true).await
    }

    /// Which of these some server that answers lacks; of trees also those below which something is lacking there.
    ///
    /// # Errors
    /// [`PublishError::NoMajority`].
    pub async fn missing(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>, PublishError> {
        let mut missing = HashSet::new();
        for ids in ids.chunks(IDS) {
            let question = service::bytes(ids);
            let answers = self.ask_all(ASK, |mut client| {
                let question = ObjectIds { ids: question.clone() };
                async move { Ok(client.missing(question).await?.into_inner().ids) }
            });
            for answer in answers.await? {
                missing.extend(answer.chunks_exact(20).flat_map(ObjectId::from_bytes));
            }
        }
        Ok(ids.iter().copied().filter(|id| missing.contains(id)).collect())
    }

    /// Whether a majority has room for `bytes` more, before they are sent. Others may take it meanwhile: storing says so then.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn room(&self, bytes: u64) -> Result<(), PublishError> {
        let needed = bytes.saturating_add(MARGIN);
        let answers = self.ask_all(ASK, |mut client| async move {
            let free = client.room(AskRoom {}).await?.into_inner().free_bytes;
            if free < needed { Err(disk_full::too_little(free, needed)) } else { Ok(()) }
        });
        answers.await.map(drop)
    }

    /// Stores a pack, as its chunks come; returns when it is on disk on a majority. A server that is slow or gone holds nobody up for
    /// long.
    ///
    /// # Errors
    /// [`PublishError`]; what the chunks fail with breaks it off.
    pub async fn store(
        &self,
        mut chunks: impl Stream<Item = Result<Bytes, String>> + Unpin + Send,
    ) -> Result<(), PublishError> {
        let mut storing: Vec<_> =
            self.servers.iter().map(|(id, client)| Storing::begin(id, client)).collect();
        let mut whole = true;
        while let Some(chunk) = chunks.next().await {
            let data =
                chunk.map_err(|cause| PublishError::Refused(format!("the pack broke off: {cause}")))?;
            hand_out(&data, &mut storing).await;
            if storing.iter().filter(|it| it.pieces.is_some()).count() <= self.servers.len() / 2 {
                whole = false;
                break;
            }
        }
        let ended: FuturesUnordered<_> = storing.into_iter().map(Storing::end).collect();
        gather(ended, self.servers.len(), whole).await.map(drop)
    }

    /// Whether a majority has everything that `id` leads to, on disk. `None`: it is no commit.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn verify(
        &self,
        id: ObjectId,
        known: &[ObjectId],
    ) -> Result<Option<VerifiedCommit>, PublishError> {
        let (id, known) = (service::bytes(&[id]), service::bytes(known));
        let verified = self.ask_all(SETTLE, |mut client| {
            let question = VerifyObject { id: id.clone(), known: known.clone() };
            async move { Ok(client.verify(question).await?.into_inner()) }
        });
        let commit = |it: ObjectVerified| {
            Some(VerifiedCommit { tree: ObjectId::from_bytes(&it.tree).ok()?, subject: it.subject })
        };
        Ok(verified.await?.into_iter().find_map(commit))
    }

    /// Brings everything that `id` leads to into `repository`, from the first server in turn that has it, and verifies it. What was verified
    /// since this server's start is not looked at again.
    ///
    /// # Errors
    /// [`PublishError::Nowhere`].
    pub async fn fetch(
        &self,
        repository: &Repository,
        id: ObjectId,
        have: &[ObjectId],
    ) -> Result<(), PublishError> {
        if here(repository, id).await.is_ok() {
            return Ok(());
        }
        let mut causes = Vec::new();
        for (server, client) in self.in_turn() {
            // What is said to be here need not be whole: the second time everything is asked for.
            for have in [have, &[]] {
                let fetched = fetch_from(client.clone(), repository, &[id], have, &[]).await;
                let came = fetched.is_ok();
                let fetched = match fetched {
                    Ok(()) => here(repository, id).await,
                    Err(cause) => Err(cause),
                };
                match fetched {
                    Ok(()) => return Ok(()),
                    Err(cause) => causes.push(format!("{server}: {cause}")),
                }
                if have.is_empty() || !came {
                    break;
                }
            }
        }
        Err(PublishError::Nowhere { id, causes: causes.join(", ") })
    }
}

/// Where the server `me` begins to ask. A hub server has looked at its own objects before, so it is the last of its turn. The others are
/// spread: one hub server would have to hand everything out to all of them at once.
fn first<'a>(me: &ServerId, mut servers: impl ExactSizeIterator<Item = &'a ServerId>) -> usize {
    let count = servers.len().max(1);
    let begin = servers.position(|it| it == me).map(|own| own + 1);
    begin.unwrap_or_else(|| {
        let mut hasher = DefaultHasher::new();
        me.as_str().hash(&mut hasher);
        usize::try_from(hasher.finish() % count as u64).unwrap_or_default()
    }) % count
}

/// A pack on its way to one server; dropped before its end, it is broken off there.
struct Storing {
    server: ServerId,
    /// `None`: the server takes no more of it.
    pieces: Option<mpsc::Sender<PackChunk>>,
    slow: bool,
    stored: AbortOnDropHandle<Result<Response<PackStored>, Status>>,
}

impl Storing {
    fn begin(server: &ServerId, client: &ObjectsClient<Channel>) -> Self {
        let (sender, pieces) = mpsc::channel(UNDER_WAY);
        let mut client = client.clone();
        let stored = tokio::spawn(async move { client.store(ReceiverStream::new(pieces)).await });
        let stored = AbortOnDropHandle::new(stored);
        Self { server: server.clone(), pieces: Some(sender), slow: false, stored }
    }

    /// What came of it. The pack is whole: whether or not anybody waits for the answer, it goes on.
    async fn end(self) -> (ServerId, Result<(), Status>) {
        let Self { server, pieces, slow, stored } = self;
        if slow {
            let slow = format!("it took nothing for {LAG:?} while others did");
            return (server, Err(Status::deadline_exceeded(slow)));
        }
        drop(pieces);
        let stored = match tokio::time::timeout(SETTLE, stored.detach()).await {
            Ok(Ok(stored)) => stored.map(drop),
            Ok(Err(cause)) => Err(Status::internal(format!("the task has ended: {cause}"))),
            Err(_) => Err(Status::deadline_exceeded(format!("not stored within {SETTLE:?}"))),
        };
        (server, stored)
    }
}

/// Gives all servers a part of a pack. Whoever does not take it within a moment after a majority has, gets no more.
async fn hand_out(data: &Bytes, storing: &mut [Storing]) {
    let majority = storing.len() / 2 + 1;
    let mut took = HashMap::new();
    let open = storing.iter().enumerate().filter_map(|(at, it)| Some((at, it.pieces.as_ref()?)));
    let mut sending: FuturesUnordered<_> = open
        .map(|(at, pieces)| async move { (at, pieces.send(PackChunk { data: data.clone() }).await.is_ok()) })
        .collect();
    let left = |took: &HashMap<_, _>| if took.len() < majority { STALLED } else { LAG };
    while let Ok(Some((at, taken))) = tokio::time::timeout(left(&took), sending.next()).await {
        took.insert(at, taken);
    }
    drop(sending);
    for (at, it) in storing.iter_mut().enumerate().filter(|(_, it)| it.pieces.is_some()) {
        it.slow = !took.contains_key(&at);
        if took.get(&at) != Some(&true) {
            it.pieces = None;
        }
    }
}

/// Waits until a majority has said yes and the others have had a moment, or all have spoken. A majority that is lacking because one
/// says what is wrong with the question is that one's word, if it has got the `whole` of it.
async fn gather<T>(
    mut asked: FuturesUnordered<impl Future<Output = (ServerId, Result<T, Status>)>>,
    of: usize,
    whole: bool,
) -> Result<Vec<T>, PublishError> {
    let (mut answers, mut refused, mut causes) = (Vec::new(), None, Vec::new());
    loop {
        let enough = answers.len() > of / 2;
        let next = match enough {
            true => tokio::time::timeout(OTHERS, asked.next()).await.unwrap_or_default(),
            false => asked.next().await,
        };
        let Some((id, answer)) = next else { break };
        match answer {
            Ok(answer) => answers.push(answer),
            Err(status) => {
                if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) {
                    refused.get_or_insert_with(|| status.message().to_owned());
                }
                causes.push((id, status));
            }
        }
    }
    match refused.filter(|_| whole) {
        _ if answers.len() > of / 2 => Ok(answers),
        Some(refused) => Err(PublishError::Refused(refused)),
        None => Err(too_few(answers.len(), of, &causes)),
    }
}

/// Why there is no majority: a full disk is what somebody can do something about.
fn too_few(have: usize, of: usize, causes: &[(ServerId, Status)]) -> PublishError {
    let list = |of: &dyn Fn(&Status) -> bool| {
        let told = causes.iter().filter(|(_, status)| of(status));
        told.map(|(id, status)| format!("{id}: {}", status.message())).collect::<Vec<_>>().join(", ")
    };
    let servers = list(&disk_full::is);
    if servers.is_empty() {
        return PublishError::NoMajority { have, of, causes: list(&|_| true) };
    }
    PublishError::DiskFull { servers, have, of }
}

impl HubServers {
    /// Replaces what is damaged in `repository` by what another server has.
    ///
    /// # Errors
    /// [`PublishError::Nowhere`]: no server has good copies of all of it.
    pub async fn heal(&self, repository: &Repository, damaged: &[ObjectId]) -> Result<(), PublishError> {
        let mut causes = Vec::new();
        for (server, client) in self.in_turn() {
            match fetch_from(client.clone(), repository, damaged, &[], damaged).await {
                Ok(()) => return Ok(()),
                Err(cause) => causes.push(format!("{server}: {cause}")),
            }
        }
        let Some(id) = damaged.first().copied() else { return Ok(()) };
        Err(PublishError::Nowhere { id, causes: causes.join(", ") })
    }
}

/// Whether everything that `id` leads to is here.
async fn here(repository: &Repository, id: ObjectId) -> Result<(), String> {
    let repository = repository.clone();
    let verified = tokio::task::spawn_blocking(move || repository.verify(id, &[])).await;
    verified.map_err(|cause| cause.to_string())?.map(drop).map_err(|cause| cause.to_string())
}

/// Asks a server for what `roots` lead to and stores it, in place of what is `damaged` if that is not empty.
async fn fetch_from(
    mut client: ObjectsClient<Channel>,
    repository: &Repository,
    roots: &[ObjectId],
    have: &[ObjectId],
    damaged: &[ObjectId],
) -> Result<(), String> {
    let question = FetchObjects { roots: service::bytes(roots), have: service::bytes(have) };
    let asked = tokio::time::timeout(ASK, client.fetch(question)).await;
    let asked = asked.map_err(|_| format!("no answer within {ASK:?}"))?;
    let mut chunks = asked.map_err(|status| status.message().to_owned())?.into_inner();
    let (sender, pack) = pack_pipe::reader();
    let repository = repository.clone();
    let damaged = damaged.to_vec();
    let stored = tokio::task::spawn_blocking(move || match damaged.is_empty() {
        true => repository.store_pack(pack).map(drop),
        false => repository.heal(&damaged, pack),
    });
    loop {
        let chunk = match tokio::time::timeout(STALLED, chunks.message()).await {
            Ok(Ok(Some(chunk))) => Ok(chunk.data),
            Ok(Ok(None)) => break,
            Ok(Err(status)) => Err(io::Error::other(status.message().to_owned())),
            Err(_) => Err(io::Error::other(format!("nothing came for {STALLED:?}"))),
        };
        let broken = chunk.is_err();
        if sender.send(chunk).await.is_err() || broken {
            break;
        }
    }
    drop(sender);
    let stored = stored.await.map_err(|cause| cause.to_string())?;
    stored.map_err(|cause| cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use repository::RepositoryError;

    fn full(repository: &Repository) -> Status {
        let path = repository.path().to_owned();
        let cause = io::ErrorKind::StorageFull.into();
        disk_full::status(repository, &RepositoryError::Io { action: "write", path, cause })
    }

    #[test]
    fn each_server_begins_somewhere_and_a_hub_server_with_another() {
        let hub = ["app-a", "app-b", "app-c"].map(ServerId::from);
        let first = |me: &str| first(&ServerId::from(me), hub.iter());
        assert_eq!(["app-a", "app-b", "app-c"].map(first), [1, 2, 0]);
        let mut begun = [0; 3];
        for number in 0..300 {
            let id = format!("app-{number}");
            assert_eq!(first(&id), first(&id));
            begun[first(&id)] += 1;
        }
        assert!(begun.iter().all(|it| (60..140).contains(it)), "{begun:?}");
        assert_eq!(super::first(&hub[0], hub[..1].iter()), 0);
        assert_eq!(super::first(&hub[0], hub[..0].iter()), 0);
    }

    async fn outcome(of: [Result<(), Status>; 3], whole: bool) -> Result<Vec<()>, PublishError> {
        let ids = ["app-a", "app-b", "app-c"].map(ServerId::from);
        let asked = ids.into_iter().zip(of).map(std::future::ready);
        gather(asked.collect(), 3, whole).await
    }

    #[tokio::test]
    async fn a_majority_decides_and_full_disks_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(&folder.path().join("repository.git")).unwrap();
        let cut = || Err(Status::failed_precondition("the pack is cut off"));
        assert!(outcome([Ok(()), Err(full(&repository)), Ok(())], true).await.is_ok());
        // Two are full, and so the third did not get all of it.
        let told = outcome([cut(), Err(full(&repository)), Err(full(&repository))], false).await.unwrap_err();
        assert!(matches!(told, PublishError::DiskFull { have: 0, of: 3, .. }), "{told:?}");
        let text = told.to_string();
        assert!(text.starts_with("disk full on app-") && text.contains(", app-"), "{text}");
        assert!(!text.contains("cut off"), "{text}");
        let away = || Err(Status::unavailable("gone"));
        let none = outcome([Ok(()), away(), away()], true).await.unwrap_err().to_string();
        assert!(none.starts_with("1 of 3 hub servers have it, a majority is needed: app-"), "{none}");
        let wrong = outcome([Ok(()), cut(), cut()], true).await.unwrap_err();
        assert!(matches!(wrong, PublishError::Refused(_)), "{wrong:?}");
    }
}
