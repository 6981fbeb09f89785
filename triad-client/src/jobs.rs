//! Jobs, as the hub's leader is asked for them.

use crate::{Hub, HubError, MESSAGE_MAX, leader::TRY_TIMEOUT};
use proto::hub::v1::{
    DeclareJobs, JobList, JobManaged, JobPut, JobSpec, JobsDeclared, ListJobs, ManageJob, PutJob, RemoveJob,
    jobs_client::JobsClient,
};
use std::time::Duration;

impl Hub {
    /// Declares the jobs of an app, in place of those before.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn declare_jobs(
        &self,
        app: &str,
        jobs: Vec<JobSpec>,
        deadline: Duration,
    ) -> Result<JobsDeclared, HubError> {
        let call = DeclareJobs { app: app.to_owned(), jobs, next_ms: Vec::new() };
        let declared = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let call = call.clone();
            async move { JobsClient::new(channel).declare(call).await }
        });
        declared.await
    }

    /// Makes a job, or changes it.
    ///
    /// # Errors
    /// See [`HubError`]; refused where its times are none.
    pub async fn put_job(&self, spec: JobSpec, deadline: Duration) -> Result<JobPut, HubError> {
        let put = PutJob { spec: Some(spec), next_ms: 0 };
        let put = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let put = put.clone();
            async move { JobsClient::new(channel).put(put).await }
        });
        put.await
    }

    /// Ends a job; whether there was one.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn remove_job(&self, name: &str, app: &str, deadline: Duration) -> Result<bool, HubError> {
        let remove = RemoveJob { name: name.to_owned(), app: app.to_owned() };
        let removed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let remove = remove.clone();
            async move { JobsClient::new(channel).remove(remove).await }
        });
        Ok(removed.await?.existed)
    }

    /// All of them, without the bodies that they publish.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn jobs(&self, deadline: Duration) -> Result<JobList, HubError> {
        self.find_jobs(ListJobs::default(), deadline).await
    }

    /// Those that are asked for.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn find_jobs(&self, list: ListJobs, deadline: Duration) -> Result<JobList, HubError> {
        let listed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let list = list.clone();
            async move { JobsClient::new(channel).max_decoding_message_size(MESSAGE_MAX).list(list).await }
        });
        listed.await
    }

    /// Runs a job now, for an app.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may run.
    pub async fn run_job(&self, manage: ManageJob, deadline: Duration) -> Result<JobManaged, HubError> {
        let managed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let manage = manage.clone();
            async move { JobsClient::new(channel).run(manage).await }
        });
        managed.await
    }

    /// Pauses a job, resumes it or runs it now, for an operator.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn manage_job(&self, manage: ManageJob, deadline: Duration) -> Result<JobManaged, HubError> {
        let managed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let manage = manage.clone();
            async move { JobsClient::new(channel).manage(manage).await }
        });
        managed.await
    }
}
