//! What web-tiers are to forget: the last purges, in their order. One that was away for more than there are forgets all.

use super::{change::Change, reply::Reply};
use imbl::OrdMap;
use prost::Message;
use proto::hub::v1::{NotePurge, Purge, PurgeNoted};

/// The most that are remembered, and the most bytes of them.
const PURGES_MAX: usize = 500;
const BYTES_MAX: usize = 256 << 10;

/// The purges, by number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Purges {
    list: OrdMap<u64, Purge>,
    bytes: usize,
}

impl Purges {
    /// Adds one; once, though it is sent again.
    pub(super) fn note(&mut self, note: NotePurge, now_ms: u64, changes: &mut Vec<Change>) -> Reply {
        let NotePurge { what, id } = note;
        if let Some(known) = self.list.values().find(|it| it.id == id && id != 0) {
            return Reply::PurgeNoted(PurgeNoted { number: known.number });
        }
        let number = self.list.get_max().map_or(0, |(number, _)| *number) + 1;
        let purge = Purge { number, time_ms: now_ms, what, id };
        self.restore(purge.clone());
        changes.push(Change::Purge(purge));
        Reply::PurgeNoted(PurgeNoted { number })
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, purge: Purge) {
        self.bytes += purge.encoded_len();
        self.list.insert(purge.number, purge);
        // Never the newest: its number tells the next one's.
        while self.list.len() > PURGES_MAX || (self.bytes > BYTES_MAX && self.list.len() > 1) {
            let Some((oldest, gone)) = self.list.get_min().cloned() else { break };
            self.bytes -= gone.encoded_len();
            self.list.remove(&oldest);
        }
    }

    /// All, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Purge> {
        self.list.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::web::v1::{PurgeCache, purge_cache::What};

    fn note(purges: &mut Purges, id: u64, text: &str) -> (u64, usize) {
        let what = Some(PurgeCache { what: Some(What::Tag(text.to_owned())), ..PurgeCache::default() });
        let mut changes = Vec::new();
        match purges.note(NotePurge { what, id }, 7, &mut changes) {
            Reply::PurgeNoted(noted) => (noted.number, changes.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_that_is_sent_again_is_one() {
        let mut purges = Purges::default();
        assert_eq!(note(&mut purges, 5, "a"), (1, 1));
        assert_eq!(note(&mut purges, 6, "b"), (2, 1));
        assert_eq!(note(&mut purges, 5, "a"), (1, 0));
        assert_eq!(note(&mut purges, 0, "c"), (3, 1));
        assert_eq!(note(&mut purges, 0, "c"), (4, 1));
    }

    #[test]
    fn the_last_ones_are_remembered_within_their_room_and_numbers_go_on() {
        let mut purges = Purges::default();
        for number in 1..=2000 {
            note(&mut purges, number, "short");
        }
        assert_eq!((purges.list.len(), purges.iter().next().unwrap().number), (PURGES_MAX, 1501));
        for number in 2001..=2200 {
            note(&mut purges, number, &"x".repeat(4096));
        }
        let bytes: usize = purges.iter().map(Message::encoded_len).sum();
        assert!(bytes == purges.bytes && bytes <= BYTES_MAX && purges.list.len() > 50);
        assert_eq!(purges.iter().last().unwrap().number, 2200);
    }
}
