//! Jobs, as the hub's leader is asked for them.

use crate::{Hub, HubError, MESSAGE_MAX, leader::TRY_TIMEOUT};
use proto::hub::v1::{
    DeclareJobs, JobList, JobManaged, JobsDeclared, ListJobs, ManageJob, jobs_client::JobsClient,
};
use std::time::Duration;

impl Hub {
    /// Declares the jobs of an app, in place of those before.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn declare_jobs(
        &self,
        call: DeclareJobs,
        deadline: Duration,
    ) -> Result<JobsDeclared, HubError> {
        let declared = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let call = call.clone();
            async move { JobsClient::new(channel).declare(call).await }
        });
        declared.await
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

    /// Pauses a job, resumes it, removes it or runs it now, for an operator.
    ///
    /// # Errors
    /// See [`HubError`]; after [`HubError::Unavailable`] it may run.
    pub async fn manage_job(&self, manage: ManageJob, deadline: Duration) -> Result<JobManaged, HubError> {
        let managed = self.leader.call(deadline, TRY_TIMEOUT, |channel| {
            let manage = manage.clone();
            async move { JobsClient::new(channel).manage(manage).await }
        });
        managed.await
    }
}
