//! The rules of versions and conflicts.

use super::*;
use proptest::prelude::*;

fn values(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from((*value).to_owned()))).collect()
}

fn record(version: u64, save_id: u64, pairs: &[(&str, &str)]) -> SessionRecord {
    SessionRecord { version, save_id, attributes: values(pairs), ..SessionRecord::default() }
}

/// Loaded at version 5 with `a = 1`, `b = 1`.
fn loaded() -> Replica {
    let mut replica = Replica::default();
    replica.adopt(record(5, 50, &[("a", "1"), ("b", "1")]));
    replica
}

fn set(replica: &mut Replica, pairs: &[(&str, &str)]) -> u64 {
    replica.update(values(pairs), Vec::new());
    replica.sequence()
}

#[test]
fn an_equal_value_is_no_change() {
    let mut replica = loaded();
    set(&mut replica, &[("a", "1")]);
    assert!(!replica.is_dirty());
    replica.update(Attributes::new(), vec!["missing".to_owned()]);
    assert!(!replica.is_dirty());
    set(&mut replica, &[("a", "2")]);
    let save = replica.next_save(Heard::default(), || 7).unwrap();
    assert_eq!((save.base_version, save.save_id, save.set), (5, 7, values(&[("a", "2")])));
}

#[test]
fn a_new_session_is_saved_even_if_it_is_empty() {
    let mut replica = Replica::default();
    assert!(replica.next_save(Heard::default(), || 1).is_none());
    replica.update(Attributes::new(), Vec::new());
    let sequence = replica.sequence();
    assert_eq!(replica.next_save(Heard::default(), || 1).unwrap().base_version, 0);
    assert!(!replica.is_saved(sequence));
    replica.saved(1);
    assert!(replica.is_saved(sequence) && !replica.is_dirty() && replica.exists());
}

#[test]
fn a_save_is_sent_again_as_it_was() {
    let mut replica = loaded();
    set(&mut replica, &[("a", "2")]);
    let first = replica.next_save(Heard::default(), || 7).unwrap();
    let later = set(&mut replica, &[("a", "3"), ("c", "1")]);
    assert_eq!(replica.next_save(Heard::default(), || 8).unwrap(), first);
    replica.saved(6);
    assert!(!replica.is_saved(later));
    let second = replica.next_save(Heard::default(), || 9).unwrap();
    assert_eq!((second.base_version, second.save_id), (6, 9));
    assert_eq!(second.set, values(&[("a", "3"), ("c", "1")]));
    replica.saved(7);
    assert!(replica.is_saved(later) && !replica.is_dirty());
}

#[test]
fn a_value_changed_back_while_it_is_saved_is_a_change() {
    let mut replica = loaded();
    set(&mut replica, &[("a", "2")]);
    replica.next_save(Heard::default(), || 7);
    set(&mut replica, &[("a", "1")]);
    replica.saved(6);
    assert_eq!(replica.next_save(Heard::default(), || 8).unwrap().set, values(&[("a", "1")]));
}

#[test]
fn removals_are_sent_and_kept() {
    let mut replica = loaded();
    replica.update(Attributes::new(), vec!["b".to_owned()]);
    assert_eq!(replica.attributes(), values(&[("a", "1")]));
    let save = replica.next_save(Heard::default(), || 7).unwrap();
    assert_eq!((save.set.len(), save.removed), (0, vec!["b".to_owned()]));
    replica.saved(6);
    assert_eq!(replica.attributes(), values(&[("a", "1")]));
}

#[test]
fn changes_of_other_attributes_are_merged() {
    let mut replica = loaded();
    let sequence = set(&mut replica, &[("a", "2")]);
    let generation = replica.generation();
    replica.next_save(Heard::default(), || 7);
    assert_eq!(replica.conflict(record(9, 90, &[("a", "1"), ("b", "5")])), Resolution::Merged);
    assert_eq!(replica.attributes(), values(&[("a", "2"), ("b", "5")]));
    assert!(!replica.has_dropped(generation), "the request that made the change goes on");
    assert_ne!(replica.generation(), generation, "one that read before does not write after");
    let again = replica.next_save(Heard::default(), || 8).unwrap();
    assert_eq!((again.base_version, again.save_id), (9, 8));
    replica.saved(10);
    assert!(replica.is_saved(sequence));
}

#[test]
fn a_change_of_the_same_attribute_drops_what_no_answer_has_told() {
    let mut replica = loaded();
    let generation = replica.generation();
    set(&mut replica, &[("a", "2"), ("b", "2")]);
    assert_eq!(replica.conflict(record(9, 90, &[("a", "7"), ("b", "1")])), Resolution::Stale);
    assert_eq!(replica.attributes(), values(&[("a", "7"), ("b", "1")]));
    assert!(replica.has_dropped(generation) && !replica.is_dirty());
}

#[test]
fn what_was_answered_without_the_hub_gives_way() {
    let mut replica = loaded();
    let generation = replica.generation();
    let sequence = set(&mut replica, &[("a", "2"), ("c", "2")]);
    replica.answered(sequence);
    assert_eq!(replica.conflict(record(9, 90, &[("a", "7")])), Resolution::Superseded);
    assert_eq!(replica.attributes(), values(&[("a", "7"), ("c", "2")]));
    assert!(replica.has_dropped(generation));
    assert_eq!(replica.next_save(Heard::default(), || 8).unwrap().base_version, 9);
}

#[test]
fn a_request_that_looked_at_what_gives_way_is_refused() {
    let mut replica = loaded();
    let generation = replica.generation();
    let sequence = set(&mut replica, &[("a", "2")]);
    replica.answered(sequence);
    set(&mut replica, &[("a", "3"), ("c", "3")]);
    assert_eq!(replica.conflict(record(9, 90, &[("a", "7")])), Resolution::Stale);
    assert_eq!(replica.attributes(), values(&[("a", "7")]));
    assert!(replica.has_dropped(generation) && !replica.is_dirty());
}

#[test]
fn our_own_save_whose_answer_was_lost_is_no_conflict() {
    let mut replica = loaded();
    let sequence = set(&mut replica, &[("a", "2")]);
    replica.next_save(Heard::default(), || 7);
    set(&mut replica, &[("a", "3")]);
    assert_eq!(replica.conflict(record(6, 7, &[("a", "2"), ("b", "1")])), Resolution::Merged);
    assert_eq!(replica.next_save(Heard::default(), || 8).unwrap().set, values(&[("a", "3")]));
    replica.saved(7);
    assert!(!replica.is_dirty() && replica.is_saved(sequence));
}

#[test]
fn the_same_value_from_another_server_is_a_conflict() {
    let mut replica = loaded();
    let generation = replica.generation();
    set(&mut replica, &[("a", "2")]);
    replica.next_save(Heard::default(), || 7);
    assert_eq!(replica.conflict(record(6, 60, &[("a", "2"), ("b", "1")])), Resolution::Stale);
    assert!(replica.has_dropped(generation));
}

#[test]
fn a_session_that_is_gone_takes_its_changes_along() {
    let mut replica = loaded();
    let generation = replica.generation();
    set(&mut replica, &[("a", "2")]);
    assert!(replica.missing());
    assert!(replica.has_dropped(generation) && !replica.exists() && !replica.is_dirty());
    assert!(!loaded().missing());
}

#[test]
fn save_all_sends_every_attribute() {
    let mut replica = loaded();
    replica.save_all();
    let save = replica.next_save(Heard::default(), || 7).unwrap();
    assert_eq!(save.set, values(&[("a", "1"), ("b", "1")]));
    replica.saved(6);
    assert!(!replica.is_dirty() && replica.is_saved(replica.sequence()));
}

#[test]
fn the_same_version_of_another_life_is_another_one() {
    let mut replica = loaded();
    let generation = replica.generation();
    replica.adopt(record(5, 50, &[("a", "1"), ("b", "1")]));
    assert_eq!(replica.generation(), generation);
    replica.adopt(record(5, 51, &[("a", "9")]));
    assert_ne!(replica.generation(), generation);
}

proptest! {
    /// Whatever is changed while saves are under way, in the end the hub has what the app sees.
    #[test]
    fn saves_converge(steps in prop::collection::vec((0_u8..4, 0_u8..3, 0_u8..4), 1..60)) {
        let mut replica = Replica::default();
        let (mut hub, mut version, mut sent) = (Attributes::new(), 0, None::<Save>);
        let deliver = |replica: &mut Replica, sent: &mut Option<Save>, hub: &mut Attributes, version: &mut u64| {
            if let Some(save) = sent.take() {
                assert_eq!(save.base_version, *version);
                hub.extend(save.set);
                hub.retain(|name, _| !save.removed.contains(name));
                *version += 1;
                replica.saved(*version);
            }
        };
        for (step, name, value) in steps {
            let name = name.to_string();
            match step {
                0 => replica.update(Attributes::from([(name, Bytes::from(vec![value]))]), Vec::new()),
                1 => replica.update(Attributes::new(), vec![name]),
                2 => sent = replica.next_save(Heard::default(), || 1),
                _ => deliver(&mut replica, &mut sent, &mut hub, &mut version),
            }
        }
        let seen = replica.attributes();
        while let Some(save) = replica.next_save(Heard::default(), || 1) {
            sent = Some(save);
            deliver(&mut replica, &mut sent, &mut hub, &mut version);
        }
        prop_assert_eq!(&hub, &seen);
        prop_assert_eq!(replica.attributes(), seen);
    }
}
