//! What a command is answered with.

use proto::hub::v1::{
    App, AppDeployed, AppUndeployed, CacheCleared, CachesWritten, JobManaged, JobsDeclared, LeaseAcquired,
    LeasesReleased, LeasesRenewed, PurgeNoted, QueueManaged, QueuesConsumed, QueuesWritten, RunManaged,
    SecretPut, SessionOutcome, TokenCreated, TokenRevoked,
};

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// Of a session write.
    Session(SessionOutcome),
    /// Of a deployment's begin.
    AppDeployed(AppDeployed),
    /// Of taking an app away.
    AppUndeployed(AppUndeployed),
    /// The app as it is now, if there is one.
    App(Option<App>),
    /// Of a token's making.
    TokenCreated(TokenCreated),
    /// Of its end.
    TokenRevoked(TokenRevoked),
    /// Of a purge.
    PurgeNoted(PurgeNoted),
    /// Of a secret.
    SecretPut(SecretPut),
    /// Of asking for a lease.
    LeaseAcquired(LeaseAcquired),
    /// Of holding on to some.
    LeasesRenewed(LeasesRenewed),
    /// Of giving some back.
    LeasesReleased(LeasesReleased),
    /// Of writes to caches.
    CachesWritten(CachesWritten),
    /// Of writes to queues.
    QueuesWritten(QueuesWritten),
    /// Of what a server takes.
    QueuesConsumed(QueuesConsumed),
    /// Of what was done to a queue.
    QueueManaged(QueueManaged),
    /// Of a run's end by an operator.
    RunManaged(RunManaged),
    CacheCleared(CacheCleared),
    /// Of the jobs that an app declares.
    JobsDeclared(JobsDeclared),
    /// Of what was done to a job.
    JobManaged(JobManaged),
    /// Of all others.
    Done,
}
