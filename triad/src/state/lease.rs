//! Leases: of each name one holder at a time. The state goes by no clock: a lease is over when its holder gives it back, or when the leader
//! has seen no renewal of it for its whole time, and says so of the renewal that it saw last. A leader whose clock jumps ends none.

use super::{change::Change, reply::Reply};
use imbl::OrdMap;
use proto::hub::v1::{
    AcquireLease, ExpireLeases, Lease, LeaseAcquired, LeaseFree, LeaseKey, LeasesReleased, LeasesRenewed,
    ReleaseLeases, RenewLeases, lease_acquired::Outcome,
};
use std::sync::Arc;

/// The most leases that are held at once; how many of them daemons alone can have; and those that one app has asked for.
pub(crate) const LEASES_MAX: usize = 10_000;
const FOR_DAEMONS: usize = 1_000;
pub(crate) const APP_LEASES_MAX: usize = 1_000;

/// The leases that are held.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Leases {
    by_token: OrdMap<u64, Arc<Lease>>,
    /// The tokens of those that are held, by app and name.
    by_key: OrdMap<(String, String), u64>,
    /// How many each app has asked for.
    by_app: OrdMap<String, usize>,
    /// Of the last grant: it outlives its lease, so that tokens only grow.
    last_token: u64,
}

fn place(key: &LeaseKey) -> (String, String) {
    (key.app.clone(), key.name.clone())
}

impl Leases {
    /// Grants a lease that nobody holds; sent twice, the second changes nothing.
    pub(super) fn acquire(&mut self, acquire: AcquireLease, now_ms: u64, changes: &mut Vec<Change>) -> Reply {
        let AcquireLease { key, server, started_ms, app, ttl_ms, id } = acquire;
        let key = key.unwrap_or_default();
        let max = if key.app.is_empty() { LEASES_MAX - FOR_DAEMONS } else { LEASES_MAX };
        let held = self.by_key.get(&place(&key)).and_then(|token| self.by_token.get(token));
        let outcome = if let Some(held) = held {
            let is_same = held.id == id && held.server == server && held.started_ms == started_ms;
            if is_same { Outcome::Granted(Lease::clone(held)) } else { Outcome::Held(Lease::clone(held)) }
        } else if self.by_token.len() >= max {
            Outcome::Full(u32::try_from(max).unwrap_or(u32::MAX))
        } else if self.by_app.get(&app).is_some_and(|count| *count >= APP_LEASES_MAX) {
            Outcome::Full(u32::try_from(APP_LEASES_MAX).unwrap_or(u32::MAX))
        } else {
            let token = self.last_token + 1;
            let lease = Lease {
                key: Some(key),
                token,
                server,
                started_ms,
                app,
                ttl_ms,
                since_ms: now_ms,
                renewals: 0,
                id,
            };
            self.restore(lease.clone());
            changes.push(Change::Lease(Arc::new(lease.clone())));
            Outcome::Granted(lease)
        };
        Reply::LeaseAcquired(LeaseAcquired { outcome: Some(outcome) })
    }

    /// Their holder lives.
    pub(super) fn renew(&mut self, renew: &RenewLeases) -> Reply {
        let mut lost = Vec::new();
        for token in &renew.tokens {
            match self.held_by(*token, &renew.server, renew.started_ms) {
                Some(lease) => {
                    let renewed = Lease { renewals: lease.renewals + 1, ..Lease::clone(lease) };
                    self.by_token.insert(*token, Arc::new(renewed));
                }
                None => lost.push(*token),
            }
        }
        Reply::LeasesRenewed(LeasesRenewed { lost })
    }

    /// Their holder gives them back.
    pub(super) fn release(&mut self, release: &ReleaseLeases, changes: &mut Vec<Change>) -> Reply {
        let mut released = Vec::new();
        let asked = |it: &&Arc<Lease>| it.id != 0 && release.ids.contains(&it.id);
        let by_id = self.by_token.values().filter(asked).map(|it| it.token);
        let by_id: Vec<u64> = if release.ids.is_empty() { Vec::new() } else { by_id.collect() };
        for token in release.tokens.iter().chain(&by_id) {
            if self.held_by(*token, &release.server, release.started_ms).is_some() {
                self.remove(*token, changes);
                released.push(*token);
            }
        }
        Reply::LeasesReleased(LeasesReleased { released })
    }

    /// The leader has seen no renewal for their whole time. One that was renewed meanwhile goes on.
    pub(super) fn expire(&mut self, expire: &ExpireLeases, changes: &mut Vec<Change>) {
        for overdue in &expire.overdue {
            if self.by_token.get(&overdue.token).is_some_and(|it| it.renewals == overdue.renewals) {
                self.remove(overdue.token, changes);
            }
        }
    }

    /// Whether the lease with this name is held with this token.
    pub(super) fn is_held(&self, name: &str, token: u64) -> bool {
        let lease = self.by_token.get(&token);
        lease.and_then(|it| it.key.as_ref()).is_some_and(|key| key.name == name)
    }

    fn held_by(&self, token: u64, server: &str, started_ms: u64) -> Option<&Arc<Lease>> {
        self.by_token.get(&token).filter(|it| it.server == server && it.started_ms == started_ms)
    }

    fn remove(&mut self, token: u64, changes: &mut Vec<Change>) {
        let Some(lease) = self.by_token.remove(&token) else { return };
        let key = lease.key.clone().unwrap_or_default();
        self.by_key.remove(&place(&key));
        match self.by_app.get_mut(&lease.app) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.by_app.remove(&lease.app)),
        }
        changes.push(Change::LeaseFree(LeaseFree { key: Some(key), token }));
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, lease: Lease) {
        self.last_token = self.last_token.max(lease.token);
        self.by_key.insert(place(&lease.key.clone().unwrap_or_default()), lease.token);
        *self.by_app.entry(lease.app.clone()).or_default() += 1;
        self.by_token.insert(lease.token, Arc::new(lease));
    }

    /// The same of the last token.
    pub(super) fn restore_last_token(&mut self, token: u64) {
        self.last_token = self.last_token.max(token);
    }

    /// Who holds a lease.
    pub(crate) fn holder(&self, key: &LeaseKey) -> Option<&Lease> {
        self.by_token.get(self.by_key.get(&place(key))?).map(|it| &**it)
    }

    /// Those that are held, the oldest grant first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_token.values().map(|it| &**it)
    }

    /// The token of the last grant; 0 before the first.
    pub(super) fn last_token(&self) -> u64 {
        self.last_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::hub::v1::OverdueLease;
    use std::collections::BTreeMap;

    fn acquire(leases: &mut Leases, name: &str, server: &str, id: u64) -> Outcome {
        let key = Some(LeaseKey { app: String::new(), name: name.into() });
        let acquire =
            AcquireLease { key, server: server.into(), started_ms: 1, app: "shop".into(), ttl_ms: 5000, id };
        match leases.acquire(acquire, 7, &mut Vec::new()) {
            Reply::LeaseAcquired(LeaseAcquired { outcome: Some(outcome) }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn token(outcome: &Outcome) -> u64 {
        match outcome {
            Outcome::Granted(lease) => lease.token,
            other => panic!("{other:?}"),
        }
    }

    fn release(leases: &mut Leases, server: &str, tokens: &[u64]) -> Vec<u64> {
        let release =
            ReleaseLeases { server: server.into(), started_ms: 1, tokens: tokens.into(), ids: Vec::new() };
        match leases.release(&release, &mut Vec::new()) {
            Reply::LeasesReleased(it) => it.released,
            other => panic!("{other:?}"),
        }
    }

    fn renew(leases: &mut Leases, server: &str, started_ms: u64, tokens: &[u64]) -> Vec<u64> {
        let renew = RenewLeases { server: server.into(), started_ms, tokens: tokens.into() };
        match leases.renew(&renew) {
            Reply::LeasesRenewed(it) => it.lost,
            other => panic!("{other:?}"),
        }
    }

    fn expire(leases: &mut Leases, token: u64, renewals: u64) -> usize {
        let mut changes = Vec::new();
        leases.expire(&ExpireLeases { overdue: vec![OverdueLease { token, renewals }] }, &mut changes);
        changes.len()
    }

    #[test]
    fn one_holds_it_and_tokens_only_grow() {
        let mut leases = Leases::default();
        let first = token(&acquire(&mut leases, "a", "x", 5));
        assert_eq!(token(&acquire(&mut leases, "a", "x", 5)), first, "sent again");
        for (server, id) in [("y", 5), ("x", 6)] {
            assert!(matches!(acquire(&mut leases, "a", server, id), Outcome::Held(it) if it.token == first));
        }
        assert_eq!(release(&mut leases, "y", &[first]), [0_u64; 0], "it is another's");
        assert_eq!(release(&mut leases, "x", &[first, 99]), [first]);
        assert_eq!(release(&mut leases, "x", &[first]), [0_u64; 0]);
        let second = token(&acquire(&mut leases, "a", "y", 7));
        assert!(second > first);
        let third = token(&acquire(&mut leases, "b", "y", 8));
        assert!(third > second, "of whatever name");
        let by_id = |server: &str, ids: &[u64]| ReleaseLeases {
            server: server.into(),
            started_ms: 1,
            ids: ids.into(),
            ..ReleaseLeases::default()
        };
        leases.release(&by_id("x", &[7, 8]), &mut Vec::new());
        leases.release(&by_id("y", &[0, 8]), &mut Vec::new());
        assert_eq!(leases.iter().map(|it| it.token).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn one_that_was_renewed_since_is_not_over() {
        let mut leases = Leases::default();
        let held = token(&acquire(&mut leases, "a", "x", 5));
        assert_eq!(renew(&mut leases, "x", 1, &[held, 77]), [77]);
        assert_eq!(
            (renew(&mut leases, "y", 1, &[held]), renew(&mut leases, "x", 2, &[held])),
            (vec![held], vec![held])
        );
        assert_eq!(expire(&mut leases, held, 0), 0);
        assert_eq!(expire(&mut leases, held, 1), 1);
        assert_eq!((expire(&mut leases, held, 1), renew(&mut leases, "x", 1, &[held])), (0, vec![held]));
    }

    #[test]
    fn an_app_and_all_apps_have_their_bounds() {
        let mut leases = Leases::default();
        let of_app = |leases: &mut Leases, app: usize, number: usize| {
            let key = Some(LeaseKey { app: String::new(), name: format!("{app}-{number}") });
            let (app, id) = (format!("app{app}"), number as u64 + 1);
            let acquire = AcquireLease { key, server: "x".into(), started_ms: 1, app, ttl_ms: 5000, id };
            match leases.acquire(acquire, 7, &mut Vec::new()) {
                Reply::LeaseAcquired(LeaseAcquired { outcome: Some(Outcome::Granted(it)) }) => Ok(it.token),
                Reply::LeaseAcquired(LeaseAcquired { outcome: Some(Outcome::Full(count)) }) => Err(count),
                other => panic!("{other:?}"),
            }
        };
        let max = LEASES_MAX - FOR_DAEMONS;
        for app in 0..max / APP_LEASES_MAX {
            for number in 0..APP_LEASES_MAX {
                of_app(&mut leases, app, number).unwrap();
            }
            assert!(of_app(&mut leases, app, APP_LEASES_MAX).is_err());
        }
        assert_eq!(of_app(&mut leases, 99, 0), Err(9_000));
        assert_eq!(release(&mut leases, "x", &[1]), [1]);
        of_app(&mut leases, 0, APP_LEASES_MAX).unwrap();
        assert_eq!(leases.by_app.values().sum::<usize>(), leases.iter().count());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Acquire(u8, u8, u64),
        Renew(u8, u64),
        Release(u8, u64),
        Expire(u64, u64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_u8, 0..3_u8, 1..20_u64).prop_map(|(name, server, id)| Step::Acquire(name, server, id)),
            (0..3_u8, 0..12_u64).prop_map(|(server, token)| Step::Renew(server, token)),
            (0..3_u8, 0..12_u64).prop_map(|(server, token)| Step::Release(server, token)),
            (0..12_u64, 0..3_u64).prop_map(|(token, renewals)| Step::Expire(token, renewals)),
            Just(Step::Restart),
        ]
    }

    proptest! {
        /// Whatever happens: a name has one holder, no token is given twice or after a greater one, and a snapshot changes nothing.
        #[test]
        fn holders_are_one_and_tokens_grow(steps in prop::collection::vec(step(), 0..60)) {
            let mut leases = Leases::default();
            let (mut greatest, mut held) = (0, BTreeMap::<u8, (u8, u64)>::new());
            for step in steps {
                match step {
                    Step::Acquire(name, server, id) => {
                        let before = held.get(&name).copied();
                        match (acquire(&mut leases, &name.to_string(), &server.to_string(), id), before) {
                            (Outcome::Granted(it), None) => {
                                prop_assert!(it.token > greatest);
                                greatest = it.token;
                                held.insert(name, (server, it.token));
                            }
                            (Outcome::Granted(it), Some((holder, token))) => {
                                prop_assert_eq!((holder, token), (server, it.token));
                            }
                            (Outcome::Held(it), Some((_, token))) => prop_assert_eq!(it.token, token),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                    Step::Renew(server, token) => {
                        let is_held = held.values().any(|it| *it == (server, token));
                        let lost = renew(&mut leases, &server.to_string(), 1, &[token]);
                        prop_assert_eq!(lost.is_empty(), is_held);
                    }
                    Step::Release(server, token) => {
                        let before = held.len();
                        held.retain(|_, it| *it != (server, token));
                        let released = release(&mut leases, &server.to_string(), &[token]);
                        prop_assert_eq!(released.len(), before - held.len());
                    }
                    Step::Expire(token, renewals) => {
                        if expire(&mut leases, token, renewals) > 0 {
                            held.retain(|_, it| it.1 != token);
                        }
                    }
                    Step::Restart => {
                        let mut again = Leases::default();
                        leases.iter().for_each(|it| again.restore(it.clone()));
                        again.restore_last_token(leases.last_token());
                        prop_assert_eq!(&again, &leases);
                        leases = again;
                    }
                }
                prop_assert_eq!(leases.iter().count(), held.len());
            }
        }
    }
}
