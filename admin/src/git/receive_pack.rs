//! Pushes: the pack goes to the hub's servers while it comes, the commit is rolled out, and the client waits for the outcome.

use super::{
    answer::Answer,
    body::{Body, BodyError},
    push_request::Push,
    references,
    route::{Place, Service},
};
use crate::{
    AnswerBody, Inner, RequestBody, answer_bytes,
    apps::change::{TIMEOUT_S, clusters},
    refusal::Refusal,
    sign_in::SignedIn,
};
use bytes::Bytes;
use common::{app_tag::AppTag, config::Config};
use futures_util::stream;
use http::{HeaderMap, Response, StatusCode};
use proto::hub::v1::{Author, DeployApp};
use repository::ObjectId;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The largest body: the largest pack that a hub server takes, and the commands.
const BODY_MAX: u64 = (4 << 30) + (16 << 20);

/// A push that is under way, whatever becomes of its client.
#[derive(Debug)]
struct Pushing {
    config: Arc<Config>,
    user: String,
    author: Author,
    place: Place,
    push: Push,
    pack: Upload,
    answer: Answer,
    _permit: OwnedSemaphorePermit,
}

/// A pack as it comes. The client reads its answer when it has sent everything: `sent` is dropped then.
#[derive(Debug)]
struct Upload {
    body: Body,
    sent: Option<oneshot::Sender<Infallible>>,
}

/// What a push is to do.
#[derive(Debug)]
struct Planned {
    tag: AppTag,
    clusters: Vec<String>,
    old: Option<ObjectId>,
    new: ObjectId,
}

impl Upload {
    async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let chunk = self.body.chunk().await;
        if !matches!(chunk, Ok(Some(_))) {
            self.sent = None;
        }
        chunk
    }

    /// Reads what nobody needs.
    async fn drain(&mut self) {
        while let Ok(Some(_)) = self.chunk().await {}
        self.sent = None;
    }
}

impl Inner {
    /// `POST …/git-receive-pack`.
    pub(crate) async fn receive_pack(
        self: &Arc<Self>,
        config: &Arc<Config>,
        asker: &SignedIn,
        place: Place,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let mut body = Body::new(headers, body, BODY_MAX)?;
        let push = Push::read(&mut body).await?;
        if push.commands.is_empty() {
            return Ok(answer_bytes(StatusCode::OK, Service::ReceivePack.result(), Bytes::new()));
        }
        let permit = super::place(&self.git.pushes)?;
        let (answer, response) = Answer::new(Service::ReceivePack.result(), push.side_band);
        let (sent, is_sent) = oneshot::channel();
        let pack = Upload { body, sent: Some(sent) };
        let (config, user, author) = (config.clone(), asker.user.name.clone(), asker.author("push"));
        let pushing = Pushing { config, user, author, place, push, pack, answer, _permit: permit };
        tokio::spawn(self.clone().push(pushing));
        let _ = is_sent.await;
        Ok(response)
    }

    /// Stores, deploys, and tells what came of it.
    async fn push(self: Arc<Self>, mut pushing: Pushing) {
        let planned = plan(&pushing);
        let stored = match &planned {
            Ok(_) => self.store_pushed(&mut pushing.pack).await.map_err(|cause| cause.to_string()),
            Err(_) => Ok(()),
        };
        pushing.pack.drain().await;
        let outcome = match (planned, &stored) {
            (Err(why), _) => Err(why),
            (Ok(_), Err(_)) => Err("nothing of it is kept".to_owned()),
            (Ok(planned), Ok(())) => self.deploy_pushed(planned, &mut pushing).await,
        };
        let Pushing { push, mut answer, user, .. } = pushing;
        if let Err(why) = stored.as_ref().and(outcome.as_ref()) {
            tracing::info!(user, why, "a push is refused or has failed");
        }
        if push.report {
            answer.data(push.report(&stored, &outcome).into()).await;
        }
        answer.end().await;
    }

    /// Hands the pack on as it comes; on disk on a majority of the hub when this returns.
    async fn store_pushed(&self, pack: &mut Upload) -> Result<(), Refusal> {
        let chunks = stream::unfold(pack, |pack| async {
            let chunk = pack.chunk().await.transpose()?;
            Some((chunk.map_err(|cause| cause.to_string()), pack))
        });
        Ok(self.deployments()?.hub_servers.store(std::pin::pin!(chunks)).await?)
    }

    /// Puts the pushed commit into use.
    async fn deploy_pushed(&self, planned: Planned, pushing: &mut Pushing) -> Result<(), String> {
        let Planned { tag, clusters, old, new } = planned;
        let answer = &mut pushing.answer;
        let hub_servers = &self.deployments().map_err(|cause| cause.to_string())?.hub_servers;
        let known: Vec<_> = old.into_iter().collect();
        let verified = answer.keep_alive_during(hub_servers.verify(new, &known)).await;
        let commit = verified.map_err(|cause| match pushing.push.shallow {
            true => format!("this clone is shallow: `git fetch --unshallow` first ({cause})"),
            false => cause.to_string(),
        })?;
        let commit = commit.ok_or_else(|| format!("{new} is no commit"))?;
        tracing::info!(user = pushing.user, app = %tag, commit = %new, "deploying what was pushed");
        let deploy = DeployApp {
            tag: tag.to_string(),
            expected_commit: old.map(|it| it.as_bytes().to_vec()).unwrap_or_default().into(),
            commit: new.as_bytes().to_vec().into(),
            tree: commit.tree.as_bytes().to_vec().into(),
            user: pushing.user.clone(),
            message: commit.subject,
            timeout_ms: TIMEOUT_S * 1000,
            rolling: false,
            clusters,
            // A commit with the files of the one before it is the branch's next one all the same.
            again: true,
            author: Some(pushing.author.clone()),
        };
        let started = answer.keep_alive_during(self.start(deploy)).await;
        let (app, _) = started.map_err(|cause| match cause {
            Refusal::Conflict { user, .. } if user.is_empty() => {
                "fetch first: it is not in use any more".to_owned()
            }
            Refusal::Conflict { user, .. } => format!("fetch first: {user} has put another version into use"),
            cause => cause.to_string(),
        })?;
        self.follow_rollout(&pushing.config, &tag, app, answer).await
    }
}

/// What a push is to do.
///
/// # Errors
/// It may not do that: why, in one line.
fn plan(pushing: &Pushing) -> Result<Planned, String> {
    let Place::App { host, name } = &pushing.place else { return Err(Refusal::GitReadOnly.to_string()) };
    let [command] = &pushing.push.commands[..] else {
        return Err("one branch at a time is deployed: push them one by one".to_owned());
    };
    let tag = references::tag_of(host, name, &command.reference)?;
    let Some(new) = command.new else {
        return Err(format!("a push deletes nothing: `deploy-tool undeploy` takes {tag} away"));
    };
    let clusters = clusters(&pushing.config, &tag).map_err(|cause| cause.to_string())?;
    Ok(Planned { tag, clusters, old: command.old, new })
}
