//! What an administrative command is in the audit log: read before it is applied, finished by what it was answered with.

use crate::state::{State, reply::Reply};
use bytes::Bytes;
use proto::hub::v1::{
    App, AuditEntry, Author, ClearCache, CreateToken, DeployApp, ManageJob, ManageQueue, ManageRun,
    MemberAdmin, RevokeToken, Rollout, RolloutOutcome, SetAppStopped, SetMemberAdmin, Token, TokenState,
    UndeployApp, app_deployed, command::Command, manage_job, manage_queue, token_created,
};
use std::fmt::Write;

/// Digits of a commit or of a token's hash that name it.
const DIGITS: usize = 12;

/// An administrative command that is about to be applied.
#[derive(Debug)]
pub(crate) struct Action {
    entry: AuditEntry,
    /// The same would not change anything.
    unchanged: bool,
    /// Of a deployment: its commit.
    commit: Bytes,
}

impl Action {
    /// Of a command; `None`: it is no administrator's, or has been applied before and is sent again.
    pub(crate) fn of(command: &Command, state: &State) -> Option<Self> {
        match command {
            Command::SetMemberAdmin(set) => Some(set_admin(set, state)),
            Command::DeployApp(it) => Some(deploy(it)),
            Command::UndeployApp(UndeployApp { tag, user, author }) => {
                Some(Self::new(author_of(author.as_ref(), user), "undeploy", tag.clone(), String::new()))
            }
            Command::SetAppStopped(SetAppStopped { tag, stopped, author }) => {
                let word = if *stopped { "stop" } else { "start" };
                let author = author_of(author.as_ref(), "");
                let before = state.apps().get(tag).map(|it| it.stopped);
                let action = Self::new(author, word, tag.clone(), String::new());
                Some(Self { unchanged: before == Some(*stopped), ..action })
            }
            Command::ManageJob(it) => manage_job(it),
            // One that takes several commands is one action.
            Command::ManageQueue(it) if it.upto == 0 => manage_queue(it),
            Command::ManageRun(it) => end_run(it),
            Command::ClearCache(it) => clear_cache(it),
            Command::CreateToken(it) => create_token(it, state),
            Command::RevokeToken(it) => Some(revoke_token(it, state)),
            _ => None,
        }
    }

    fn new(author: Author, action: &str, target: String, detail: String) -> Self {
        let (author, action) = (Some(author), action.to_owned());
        let entry = AuditEntry { author, action, target, detail, ..AuditEntry::default() };
        Self { entry, unchanged: false, commit: Bytes::new() }
    }

    /// The entry, by what the command was answered with; `None`: it was sent again.
    pub(crate) fn ended(mut self, reply: &Reply, state: &State) -> Option<AuditEntry> {
        let outcome = match reply {
            Reply::AppDeployed(it) => deployed(it.outcome.as_ref()?, &self.commit)?,
            Reply::AppUndeployed(it) if !it.existed => "there is no such app".to_owned(),
            Reply::App(None) => "there is no such app".to_owned(),
            Reply::TokenCreated(it) => match it.outcome.as_ref()? {
                token_created::Outcome::Created(_) => "done".to_owned(),
                token_created::Outcome::NameTaken(it) => format!("refused: {} has the name already", it.user),
                token_created::Outcome::Full(count) => format!("refused: there are {count} tokens"),
            },
            Reply::JobManaged(it) if it.unknown => "there is no such job".to_owned(),
            Reply::JobManaged(it) if it.runs => "it runs already".to_owned(),
            Reply::QueueManaged(it) if it.unknown => "there is no such queue".to_owned(),
            Reply::RunManaged(it) if it.unknown => "there is no such run".to_owned(),
            Reply::RunManaged(it) if it.over => "it was over before".to_owned(),
            Reply::CacheCleared(it) if it.unknown => "the hub had nothing of it".to_owned(),
            Reply::CacheCleared(it) => format!("{} entries", it.entries),
            Reply::TokenRevoked(it) if it.token.is_none() => "there is no such token".to_owned(),
            Reply::Done if state.members().get(&self.entry.target).is_none() => {
                "there is no such server".to_owned()
            }
            _ if self.unchanged => "unchanged".to_owned(),
            _ => "done".to_owned(),
        };
        self.entry.outcome = outcome;
        Some(self.entry)
    }

    /// The entry of a rollout that has ended: what became of what somebody began.
    pub(crate) fn of_rollout(tag: &str, rollout: &Rollout) -> AuditEntry {
        let outcome = match rollout.outcome() {
            RolloutOutcome::Failed => format!("failed: {}", rollout.why),
            RolloutOutcome::Activated | RolloutOutcome::UnderWay => "activated".to_owned(),
        };
        let author = Author { user: rollout.user.clone(), ..Author::default() };
        let detail = format!("commit {}", short(&rollout.commit));
        AuditEntry { outcome, ..Self::new(author, "rollout", tag.to_owned(), detail).entry }
    }
}

/// As the leader signed it; one that an older server had applied names a user at most.
fn author_of(author: Option<&Author>, user: &str) -> Author {
    author.cloned().unwrap_or_else(|| Author { user: user.to_owned(), ..Author::default() })
}

fn set_admin(set: &SetMemberAdmin, state: &State) -> Action {
    let word = match set.admin() {
        MemberAdmin::Enabled => "enable",
        MemberAdmin::DisabledSoft => "disable-soft",
        MemberAdmin::Disabled => "disable",
    };
    let before = state.members().get(&set.id).map(|it| it.admin);
    let action = Action::new(author_of(set.author.as_ref(), ""), word, set.id.clone(), String::new());
    Action { unchanged: before == Some(set.admin), ..action }
}

/// `None`: an app does it with its own.
fn manage_queue(call: &ManageQueue) -> Option<Action> {
    let author = call.author.clone()?;
    let (word, detail) = match call.action.as_ref()? {
        manage_queue::Action::Pause(true) => ("pause-queue", String::new()),
        manage_queue::Action::Pause(false) => ("resume-queue", String::new()),
        manage_queue::Action::Purge(purge) if purge.dead => ("purge-queue", "dead messages".to_owned()),
        manage_queue::Action::Purge(_) => ("purge-queue", String::new()),
        manage_queue::Action::Replay(replay) if replay.ids.is_empty() => ("replay-queue", "all".to_owned()),
        manage_queue::Action::Replay(replay) => ("replay-queue", format!("{} messages", replay.ids.len())),
    };
    Some(Action::new(author, word, call.queue.clone(), detail))
}

/// The same.
fn manage_job(call: &ManageJob) -> Option<Action> {
    let word = match call.action.as_ref()? {
        manage_job::Action::Pause(true) => "pause-job",
        manage_job::Action::Pause(false) => "resume-job",
        manage_job::Action::Run(_) => "run-job",
        manage_job::Action::Remove(_) => "remove-job",
    };
    Some(Action::new(call.author.clone()?, word, call.name.clone(), String::new()))
}

/// The same.
fn end_run(call: &ManageRun) -> Option<Action> {
    Some(Action::new(call.author.clone()?, "end-run", call.pipeline.clone(), format!("run {}", call.run)))
}

/// The same.
fn clear_cache(call: &ClearCache) -> Option<Action> {
    Some(Action::new(call.author.clone()?, "clear-cache", call.cache.clone(), String::new()))
}

fn deploy(deploy: &DeployApp) -> Action {
    let author = author_of(deploy.author.as_ref(), &deploy.user);
    let word = match author.verb.as_str() {
        "" if deploy.again => "restart",
        "" => "deploy",
        verb => verb,
    };
    let mut detail = format!("commit {}", short(&deploy.commit));
    if !deploy.message.is_empty() {
        let _ = write!(detail, ": {}", deploy.message);
    }
    let action = Action::new(author.clone(), word, deploy.tag.clone(), detail);
    Action { commit: deploy.commit.clone(), ..action }
}

/// `None`: it had been begun before.
fn deployed(outcome: &app_deployed::Outcome, commit: &Bytes) -> Option<String> {
    use app_deployed::Outcome;
    let same = |app: &App| app.rollout.as_ref().is_some_and(|it| it.commit == *commit);
    Some(match outcome {
        Outcome::Begun(_) => "begun".to_owned(),
        Outcome::Unchanged(_) => "unchanged".to_owned(),
        Outcome::Busy(app) | Outcome::Conflict(app) if same(app) => return None,
        Outcome::Busy(app) => {
            let user = app.rollout.as_ref().map(|it| it.user.as_str()).unwrap_or_default();
            format!("refused: another deployment is under way, by {user}")
        }
        Outcome::Conflict(app) => {
            format!("refused: another version has come into use meanwhile, by {}", app.user)
        }
        Outcome::Full(count) => format!("refused: there are {count} apps"),
        Outcome::NoServers(_) => "refused: no server that would run it is up".to_owned(),
    })
}

fn create_token(create: &CreateToken, state: &State) -> Option<Action> {
    if find(state, &create.hash).is_some() {
        return None;
    }
    let target = name(&create.name, &create.hash);
    let detail = format!("may {} for {} s", create.roles.join(", "), create.valid_ms / 1000);
    Some(Action::new(author_of(create.author.as_ref(), &create.user), "create-token", target, detail))
}

fn revoke_token(revoke: &RevokeToken, state: &State) -> Action {
    let token = find(state, &revoke.hash);
    let target = name(token.map(|it| it.name.as_str()).unwrap_or_default(), &revoke.hash);
    let detail = token.map(|it| format!("of {}", it.user)).unwrap_or_default();
    let action = Action::new(author_of(revoke.author.as_ref(), ""), "revoke-token", target, detail);
    Action { unchanged: token.is_some_and(|it| it.state() != TokenState::Valid), ..action }
}

fn find<'a>(state: &'a State, hash: &Bytes) -> Option<&'a Token> {
    state.tokens().iter().find(|it| it.hash == *hash)
}

fn name(name: &str, hash: &[u8]) -> String {
    if name.is_empty() { short(hash) } else { name.to_owned() }
}

fn short(bytes: &[u8]) -> String {
    let mut digits = String::new();
    for byte in bytes.iter().take(DIGITS / 2) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
