//! Secrets of web-tiers by name: sealed by who puts them, bounded, put under the condition of what was there. One whose time is over goes with
//! the next put.

use super::{change::Change, reply::Reply};
use bytes::Bytes;
use imbl::OrdMap;
use proto::hub::v1::{PutSecret, Secret, SecretPut, secret_put::Outcome};

/// The most secrets, and the most bytes of all of them.
pub(crate) const SECRETS_MAX: usize = 4096;
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// The secrets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Secrets {
    by_name: OrdMap<String, Secret>,
    bytes: usize,
    /// The version of the last put: it outlives its secret, so that versions only grow.
    last: u64,
}

impl Secrets {
    /// Puts one if what is there is what the caller believes; sent twice, the second changes nothing.
    pub(super) fn put(&mut self, put: PutSecret, now_ms: u64, changes: &mut Vec<Change>) -> Reply {
        let PutSecret { name, sealed, if_version, valid_ms } = put;
        self.expire(now_ms, changes);
        let present = self.by_name.get(&name);
        let gone = || Secret { name: name.clone(), ..Secret::default() };
        let outcome = match present {
            Some(it) if !sealed.is_empty() && it.sealed == sealed => Outcome::Put(it.clone()),
            None if sealed.is_empty() => Outcome::Put(gone()),
            found if found.map_or(0, |it| it.version) != if_version => {
                Outcome::Conflict(found.cloned().unwrap_or_else(gone))
            }
            _ if sealed.is_empty() => {
                let gone = gone();
                self.remove(&gone.name);
                changes.push(Change::SecretGone(gone.name.clone()));
                Outcome::Put(gone)
            }
            found => {
                let more = size(&name, &sealed);
                let less = found.map_or(0, |it| size(&it.name, &it.sealed));
                let is_full = found.is_none() && self.by_name.len() >= SECRETS_MAX;
                if is_full || self.bytes - less + more > BYTES_MAX {
                    Outcome::Full(u32::try_from(self.by_name.len()).unwrap_or(u32::MAX))
                } else {
                    let expires_ms = if valid_ms == 0 { 0 } else { now_ms.saturating_add(valid_ms) };
                    let secret = own(Secret { name, sealed, version: self.last + 1, expires_ms });
                    self.insert(secret.clone());
                    changes.push(Change::Secret(secret.clone()));
                    Outcome::Put(secret)
                }
            }
        };
        Reply::SecretPut(SecretPut { outcome: Some(outcome) })
    }

    fn expire(&mut self, now_ms: u64, changes: &mut Vec<Change>) {
        let is_due = |it: &&Secret| it.expires_ms != 0 && it.expires_ms <= now_ms;
        let due: Vec<String> = self.by_name.values().filter(is_due).map(|it| it.name.clone()).collect();
        for name in due {
            self.remove(&name);
            changes.push(Change::SecretGone(name));
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(gone) = self.by_name.remove(name) {
            self.bytes -= size(&gone.name, &gone.sealed);
        }
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, secret: Secret) {
        self.insert(own(secret));
    }

    fn insert(&mut self, secret: Secret) {
        self.remove(&secret.name);
        self.bytes += size(&secret.name, &secret.sealed);
        self.last = self.last.max(secret.version);
        self.by_name.insert(secret.name.clone(), secret);
    }

    /// The version of the last put, from a snapshot.
    pub(super) fn restore_last(&mut self, version: u64) {
        self.last = self.last.max(version);
    }

    /// The version of the last put.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// All of them in order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.by_name.values()
    }
}

/// In memory of its own: it came as a part of an entry of the log or of a snapshot's chunk, and would keep all of that.
fn own(secret: Secret) -> Secret {
    Secret { sealed: Bytes::copy_from_slice(&secret.sealed), ..secret }
}

fn size(name: &str, sealed: &[u8]) -> usize {
    name.len() + sealed.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, sealed: &str, if_version: u64) -> PutSecret {
        let sealed = sealed.as_bytes().to_vec().into();
        PutSecret { name: name.into(), sealed, if_version, valid_ms: 0 }
    }

    fn outcome(secrets: &mut Secrets, put: PutSecret, now_ms: u64) -> (Outcome, Vec<Change>) {
        let mut changes = Vec::new();
        match secrets.put(put, now_ms, &mut changes) {
            Reply::SecretPut(SecretPut { outcome: Some(outcome) }) => (outcome, changes),
            other => panic!("{other:?}"),
        }
    }

    fn version(secrets: &mut Secrets, put: PutSecret) -> u64 {
        match outcome(secrets, put, 1).0 {
            Outcome::Put(it) => it.version,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_is_put_where_the_caller_knows_what_is_there() {
        let mut secrets = Secrets::default();
        assert_eq!(version(&mut secrets, put("a", "one", 0)), 1);
        assert_eq!(version(&mut secrets, put("a", "one", 0)), 1, "sent again");
        assert_eq!(version(&mut secrets, put("b", "x", 0)), 2);
        let (refused, changes) = outcome(&mut secrets, put("a", "two", 0), 1);
        let Outcome::Conflict(there) = refused else { panic!("{refused:?}") };
        assert_eq!((there.version, changes.len()), (1, 0));
        assert_eq!(version(&mut secrets, put("a", "two", 1)), 3);
        let (refused, _) = outcome(&mut secrets, put("c", "x", 7), 1);
        assert!(matches!(refused, Outcome::Conflict(it) if it.version == 0));
        // Removed, and made again: its version is none that was.
        assert!(matches!(outcome(&mut secrets, put("a", "", 1), 1).0, Outcome::Conflict(_)));
        assert_eq!(outcome(&mut secrets, put("a", "", 3), 1).1, [Change::SecretGone("a".into())]);
        assert_eq!(version(&mut secrets, put("a", "", 3)), 0, "gone is gone");
        assert_eq!(version(&mut secrets, put("a", "one", 0)), 4);
    }

    #[test]
    fn one_with_a_time_goes_with_the_next_put_after_it() {
        let mut secrets = Secrets::default();
        let short = PutSecret { valid_ms: 10, ..put("short", "x", 0) };
        outcome(&mut secrets, short.clone(), 100);
        assert_eq!(outcome(&mut secrets, put("b", "x", 0), 109).1.len(), 1);
        let (_, changes) = outcome(&mut secrets, put("c", "x", 0), 110);
        assert_eq!(changes[0], Change::SecretGone("short".into()));
        assert!(matches!(outcome(&mut secrets, short, 111).0, Outcome::Put(it) if it.expires_ms == 121));
    }

    #[test]
    fn one_keeps_nothing_but_itself_in_memory() {
        let entry = Bytes::from(vec![b'x'; 1000]);
        let mut secrets = Secrets::default();
        let (outcome, changes) =
            outcome(&mut secrets, PutSecret { sealed: entry.slice(3..7), ..put("a", "", 0) }, 1);
        secrets.restore(Secret { name: "b".into(), sealed: entry.slice(9..20), ..Secret::default() });
        assert!(entry.is_unique(), "{outcome:?} {changes:?}");
        assert_eq!(secrets.iter().map(|it| it.sealed.len()).collect::<Vec<_>>(), [4, 11]);
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut secrets = Secrets::default();
        for number in 0..SECRETS_MAX {
            version(&mut secrets, put(&number.to_string(), "x", 0));
        }
        let full = outcome(&mut secrets, put("more", "x", 0), 1).0;
        assert_eq!(full, Outcome::Full(u32::try_from(SECRETS_MAX).unwrap()));
        assert!(version(&mut secrets, put("7", "longer", 8)) > 0, "what is there may change");
        let mut secrets = Secrets::default();
        let big = "x".repeat(BYTES_MAX - 1);
        assert_eq!(version(&mut secrets, put("a", &big, 0)), 1);
        assert!(matches!(outcome(&mut secrets, put("b", "x", 0), 1).0, Outcome::Full(1)));
        assert_eq!(version(&mut secrets, put("a", "small", 1)), 2);
        assert_eq!(version(&mut secrets, put("b", "x", 0)), 3);
        assert_eq!(secrets.bytes, secrets.iter().map(|it| size(&it.name, &it.sealed)).sum::<usize>());
    }
}
