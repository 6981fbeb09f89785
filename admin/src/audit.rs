//! Who has changed what: the audit log that the hub keeps, as the page and the JSON have it, and notes of what is no command of the hub.

use crate::{
    AnswerBody, HUB_WAIT, Inner, apps::route::query_pairs, json, refusal::Refusal, sign_in::SignedIn,
    timestamp,
};
use common::log_limit::LogLimit;
use http::{HeaderMap, Response, StatusCode, Uri};
use proto::hub::v1::{AuditEntry, AuditKind, AuditList, Author, NoteAudit};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Entries of one page, unless it says otherwise.
const ENTRIES: u32 = 100;
const ENTRIES_MAX: u32 = 1000;

/// How long a page waits for the hub: it says so then, and is shown all the same.
pub(crate) const PAGE_WAIT: Duration = Duration::from_secs(1);

/// Notes on their way to the hub: more of them are left out, with a line in the log.
const NOTES: usize = 16;

/// Failed sign-ins are written down once in so long, with their number: a stranger can cause as many as he likes.
const FAILURES: Duration = Duration::from_secs(30);

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AuditQuery {
    /// Before this number; 0: the newest.
    pub(crate) before: u64,
    pub(crate) limit: u32,
    /// None: all.
    pub(crate) kind: Option<&'static str>,
}

/// The kinds by their names.
pub(crate) const KINDS: [(&str, AuditKind); 3] =
    [("action", AuditKind::Action), ("sign-in", AuditKind::SignIn), ("health", AuditKind::Health)];

impl AuditQuery {
    /// The newest of all kinds.
    pub(crate) fn newest() -> Self {
        Self { limit: ENTRIES, ..Self::default() }
    }

    /// # Errors
    /// A parameter that there is not, or a value that is none.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let mut query = Self::newest();
        for (name, value) in query_pairs(uri)? {
            let wrong = |expected: &str| {
                let value: String = value.chars().take(50).collect();
                Refusal::Body(format!("{name} is {value:?}: expected {expected}"))
            };
            match &*name {
                "before" => query.before = value.parse().map_err(|_| wrong("the number of an entry"))?,
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=ENTRIES_MAX).contains(it));
                    query.limit = limit.ok_or_else(|| wrong("1 to 1000"))?;
                }
                "kind" if value.is_empty() => {}
                // Of the page itself.
                "done" => {}
                "kind" => {
                    let known = KINDS.iter().find(|(name, _)| *name == value);
                    query.kind = Some(known.ok_or_else(|| wrong("action, sign-in or health"))?.0);
                }
                _ => {
                    let name: String = name.chars().take(50).collect();
                    return Err(Refusal::Body(format!(
                        "the query has {name:?}: expected before, limit and kind"
                    )));
                }
            }
        }
        Ok(query)
    }
}

/// `GET /api/v1/audit`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AuditRecord {
    /// The newest first.
    pub(crate) entries: Vec<EntryRecord>,
    /// Whether there are older ones: `before` is the last entry's number then.
    pub(crate) more: bool,
}

/// An entry.
#[derive(Debug, Serialize)]
pub(crate) struct EntryRecord {
    pub(crate) number: u64,
    pub(crate) time: Option<String>,
    /// `action`, `sign-in` or `health`.
    pub(crate) kind: &'static str,
    /// None for a server by itself.
    pub(crate) user: Option<String>,
    /// The token that was shown in place of a password.
    pub(crate) token: Option<String>,
    /// The client's, where it is known.
    pub(crate) address: Option<String>,
    /// The server that was asked.
    pub(crate) server: Option<String>,
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) detail: String,
    pub(crate) outcome: String,
}

impl AuditRecord {
    pub(crate) fn of(list: AuditList) -> Self {
        Self { entries: list.entries.into_iter().map(EntryRecord::of).collect(), more: list.more }
    }
}

impl EntryRecord {
    fn of(entry: AuditEntry) -> Self {
        let kind = entry.kind();
        let AuditEntry { number, time_ms, author, action, target, detail, outcome, .. } = entry;
        let Author { user, token, address, server, verb: _ } = author.unwrap_or_default();
        let some = |text: String| Some(text).filter(|it| !it.is_empty());
        Self {
            number,
            time: timestamp::format(time_ms),
            kind: KINDS.iter().find(|(_, it)| *it == kind).map_or("action", |(name, _)| name),
            user: some(user),
            token: some(token),
            address: some(address),
            server: some(server),
            action,
            target,
            detail,
            outcome,
        }
    }
}

/// Notes on their way.
#[derive(Debug)]
pub(crate) struct Notes {
    places: Arc<Semaphore>,
    failures: LogLimit,
}

impl Default for Notes {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(NOTES)), failures: LogLimit::new(FAILURES) }
    }
}

impl Inner {
    /// The entries that a query asks for, as far as the hub answers within `wait`.
    pub(crate) async fn audit(&self, query: &AuditQuery, wait: Duration) -> Result<AuditRecord, Refusal> {
        let kind = KINDS.iter().find(|(name, _)| Some(*name) == query.kind).map(|(_, kind)| *kind);
        let listed = self.hub.audit((query.before, query.limit), kind.as_slice(), wait).await?;
        Ok(AuditRecord::of(listed))
    }

    /// The same as an answer.
    pub(crate) async fn audit_answer(&self, query: &AuditQuery) -> Result<Response<AnswerBody>, Refusal> {
        Ok(json(StatusCode::OK, &self.audit(query, HUB_WAIT).await?))
    }

    /// Has the hub write something down, without waiting for it.
    pub(crate) fn note(&self, note: NoteAudit) {
        let Ok(place) = self.notes.places.clone().try_acquire_owned() else {
            tracing::warn!(
                action = note.action,
                target = note.target,
                "too many notes at once: not in the audit log"
            );
            return;
        };
        let hub = self.hub.clone();
        tokio::spawn(async move {
            let _place = place;
            let (action, target) = (note.action.clone(), note.target.clone());
            if let Err(cause) = hub.note(note, HUB_WAIT).await {
                tracing::warn!(%cause, action, target, "not in the audit log");
            }
        });
    }

    /// Somebody has signed in to the status page, or out.
    pub(crate) fn note_session(&self, action: &str, asker: &SignedIn) {
        self.note(NoteAudit {
            kind: AuditKind::SignIn.into(),
            author: Some(asker.author("")),
            action: action.to_owned(),
            outcome: "done".to_owned(),
            ..NoteAudit::default()
        });
    }

    /// Somebody has failed to sign in: neither the name nor the password that was tried is kept, for one may be the other.
    pub(crate) fn note_failure(&self, refusal: &Refusal, headers: &HeaderMap) {
        if !matches!(refusal, Refusal::Wrong | Refusal::WrongToken | Refusal::TokenEnded { .. }) {
            return;
        }
        let Some(count) = self.notes.failures.note(self.clock.now(), 1) else { return };
        let address = crate::gate::client(headers).map(|it| it.to_string()).unwrap_or_default();
        self.note(NoteAudit {
            kind: AuditKind::SignIn.into(),
            author: Some(Author { address, ..Author::default() }),
            action: "failed-sign-in".to_owned(),
            detail: if count > 1 { format!("{count} since the last entry") } else { String::new() },
            outcome: "refused".to_owned(),
            ..NoteAudit::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_entries_and_what_is_wrong_with_it_is_told() {
        let of = |query: &str| {
            AuditQuery::of(&format!("/x?{query}").parse().unwrap()).map_err(|it| it.to_string())
        };
        assert_eq!(of("").unwrap(), AuditQuery { before: 0, limit: 100, kind: None });
        assert_eq!(
            of("before=7&limit=1000&kind=sign-in").unwrap(),
            AuditQuery { before: 7, limit: 1000, kind: Some("sign-in") }
        );
        assert_eq!(of("kind=").unwrap().kind, None);
        for (query, words) in [
            ("limit=0", "limit is \"0\": expected 1 to 1000"),
            ("limit=1001", "limit is \"1001\""),
            ("before=x", "before is \"x\": expected the number of an entry"),
            ("kind=all", "kind is \"all\": expected action, sign-in or health"),
            ("user=ops", "the query has \"user\": expected before, limit and kind"),
        ] {
            let told = of(query).unwrap_err();
            assert!(told.starts_with(words), "{told}");
        }
    }
}
