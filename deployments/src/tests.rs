//! Hub servers that store, hand out, stand still and have bad disks: real ones, over loopback.

use crate::{HubServers, PublishError, objects, upkeep};
use bytes::Bytes;
use futures_util::stream;
use proto::hub::v1::objects_client::ObjectsClient;
use repository::{Kind, NewCommit, ObjectId, PackWriter, Repository, Signature, TreeBuilder, blob_id};
use std::{fs, io::Read};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server};

/// Three servers of a hub.
struct World {
    folder: TempDir,
    repositories: Vec<Repository>,
    hub: HubServers,
}

impl World {
    /// Those that `stand_still` take connections and never answer.
    async fn new(stand_still: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut repositories, mut servers) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let repository = Repository::open(&folder.path().join(format!("{number}.git"))).unwrap();
            let service = objects(repository.clone());
            if number < stand_still {
                tokio::spawn(async move {
                    let _never = listener;
                    std::future::pending::<()>().await;
                });
            } else {
                let incoming = stream::unfold(listener, |listener| async {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    Some((accepted, listener))
                });
                tokio::spawn(Server::builder().add_service(service).serve_with_incoming(Box::pin(incoming)));
            }
            let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
            servers.push((format!("app-{number}").into(), ObjectsClient::new(channel)));
            repositories.push(repository);
        }
        Self { folder, repositories, hub: HubServers { servers: servers.into(), first: 1 } }
    }

    async fn store(&self, pack: &[u8]) -> Result<(), PublishError> {
        let chunks: Vec<_> = pack.chunks(64 << 10).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
        self.hub.store(stream::iter(chunks)).await
    }
}

/// A commit of one file, and the pack of it.
fn commit(content: &[u8]) -> (ObjectId, Vec<u8>) {
    let blob = blob_id(content.len() as u64, content).unwrap();
    let mut builder = TreeBuilder::new();
    builder.file("file", false, blob);
    let (tree, trees) = builder.build().unwrap();
    let author = Signature { name: "ops".into(), email: "ops@copal".into(), time_s: 1 };
    let (id, text) = NewCommit { tree, parents: Vec::new(), author, message: "m\n".into() }.encode();
    let mut pack = PackWriter::new(Vec::new(), 3).unwrap();
    pack.add(Kind::Blob, content.len() as u64, &mut &content[..]).unwrap();
    pack.add(Kind::Tree, trees[0].1.len() as u64, &mut &trees[0].1[..]).unwrap();
    pack.add(Kind::Commit, text.len() as u64, &mut &text[..]).unwrap();
    (id, pack.finish().unwrap().1)
}

/// Bytes that can't be made smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_stands_still_holds_nobody_up() {
    let world = World::new(1).await;
    // More than lies on the way to it.
    let (id, pack) = commit(&noise(4 << 20));
    assert_eq!(world.hub.missing(&[id]).await.unwrap(), [id]);
    world.store(&pack).await.unwrap();
    world.hub.verify(id, &[]).await.unwrap();
    assert!(world.hub.missing(&[id]).await.unwrap().is_empty());
    for repository in &world.repositories[1..] {
        repository.verify(id, &[]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_asked_for_before_anything_is_sent() {
    let world = World::new(1).await;
    world.hub.room(0).await.unwrap();
    let told = world.hub.room(u64::MAX - (1 << 30)).await.unwrap_err();
    assert!(matches!(told, PublishError::DiskFull { have: 0, of: 3, .. }), "{told:?}");
    let text = told.to_string();
    assert!(text.starts_with("disk full on app-") && text.contains(" MB free, 1844674407"), "{text}");
    assert!(text.ends_with("; 0 of 3 hub servers can keep it, a majority is needed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_stored_nowhere() {
    let world = World::new(0).await;
    let (id, mut pack) = commit(b"content");
    let half = pack[..pack.len() / 2].to_vec();
    for wrong in [half, b"no pack at all".to_vec(), Vec::new()] {
        assert!(matches!(world.store(&wrong).await, Err(PublishError::Refused(_))), "{}", wrong.len());
    }
    let cut = stream::iter([Ok(Bytes::copy_from_slice(&pack[..40])), Err("cut".to_owned())]);
    let told = world.hub.store(cut).await.unwrap_err().to_string();
    assert!(told.contains("cut"), "{told}");
    let last = pack.len() - 30;
    pack[last] ^= 1;
    assert!(matches!(world.store(&pack).await, Err(PublishError::Refused(_))));
    assert!(matches!(world.hub.verify(id, &[]).await, Err(PublishError::Refused(_))));
    for repository in &world.repositories {
        assert_eq!(repository.size().unwrap().objects, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_found_and_replaced_by_another_servers() {
    let world = World::new(0).await;
    let content = noise(100_000);
    let (id, pack) = commit(&content);
    world.store(&pack).await.unwrap();
    let packs = world.folder.path().join("0.git/objects/pack");
    let file = fs::read_dir(&packs)
        .unwrap()
        .map(|it| it.unwrap().path())
        .find(|it| it.extension().is_some_and(|it| it == "pack"));
    let file = file.unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[5000] ^= 4;
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(&file, permissions).unwrap();
    fs::write(&file, bytes).unwrap();

    let damaged = Repository::open(&world.folder.path().join("0.git")).unwrap();
    let blob = blob_id(content.len() as u64, &content[..]).unwrap();
    assert_eq!(damaged.scrub(|_| {}).unwrap(), [blob]);
    upkeep::scrub(&damaged, &world.hub).await;
    assert!(damaged.scrub(|_| {}).unwrap().is_empty());
    let mut read = Vec::new();
    damaged.reader(blob).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == content);
    damaged.verify(id, &[]).unwrap();

    // A new server fetches all of it.
    let fresh = Repository::open(&world.folder.path().join("fresh.git")).unwrap();
    world.hub.fetch(&fresh, id, &[]).await.unwrap();
    fresh.verify(id, &[]).unwrap();
    let nowhere = ObjectId::from([7; 20]);
    let told = world.hub.fetch(&fresh, nowhere, &[]).await.unwrap_err().to_string();
    assert!(told.contains("no hub server hands out 0707") && told.contains("app-2: "), "{told}");
}
