//! Puts another version of an app into use, or takes it out of use.

use super::{
    is_to_run,
    record::{AppRecord, hex},
};
use crate::{AnswerBody, HUB_WAIT, Inner, json, refusal::Refusal, sign_in::SignedIn};
use bytes::Bytes;
use common::{
    app_tag::AppTag,
    config::{AdminUser, Config, Content},
};
use http::{Response, StatusCode};
use proto::hub::v1::{App, DeployApp, Member, MemberState, app_deployed::Outcome};
use repository::{Kind, NewCommit, ObjectId, PackWriter, Signature};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A rollout may take so long unless its request says otherwise, and at most.
pub(crate) const TIMEOUT_S: u64 = 300;
const TIMEOUT_MAX_S: u64 = 24 * 3600;

/// The longest message, in bytes.
const MESSAGE_MAX: usize = 4000;

/// A server that is about to register is waited for so long.
const REGISTERED_MAX: Duration = Duration::from_secs(5);

/// One question for changes waits at most so long.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// `PUT /api/v1/apps/TAG`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Deploy {
    /// The tree, whose objects the hub has.
    pub(crate) tree: String,
    #[serde(default)]
    pub(crate) message: String,
    /// One server after the other.
    #[serde(default)]
    pub(crate) rolling: bool,
    pub(crate) timeout_s: Option<u64>,
    /// Of a tag with a version: even if that has other content already.
    #[serde(default)]
    pub(crate) replace: bool,
}

/// `POST /api/v1/apps/TAG/restart`, `/copy` and `/rollback`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct How {
    /// Of a copy: the tag to copy to. Of a rollback: the commit, or the beginning of its id; the one before unless given.
    pub(crate) to: Option<String>,
    message: String,
    rolling: Option<bool>,
    timeout_s: Option<u64>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Begun {
    /// False: the same content is in use already.
    changed: bool,
    app: AppRecord,
}

#[derive(Debug, Serialize)]
struct Gone {
    undeployed: bool,
    /// The version that was in use: a rollback to it brings the app back.
    commit: String,
}

/// What is to be in use next.
struct Wanted {
    tree: ObjectId,
    message: String,
    rolling: bool,
    timeout_s: u64,
    again: bool,
}

impl How {
    fn wanted(&self, tree: ObjectId, message: String, rolling: bool) -> Wanted {
        let message = if self.message.is_empty() { message } else { self.message.clone() };
        let (rolling, timeout_s) = (self.rolling.unwrap_or(rolling), self.timeout_s.unwrap_or(TIMEOUT_S));
        Wanted { tree, message, rolling, timeout_s, again: false }
    }
}

/// Reads a JSON body; an empty one stands for nothing said.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Refusal> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text)
        .map_err(|cause| Refusal::Body(format!("the body is not what is expected here: {cause}")))
}

impl Inner {
    /// Begins the rollout of a tree.
    pub(crate) async fn deploy(
        &self,
        config: &Config,
        asker: &SignedIn,
        tag: &AppTag,
        deploy: Deploy,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let tree = deploy.tree.parse::<ObjectId>();
        let tree = tree.map_err(|_| Refusal::Body("tree: expected 40 hexadecimal digits".to_owned()))?;
        let present = self.app(tag).await?;
        let other = |it: &App| !it.tree.is_empty() && it.tree != tree.as_bytes()[..];
        if tag.version.is_some() && !deploy.replace && present.as_ref().is_some_and(other) {
            return Err(Refusal::OtherContent(tag.to_string()));
        }
        let Deploy { message, rolling, timeout_s, .. } = deploy;
        let timeout_s = timeout_s.unwrap_or(TIMEOUT_S);
        let wanted = Wanted { tree, message, rolling, timeout_s, again: false };
        self.begin(config, (asker, "deploy"), tag, present, wanted).await
    }

    /// Starts an app's processes anew, server by server.
    pub(crate) async fn restart(
        &self,
        config: &Config,
        asker: &SignedIn,
        tag: &AppTag,
        how: &How,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let app = self.known_app(tag).await?;
        let wanted = Wanted { again: true, ..how.wanted(tree_of(&app)?, "restart".to_owned(), true) };
        self.begin(config, (asker, "restart"), tag, Some(app), wanted).await
    }

    /// Puts an app's content into use under another tag: from one stage to the next.
    pub(crate) async fn copy(
        &self,
        config: &Config,
        asker: &SignedIn,
        tag: &AppTag,
        how: &How,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let to = how
            .to
            .as_deref()
            .ok_or_else(|| Refusal::Body("to is missing: expected the tag to copy to".to_owned()))?;
        let to = AppTag::parse(to).map_err(|cause| Refusal::Body(cause.to_string()))?;
        let app = self.known_app(tag).await?;
        let wanted = how.wanted(tree_of(&app)?, format!("copy of {tag}"), false);
        let present = self.app(&to).await?;
        self.begin(config, (asker, "copy"), &to, present, wanted).await
    }

    /// Puts the content of an earlier version into use again.
    pub(crate) async fn roll_back(
        &self,
        config: &Config,
        asker: &SignedIn,
        tag: &AppTag,
        how: &How,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let to = how.to.as_deref();
        let (app, (commit, info)) = match (self.known_app(tag).await, to.map(str::parse)) {
            (Ok(app), _) => {
                let version = self.earlier(&app, to).await?;
                (Some(app), version)
            }
            // It was taken away: a whole id brings it back, for as long as the hub keeps its files.
            (Err(Refusal::UnknownApp { .. }), Some(Ok(commit))) => (None, self.version(commit).await?),
            (Err(unknown), _) => return Err(unknown),
        };
        let wanted = how.wanted(info.tree, rollback_message(&commit.to_string(), &info.message), false);
        self.begin(config, (asker, "rollback"), tag, app, wanted).await
    }

    async fn begin(
        &self,
        config: &Config,
        (asker, verb): (&SignedIn, &str),
        tag: &AppTag,
        present: Option<App>,
        wanted: Wanted,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let Wanted { tree, message, rolling, timeout_s, again } = wanted;
        check(&message, timeout_s)?;
        let clusters = clusters(config, tag)?;
        let expected = present.as_ref().map(|it| it.commit.clone()).unwrap_or_default();
        let same = present.filter(|it| it.tree == tree.as_bytes()[..]);
        // What is stopped is not in use: it is started, on all servers or on none.
        let again = again || same.as_ref().is_some_and(|it| it.stopped);
        if let Some(present) = same.filter(|it| !again && !is_under_way(it)) {
            return self.begun(config, present, false).await;
        }
        let (commit, restarts) = match ObjectId::from_bytes(&expected) {
            Ok(current) if again => (current, true),
            current => (self.commit(&asker.user, tree, current.ok(), &message).await?, false),
        };
        let verified = if restarts { Ok(()) } else { self.verified(commit, &expected).await };
        verified?;
        tracing::info!(user = asker.user.name, app = %tag, %commit, rolling, "deploying");
        let deploy = DeployApp {
            tag: tag.to_string(),
            expected_commit: expected,
            commit: commit.as_bytes().to_vec().into(),
            tree: tree.as_bytes().to_vec().into(),
            user: asker.user.name.clone(),
            message,
            timeout_ms: timeout_s * 1000,
            rolling,
            clusters,
            again,
            author: Some(asker.author(verb)),
        };
        let (app, changed) = self.start(deploy).await?;
        self.begun(config, app, changed).await
    }

    /// Asks the hub for a rollout. The app as it is then; false when the same content is in use already.
    pub(crate) async fn start(&self, deploy: DeployApp) -> Result<(App, bool), Refusal> {
        let (tag, commit) = (deploy.tag.clone(), deploy.commit.clone());
        let mut outcome = self.hub.deploy(deploy.clone(), HUB_WAIT).await.map_err(Refusal::Unsure)?;
        if matches!(outcome, Outcome::NoServers(_)) && self.is_joined_by_one_of(&deploy).await {
            outcome = self.hub.deploy(deploy, HUB_WAIT).await.map_err(Refusal::Unsure)?;
        }
        match outcome {
            Outcome::Begun(app) => Ok((app, true)),
            // Asked twice, for want of an answer: the first time it was heard.
            Outcome::Busy(app) | Outcome::Conflict(app)
                if app.rollout.as_ref().is_some_and(|it| it.commit == commit) =>
            {
                Ok((app, true))
            }
            Outcome::Unchanged(app) => Ok((app, false)),
            Outcome::Busy(app) => {
                let rollout = app.rollout.unwrap_or_default();
                Err(Refusal::Busy { tag, user: rollout.user })
            }
            Outcome::Conflict(app) => Err(Refusal::Conflict { tag, user: app.user }),
            Outcome::Full(count) => Err(Refusal::Full(count)),
            Outcome::NoServers(_) => Err(Refusal::NoServers(tag)),
        }
    }

    /// Waits for a server that would run the app: those of a cluster that has just been started are about to register.
    async fn is_joined_by_one_of(&self, deploy: &DeployApp) -> bool {
        let runs =
            |it: &Member| it.state() == MemberState::Active && is_to_run(it, &deploy.tag, &deploy.clusters);
        let mut members = self.members.clone();
        let joined = members.wait_for(|all| all.iter().any(runs));
        tokio::time::timeout(REGISTERED_MAX, joined).await.is_ok_and(|it| it.is_ok())
    }

    /// Makes the commit of a version; on disk on a majority when it returns.
    async fn commit(
        &self,
        user: &AdminUser,
        tree: ObjectId,
        parent: Option<ObjectId>,
        message: &str,
    ) -> Result<ObjectId, Refusal> {
        let time_s = i64::try_from(self.clock.unix_ms() / 1000).unwrap_or(i64::MAX);
        let author = Signature { name: user.name.clone(), email: format!("{}@copal", user.name), time_s };
        let message = format!("{}\n", if message.trim().is_empty() { "deployed" } else { message.trim() });
        let commit = NewCommit { tree, parents: parent.into_iter().collect(), author, message };
        let (id, content) = commit.encode();
        let packed = PackWriter::new(Vec::new(), 1).and_then(|mut pack| {
            pack.add(Kind::Commit, content.len() as u64, &mut &content[..])?;
            Ok(pack.finish()?.1)
        });
        let packed = packed.map_err(|cause| Refusal::Body(format!("the commit can't be packed: {cause}")))?;
        let chunks = futures_util::stream::iter([Ok(Bytes::from(packed))]);
        self.deployments()?.hub_servers.store(chunks).await?;
        Ok(id)
    }

    async fn verified(&self, commit: ObjectId, before: &[u8]) -> Result<(), Refusal> {
        let known: Vec<ObjectId> = ObjectId::from_bytes(before).into_iter().collect();
        Ok(self.deployments()?.hub_servers.verify(commit, &known).await.map(drop)?)
    }

    async fn begun(&self, config: &Config, app: App, changed: bool) -> Result<Response<AnswerBody>, Refusal> {
        let members = self.hub.members(HUB_WAIT).await?;
        let record = AppRecord::of(&app, &members, config).ok_or(Refusal::NotFound)?;
        let status = if changed { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(json(status, &Begun { changed, app: record }))
    }

    /// Takes an app away.
    pub(crate) async fn undeploy(
        &self,
        asker: &SignedIn,
        tag: &AppTag,
    ) -> Result<Response<AnswerBody>, Refusal> {
        self.deployments()?;
        let commit = hex(&self.known_app(tag).await?.commit).unwrap_or_default();
        tracing::info!(user = asker.user.name, app = %tag, "undeploying");
        let author = asker.author("undeploy");
        let undeployed =
            self.hub.undeploy(&tag.to_string(), author, HUB_WAIT).await.map_err(Refusal::Unsure)?;
        Ok(json(StatusCode::OK, &Gone { undeployed, commit }))
    }

    /// Stops an app on all servers, or starts it.
    pub(crate) async fn set_stopped(
        &self,
        config: &Config,
        asker: &SignedIn,
        tag: &AppTag,
        stopped: bool,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let before = self.known_app(tag).await?;
        tracing::info!(user = asker.user.name, app = %tag, stopped, "an administrator says");
        let author = asker.author(if stopped { "stop" } else { "start" });
        let set = self.hub.set_app_stopped(&tag.to_string(), stopped, author, HUB_WAIT).await;
        let set = set.map_err(Refusal::Unsure)?;
        let app = set.ok_or(Refusal::NotFound)?;
        self.begun(config, app, before.stopped != stopped).await
    }

    /// An app; with `after`, when it is different from that, or after `wait`.
    pub(crate) async fn watch_app(
        &self,
        config: &Config,
        tag: &AppTag,
        after: Option<&str>,
        wait: Duration,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let end = tokio::time::Instant::now() + wait.min(WAIT_MAX);
        let mut apps = self.deployments()?.apps.clone();
        let text = tag.to_string();
        loop {
            // What changes from here on wakes the wait below, whatever the leader's picture has of it.
            apps.mark_unchanged();
            // From the hub's leader: this server's own picture may be behind what the client has seen through another.
            let found = self.hub.apps(HUB_WAIT).await?.into_iter().find(|it| it.tag == text);
            let members = self.hub.members(HUB_WAIT).await?;
            let record = found.as_ref().and_then(|app| AppRecord::of(app, &members, config));
            let Some(record) = record else {
                let known = self.hub.apps(HUB_WAIT).await?.into_iter().map(|it| it.tag).collect();
                return Err(Refusal::UnknownApp { tag: text, known });
            };
            if after != Some(record.etag.as_str()) {
                return Ok(json(StatusCode::OK, &record));
            }
            if !matches!(tokio::time::timeout_at(end, apps.changed()).await, Ok(Ok(()))) {
                return Ok(json(StatusCode::OK, &record));
            }
        }
    }
}

/// What is said of a rollout, and the time that it has.
pub(crate) fn check(message: &str, timeout_s: u64) -> Result<(), Refusal> {
    if message.len() > MESSAGE_MAX {
        let length = message.len();
        return Err(Refusal::Body(format!("message has {length} bytes: expected at most {MESSAGE_MAX}")));
    }
    if !(1..=TIMEOUT_MAX_S).contains(&timeout_s) {
        return Err(Refusal::Body(format!("timeout-s is {timeout_s}: expected 1 to {TIMEOUT_MAX_S}")));
    }
    Ok(())
}

/// What is said of a rollback unless somebody says something else: the first line of what was said of the version, and not of the rollbacks
/// that led to it.
fn rollback_message(commit: &str, of_version: &str) -> String {
    const TO: &str = "rollback to ";
    let mut of_version = of_version.trim();
    while let Some((_, inner)) = of_version.strip_prefix(TO).and_then(|it| it.split_once(": ")) {
        of_version = inner;
    }
    let line = of_version.lines().next().unwrap_or_default();
    let room = line.floor_char_boundary(MESSAGE_MAX / 2);
    format!("{TO}{}: {}", &commit[..10], &line[..room])
}

fn is_under_way(app: &App) -> bool {
    app.rollout.as_ref().is_some_and(|it| it.outcome() == proto::hub::v1::RolloutOutcome::UnderWay)
}

fn tree_of(app: &App) -> Result<ObjectId, Refusal> {
    let wrong = || Refusal::Body(format!("the hub has {:?} as the tree of {}", hex(&app.tree), app.tag));
    ObjectId::from_bytes(&app.tree).map_err(|_| wrong())
}

/// The clusters whose servers will run an app.
pub(crate) fn clusters(config: &Config, tag: &AppTag) -> Result<Vec<String>, Refusal> {
    let clusters = config.clusters_of(tag);
    if clusters.is_empty() {
        let hosts =
            config.clusters.iter().flat_map(|it| &it.hosts).map(|it| it.tag_name().to_owned()).collect();
        return Err(Refusal::UnknownHost { host: tag.host.clone(), hosts });
    }
    let taken =
        config.clusters.iter().filter(|it| clusters.contains(&it.id)).flat_map(|it| &it.hosts).find_map(
            |host| {
                let paths = host.paths_of(tag);
                let here = |id: &String, content: &Content| {
                    *content != Content::Deploy(tag.name.clone()) && paths.contains(id)
                };
                (host.tag_name() == tag.host)
                    .then(|| host.web_apps.iter().find(|it| here(&it.id, &it.content)))?
            },
        );
    if let Some(taken) = taken {
        return Err(Refusal::Taken { tag: tag.to_string(), path: format!("{}/", taken.id) });
    }
    Ok(clusters.iter().map(|it| it.as_str().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_to_a_rollback_names_the_version_and_fits() {
        let commits = ["0123456789abcdef", "fedcba9876543210"];
        let mut message = "first: shop\n\nwith the new basket".to_owned();
        for commit in commits.into_iter().cycle().take(500) {
            message = rollback_message(commit, &message);
        }
        assert_eq!(message, "rollback to fedcba9876: first: shop");
        let message = rollback_message(commits[0], &"ü".repeat(5 * MESSAGE_MAX));
        assert!(check(&message, 1).is_ok() && message.ends_with("ü"), "{}", message.len());
    }
}
