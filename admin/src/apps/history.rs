//! What is in an app's versions: read from this server's copy, which is brought up to date first.

use crate::{AnswerBody, Inner, answer_bytes, json, refusal::Refusal, timestamp};
use common::app_tag::AppTag;
use http::{Response, StatusCode};
use proto::hub::v1::App;
use repository::{ChangeKind, CommitInfo, ObjectId, Repository, RepositoryError};
use serde::Serialize;
use std::io::Read;

/// Versions that are told of at once.
const LOG_MAX: usize = 1000;

/// The largest file that is shown, in bytes.
const SHOWN_MAX: u64 = 16 << 20;

#[derive(Debug, Serialize)]
struct Log {
    versions: Vec<VersionRecord>,
}

#[derive(Debug, Serialize)]
struct VersionRecord {
    commit: String,
    tree: String,
    user: String,
    time: Option<String>,
    message: String,
}

#[derive(Debug, Serialize)]
struct Diff {
    from: String,
    to: String,
    changes: Vec<ChangeRecord>,
}

#[derive(Debug, Serialize)]
struct ChangeRecord {
    path: String,
    /// `added`, `removed` or `changed`.
    change: &'static str,
}

#[derive(Debug, Serialize)]
struct Listing {
    commit: String,
    entries: Vec<EntryRecord>,
}

#[derive(Debug, Serialize)]
struct EntryRecord {
    name: String,
    /// As Git has it: 100644, 100755, 120000 or 40000.
    mode: String,
    id: String,
    size: Option<u64>,
}

impl Inner {
    /// The versions of an app, the newest first.
    pub(crate) async fn log(&self, tag: &AppTag) -> Result<Response<AnswerBody>, Refusal> {
        let versions = self.versions(&self.known_app(tag).await?).await?;
        let record = |(id, info): &(ObjectId, CommitInfo)| VersionRecord {
            commit: id.to_string(),
            tree: info.tree.to_string(),
            user: info.author.name.clone(),
            time: timestamp::format(u64::try_from(info.author.time_s).unwrap_or(0) * 1000),
            message: info.message.trim().to_owned(),
        };
        Ok(json(StatusCode::OK, &Log { versions: versions.iter().map(record).collect() }))
    }

    /// What differs between two versions.
    pub(crate) async fn diff(
        &self,
        tag: &AppTag,
        from: &str,
        to: &str,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let versions = self.versions(&self.known_app(tag).await?).await?;
        let (from, old) = find(&versions, from)?;
        let (to, new) = find(&versions, to)?;
        let changes = self.read(move |repository| repository.diff(old.tree, new.tree)).await?;
        let record = |it: repository::Change| ChangeRecord {
            path: it.path,
            change: match it.kind {
                ChangeKind::Added => "added",
                ChangeKind::Removed => "removed",
                ChangeKind::Changed => "changed",
            },
        };
        let changes = changes.into_iter().map(record).collect();
        Ok(json(StatusCode::OK, &Diff { from: from.to_string(), to: to.to_string(), changes }))
    }

    /// What is in a folder of the version in use.
    pub(crate) async fn ls(&self, tag: &AppTag, path: &str) -> Result<Response<AnswerBody>, Refusal> {
        let versions = self.versions(&self.known_app(tag).await?).await?;
        let (commit, info) = find(&versions, "")?;
        let path = path.to_owned();
        let entries = self.read(move |repository| repository.entries(info.tree, &path)).await?;
        let record = |it: repository::Entry| EntryRecord {
            name: it.name,
            mode: it.mode.as_str().to_owned(),
            id: it.id.to_string(),
            size: it.size,
        };
        let entries = entries.into_iter().map(record).collect();
        Ok(json(StatusCode::OK, &Listing { commit: commit.to_string(), entries }))
    }

    /// A file of the version in use.
    pub(crate) async fn cat(&self, tag: &AppTag, path: &str) -> Result<Response<AnswerBody>, Refusal> {
        let versions = self.versions(&self.known_app(tag).await?).await?;
        let (_, info) = find(&versions, "")?;
        let path = path.to_owned();
        let content = self.read(move |repository| Ok(shown(repository.blob(info.tree, &path)?))).await??;
        Ok(answer_bytes(StatusCode::OK, "application/octet-stream", content))
    }

    /// The version that a rollback leads to.
    pub(crate) async fn earlier(
        &self,
        app: &App,
        to: Option<&str>,
    ) -> Result<(ObjectId, CommitInfo), Refusal> {
        let versions = self.versions(app).await?;
        match to {
            Some(to) => find(&versions, to),
            None => {
                let current = versions.first().map(|(_, info)| info.tree);
                // A restart or a rollback to the same is no other version.
                let before = versions.iter().find(|(_, info)| Some(info.tree) != current);
                before
                    .cloned()
                    .ok_or_else(|| Refusal::NoVersion("there is no version before the one in use".to_owned()))
            }
        }
    }

    /// A version by its whole id, of whichever app.
    pub(crate) async fn version(&self, commit: ObjectId) -> Result<(ObjectId, CommitInfo), Refusal> {
        let deployments = self.deployments()?;
        deployments.hub_servers.fetch(&deployments.repository, commit, &[]).await?;
        let info = self.read(move |repository| repository.commit_info(commit)).await?;
        Ok((commit, info))
    }

    async fn versions(&self, app: &App) -> Result<Vec<(ObjectId, CommitInfo)>, Refusal> {
        let deployments = self.deployments()?;
        let commit = ObjectId::from_bytes(&app.commit);
        let commit = commit.map_err(|_| Refusal::NoVersion(format!("{} is not in use", app.tag)))?;
        deployments.hub_servers.fetch(&deployments.repository, commit, &[]).await?;
        self.read(move |repository| repository.log(commit, LOG_MAX)).await
    }

    /// Reads from this server's copy, on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repository) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let repository = self.deployments()?.repository.clone();
        let done = tokio::task::spawn_blocking(move || work(&repository)).await;
        let done = done.map_err(|cause| Refusal::NoVersion(cause.to_string()))?;
        done.map_err(|cause| Refusal::NoVersion(cause.to_string()))
    }
}

/// A file's content, if that is not too much.
fn shown(file: repository::ObjectReader) -> Result<Vec<u8>, Refusal> {
    let size = file.size();
    if size > SHOWN_MAX {
        return Err(Refusal::NoVersion(format!("the file has {size} bytes: at most {SHOWN_MAX} are shown")));
    }
    let mut content = Vec::new();
    let read = file.take(SHOWN_MAX).read_to_end(&mut content);
    read.map(|_| content).map_err(|cause| Refusal::NoVersion(cause.to_string()))
}

/// The version whose id begins with `text`; with an empty one the newest.
fn find(versions: &[(ObjectId, CommitInfo)], text: &str) -> Result<(ObjectId, CommitInfo), Refusal> {
    let mut found = versions.iter().filter(|(id, _)| id.to_string().starts_with(text));
    let wrong = |what: &str| Refusal::NoVersion(format!("{text:?} {what}: `log` lists the versions"));
    let first = found.next().ok_or_else(|| wrong("is no version of it"))?;
    if !text.is_empty() && found.next().is_some() {
        return Err(wrong("begins several versions"));
    }
    Ok(first.clone())
}
