//! `app.proto`'s service.

use super::{audit, input};
use crate::{hub::Hub, serve::Caller, state::Reply};
use proto::hub::v1::{
    App, AppDeployed, AppList, AppReported, AppStoppedSet, AppUndeployed, Command, DeployApp, ListApps,
    ReportApp, SetAppStopped, UndeployApp, apps_server::Apps, command, report_app::Report,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// An app's record with what its servers say.
const BYTES: usize = 4096;

/// What a server says of a failure, in bytes: the last lines of an app's output.
const TEXT_MAX: usize = 8 << 10;

/// What was said of a deployment (`-m`), in bytes.
const MESSAGE_MAX: usize = 4 << 10;

/// The least and the longest time that a rollout may have.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1000..=24 * 3600 * 1000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct AppService(pub(crate) Arc<Hub>);

impl AppService {
    async fn propose(&self, command: command::Command) -> Result<Reply, Status> {
        let replies = self.0.propose(vec![Command { command: Some(command) }], BYTES).await?;
        replies.into_iter().next().ok_or_else(unexpected)
    }
}

fn unexpected() -> Status {
    Status::internal("the hub's state answered another question")
}

#[tonic::async_trait]
impl Apps for AppService {
    async fn deploy(&self, request: Request<DeployApp>) -> Result<Response<AppDeployed>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut deploy = request.into_inner();
        input::tag("tag", &deploy.tag)?;
        audit::check(deploy.author.as_ref())?;
        input::object("expected_commit", &deploy.expected_commit, true)?;
        input::object("commit", &deploy.commit, false)?;
        input::object("tree", &deploy.tree, false)?;
        input::text("user", &deploy.user, 255)?;
        input::text("message", &deploy.message, MESSAGE_MAX)?;
        for cluster in &deploy.clusters {
            input::server("clusters", cluster)?;
        }
        if !TIMEOUT_MS.contains(&deploy.timeout_ms) {
            let text = format!("timeout_ms is {}: expected {TIMEOUT_MS:?}", deploy.timeout_ms);
            return Err(Status::invalid_argument(text));
        }
        deploy.author = audit::signed(&self.0, deploy.author, caller.as_ref());
        match self.propose(command::Command::DeployApp(deploy)).await? {
            Reply::AppDeployed(deployed) => Ok(Response::new(deployed)),
            _ => Err(unexpected()),
        }
    }

    async fn report(&self, request: Request<ReportApp>) -> Result<Response<AppReported>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let report = request.into_inner();
        input::tag("tag", &report.tag)?;
        input::own("server", &report.server, caller.as_ref())?;
        match &report.report {
            Some(Report::Rollout(report)) => input::text("rollout.text", &report.text, TEXT_MAX)?,
            Some(Report::Runs(runs)) => {
                input::text("runs.text", &runs.text, TEXT_MAX)?;
                input::object("runs.commit", &runs.commit, true)?;
                input::object("runs.tree", &runs.tree, true)?;
            }
            None => return Err(Status::invalid_argument("report is missing: expected rollout or runs")),
        }
        self.propose(command::Command::ReportApp(report)).await?;
        Ok(Response::new(AppReported {}))
    }

    async fn undeploy(&self, request: Request<UndeployApp>) -> Result<Response<AppUndeployed>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut undeploy = request.into_inner();
        input::tag("tag", &undeploy.tag)?;
        input::text("user", &undeploy.user, 255)?;
        audit::check(undeploy.author.as_ref())?;
        undeploy.author = audit::signed(&self.0, undeploy.author, caller.as_ref());
        match self.propose(command::Command::UndeployApp(undeploy)).await? {
            Reply::AppUndeployed(undeployed) => Ok(Response::new(undeployed)),
            _ => Err(unexpected()),
        }
    }

    async fn set_stopped(&self, request: Request<SetAppStopped>) -> Result<Response<AppStoppedSet>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut set = request.into_inner();
        input::tag("tag", &set.tag)?;
        audit::check(set.author.as_ref())?;
        set.author = audit::signed(&self.0, set.author, caller.as_ref());
        match self.propose(command::Command::SetAppStopped(set)).await? {
            Reply::App(app) => Ok(Response::new(AppStoppedSet { app })),
            _ => Err(unexpected()),
        }
    }

    async fn list(&self, _request: Request<ListApps>) -> Result<Response<AppList>, Status> {
        self.0.confirm_read().await?;
        let apps: Vec<App> = self.0.node().view().read().state.apps().iter().cloned().collect();
        Ok(Response::new(AppList { apps }))
    }
}
