//! The servers of the cluster. Only changes of state are replicated; heartbeats stay in the leader's memory.

use super::change::Change;
use imbl::OrdMap;
use proto::hub::v1::{Member, MemberState, SetMemberAdmin, SetMemberState};

/// The members by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Members(OrdMap<String, Member>);

impl Members {
    /// A process has started: it takes the place of whatever bore its id. Sent twice, the second changes nothing.
    pub(super) fn register(&mut self, member: Member, now_ms: u64, changes: &mut Vec<Change>) {
        let mut member = member;
        if matches!(member.state(), MemberState::Unspecified | MemberState::Down) {
            member.set_state(MemberState::Active);
        }
        // Not for the process to say, and not forgotten when it starts again.
        let old = self.0.get(&member.id);
        (member.admin, member.admin_since_ms) = old.map_or((0, 0), |old| (old.admin, old.admin_since_ms));
        member.cpu_load = None;
        member.since_ms = match self.0.get(&member.id) {
            Some(old) if old.started_ms == member.started_ms && old.state == member.state => old.since_ms,
            _ => now_ms,
        };
        if self.0.get(&member.id) != Some(&member) {
            self.0.insert(member.id.clone(), member.clone());
            changes.push(Change::Member(member));
        }
    }

    /// Changes the state of the process that is meant, and of no newer one.
    pub(super) fn set_state(&mut self, set: &SetMemberState, now_ms: u64, changes: &mut Vec<Change>) {
        let Some(member) = self.0.get_mut(&set.id) else { return };
        if member.started_ms == set.started_ms && member.state != set.state {
            member.state = set.state;
            member.since_ms = now_ms;
            changes.push(Change::Member(member.clone()));
        }
    }

    /// What an administrator says of a member, whichever process of it runs.
    pub(super) fn set_admin(&mut self, set: &SetMemberAdmin, now_ms: u64, changes: &mut Vec<Change>) {
        let Some(member) = self.0.get_mut(&set.id) else { return };
        if member.admin != set.admin {
            member.admin = set.admin;
            member.admin_since_ms = now_ms;
            changes.push(Change::Member(member.clone()));
        }
    }

    /// Puts a member back, from a snapshot.
    pub(super) fn restore(&mut self, member: Member) {
        self.0.insert(member.id.clone(), member);
    }

    /// One member.
    pub(crate) fn get(&self, id: &str) -> Option<&Member> {
        self.0.get(id)
    }

    /// All of them in order of id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::MemberAdmin;

    fn member(id: &str, started_ms: u64) -> Member {
        Member { id: id.into(), started_ms, ..Member::default() }
    }

    #[test]
    fn a_registration_is_active_and_told_once() {
        let (mut members, mut changes) = (Members::default(), Vec::new());
        members.register(member("a", 5), 10, &mut changes);
        members.register(member("a", 5), 20, &mut changes);
        assert_eq!(changes.len(), 1);
        let registered = members.get("a").unwrap();
        assert_eq!((registered.state(), registered.since_ms), (MemberState::Active, 10));
    }

    #[test]
    fn what_an_administrator_says_outlives_the_process_and_is_not_the_process_to_say() {
        let (mut members, mut changes) = (Members::default(), Vec::new());
        let claims = Member { admin: 1, admin_since_ms: 3, cpu_load: Some(7), ..member("a", 5) };
        members.register(claims, 10, &mut changes);
        let registered = members.get("a").unwrap();
        assert_eq!((registered.admin(), registered.cpu_load), (MemberAdmin::Enabled, None));
        let set = |id: &str, admin: MemberAdmin| SetMemberAdmin {
            id: id.into(),
            admin: admin.into(),
            author: None,
        };
        members.set_admin(&set("a", MemberAdmin::Disabled), 20, &mut changes);
        members.set_admin(&set("a", MemberAdmin::Disabled), 30, &mut changes);
        members.set_admin(&set("b", MemberAdmin::Disabled), 30, &mut changes);
        members.register(member("a", 6), 40, &mut changes);
        let told: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Member(it) => (it.id.as_str(), it.started_ms, it.admin(), it.admin_since_ms),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("a", 5, MemberAdmin::Enabled, 0),
            ("a", 5, MemberAdmin::Disabled, 20),
            ("a", 6, MemberAdmin::Disabled, 20),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_old_announcement_does_not_touch_a_new_process() {
        let (mut members, mut changes) = (Members::default(), Vec::new());
        members.register(member("a", 5), 10, &mut changes);
        members.register(member("a", 6), 20, &mut changes);
        let down =
            |started_ms| SetMemberState { id: "a".into(), started_ms, state: MemberState::Down.into() };
        members.set_state(&down(5), 30, &mut changes);
        assert_eq!(members.get("a").unwrap().state(), MemberState::Active);
        members.set_state(&down(6), 40, &mut changes);
        assert_eq!(members.get("a").unwrap().state(), MemberState::Down);
        members.register(member("a", 6), 50, &mut changes);
        assert_eq!(members.get("a").unwrap().state(), MemberState::Active);
        assert_eq!(changes.len(), 4);
    }
}
