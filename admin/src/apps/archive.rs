//! An archive that comes as it is, by `curl -T`: kept in a file while it is read, for it is read twice, and gone when that is over.

use super::change::{self, Deploy};
use crate::{
    AnswerBody, Inner, RequestBody,
    apps::{publish::drain, route::query_pairs},
    refusal::Refusal,
    sign_in::SignedIn,
};
use archive::{ArchiveError, Limits};
use common::{app_tag::AppTag, config::Config, private};
use http::{Response, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use import::{ImportError, Scan};
use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempPath;
use tokio::{io::AsyncWriteExt, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// Archives that are taken at once: each may take gigabytes of the disk.
pub(crate) const AT_ONCE: usize = 2;

/// What has to stay free on the disk, for the server's own files and logs.
const RESERVE: u64 = 64 << 20;

/// How often it is looked at while an archive comes in, in bytes.
const EACH: u64 = 16 << 20;

/// A client that sends nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(60);

/// What is said of an archive, in the query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Upload {
    message: String,
    rolling: bool,
    replace: bool,
    timeout_s: Option<u64>,
}

impl Upload {
    /// As a form says it.
    ///
    /// # Errors
    /// The message is too long.
    pub(crate) fn said(message: &str, replace: bool) -> Result<Self, Refusal> {
        change::check(message, change::TIMEOUT_S)?;
        Ok(Self { message: message.to_owned(), replace, ..Self::default() })
    }

    /// # Errors
    /// A parameter that there is not, or a value that is none.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let mut upload = Self::default();
        for (name, value) in query_pairs(uri)? {
            let wrong = |expected: &str| {
                let value: String = value.chars().take(50).collect();
                Refusal::Body(format!("{name} is {value:?}: expected {expected}"))
            };
            let flag = || value.parse::<bool>().map_err(|_| wrong("true or false"));
            match &*name {
                "message" => upload.message = value.clone(),
                "rolling" => upload.rolling = flag()?,
                "replace" => upload.replace = flag()?,
                "timeout-s" => upload.timeout_s = Some(value.parse().map_err(|_| wrong("seconds"))?),
                _ => {
                    let name: String = name.chars().take(50).collect();
                    let expected = "expected message, rolling, replace and timeout-s";
                    return Err(Refusal::Body(format!("the query has {name:?}: {expected}")));
                }
            }
        }
        change::check(&upload.message, upload.timeout_s.unwrap_or(change::TIMEOUT_S))?;
        Ok(upload)
    }
}

impl Inner {
    /// Takes an archive in, and begins the rollout of what is in it.
    pub(crate) async fn deploy_archive(
        &self,
        config: &Config,
        asker: &SignedIn,
        tag: &AppTag,
        upload: Upload,
        mut body: RequestBody,
    ) -> Result<Response<AnswerBody>, Refusal> {
        // Before gigabytes come for nothing.
        change::clusters(config, tag)?;
        let place = Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| Refusal::Uploads)?;
        let archive = match self.spool(&mut body).await {
            Ok(archive) => Arc::new(archive),
            Err(refused) => {
                drain(body, Limits::default().bytes).await;
                return Err(refused);
            }
        };
        let source = Arc::clone(&archive);
        // The place goes with the work: whoever waits for it may be gone meanwhile.
        let scanned = tokio::task::spawn_blocking(move || (import::scan(&source, None), place)).await;
        let (scanned, place) = scanned.map_err(|cause| Refusal::Spool(io::Error::other(cause)))?;
        let scan = Arc::new(scanned.map_err(refusal)?);
        let tree = scan.tree.to_string();
        self.send(archive, scan).await?;
        drop(place);
        let Upload { message, rolling, replace, timeout_s } = upload;
        self.deploy(config, asker, tag, Deploy { tree, message, rolling, timeout_s, replace }).await
    }

    /// Keeps an archive in a file, which is gone when it is dropped.
    async fn spool(&self, body: &mut RequestBody) -> Result<TempPath, Refusal> {
        let folder = &self.deployments()?.spool;
        let max = Limits::default().bytes;
        let too_large =
            || Refusal::Body(format!("the archive has more than {max} bytes, and no archive may have more"));
        let announced = body.size_hint().exact().unwrap_or(0);
        if announced > max {
            return Err(too_large());
        }
        private::make_folder(folder).map_err(Refusal::Spool)?;
        self.room(folder, announced, announced)?;
        let file = tempfile::Builder::new().prefix("archive-").tempfile_in(folder);
        let (file, path) = file.map_err(|cause| self.unwritten(folder, announced, cause))?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let (mut length, mut looked) = (0, 0);
        while let Some(data) = next(body).await? {
            length += data.len() as u64;
            if length > max {
                return Err(too_large());
            }
            if length >= looked + EACH {
                self.room(folder, length, EACH)?;
                looked = length;
            }
            file.write_all(&data).await.map_err(|cause| self.unwritten(folder, length, cause))?;
        }
        file.flush().await.map_err(|cause| self.unwritten(folder, length, cause))?;
        Ok(path)
    }

    /// Whether the disk has room for `more` bytes of an archive of at least `length`.
    fn room(&self, folder: &Path, length: u64, more: u64) -> Result<(), Refusal> {
        let free = free(folder).map_err(Refusal::Spool)?;
        if free < more.saturating_add(RESERVE) { Err(self.disk_full(length, free)) } else { Ok(()) }
    }

    fn unwritten(&self, folder: &Path, length: u64, cause: io::Error) -> Refusal {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.disk_full(length, free(folder).unwrap_or(0))
            }
            _ => Refusal::Spool(cause),
        }
    }

    fn disk_full(&self, length: u64, free: u64) -> Refusal {
        Refusal::DiskFull(format!(
            "disk full on {}: needs {} bytes for an archive of {length} or more, has {free}",
            self.me,
            length.saturating_add(RESERVE)
        ))
    }

    /// Sends the hub what it lacks of an archive.
    async fn send(&self, archive: Arc<TempPath>, scan: Arc<Scan>) -> Result<(), Refusal> {
        let hub_servers = &self.deployments()?.hub_servers;
        let mut missing: HashSet<_> = hub_servers.missing(&scan.trees()).await?.into_iter().collect();
        missing.extend(hub_servers.missing(&scan.blobs_in(&missing)).await?);
        if missing.is_empty() {
            return Ok(());
        }
        hub_servers.room(scan.bytes_of(&missing)).await?;
        let (packs, mut next) = mpsc::channel(1);
        let packing = tokio::task::spawn_blocking(move || import::pack(&archive, &scan, &missing, &packs));
        let mut stored = Ok(());
        while let Some(chunks) = next.recv().await {
            stored = hub_servers.store(ReceiverStream::new(chunks).map(Ok)).await;
            if stored.is_err() {
                break;
            }
        }
        drop(next);
        match packing.await.map_err(|cause| Refusal::Spool(io::Error::other(cause)))? {
            Err(cause) if !matches!(cause, ImportError::Untaken) => Err(refusal(cause)),
            _ => Ok(stored?),
        }
    }
}

/// The next piece of a body.
async fn next(body: &mut RequestBody) -> Result<Option<bytes::Bytes>, Refusal> {
    let frame = tokio::time::timeout(STALLED, body.frame()).await;
    let frame = frame.map_err(|_| Refusal::Body(format!("nothing of the archive came for {STALLED:?}")))?;
    let frame =
        frame.transpose().map_err(|cause| Refusal::Body(format!("the archive broke off: {cause}")))?;
    Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

fn free(folder: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(folder)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// What is wrong with an archive, without this server's name for it.
fn refusal(cause: ImportError) -> Refusal {
    Refusal::Body(match cause {
        ImportError::Archive(ArchiveError::Refused { entry, problem, .. }) => {
            let archive = PathBuf::from("the archive");
            ArchiveError::<io::Error>::Refused { archive, entry, problem }.to_string()
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Upload, String> {
        let uri = format!("/x?{query}").parse().unwrap();
        Upload::of(&uri).map_err(|it| it.to_string())
    }

    #[test]
    fn the_query_says_how_and_what_is_wrong_with_it_is_told() {
        let upload = of("message=first%20try&rolling=true&timeout-s=9").unwrap();
        assert_eq!(
            upload,
            Upload { message: "first try".into(), rolling: true, replace: false, timeout_s: Some(9) }
        );
        assert_eq!(of("").unwrap(), Upload::default());
        for (query, words) in [
            ("rolling=yes", "rolling is \"yes\": expected true or false"),
            ("rolling", "rolling is \"\""),
            ("timeout-s=1h", "timeout-s is \"1h\": expected seconds"),
            ("timeout-s=0", "timeout-s is 0: expected 1 to 86400"),
            ("name=shop", "the query has \"name\": expected message"),
            ("message=%ff", "the query is not UTF-8"),
        ] {
            let told = of(query).unwrap_err();
            assert!(told.starts_with(words), "{told}");
        }
        assert!(of(&format!("message={}", "x".repeat(4001))).unwrap_err().contains("4001 bytes"));
    }
}
