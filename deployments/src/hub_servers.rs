//! The hub's servers, each asked for its own objects: what is stored is safe when a majority has it on disk.

use crate::{disk_full, pack_pipe, service};
use bytes::Bytes;
use cluster_port::Credentials;
use common::id::ServerId;
use futures_util::{Stream, StreamExt, future::join_all};
use proto::hub::v1::{
    FetchObjects, ObjectIds, ObjectVerified, PackChunk, PackStored, VerifyObject,
    objects_client::ObjectsClient,
};
use repository::{ObjectId, Repository};
use std::{collections::HashSet, future::Future, io, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, transport::Channel};

/// A question to one server.
const ASK: Duration = Duration::from_secs(10);

/// A pack that makes no progress is given up.
const STALLED: Duration = Duration::from_secs(30);

/// What follows a pack's last byte: verifying and syncing it.
const SETTLE: Duration = Duration::from_secs(300);

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
    #[error("disk full on {servers}; {have} of {of} hub servers have it, a majority is needed")]
    DiskFull {
        /// Which they are, and what each says.
        servers: String,
        /// How many have it.
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
    servers: Arc<[(ServerId, ObjectsClient<Channel>)]>,
}

impl HubServers {
    /// `servers` with the `host:port` of their cluster ports; connections are made when they are first used.
    pub fn new(me: &ServerId, credentials: &Credentials, servers: &[(ServerId, String)]) -> Self {
        let client = |(id, address): &(ServerId, String)| {
            (id.clone(), ObjectsClient::new(triad_client::channel(me, credentials, id, address)))
        };
        Self { servers: servers.iter().map(client).collect() }
    }

    /// Asks all servers the same; the answers of those who have any, if they are a majority.
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
            async move {
                (
                    id,
                    asked.await.unwrap_or_else(|_| {
                        Err(Status::deadline_exceeded(format!("no answer within {within:?}")))
                    }),
                )
            }
        });
        let of = self.servers.len();
        let (mut answers, mut causes) = (Vec::new(), Vec::new());
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(status) => causes.push((id.clone(), status)),
            }
        }
        if answers.len() > of / 2 {
            return Ok(answers);
        }
        let refused = |(_, status): &&(ServerId, Status)| {
            matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition)
        };
        if let Some((_, status)) = causes.iter().find(refused) {
            return Err(PublishError::Refused(status.message().to_owned()));
        }
        Err(too_few(answers.len(), of, &causes))
    }

    /// Which of these some server that answers lacks.
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

    /// Stores a pack, as its chunks come; returns when it is on disk on a majority. A server that is slow or gone holds nobody up for
    /// long.
    ///
    /// # Errors
    /// [`PublishError`]; what the chunks fail with breaks it off.
    pub async fn store(
        &self,
        mut chunks: impl Stream<Item = Result<Bytes, String>> + Unpin + Send,
    ) -> Result<(), PublishError> {
        let (mut senders, mut storing) = (Vec::new(), Vec::new());
        for (id, client) in self.servers.iter() {
            let (sender, pieces) = mpsc::channel::<PackChunk>(UNDER_WAY);
            let mut client = client.clone();
            senders.push(Some(sender));
            storing.push((
                id.clone(),
                tokio::spawn(async move { client.store(ReceiverStream::new(pieces)).await }),
            ));
        }
        let (mut broken, mut whole) = (None, true);
        while let Some(chunk) = chunks.next().await {
            let data = match chunk {
                Ok(data) => data,
                Err(cause) => {
                    broken = Some(PublishError::Refused(format!("the pack broke off: {cause}")));
                    break;
                }
            };
            let sent = senders.iter_mut().map(|sender| {
                let data = data.clone();
                async move {
                    let Some(open) = sender else { return };
                    let sent = tokio::time::timeout(STALLED, open.send(PackChunk { data })).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        *sender = None;
                    }
                }
            });
            join_all(sent).await;
            if senders.iter().filter(|it| it.is_some()).count() <= self.servers.len() / 2 {
                whole = false;
                break;
            }
        }
        drop(senders);
        let ended = ends(storing).await;
        match broken {
            Some(broken) => Err(broken),
            None => outcome(ended, self.servers.len(), whole),
        }
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

    /// Brings everything that `id` leads to into `repository`, from the first server that has it, and verifies it.
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
        for (server, client) in self.servers.iter() {
            // What is said to be here need not be whole: the second time everything is asked for.
            for have in [have, &[]] {
                let fetched = fetch_from(client.clone(), repository, &[id], have, &[]).await;
                let fetched = match fetched {
                    Ok(()) => here(repository, id).await,
                    Err(cause) => Err(cause),
                };
                match fetched {
                    Ok(()) => return Ok(()),
                    Err(cause) => causes.push(format!("{server}: {cause}")),
                }
                if have.is_empty() {
                    break;
                }
            }
        }
        Err(PublishError::Nowhere { id, causes: causes.join(", ") })
    }
}

type Storing = Vec<(ServerId, JoinHandle<Result<Response<PackStored>, Status>>)>;

/// What came of each server's storing.
async fn ends(storing: Storing) -> Vec<(ServerId, Result<(), Status>)> {
    let ended = storing.into_iter().map(|(id, task)| async move {
        let stored = match tokio::time::timeout(SETTLE, task).await {
            Ok(Ok(stored)) => stored.map(drop),
            Ok(Err(_)) => Err(Status::internal("the task has ended")),
            Err(_) => Err(Status::deadline_exceeded(format!("not stored within {SETTLE:?}"))),
        };
        (id, stored)
    });
    join_all(ended).await
}

/// Whether a majority has stored it. One that says what is wrong with it speaks for all, if it has got the `whole` of it.
fn outcome(ended: Vec<(ServerId, Result<(), Status>)>, of: usize, whole: bool) -> Result<(), PublishError> {
    let (mut have, mut causes) = (0, Vec::new());
    for (id, stored) in ended {
        match stored {
            Ok(()) => have += 1,
            Err(status) if whole && status.code() == Code::FailedPrecondition => {
                return Err(PublishError::Refused(status.message().to_owned()));
            }
            Err(status) => causes.push((id, status)),
        }
    }
    if have > of / 2 { Ok(()) } else { Err(too_few(have, of, &causes)) }
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
        for (server, client) in self.servers.iter() {
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
    verified.map_err(|cause| cause.to_string())?.map_err(|cause| cause.to_string())
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
    fn a_majority_decides_and_full_disks_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(&folder.path().join("repository.git")).unwrap();
        let ended = |of: [Result<(), Status>; 3]| {
            let ids = ["app-a", "app-b", "app-c"].map(ServerId::from);
            ids.into_iter().zip(of).collect::<Vec<_>>()
        };
        let cut = || Err(Status::failed_precondition("the pack is cut off"));
        assert!(outcome(ended([Ok(()), Err(full(&repository)), Ok(())]), 3, true).is_ok());
        // Two are full, and so the third did not get all of it.
        let few = ended([cut(), Err(full(&repository)), Err(full(&repository))]);
        let told = outcome(few, 3, false).unwrap_err();
        assert!(matches!(told, PublishError::DiskFull { have: 0, of: 3, .. }), "{told:?}");
        let text = told.to_string();
        assert!(
            text.starts_with("disk full on app-b: can't write") && text.contains(", app-c: can't"),
            "{text}"
        );
        assert!(!text.contains("cut off"), "{text}");
        let away = || Err(Status::unavailable("gone"));
        let none = outcome(ended([Ok(()), away(), away()]), 3, true).unwrap_err().to_string();
        assert_eq!(none, "1 of 3 hub servers have it, a majority is needed: app-b: gone, app-c: gone");
        let wrong = outcome(ended([Ok(()), cut(), Ok(())]), 3, true).unwrap_err();
        assert!(matches!(wrong, PublishError::Refused(_)), "{wrong:?}");
    }
}
