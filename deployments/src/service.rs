//! `object.proto`'s service: what a hub server has of the objects, and takes.

use crate::{disk_full, pack_pipe};
use proto::hub::v1::{
    AskRoom, FetchObjects, ObjectIds, ObjectVerified, PackChunk, PackStored, RoomLeft, VerifyObject,
    objects_server::{Objects, ObjectsServer},
};
use repository::{Kind, ObjectId, PackError, Repository, RepositoryError};
use std::{io, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Ids in one question.
const IDS_MAX: usize = 1 << 20;

/// The largest question: [`IDS_MAX`] ids.
const MESSAGE_MAX: usize = (IDS_MAX * 20) + 1024;

/// Of a commit's message, so many characters of its first line are told.
const SUBJECT_MAX: usize = 500;

/// Packs that are taken in at once: each may unpack to gigabytes on the disk. How long a further one waits.
const STORES_MAX: usize = 4;
const STORE_WAIT: Duration = Duration::from_secs(20);

/// The service over a server's repository.
#[derive(Debug, Clone)]
pub struct ObjectService(Repository, Arc<Semaphore>);

/// The service as the cluster port takes it.
pub fn objects(repository: Repository) -> ObjectsServer<ObjectService> {
    ObjectsServer::new(ObjectService(repository, Arc::new(Semaphore::new(STORES_MAX))))
        .max_decoding_message_size(MESSAGE_MAX)
}

/// Ids, one after the other.
pub(crate) fn ids(field: &str, bytes: &[u8]) -> Result<Vec<ObjectId>, Status> {
    if !bytes.len().is_multiple_of(20) || bytes.len() / 20 > IDS_MAX {
        let text = format!("{field} has {} bytes: expected up to {IDS_MAX} ids of 20 bytes", bytes.len());
        return Err(Status::invalid_argument(text));
    }
    let ids = bytes.chunks_exact(20).map(ObjectId::from_bytes).collect::<Result<Vec<_>, _>>();
    ids.map_err(|_| Status::invalid_argument(format!("{field}: expected ids of 20 bytes")))
}

/// The other way round.
pub(crate) fn bytes(ids: &[ObjectId]) -> bytes::Bytes {
    ids.iter().flat_map(|id| id.as_bytes().iter().copied()).collect::<Vec<_>>().into()
}

async fn blocking<T: Send + 'static>(
    repository: &Repository,
    work: impl FnOnce(&Repository) -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, Status> {
    let repository = repository.clone();
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&repository);
        done.map_err(|cause| refusal(&repository, &cause))
    });
    done.await.map_err(|cause| Status::internal(format!("the repository's thread has ended: {cause}")))?
}

/// Whether it is this server that can't, or what it was given that no server takes.
fn refusal(repository: &Repository, cause: &RepositoryError) -> Status {
    match (cause, cause.of_the_system()) {
        // A server that was away lacks what the others have: it does not speak for them.
        (RepositoryError::Pack(PackError::NoBase(_)), _) => Status::not_found(cause.to_string()),
        (_, Some(_)) if cause.is_disk_full() => disk_full::status(repository, cause),
        (_, Some(_)) => Status::internal(cause.to_string()),
        (_, None) => Status::failed_precondition(cause.to_string()),
    }
}

/// What a verified object says of itself, if it is a commit.
fn verified(repository: &Repository, id: ObjectId) -> Result<ObjectVerified, RepositoryError> {
    if repository.header(id)?.0 != Kind::Commit {
        return Ok(ObjectVerified::default());
    }
    let info = repository.commit_info(id)?;
    let subject = info.message.lines().next().unwrap_or_default().chars().take(SUBJECT_MAX).collect();
    Ok(ObjectVerified { tree: bytes(&[info.tree]), subject })
}

#[tonic::async_trait]
impl Objects for ObjectService {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<PackChunk, Status>> + Send>>;

    async fn missing(&self, request: Request<ObjectIds>) -> Result<Response<ObjectIds>, Status> {
        let asked = ids("ids", &request.into_inner().ids)?;
        let missing = blocking(&self.0, move |here| Ok(here.incomplete(&asked))).await?;
        Ok(Response::new(ObjectIds { ids: bytes(&missing) }))
    }

    async fn room(&self, _: Request<AskRoom>) -> Result<Response<RoomLeft>, Status> {
        let free = blocking(&self.0, |here| Ok(here.free_bytes())).await?;
        let free_bytes =
            free.map_err(|cause| Status::internal(format!("its free bytes are not known: {cause}")))?;
        Ok(Response::new(RoomLeft { free_bytes }))
    }

    async fn store(&self, request: Request<Streaming<PackChunk>>) -> Result<Response<PackStored>, Status> {
        let place = timeout(STORE_WAIT, self.1.clone().acquire_owned()).await;
        let crowded = || Status::unavailable("too many packs come in at once: try again");
        let place = place.ok().and_then(Result::ok).ok_or_else(crowded)?;
        let mut chunks = request.into_inner();
        let (sender, pack) = pack_pipe::reader();
        let repository = self.0.clone();
        let stored = tokio::spawn(async move {
            // Until it is done: whoever sent it may have gone.
            let _place = place;
            blocking(&repository, move |here| here.store_pack(pack)).await
        });
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map(|it| it.data).map_err(io::Error::other);
            let broken = chunk.is_err();
            // An error means that the repository has read enough to know what is wrong.
            if sender.send(chunk).await.is_err() || broken {
                break;
            }
        }
        drop(sender);
        let stored = stored.await.map_err(|cause| Status::internal(cause.to_string()))??;
        Ok(Response::new(PackStored { objects: stored.objects }))
    }

    async fn verify(&self, request: Request<VerifyObject>) -> Result<Response<ObjectVerified>, Status> {
        let VerifyObject { id, known } = request.into_inner();
        let (id, known) = (ids("id", &id)?, ids("known", &known)?);
        let [id] = id[..] else { return Err(Status::invalid_argument("id: expected one id of 20 bytes")) };
        let verified = blocking(&self.0, move |here| {
            here.verify(id, &known)?;
            verified(here, id)
        });
        Ok(Response::new(verified.await?))
    }

    async fn fetch(&self, request: Request<FetchObjects>) -> Result<Response<Self::FetchStream>, Status> {
        let FetchObjects { roots, have } = request.into_inner();
        let (roots, have) = (ids("roots", &roots)?, ids("have", &have)?);
        let asked = roots.clone();
        let missing = blocking(&self.0, move |here| Ok(here.missing(&asked))).await?;
        if let Some(missing) = missing.first() {
            return Err(Status::not_found(format!("{missing} is not here")));
        }
        let chunks = ReceiverStream::new(pack_pipe::pack(&self.0, roots, have));
        let chunks = chunks.map(|it| it.map(|data| PackChunk { data }).map_err(Status::internal));
        Ok(Response::new(Box::pin(chunks)))
    }
}
