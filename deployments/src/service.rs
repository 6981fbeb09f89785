//! `object.proto`'s service: what a hub server has of the objects, and takes.

use crate::pack_pipe;
use proto::hub::v1::{
    FetchObjects, ObjectIds, ObjectVerified, PackChunk, PackStored, VerifyObject,
    objects_server::{Objects, ObjectsServer},
};
use repository::{ObjectId, Repository, RepositoryError};
use std::{io, io::Write, pin::Pin};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Ids in one question.
const IDS_MAX: usize = 1 << 20;

/// The largest question: [`IDS_MAX`] ids.
const MESSAGE_MAX: usize = (IDS_MAX * 20) + 1024;

/// The service over a server's repository.
#[derive(Debug, Clone)]
pub struct ObjectService(Repository);

/// The service as the cluster port takes it.
pub fn objects(repository: Repository) -> ObjectsServer<ObjectService> {
    ObjectsServer::new(ObjectService(repository)).max_decoding_message_size(MESSAGE_MAX)
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
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done =
        done.map_err(|cause| Status::internal(format!("the repository's thread has ended: {cause}")))?;
    done.map_err(|cause| refusal(&cause))
}

/// What is wrong with what was sent is wrong on every server; this one's disk is not.
fn refusal(cause: &RepositoryError) -> Status {
    match cause {
        RepositoryError::Io { .. } => Status::unavailable(cause.to_string()),
        _ => Status::failed_precondition(cause.to_string()),
    }
}

#[tonic::async_trait]
impl Objects for ObjectService {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<PackChunk, Status>> + Send>>;

    async fn missing(&self, request: Request<ObjectIds>) -> Result<Response<ObjectIds>, Status> {
        let asked = ids("ids", &request.into_inner().ids)?;
        let repository = self.0.clone();
        let missing = blocking(move || Ok(repository.missing(&asked))).await?;
        Ok(Response::new(ObjectIds { ids: bytes(&missing) }))
    }

    async fn store(&self, request: Request<Streaming<PackChunk>>) -> Result<Response<PackStored>, Status> {
        let mut chunks = request.into_inner();
        let (sender, pack) = pack_pipe::reader();
        let repository = self.0.clone();
        let stored = tokio::spawn(blocking(move || repository.store_pack(pack)));
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
        let repository = self.0.clone();
        blocking(move || repository.verify(id, &known)).await?;
        Ok(Response::new(ObjectVerified {}))
    }

    async fn fetch(&self, request: Request<FetchObjects>) -> Result<Response<Self::FetchStream>, Status> {
        let FetchObjects { roots, have } = request.into_inner();
        let (roots, have) = (ids("roots", &roots)?, ids("have", &have)?);
        let repository = self.0.clone();
        let (asked, here) = (roots.clone(), self.0.clone());
        let missing = blocking(move || Ok(here.missing(&asked))).await?;
        if let Some(missing) = missing.first() {
            return Err(Status::not_found(format!("{missing} is not here")));
        }
        let (mut writer, chunks) = pack_pipe::writer();
        // An error breaks the pack off, which whoever gets it sees.
        tokio::task::spawn_blocking(move || {
            let packed = repository.pack(&roots, &have, &mut writer);
            let flushed = writer.flush();
            if let Err(cause) = packed {
                tracing::warn!(%cause, "objects can't be handed out");
            }
            flushed
        });
        let chunks = ReceiverStream::new(chunks).map(|data| Ok(PackChunk { data }));
        Ok(Response::new(Box::pin(chunks)))
    }
}
