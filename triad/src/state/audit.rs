//! Who has changed what: entries of administrative commands, made as these are applied, and notes of what was no command. Each kind
//! has room of its own, and the oldest of a kind make room for the next.

mod action;

pub(super) use action::Action;

use imbl::OrdMap;
use prost::Message;
use proto::hub::v1::{AuditEntry, AuditKind, Author, NoteAudit};
use std::sync::Arc;

/// The most entries, and the most bytes of them, of actions, of sign-ins, and of health checks' words.
const MAX: [(usize, usize); 3] = [(5000, 1 << 20), (1000, 256 << 10), (1000, 256 << 10)];

/// Notes that are looked at for one that is sent again.
const NOTES: usize = 64;

/// The longest texts, in bytes.
const NAME_MAX: usize = 255;
const TEXT_MAX: usize = 300;

/// The log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Audit {
    /// By kind.
    rings: [Ring; 3],
    /// The number of the last entry.
    last: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Ring {
    entries: OrdMap<u64, Arc<AuditEntry>>,
    bytes: usize,
}

impl Audit {
    /// Adds an entry; its number and its time are given here, and texts that are too long end early.
    pub(super) fn add(&mut self, entry: AuditEntry, now_ms: u64) {
        self.last += 1;
        let mut entry = AuditEntry { number: self.last, time_ms: now_ms, ..entry };
        clip_all(&mut entry);
        self.put(entry);
    }

    /// Writes down what was no command; once, though it is sent again.
    pub(super) fn note(&mut self, note: NoteAudit, now_ms: u64) {
        let NoteAudit { kind, author, action, target, detail, outcome, id: note_id } = note;
        let entry =
            AuditEntry { kind, author, action, target, detail, outcome, note_id, ..AuditEntry::default() };
        let ring = &self.rings[place(&entry)];
        let known = ring.entries.values().rev().take(NOTES).any(|it| it.note_id == note_id);
        if !known || note_id == 0 {
            self.add(entry, now_ms);
        }
    }

    fn put(&mut self, entry: AuditEntry) {
        let place = place(&entry);
        let (ring, (entries_max, bytes_max)) = (&mut self.rings[place], MAX[place]);
        ring.bytes += entry.encoded_len();
        ring.entries.insert(entry.number, Arc::new(entry));
        while ring.entries.len() > entries_max || ring.bytes > bytes_max {
            let Some((oldest, _)) = ring.entries.get_min().cloned() else { break };
            if let Some(gone) = ring.entries.remove(&oldest) {
                ring.bytes -= gone.encoded_len();
            }
        }
    }

    /// Puts an entry back, from a snapshot.
    pub(super) fn restore(&mut self, entry: AuditEntry) {
        self.last = self.last.max(entry.number);
        self.put(entry);
    }

    /// All entries, kind by kind, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &AuditEntry> {
        self.rings.iter().flat_map(|it| it.entries.values()).map(|it| &**it)
    }

    /// The newest entries before the number `before` (0: of all), the newest first, of these kinds (none: of all); and whether there
    /// are more.
    pub(crate) fn list(&self, before: u64, limit: usize, kinds: &[AuditKind]) -> (Vec<AuditEntry>, bool) {
        let before = if before == 0 { u64::MAX } else { before };
        let wanted = |kind: usize| kinds.is_empty() || kinds.iter().any(|it| *it as usize == kind);
        let rings = self.rings.iter().enumerate().filter(|(kind, _)| wanted(*kind)).map(|(_, ring)| ring);
        // Of each kind more than enough.
        let found = rings.flat_map(|ring| ring.entries.range(..before).rev().take(limit + 1));
        let mut found: Vec<&Arc<AuditEntry>> = found.map(|(_, entry)| entry).collect();
        found.sort_unstable_by_key(|it| std::cmp::Reverse(it.number));
        let more = found.len() > limit;
        found.truncate(limit);
        (found.into_iter().map(|it| AuditEntry::clone(it)).collect(), more)
    }
}

/// The ring of an entry; one of a kind that is not known is an action.
fn place(entry: &AuditEntry) -> usize {
    entry.kind() as usize % MAX.len()
}

fn clip_all(entry: &mut AuditEntry) {
    let AuditEntry { author, action, target, detail, outcome, .. } = entry;
    if let Some(Author { user, token, address, server, verb }) = author {
        [user, token, address, server, verb].into_iter().for_each(|it| clip(it, NAME_MAX));
    }
    [action, target].into_iter().for_each(|it| clip(it, NAME_MAX));
    [detail, outcome].into_iter().for_each(|it| clip(it, TEXT_MAX));
}

/// Ends a text that has more bytes than `max`.
fn clip(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max - '…'.len_utf8()).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: AuditKind, target: &str, detail: &str) -> AuditEntry {
        let (target, detail) = (target.to_owned(), detail.to_owned());
        AuditEntry { kind: kind.into(), target, detail, ..AuditEntry::default() }
    }

    fn count(audit: &Audit, kind: AuditKind) -> usize {
        audit.rings[kind as usize].entries.len()
    }

    #[test]
    fn each_kind_has_room_of_its_own_and_the_oldest_make_it() {
        let mut audit = Audit::default();
        audit.add(entry(AuditKind::Action, "first", ""), 5);
        for number in 0..3000 {
            audit.add(entry(AuditKind::SignIn, &format!("guess {number}"), ""), 6);
        }
        assert_eq!((count(&audit, AuditKind::Action), count(&audit, AuditKind::SignIn)), (1, 1000));
        for number in 0..6000 {
            audit.add(entry(AuditKind::Action, &format!("act {number}"), ""), 7);
        }
        assert_eq!(count(&audit, AuditKind::Action), 5000);
        let (newest, more) = audit.list(0, 2, &[]);
        assert!(more);
        assert_eq!(newest.iter().map(|it| it.number).collect::<Vec<_>>(), [9001, 9000]);
        let (older, _) = audit.list(9000, 1, &[AuditKind::Action]);
        assert_eq!((older[0].number, older[0].time_ms), (8999, 7));
        let (guesses, more) = audit.list(0, 5000, &[AuditKind::SignIn]);
        assert_eq!((guesses.len(), guesses[0].target.as_str(), more), (1000, "guess 2999", false));
    }

    #[test]
    fn long_texts_take_no_more_than_the_bytes_that_there_are() {
        let mut audit = Audit::default();
        for _ in 0..5000 {
            audit.add(entry(AuditKind::Action, &"ä".repeat(500), &"x".repeat(100_000)), 1);
        }
        let ring = &audit.rings[0];
        let bytes: usize = ring.entries.values().map(|it| it.encoded_len()).sum();
        assert!(bytes == ring.bytes && bytes <= 1 << 20 && ring.entries.len() > 1500, "{bytes}");
        let last = audit.list(0, 1, &[]).0.remove(0);
        assert!(last.target.ends_with("ä…") && last.target.len() <= NAME_MAX, "{}", last.target);
        assert_eq!(last.detail.len(), TEXT_MAX);
    }

    #[test]
    fn a_note_that_is_sent_again_is_one() {
        let mut audit = Audit::default();
        let note = |id| NoteAudit { id, action: "sign-in".into(), ..NoteAudit::default() };
        for id in [7, 8, 7, 8, 0, 0] {
            audit.note(note(id), 1);
        }
        assert_eq!(audit.iter().map(|it| it.note_id).collect::<Vec<_>>(), [7, 8, 0, 0]);
    }
}
