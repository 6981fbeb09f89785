//! The log under crashes, damage and full disks.

use super::*;
use crate::disk::sim::SimDisk;
use crate::raft::Data;
use openraft::{
    EntryPayload,
    impls::leader_id_adv::LeaderId,
    type_config::{TypeConfigExt, alias::OneshotReceiverOf},
};
use proptest::prelude::*;

const SMALL: u64 = 600;

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 1 }, index)
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(Data(vec![u8::try_from(index % 251).unwrap(); bytes].into()));
    Entry { log_id: id(term, index), payload }
}

fn open(disk: &SimDisk) -> Result<Log, LogError> {
    Log::open(Arc::new(disk.clone()), SMALL).map(|(log, _)| log)
}

type Flushed = OneshotReceiverOf<Types, io::Result<()>>;

/// Appends without waiting for the disk.
async fn append(log: &mut Log, entries: Vec<Entry>) -> io::Result<Flushed> {
    let (done, wait) = Types::oneshot();
    log.append(entries, IOFlushed::signal(done)).await?;
    Ok(wait)
}

async fn append_and_wait(log: &mut Log, entries: Vec<Entry>) {
    append(log, entries).await.unwrap().await.unwrap().unwrap();
}

/// What a log holds, for comparison.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<(LogId, usize)>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|(id, _)| *id).or(self.purged)
    }

    /// The entry that `back` others follow: the library says that it is committed once it is accepted, on disk or not.
    fn back(&self, back: u64) -> Option<LogId> {
        let at = self.entries.len().saturating_sub(1 + usize::try_from(back).unwrap());
        self.entries.get(at).map(|(id, _)| *id)
    }

    /// Drops the last `back` entries that are not committed.
    fn truncate(&mut self, back: u64, committed: Option<LogId>) {
        let keep = self.entries.len().saturating_sub(usize::try_from(back).unwrap());
        let kept = self.entries.partition_point(|(id, _)| Some(*id) <= committed);
        self.entries.truncate(keep.max(kept));
    }

    async fn of(log: &mut Log) -> Self {
        let state = log.get_log_state().await.unwrap();
        let entries = log.try_get_log_entries(..).await.unwrap();
        let weigh = |entry: Entry| match entry.payload {
            EntryPayload::Normal(data) => {
                assert!(data.0.iter().all(|&byte| u64::from(byte) == entry.log_id.index % 251));
                (entry.log_id, data.0.len())
            }
            other => panic!("{other:?}"),
        };
        let found = Self {
            vote: log.read_vote().await.unwrap(),
            purged: state.last_purged_log_id,
            entries: entries.into_iter().map(weigh).collect(),
        };
        assert_eq!(found.last(), state.last_log_id);
        found
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Vote,
    Committed(u64),
    Truncate(u64),
    Purge(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(0usize..150, 1..5).prop_map(Step::Append),
        1 => Just(Step::Vote),
        4 => (0u64..4).prop_map(Step::Committed),
        1 => (0u64..6).prop_map(Step::Truncate),
        2 => (0u64..8).prop_map(Step::Purge),
    ];
    prop::collection::vec(step, 1..40)
}

/// Runs the steps until the disk fails: all states that a recovery may find, from which on one of them is acknowledged, and
/// what was committed.
async fn run(log: &mut Log, steps: &[Step]) -> (Vec<Model>, usize, Option<LogId>) {
    let mut states = vec![Model::of(log).await];
    let (mut acknowledged, mut committed) = (0, None);
    let mut waiting: Vec<(usize, Flushed)> = Vec::new();
    let mut term = 1;
    for step in steps {
        let mut now = states.last().unwrap().clone();
        let next = now.last().map_or(0, |it| it.index + 1);
        let done = match step {
            Step::Append(sizes) => {
                let entries: Vec<Entry> =
                    (next..).zip(sizes).map(|(index, &bytes)| entry(term, index, bytes)).collect();
                for (entry, &bytes) in entries.iter().zip(sizes) {
                    now.entries.push((entry.log_id, bytes));
                    states.push(now.clone());
                }
                match append(log, entries).await {
                    Ok(flushed) => waiting.push((states.len() - 1, flushed)),
                    Err(_full) => break,
                }
                continue;
            }
            Step::Vote => {
                now.vote = Some(Vote::new(term, 1));
                states.push(now);
                log.save_vote(&Vote::new(term, 1)).await
            }
            Step::Committed(back) => {
                committed = committed.max(now.back(*back));
                log.save_committed(committed).await.unwrap();
                continue;
            }
            Step::Truncate(back) => {
                now.truncate(*back, committed);
                term += 1;
                states.push(now.clone());
                log.truncate_after(now.last()).await
            }
            Step::Purge(count) => {
                let count = usize::try_from(*count).unwrap().min(now.entries.len());
                let Some((upto, _)) = now.entries.drain(..count).next_back() else { continue };
                now.purged = Some(upto);
                states.push(now);
                committed = committed.max(Some(upto));
                log.save_committed(committed).await.unwrap();
                log.purge(upto).await
            }
        };
        if done.is_err() {
            break;
        }
        acknowledged = states.len() - 1;
    }
    for (state, flushed) in waiting {
        if matches!(flushed.await, Ok(Ok(()))) {
            acknowledged = acknowledged.max(state);
        }
    }
    (states, acknowledged, committed)
}

/// What is said to be committed is in the log, or was purged from it, and was committed.
async fn assert_committed_is_held(log: &mut Log, found: &Model, committed: Option<LogId>) {
    let Some(known) = log.read_committed().await.unwrap() else { return };
    let held = found.entries.iter().any(|(id, _)| *id == known) || found.purged.is_some_and(|it| known <= it);
    assert!(held && Some(known) <= committed, "{known} is committed; {committed:?} was; there is {found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whenever the disk fails and whatever of the unsynced bytes a crash leaves: all that was acknowledged is found, and
    /// nothing that never was.
    #[test]
    fn what_was_acknowledged_is_there_after_a_crash(steps in steps(), operations in 0u64..120, keep in any::<u8>(), again in 0u64..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let disk = SimDisk::default();
            let mut log = open(&disk).unwrap();
            disk.fail_after(operations);
            let (states, acknowledged, committed) = run(&mut log, &steps).await;
            drop(log);
            let mut disk = disk.crash(keep);
            // It may crash again while it recovers.
            disk.fail_after(again);
            if open(&disk).is_err() {
                disk = disk.crash(keep);
            }
            disk.fail_after(u64::MAX);
            let mut log = open(&disk).unwrap();
            let found = Model::of(&mut log).await;
            prop_assert!(
                states[acknowledged..].contains(&found),
                "found {found:?}, expected one of {:?}", &states[acknowledged..]
            );
            assert_committed_is_held(&mut log, &found, committed).await;
            // And it goes on from there.
            let next = found.last().map_or(0, |it| it.index + 1);
            append_and_wait(&mut log, vec![entry(9, next, 10)]).await;
            log.stop().await.unwrap();
            let mut log = open(&disk.crash(0)).unwrap();
            prop_assert_eq!(Model::of(&mut log).await.last(), Some(id(9, next)));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_commit_that_was_said_before_its_entry_was_on_disk_is_no_promise() {
    // (a) The group that was to hold the entry is torn.
    let disk = SimDisk::default();
    let mut log = filled_open(&disk, 2).await;
    log.save_committed(Some(id(1, 2))).await.unwrap();
    disk.fail_after(1);
    let lost = append(&mut log, vec![entry(1, 2, 100)]).await.unwrap().await.unwrap();
    assert!(lost.is_err());
    for keep in 0..=255 {
        let mut log = open(&disk.crash(keep)).unwrap();
        let found = Model::of(&mut log).await;
        assert_committed_is_held(&mut log, &found, Some(id(1, 2))).await;
    }
    // (b) It was said while the group before was written.
    let disk = SimDisk::default();
    let mut log = filled_open(&disk, 2).await;
    log.save_committed(Some(id(1, 2))).await.unwrap();
    log.barrier().await.unwrap();
    let mut log = open(&disk.crash(0)).unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 1)));
}

#[tokio::test]
async fn a_commit_beyond_the_log_is_forgotten() {
    let mut index = Index::default();
    index.append(&[entry(1, 0, 1), entry(1, 1, 1)]).unwrap();
    for beyond in [id(1, 2), id(2, 1)] {
        index.committed = Some(beyond);
        assert_eq!(index.settle(), None);
        assert_eq!(index.committed, None, "{beyond}");
    }
    index.purge(id(1, 0));
    index.committed = Some(id(1, 7));
    index.settle();
    assert_eq!(index.committed, Some(id(1, 0)));
}

async fn filled_open(disk: &SimDisk, entries: u64) -> Log {
    let mut log = open(disk).unwrap();
    for index in 0..entries {
        append_and_wait(&mut log, vec![entry(1, index, 100)]).await;
    }
    log
}

async fn filled(disk: &SimDisk, entries: u64) -> Log {
    let log = filled_open(disk, entries).await;
    log.stop().await.unwrap();
    log
}

#[tokio::test]
async fn damage_is_refused_by_file_and_offset() {
    let disk = SimDisk::default();
    filled(&disk, 3).await;
    disk.edit("0000000000000001.log", |bytes| bytes[100] ^= 1);
    let refused = open(&disk).unwrap_err();
    assert!(
        matches!(&refused, LogError::Damaged { file, .. } if file == "0000000000000001.log"),
        "{refused}"
    );
    assert!(refused.to_string().contains("at offset"), "{refused}");
}

#[tokio::test]
async fn damage_in_an_older_segment_and_a_missing_one_are_refused() {
    let disk = SimDisk::default();
    filled(&disk, 20).await;
    let names = disk.list().unwrap();
    assert!(names.len() > 3, "{names:?}");
    let cut = disk.crash(255);
    cut.edit(&names[0], |bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(open(&cut), Err(LogError::Damaged { .. })));
    let gap = disk.crash(255);
    gap.remove(&names[1]).unwrap();
    assert!(matches!(open(&gap), Err(LogError::Missing(name)) if name == names[1]));
    let oldest = disk.crash(255);
    oldest.remove(&names[0]).unwrap();
    assert!(matches!(open(&oldest), Err(LogError::Hole { from: 0, .. })));
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_synced_is_refused_by_file_and_offset() {
    let disk = SimDisk::default();
    filled(&disk, 20).await;
    let names: Vec<_> = disk.list().unwrap().into_iter().filter(|it| it != mark::FILE).collect();
    let newest = names.last().unwrap();
    let refused = |disk: &SimDisk| match open(disk) {
        Err(LogError::Lost { file, offset, cause, .. }) => (file, offset, cause),
        other => panic!("{other:?}"),
    };
    let whole = disk.open(newest).unwrap().length().unwrap();
    // The last group, with a flipped bit in it; the same, cut off in its middle, at its start, and with all before it.
    let copy = || disk.copy();
    let flipped = copy();
    flipped.edit(newest, |bytes| *bytes.last_mut().unwrap() ^= 4);
    let (file, offset, cause) = refused(&flipped);
    assert!(file == *newest && offset < whole && cause.contains("checksum"), "{file} {offset} {cause}");
    let torn = copy();
    torn.edit(newest, |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(refused(&torn).1, offset, "it ends with the same record");
    let cut = copy();
    cut.edit(newest, |bytes| bytes.truncate(usize::try_from(offset).unwrap()));
    assert_eq!(refused(&cut), (newest.clone(), offset, "is not there".to_owned()));
    let shorter = copy();
    shorter.remove(newest).unwrap();
    assert_eq!(refused(&shorter).0, names[names.len() - 2]);
    // An operator who has nothing better goes on with what is left.
    let given_up = copy();
    given_up.edit(newest, |bytes| bytes.truncate(usize::try_from(offset).unwrap()));
    given_up.remove(mark::FILE).unwrap();
    assert!(open(&given_up).is_ok() && open(&disk).is_ok());
}

#[tokio::test]
async fn an_unfinished_last_write_is_cut() {
    let disk = SimDisk::default();
    filled(&disk, 3).await;
    disk.edit("0000000000000001.log", |bytes| bytes.extend_from_slice(&[7; 30]));
    let mut log = open(&disk).unwrap();
    assert_eq!(Model::of(&mut log).await.entries.len(), 3);
    append_and_wait(&mut log, vec![entry(1, 3, 10)]).await;
}

#[tokio::test]
async fn purged_segments_leave_the_disk_and_the_vote_stays() {
    let disk = SimDisk::default();
    let mut log = open(&disk).unwrap();
    log.save_vote(&Vote::new(4, 2)).await.unwrap();
    log.save_committed(Some(id(1, 7))).await.unwrap();
    for index in 0..30 {
        append_and_wait(&mut log, vec![entry(1, index, 100)]).await;
    }
    let before = disk.list().unwrap().len();
    log.purge(id(1, 25)).await.unwrap();
    assert!(disk.list().unwrap().len() < before);
    log.stop().await.unwrap();
    let mut log = open(&disk.crash(0)).unwrap();
    let found = Model::of(&mut log).await;
    assert_eq!((found.vote, found.purged, found.entries.len()), (Some(Vote::new(4, 2)), Some(id(1, 25)), 4));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 7)));
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    let disk = SimDisk::default();
    let mut log = open(&disk).unwrap();
    append_and_wait(&mut log, vec![entry(1, 0, 10)]).await;
    disk.fail_after(1);
    let flushed = append(&mut log, vec![entry(1, 1, 10)]).await.unwrap().await.unwrap();
    assert_eq!(flushed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.fail_after(u64::MAX);
    let mut failed = log.failed();
    failed.wait_for(Option::is_some).await.unwrap();
    assert!(failed.borrow().as_ref().unwrap().contains("no space left"));
    let refused = log.save_vote(&Vote::new(1, 1)).await.unwrap_err();
    assert!(refused.to_string().contains("no space left"), "{refused}");
}

#[tokio::test]
async fn what_is_found_after_a_failed_sync_is_written_again() {
    for operation in 0..4 {
        let disk = SimDisk::default();
        let mut log = filled_open(&disk, 3).await;
        // The write succeeds, the sync fails: the pages are in memory, and count as written.
        disk.fail_after(1);
        let failed = append(&mut log, vec![entry(1, 3, 100)]).await.unwrap().await.unwrap();
        assert!(failed.is_err());
        // The next start may fail in its turn.
        let disk = disk.reopen();
        disk.fail_after(operation);
        assert!(open(&disk).is_err());
        let disk = disk.reopen();
        let mut log = open(&disk).unwrap();
        let found = Model::of(&mut log).await;
        assert_eq!(found.last(), Some(id(1, 3)));
        // What it found, it may have told others of.
        let mut log = open(&disk.crash(0)).unwrap();
        assert_eq!(Model::of(&mut log).await, found, "after a failure at operation {operation}");
    }
}

#[tokio::test]
async fn a_file_whose_name_was_not_synced_is_made_to_stay() {
    let disk = SimDisk::default();
    // Creates, writes and syncs the first segment; then the folder's sync fails.
    disk.fail_after(3);
    assert!(open(&disk).is_err());
    let disk = disk.reopen();
    let log = filled_open(&disk, 2).await;
    drop(log);
    let mut log = open(&disk.crash(0)).unwrap();
    assert_eq!(Model::of(&mut log).await.last(), Some(id(1, 1)));
}

#[tokio::test]
async fn a_limited_read_holds_at_least_one_entry_and_reads_fall_back_to_the_disk() {
    let disk = SimDisk::default();
    let mut log = open(&disk).unwrap();
    let large = 5 << 20;
    let entries: Vec<Entry> = (0..20).map(|index| entry(1, index, large)).collect();
    append_and_wait(&mut log, entries.clone()).await;
    assert_eq!(log.limited_get_log_entries(0, 20).await.unwrap(), entries[..1]);
    // More than the cache holds: the first ones come from the disk.
    log.barrier().await.unwrap();
    assert_eq!(log.try_get_log_entries(0..20).await.unwrap(), entries);
    assert_eq!(log.try_get_log_entries(18..40).await.unwrap(), entries[18..]);
}
