//! Deployments, as the hub's leader is asked for them.

use crate::{Hub, HubError, MESSAGE_MAX, leader::TRY_TIMEOUT};
use proto::hub::v1::{
    App, Author, DeployApp, ListApps, ReportApp, SetAppStopped, UndeployApp, app_deployed::Outcome,
    apps_client::AppsClient,
};
use std::time::Duration;

impl Hub {
    /// Begins a rollout, once it is on disk on a majority of the hub. The commit's objects have to be there before.
    ///
    /// # Errors
    /// See [`HubError`]. When no answer has come, the rollout may have begun all the same: asked again, the hub says so.
    pub async fn deploy(&self, deploy: DeployApp, deadline: Duration) -> Result<Outcome, HubError> {
        let deployed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = deploy.clone();
            async move { AppsClient::new(channel).deploy(request).await }
        });
        deployed.await?.outcome.ok_or_else(|| HubError::Refused("an outcome of an unknown kind".into()))
    }

    /// Tells how far this server is with an app.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn report_app(&self, report: ReportApp, deadline: Duration) -> Result<(), HubError> {
        let reported = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = report.clone();
            async move { AppsClient::new(channel).report(request).await }
        });
        reported.await.map(drop)
    }

    /// Takes an app away from all servers; false when there was none.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn undeploy(&self, tag: &str, author: Author, deadline: Duration) -> Result<bool, HubError> {
        let (tag, user) = (tag.to_owned(), author.user.clone());
        let request = UndeployApp { tag, user, author: Some(author) };
        let undeployed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = request.clone();
            async move { AppsClient::new(channel).undeploy(request).await }
        });
        Ok(undeployed.await?.existed)
    }

    /// Stops an app everywhere, or starts it again; `None` when there is none.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn set_app_stopped(
        &self,
        tag: &str,
        stopped: bool,
        author: Author,
        deadline: Duration,
    ) -> Result<Option<App>, HubError> {
        let request = SetAppStopped { tag: tag.to_owned(), stopped, author: Some(author) };
        let set = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let request = request.clone();
            async move { AppsClient::new(channel).set_stopped(request).await }
        });
        Ok(set.await?.app)
    }

    /// The apps as the hub's leader has them, by tag.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn apps(&self, deadline: Duration) -> Result<Vec<App>, HubError> {
        let listed = self.leader.call(deadline, TRY_TIMEOUT, |channel| async move {
            AppsClient::new(channel).max_decoding_message_size(MESSAGE_MAX).list(ListApps {}).await
        });
        Ok(listed.await?.apps)
    }
}
