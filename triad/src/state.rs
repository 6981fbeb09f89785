//! The replicated state: a pure function of the batches in the log. No I/O, no clock, no randomness, and nothing whose order
//! differs between servers. It lives on persistent maps, so that a clone costs nothing and is a consistent snapshot.

pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod cache;
mod change;
pub(crate) mod job;
mod key;
pub(crate) mod lease;
pub(crate) mod member;
pub(crate) mod memory;
pub(crate) mod purge;
pub(crate) mod queue;
mod reply;
pub(crate) mod secret;
pub(crate) mod session;
mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod token;
mod tombstone;
mod written;

pub(crate) use change::Change;
pub(crate) use reply::Reply;
pub(crate) use snapshot::{Restore, RestoreError};

use crate::command::AUDIT;
use app::Apps;
use audit::{Action, Audit};
use cache::Caches;
use job::Jobs;
use lease::Leases;
use member::Members;
use memory::Memory;
use proto::hub::v1::{Batch, MemberState, Rollout, RolloutOutcome, SessionKey, command::Command};
use purge::Purges;
use queue::{Around, Queues};
use secret::Secrets;
use session::{Session, Sessions};
use std::sync::Arc;
use token::Tokens;

/// From this version of commands on the log tells how long the hub was away: all servers apply it alike.
const TELLS_AWAY: u32 = 3;

/// A leader that a majority follows writes something at least this often while there are sessions.
pub(crate) const MARK_MS: u64 = 2_000;

/// A longer pause in the log is a time without a hub. An election in between is none.
const AWAY_MS: u64 = 5_000;

/// After such a pause sessions are that much younger: the app servers have this long to say which of them were used meanwhile.
const GRACE_MS: u64 = 10_000;

/// Everything the hub knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    /// The greatest time that a batch was stamped with. A leader whose clock is behind can't turn it back.
    time_ms: u64,
    /// The newest version of commands in the log: all servers read it. 0 before the first batch.
    commands: u32,
    /// How much of the time sessions do not age by: what passed while there was no hub, and a grace for each such pause.
    away_ms: u64,
    sessions: Sessions,
    members: Members,
    apps: Apps,
    tokens: Tokens,
    audit: Audit,
    purges: Purges,
    secrets: Secrets,
    leases: Leases,
    caches: Caches,
    queues: Queues,
    jobs: Jobs,
}

impl State {
    /// Applies a batch: one reply a command, and what changed.
    pub(crate) fn apply(&mut self, batch: Batch) -> (Vec<Reply>, Vec<Change>) {
        self.pass(batch.time_ms);
        self.commands = self.commands.max(batch.version);
        let mut changes = Vec::new();
        let replies = batch.commands.into_iter().map(|command| match command.command {
            Some(command) => self.run(command, &mut changes),
            // Refused when the batch was decoded.
            None => Reply::Done,
        });
        (replies.collect(), changes)
    }

    /// Carries a command out, and makes the audit log's entry of it, if it is an administrator's.
    fn run(&mut self, command: Command, changes: &mut Vec<Change>) -> Reply {
        // By what the log says, so that all servers do it alike.
        let is_often =
            matches!(command, Command::Session(_) | Command::WriteCaches(_) | Command::WriteQueues(_));
        let audited = self.commands >= AUDIT && !is_often;
        if !audited {
            return self.carry_out(command, changes);
        }
        let (action, under_way) = (Action::of(&command, self), self.apps.under_way());
        let reply = self.carry_out(command, changes);
        if let Some(entry) = action.and_then(|it| it.ended(&reply, self)) {
            self.audit.add(entry, self.time_ms);
        }
        for (tag, number) in under_way {
            let app = self.apps.get(&tag).cloned();
            let ended = |it: &Rollout| it.number == number && it.outcome() != RolloutOutcome::UnderWay;
            if let Some(rollout) = app.and_then(|it| it.rollout).filter(ended) {
                self.audit.add(Action::of_rollout(&tag, &rollout), self.time_ms);
            }
        }
        reply
    }

    fn carry_out(&mut self, command: Command, changes: &mut Vec<Change>) -> Reply {
        let (now_ms, session_ms) = (self.time_ms, self.session_ms());
        match command {
            Command::Session(write) => Reply::Session(self.sessions.write(write, session_ms, changes)),
            Command::ExpireSessions(expire) => {
                self.sessions.expire(expire.limit, session_ms, changes);
                Reply::Done
            }
            Command::ExpireUnused(expire) => {
                self.sessions.expire_unused(&expire, session_ms, changes);
                Reply::Done
            }
            Command::RegisterMember(member) => {
                let (id, started_ms) = (member.id.clone(), member.started_ms);
                self.members.register(member, now_ms, changes);
                // What another process of it had is others'.
                self.queues.follows(&id, started_ms, now_ms, changes);
                self.member_changed(&id, changes);
                Reply::Done
            }
            Command::SetMemberState(set) => {
                self.members.set_state(&set, now_ms, changes);
                self.member_changed(&set.id, changes);
                if self.members.get(&set.id).is_some_and(|it| it.state() == MemberState::Down) {
                    self.queues.release(&set.id, now_ms, changes);
                }
                Reply::Done
            }
            Command::SetMemberAdmin(set) => {
                self.members.set_admin(&set, now_ms, changes);
                Reply::Done
            }
            Command::DeployApp(deploy) => self.apps.deploy(deploy, &self.members, now_ms, changes),
            Command::ReportApp(report) => {
                self.apps.report(report, now_ms, changes);
                Reply::Done
            }
            Command::UndeployApp(undeploy) => {
                self.jobs.undeployed(&undeploy.tag, &mut self.queues);
                self.apps.undeploy(undeploy, changes)
            }
            Command::SetAppStopped(set) => self.apps.set_stopped(&set, changes),
            Command::ExpireRollouts(_) => {
                self.apps.expire(now_ms, changes);
                Reply::Done
            }
            Command::CreateToken(create) => self.tokens.create(create, now_ms, changes),
            Command::RevokeToken(revoke) => self.tokens.revoke(&revoke, now_ms, changes),
            Command::ExpireTokens(_) => {
                self.tokens.expire(now_ms, changes);
                Reply::Done
            }
            Command::NoteAudit(note) => {
                self.audit.note(note, now_ms);
                Reply::Done
            }
            Command::NotePurge(note) => self.purges.note(note, now_ms, changes),
            Command::PutSecret(put) => self.secrets.put(put, now_ms, changes),
            service => self.serve(service, changes),
        }
    }

    /// Carries out what apps ask of each other.
    fn serve(&mut self, command: Command, changes: &mut Vec<Change>) -> Reply {
        let now_ms = self.time_ms;
        match command {
            Command::AcquireLease(acquire) => self.leases.acquire(acquire, now_ms, changes),
            Command::RenewLeases(renew) => self.leases.renew(&renew),
            Command::ReleaseLeases(release) => self.leases.release(&release, changes),
            Command::WriteCaches(call) => {
                Reply::CachesWritten(self.caches.write(call, &self.leases, now_ms, changes))
            }
            Command::ClearCache(call) => Reply::CacheCleared(self.caches.clear(&call.cache, changes)),
            Command::ExpireCached(expire) => {
                self.caches.expire(&expire, now_ms);
                Reply::Done
            }
            Command::ExpireLeases(expire) => {
                self.leases.expire(&expire, changes);
                Reply::Done
            }
            Command::WriteQueues(call) => {
                let (leases, caches, jobs) = (&self.leases, &mut self.caches, &mut self.jobs);
                let around = &mut Around { leases, caches, jobs, now_ms, changes };
                Reply::QueuesWritten(self.queues.write(call, around))
            }
            Command::ConsumeQueues(call) => Reply::QueuesConsumed(self.queues.consume(call, now_ms, changes)),
            Command::ManageQueue(call) => Reply::QueueManaged(self.queues.manage(call, now_ms, changes)),
            Command::ManageRun(call) => Reply::RunManaged(self.queues.end_run(&call, now_ms, changes)),
            Command::DeclareJobs(call) => {
                let queues = &mut self.queues;
                Reply::JobsDeclared(self.jobs.declare(call, &self.apps, queues, now_ms, changes))
            }
            Command::ManageJob(call) => {
                Reply::JobManaged(self.jobs.manage(&call, &mut self.queues, now_ms, changes))
            }
            Command::FireJobs(fires) => {
                self.jobs.fire(&fires, &mut self.queues, now_ms, changes);
                Reply::Done
            }
            Command::ExpireQueues(expire) => {
                self.queues.expire(&expire, now_ms, changes);
                Reply::Done
            }
            _ => Reply::Done,
        }
    }

    /// A session that has not expired.
    pub(crate) fn session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.sessions.get(key, self.session_ms())
    }

    /// Time without a hub is nobody's idleness: users could not be told of, or not be served.
    fn pass(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.time_ms);
        if self.commands >= TELLS_AWAY && self.time_ms > 0 && passed_ms > AWAY_MS {
            self.away_ms = self.away_ms.saturating_add(passed_ms + GRACE_MS);
        }
        self.time_ms = self.time_ms.max(now_ms);
    }

    /// The time by which sessions age.
    fn session_ms(&self) -> u64 {
        self.time_ms.saturating_sub(self.away_ms)
    }

    /// How long it is, at `now_ms`, that the log has told of the hub; `None` while nothing depends on it.
    pub(crate) fn unmarked_ms(&self, now_ms: u64) -> Option<u64> {
        let matters = self.commands >= TELLS_AWAY && self.sessions.len() > 0;
        matters.then(|| now_ms.saturating_sub(self.time_ms))
    }

    /// Of the apps with sessions that were made more than `unused_ms` before `now_ms` and never used again, the one that takes the most.
    pub(crate) fn largest_unused(&self, now_ms: u64, unused_ms: u64) -> Option<&str> {
        let session_ms = now_ms.saturating_sub(self.away_ms);
        self.sessions.memory().largest_unused(session_ms.saturating_sub(unused_ms))
    }

    /// The time by which sessions age, when the hub's is `now_ms`.
    pub(crate) fn session_ms_at(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.away_ms)
    }

    /// What the sessions take.
    pub(crate) fn memory(&self) -> &Memory {
        self.sessions.memory()
    }

    /// The newest version of commands in the log: all servers had said that they read it.
    pub(crate) fn commands(&self) -> u32 {
        self.commands
    }

    /// Rollouts wait for members.
    fn member_changed(&mut self, id: &str, changes: &mut Vec<Change>) {
        if let Some(member) = self.members.get(id) {
            self.apps.member_changed(member, self.time_ms, changes);
        }
    }

    /// The apps, by tag.
    pub(crate) fn apps(&self) -> &Apps {
        &self.apps
    }

    /// The tokens, by hash.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// What web-tiers are to forget.
    pub(crate) fn purges(&self) -> &Purges {
        &self.purges
    }

    /// What web-tiers share and keep.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Who holds what.
    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What apps have cached.
    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    /// What is due at times.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What apps hand each other.
    pub(crate) fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Who has changed what.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The members, by id.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Sessions held, expired ones that were not yet removed included.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The earliest time at which a session may be due, if any has a deadline.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.sessions.next_deadline_ms().map(|at_ms| at_ms.saturating_add(self.away_ms))
    }
}
