//! When the leader last heard of each member, and who says that another is down. In memory only: a new leader starts afresh
//! and grants everyone a whole window.

use common::id::ServerId;
use proto::hub::v1::{Member, MemberLoad, MemberState, SetMemberState};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Missed heartbeats before a member is down.
const MISSED: u32 = 3;

/// The leader's memory of its members.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// When each process was last heard of.
    heard: HashMap<(String, u64), Instant>,
    /// Hub servers that a process refused, and when.
    suspects: HashMap<(String, u64), HashMap<ServerId, Instant>>,
    /// CPU loads that were reported since they were last told.
    loads: HashMap<String, u32>,
    /// Since when this server leads.
    leads_since: Option<Instant>,
}

impl Heartbeats {
    /// This server leads from now on, knowing nothing.
    pub(crate) fn restart(&self, now: Instant) {
        *self.lock() = Inner { leads_since: Some(now), ..Inner::default() };
    }

    /// A process lives.
    pub(crate) fn heard(&self, id: &str, started_ms: u64, now: Instant) {
        let mut inner = self.lock();
        inner.heard.insert((id.to_owned(), started_ms), now);
        inner.suspects.remove(&(id.to_owned(), started_ms));
    }

    /// How long ago each of `members` was heard of; nothing while this server does not lead.
    pub(crate) fn ages<'a>(
        &self,
        members: impl Iterator<Item = &'a Member>,
        now: Instant,
    ) -> Vec<(String, Duration)> {
        let inner = self.lock();
        let age = |member: &Member| {
            let heard = inner.heard.get(&(member.id.clone(), member.started_ms))?;
            Some((member.id.clone(), now.saturating_duration_since(*heard)))
        };
        members.filter_map(age).collect()
    }

    /// A member reports its CPU load, in thousandths.
    pub(crate) fn loaded(&self, id: String, cpu_load: u32) {
        self.lock().loads.insert(id, cpu_load.min(1000));
    }

    /// The loads that were reported since the last call, by member.
    pub(crate) fn take_loads(&self) -> Vec<MemberLoad> {
        let loads = std::mem::take(&mut self.lock().loads);
        loads.into_iter().map(|(id, cpu_load)| MemberLoad { id, cpu_load }).collect()
    }

    /// A hub server says that a process refused its connection; true when enough of them say so. `window` is how long a
    /// word counts.
    pub(crate) fn suspect(
        &self,
        set: &SetMemberState,
        reporter: &ServerId,
        needed: usize,
        window: Duration,
        now: Instant,
    ) -> bool {
        let mut inner = self.lock();
        let reports = inner.suspects.entry((set.id.clone(), set.started_ms)).or_default();
        reports.retain(|_, at| now.saturating_duration_since(*at) < window);
        reports.insert(reporter.clone(), now);
        let believed = reports.len() >= needed;
        if believed {
            inner.suspects.remove(&(set.id.clone(), set.started_ms));
        }
        believed
    }

    /// Members that have missed their heartbeats, as the commands that say so. Forgets processes that are no members.
    pub(crate) fn overdue<'a>(
        &self,
        members: impl Iterator<Item = &'a Member>,
        interval: Duration,
        now: Instant,
    ) -> Vec<SetMemberState> {
        let mut inner = self.lock();
        let Some(leads_since) = inner.leads_since else { return Vec::new() };
        let mut present = HashSet::new();
        let mut overdue = Vec::new();
        for member in members.filter(|it| it.state() != MemberState::Down) {
            let process = (member.id.clone(), member.started_ms);
            let heard = inner.heard.get(&process).copied().unwrap_or(leads_since);
            if now.saturating_duration_since(heard) >= interval * MISSED {
                let state = MemberState::Down.into();
                overdue.push(SetMemberState { id: process.0.clone(), started_ms: process.1, state });
            }
            present.insert(process);
        }
        // A registration that is under way is not a member yet: it keeps what was heard of it for a window.
        inner
            .heard
            .retain(|it, at| present.contains(it) || now.saturating_duration_since(*at) < interval * MISSED);
        inner.suspects.retain(|it, _| present.contains(it));
        overdue
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn member(id: &str) -> Member {
        Member { id: id.into(), started_ms: 7, state: MemberState::Active.into(), ..Member::default() }
    }

    fn down(id: &str) -> SetMemberState {
        SetMemberState { id: id.into(), started_ms: 7, state: MemberState::Down.into() }
    }

    #[test]
    fn three_missed_heartbeats_are_down_and_a_new_leader_grants_a_window() {
        let (heartbeats, start) = (Heartbeats::default(), Instant::now());
        let members = [member("a"), member("b")];
        assert_eq!(heartbeats.overdue(members.iter(), INTERVAL, start + INTERVAL * 9), []);
        heartbeats.restart(start);
        heartbeats.heard("a", 7, start + INTERVAL);
        assert_eq!(heartbeats.overdue(members.iter(), INTERVAL, start + INTERVAL * 2), []);
        assert_eq!(heartbeats.overdue(members.iter(), INTERVAL, start + INTERVAL * 3), [down("b")]);
        assert_eq!(
            heartbeats.overdue(members.iter(), INTERVAL, start + INTERVAL * 4),
            [down("a"), down("b")]
        );
        heartbeats.heard("a", 6, start + INTERVAL * 4);
        assert_eq!(heartbeats.overdue(members[..1].iter(), INTERVAL, start + INTERVAL * 4), [down("a")]);
    }

    #[test]
    fn it_tells_how_long_ago_it_heard_of_each_process() {
        let (heartbeats, start) = (Heartbeats::default(), Instant::now());
        heartbeats.heard("a", 7, start);
        heartbeats.heard("b", 6, start);
        let members = [member("a"), member("b")];
        assert_eq!(heartbeats.ages(members.iter(), start + INTERVAL), [("a".to_owned(), INTERVAL)]);
    }

    #[test]
    fn a_load_is_told_once() {
        let heartbeats = Heartbeats::default();
        heartbeats.loaded("a".into(), 300);
        heartbeats.loaded("a".into(), 4_000_000);
        assert_eq!(heartbeats.take_loads(), [MemberLoad { id: "a".into(), cpu_load: 1000 }]);
        assert_eq!(heartbeats.take_loads(), []);
    }

    #[test]
    fn two_hub_servers_must_say_so_within_the_window() {
        let (heartbeats, start) = (Heartbeats::default(), Instant::now());
        let (x, y) = (ServerId::from("x"), ServerId::from("y"));
        let suspect = |by: &ServerId, at| heartbeats.suspect(&down("a"), by, 2, INTERVAL, at);
        assert!(!suspect(&x, start));
        assert!(!suspect(&x, start), "the same server twice is one");
        assert!(!suspect(&y, start + INTERVAL), "the first word has expired");
        heartbeats.heard("a", 7, start + INTERVAL);
        assert!(!suspect(&x, start + INTERVAL), "it was heard of since");
        assert!(suspect(&y, start + INTERVAL));
        assert!(heartbeats.suspect(&down("b"), &x, 1, INTERVAL, start), "one is enough in a small hub");
    }
}
