//! The hub's servers, each asked how it does: for `deploy-tool triad status` and whoever else shows it.

use crate::{AnswerBody, Inner, apps::change, json, refusal::Refusal, sign_in::SignedIn};
use http::{Response, StatusCode};
use proto::hub::v1::{TriadRole, TriadStatus};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use triad_client::{Hub, HubError};

/// A server that lives answers within milliseconds.
const ASK: Duration = Duration::from_secs(1);

/// A hand-over takes an election at most, and may have to be asked for twice.
const HAND_OVER: Duration = Duration::from_secs(10);

/// `POST /api/v1/triad/lead`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOver {
    /// The hub server that is to lead.
    to: String,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct HandedOver {
    /// Who leads now.
    leader: String,
    term: u64,
}

impl Inner {
    /// Hands the lead of the hub over, as a JSON body says.
    pub(crate) async fn hand_over_lead(
        &self,
        asker: &SignedIn,
        body: &str,
    ) -> Result<Response<AnswerBody>, Refusal> {
        asker.must_operate()?;
        let HandOver { to } = change::read(body)?;
        let (leader, term) = self.hand_over(asker, &to).await?;
        Ok(json(StatusCode::OK, &HandedOver { leader, term }))
    }

    /// Who leads then, and in which term.
    ///
    /// # Errors
    /// The server is none of the hub, can't lead now, or another one leads all the same.
    pub(crate) async fn hand_over(&self, asker: &SignedIn, to: &str) -> Result<(String, u64), Refusal> {
        asker.must_operate()?;
        tracing::info!(user = asker.user.name, to, "an administrator has the lead handed over");
        let handed = self.hub.hand_over_lead(to, asker.author(""), HAND_OVER).await;
        let handed = handed.map_err(|cause| match cause {
            HubError::Unavailable { .. } => Refusal::Unsure(cause),
            cause => Refusal::Hub(cause),
        })?;
        if handed.leader != to {
            return Err(Refusal::NotHandedOver { to: to.to_owned(), leader: handed.leader });
        }
        Ok((handed.leader, handed.term))
    }
}

/// `GET /api/v1/triad`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TriadRecord {
    /// Who leads by its own word, in the highest term; none while nobody does.
    pub(crate) leader: Option<String>,
    /// Its term.
    pub(crate) term: Option<u64>,
    /// Whether more than half of the hub's servers take part. Without them nothing can be changed.
    pub(crate) majority: bool,
    /// In the order of the file.
    pub(crate) servers: Vec<TriadServer>,
}

/// A hub server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TriadServer {
    pub(crate) id: String,
    /// `leader`, `follower`, `candidate`, `joining` or `stopped`; `unreachable`: it did not answer within a second.
    pub(crate) state: &'static str,
    /// Why it is unreachable.
    pub(crate) why: Option<String>,
    pub(crate) term: Option<u64>,
    /// Index of its log's last entry, and up to which the log is in its state.
    pub(crate) last_log: Option<u64>,
    pub(crate) applied: Option<u64>,
    /// Entries that a majority has and its state has not. A few are under way at any time.
    pub(crate) behind: Option<u64>,
    pub(crate) sessions: Option<u64>,
    /// Bytes that they take in its memory.
    pub(crate) session_bytes: Option<u64>,
    /// Bytes that can still be written where its log is, and that there are in all; none when its system does not say.
    pub(crate) disk_free_bytes: Option<u64>,
    pub(crate) disk_bytes: Option<u64>,
    /// Of the leader: when a majority has last confirmed it.
    pub(crate) confirmed_ms_ago: Option<u64>,
}

/// Asks all hub servers at once, for a second at most.
pub(crate) async fn ask(hub: &Hub) -> TriadRecord {
    let answers = hub.triad(ASK).await;
    record(answers.into_iter().map(|(id, answer)| (id.as_str().to_owned(), answer)).collect())
}

fn record(answers: Vec<(String, Result<TriadStatus, String>)>) -> TriadRecord {
    let known = || answers.iter().filter_map(|(id, answer)| Some((id, answer.as_ref().ok()?)));
    let leader = known().filter(|(_, it)| it.role() == TriadRole::Leader).max_by_key(|(_, it)| it.term);
    let committed = known().map(|(_, it)| it.committed).max().unwrap_or_default();
    let takes_part = |it: &TriadStatus| matches!(it.role(), TriadRole::Leader | TriadRole::Follower);
    let (leader, term) = (leader.map(|(id, _)| id.clone()), leader.map(|(_, it)| it.term));
    let majority = known().filter(|(_, it)| takes_part(it)).count() > answers.len() / 2;
    let servers = answers.into_iter().map(|(id, answer)| server(id, answer, committed)).collect();
    TriadRecord { leader, term, majority, servers }
}

fn server(id: String, answer: Result<TriadStatus, String>, committed: u64) -> TriadServer {
    let (answer, why) = match answer {
        Ok(answer) => (Some(answer), None),
        Err(why) => (None, Some(why)),
    };
    let state = answer.as_ref().map_or("unreachable", |it| match it.role() {
        TriadRole::Leader => "leader",
        TriadRole::Follower => "follower",
        TriadRole::Candidate => "candidate",
        TriadRole::Joining => "joining",
        TriadRole::Stopped => "stopped",
        TriadRole::Unspecified => "unknown",
    });
    let number = |of: fn(&TriadStatus) -> u64| answer.as_ref().map(of);
    TriadServer {
        id,
        state,
        why,
        term: number(|it| it.term),
        last_log: number(|it| it.last_log),
        applied: number(|it| it.applied),
        behind: answer.as_ref().map(|it| committed.saturating_sub(it.applied)),
        sessions: number(|it| it.sessions),
        session_bytes: number(|it| it.session_bytes),
        disk_free_bytes: answer.as_ref().and_then(|it| it.disk_free_bytes),
        disk_bytes: answer.as_ref().and_then(|it| it.disk_bytes),
        confirmed_ms_ago: answer.as_ref().and_then(|it| it.confirmed_ms_ago),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(role: TriadRole, term: u64, applied: u64) -> Result<TriadStatus, String> {
        let disk = Some(5);
        let numbers = TriadStatus {
            term,
            applied,
            committed: applied,
            disk_free_bytes: disk,
            ..TriadStatus::default()
        };
        Ok(TriadStatus { role: role.into(), ..numbers })
    }

    fn of(answers: [Result<TriadStatus, String>; 3]) -> TriadRecord {
        record(["app-a", "app-b", "app-c"].map(str::to_owned).into_iter().zip(answers).collect())
    }

    #[test]
    fn who_leads_who_is_behind_and_who_does_not_answer() {
        let gone = Err("no answer within 1s".to_owned());
        let hub = of([status(TriadRole::Follower, 7, 90), status(TriadRole::Leader, 7, 100), gone]);
        assert_eq!((hub.leader.as_deref(), hub.term, hub.majority), (Some("app-b"), Some(7), true));
        assert_eq!(hub.servers.iter().map(|it| it.behind).collect::<Vec<_>>(), [Some(10), Some(0), None]);
        assert_eq!(hub.servers[0].disk_free_bytes, Some(5));
        let gone = &hub.servers[2];
        assert_eq!((gone.state, gone.why.as_deref()), ("unreachable", Some("no answer within 1s")));
    }

    #[test]
    fn a_leader_that_was_deposed_without_knowing_it_is_none_and_one_server_is_no_majority() {
        let two = of([
            status(TriadRole::Leader, 6, 5),
            status(TriadRole::Leader, 7, 9),
            status(TriadRole::Joining, 0, 0),
        ]);
        assert_eq!((two.leader.as_deref(), two.term, two.majority), (Some("app-b"), Some(7), true));
        let alone =
            of([status(TriadRole::Candidate, 9, 5), Err(String::new()), status(TriadRole::Follower, 9, 5)]);
        assert_eq!((alone.leader, alone.term, alone.majority), (None, None, false));
    }
}
