//! The store against a model, with restarts, kills, damage and little room.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::{collections::HashMap, path::Path};

const NEVER: u32 = u32::MAX;

fn settings(folder: &Path, capacity: u64) -> Settings {
    Settings { folder: folder.join("cache"), capacity, waiting: 64 << 20 }
}

fn open(settings: &Settings) -> DiskCache {
    let cache = DiskCache::open(settings, |_| {}).unwrap();
    loaded(&cache);
    cache
}

fn loaded(cache: &DiskCache) {
    while !cache.is_loaded() {
        std::thread::yield_now();
    }
}

fn put(cache: &DiskCache, group: &str, key: &str, body: Vec<u8>) {
    let record = Record { key: key.to_owned().into(), meta: "m".into(), body: body.into(), expires: NEVER };
    cache.put(group.as_bytes(), record);
    cache.flush();
}

fn get(cache: &DiskCache, group: &str, key: &str) -> Option<Bytes> {
    let found = cache.find(group.as_bytes(), key.as_bytes(), 5)?;
    let record = cache.read(&found, key.as_bytes())?;
    assert_eq!((&record.key[..], &record.meta[..]), (key.as_bytes(), &b"m"[..]));
    Some(record.body)
}

/// What a kill leaves: the folder as it is, in another place.
fn killed(settings: &Settings, at: &Path) -> Settings {
    let folder = at.join("copy");
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir(&settings.folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    Settings { folder, ..settings.clone() }
}

#[derive(Debug, Clone)]
enum Step {
    Put { group: u8, key: u8, length: usize },
    Forget { group: u8 },
    ForgetAll,
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4_u8, 0..3_u8, 0..20_000_usize).prop_map(|(group, key, length)| Step::Put { group, key, length }),
        3 => (0..4_u8).prop_map(|group| Step::Forget { group }),
        1 => Just(Step::ForgetAll),
        2 => Just(Step::Restart),
        2 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is done, with restarts and kills: what is there is what was put last and not forgotten since.
    #[test]
    fn what_is_found_is_what_was_put_last_and_not_forgotten(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path(), 64 << 20);
        let mut cache = open(&settings);
        let mut model: HashMap<(u8, u8), Vec<u8>> = HashMap::new();
        let mut copies = Vec::new();
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { group, key, length } => {
                    let body = vec![count as u8; length];
                    put(&cache, &format!("g{group}"), &format!("k{key}"), body.clone());
                    model.insert((group, key), body);
                }
                Step::Forget { group } => {
                    cache.forget(format!("g{group}").as_bytes());
                    model.retain(|(it, _), _| *it != group);
                }
                Step::ForgetAll => {
                    cache.forget_all();
                    model.clear();
                }
                Step::Restart => {
                    drop(cache);
                    cache = open(&settings);
                }
                Step::Kill => {
                    cache.flush();
                    let at = tempfile::tempdir().unwrap();
                    settings = killed(&settings, at.path());
                    copies.push(at);
                    cache = open(&settings);
                }
            }
            for group in 0..4 {
                for key in 0..3 {
                    let found = get(&cache, &format!("g{group}"), &format!("k{key}"));
                    prop_assert_eq!(found.as_deref(), model.get(&(group, key)).map(|it| &it[..]));
                }
            }
        }
        prop_assert_eq!(cache.totals().entries, model.len() as u64);
    }

    /// Whatever is done to the files, nothing is given that was not put.
    #[test]
    fn what_is_damaged_is_not_there(file: prop::sample::Index, at: prop::sample::Index, with: u8, cut: bool, sealed: bool) {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 64 << 20);
        let cache = open(&settings);
        let body = |number: u8| vec![number; 3000];
        (0..20).for_each(|it| put(&cache, &it.to_string(), "k", body(it)));
        let copy = tempfile::tempdir().unwrap();
        let settings = if sealed {
            drop(cache);
            settings
        } else {
            killed(&settings, copy.path())
        };
        let files: Vec<_> = fs::read_dir(&settings.folder).unwrap().map(|it| it.unwrap().path()).collect();
        let path = &files[file.index(files.len())];
        let mut bytes = fs::read(path).unwrap();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = with }
            fs::write(path, bytes).unwrap();
        }
        let cache = open(&settings);
        for number in 0..20 {
            if let Some(found) = get(&cache, &number.to_string(), "k") {
                prop_assert_eq!(found, body(number));
            }
        }
    }
}

#[test]
fn the_oldest_make_room_and_are_told_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 16 << 20);
    let cache = open(&settings);
    let mut was_old = 0;
    for number in 0..1000 {
        put(&cache, &number.to_string(), "k", vec![1; 50_000]);
        // Whoever puts again what is old keeps it.
        if let Some(found) = cache.find(b"0", b"k", 5)
            && found.is_old
        {
            was_old += 1;
            put(&cache, "0", "k", vec![1; 50_000]);
        }
        assert!(get(&cache, "0", "k").is_some(), "{number}");
        assert!(cache.totals().bytes <= 16 << 20);
    }
    assert!(was_old > 1 && get(&cache, "1", "k").is_none() && get(&cache, "999", "k").is_some());
    let files = fs::read_dir(&settings.folder).unwrap().map(|it| it.unwrap().metadata().unwrap().len());
    assert!(files.sum::<u64>() <= (16 << 20) + (1 << 17));
    let entries = cache.totals().entries;
    assert!((250..340).contains(&entries), "{entries}");
    drop(cache);
    assert_eq!(open(&settings).totals().entries, entries, "as many are found again");
}

#[test]
fn small_things_do_not_make_the_index_large() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&settings(folder.path(), 16 << 20));
    for number in 0..10_000_u32 {
        let record =
            Record { key: number.to_le_bytes().to_vec().into(), expires: NEVER, ..Record::default() };
        cache.put(&number.to_le_bytes(), record);
        if number % 1000 == 0 {
            cache.flush();
        }
    }
    cache.flush();
    assert!(cache.totals().entries <= (16 << 20) / (4 << 10), "{:?}", cache.totals());
}

#[test]
fn after_a_loss_of_power_nothing_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let cache = open(&settings);
    put(&cache, "a", "k", vec![1]);
    cache.set_state("apps", b"one").unwrap();
    let at = tempfile::tempdir().unwrap();
    let lost = killed(&settings, at.path());
    fs::write(lost.folder.join("boot"), "another").unwrap();
    let started = open(&lost);
    assert_eq!((get(&started, "a", "k"), started.state("apps")), (None, None));
    put(&started, "a", "k", vec![2]);
    assert!(get(&started, "a", "k").is_some());
    // One that was shut down properly is used, whatever the machine did since.
    drop(cache);
    fs::write(settings.folder.join("boot"), "another").unwrap();
    let started = open(&settings);
    assert_eq!(
        (get(&started, "a", "k").unwrap(), started.state("apps").unwrap()),
        (Bytes::from(vec![1]), b"one".to_vec())
    );
}

#[test]
fn what_a_kill_has_left_is_whole_after_the_next_end() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let cache = open(&settings);
    (0..3).for_each(|it| put(&cache, &it.to_string(), "k", vec![1; 1000]));
    for torn in [false, true] {
        let at = tempfile::tempdir().unwrap();
        let killed = killed(&settings, at.path());
        if torn {
            let log = fs::OpenOptions::new().write(true).open(killed.folder.join("00000001.log")).unwrap();
            log.set_len(log.metadata().unwrap().len() - 1).unwrap();
        }
        // Twice, as the first start mends it, and the machine is shut down properly then.
        for _ in 0..2 {
            let started = open(&killed);
            assert!(get(&started, "0", "k").is_some() && get(&started, "1", "k").is_some());
            assert_eq!(get(&started, "2", "k").is_some(), !torn);
            drop(started);
            fs::remove_file(killed.folder.join("boot")).unwrap();
        }
    }
}

#[test]
fn notes_come_back_in_their_order_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let cache = open(&settings);
    put(&cache, "a", "k", vec![1]);
    let first = cache.note(vec![b"one".to_vec()]).unwrap();
    put(&cache, "b", "k", vec![1]);
    let second = cache.note(vec![b"two".to_vec()]).unwrap();
    let place = |cache: &DiskCache, group: &str| cache.find(group.as_bytes(), b"k", 5).unwrap().position();
    assert!(place(&cache, "a") < first && first < place(&cache, "b") && place(&cache, "b") < second);
    drop(cache);
    let (send, receive) = mpsc::channel();
    let cache = DiskCache::open(&settings, move |notes| send.send(notes).unwrap()).unwrap();
    let notes: Vec<_> = receive.recv().unwrap().into_iter().map(|it| (it.position, it.bytes)).collect();
    assert_eq!(notes, [(first, Bytes::from("one")), (second, Bytes::from("two"))]);
    loaded(&cache);
    assert!(place(&cache, "a") < first);
    put(&cache, "a", "k", vec![1]);
    assert!(place(&cache, "a") > second);
}

#[test]
fn what_is_past_its_time_or_of_another_key_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&settings(folder.path(), 64 << 20));
    let record = Record { key: "k".into(), expires: 10, ..Record::default() };
    cache.put(b"a", record);
    cache.flush();
    let found = cache.find(b"a", b"k", 9).unwrap();
    assert!(cache.read(&found, b"k").is_some() && cache.read(&found, b"other").is_none());
    assert!(cache.find(b"a", b"k", 10).is_none() && cache.totals().entries == 0);
}

#[test]
fn two_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let _cache = open(&settings);
    let refused = DiskCache::open(&settings, |_| {}).unwrap_err();
    assert!(refused.to_string().contains("in use: by another process"), "{refused}");
}

#[test]
fn what_is_not_written_leaves_nothing_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), 16 << 20);
    settings.waiting = 400 << 10;
    let cache = open(&settings);
    put(&cache, "a", "k", vec![1; 10]);
    // Longer than a segment; and longer than what may wait.
    for length in [300 << 10, 500 << 10] {
        put(&cache, "a", "k", vec![2; length]);
        assert_eq!(get(&cache, "a", "k"), None);
        let at = tempfile::tempdir().unwrap();
        let copy = killed(&settings, at.path());
        assert_eq!(get(&open(&copy), "a", "k"), None, "nor after a kill");
        put(&cache, "a", "k", vec![1; 10]);
        assert!(get(&cache, "a", "k").is_some());
    }
}

#[test]
fn what_was_replaced_by_what_is_past_its_time_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let cache = open(&settings);
    put(&cache, "a", "k", vec![1]);
    let record = Record { key: "k".into(), meta: "m".into(), body: "2".into(), expires: 1 };
    cache.put(b"a", record);
    drop(cache);
    let cache = open(&settings);
    assert_eq!((get(&cache, "a", "k"), cache.totals().entries), (None, 0));
}

#[test]
fn nobody_makes_a_group_long() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let cache = open(&settings);
    for number in 0..500 {
        put(&cache, "a", &number.to_string(), vec![1]);
    }
    assert!(get(&cache, "a", "499").is_some() && get(&cache, "a", "0").is_none());
    assert_eq!(cache.totals().entries, 64);
    drop(cache);
    let cache = open(&settings);
    assert_eq!(cache.totals().entries, 64);
    assert!(get(&cache, "a", "499").is_some() && get(&cache, "a", "300").is_none());
}

#[test]
fn what_waits_is_forgotten_too_and_nothing_is_taken_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 64 << 20);
    let cache = open(&settings);
    for round in 0..200 {
        let record = Record { key: "k".into(), meta: "m".into(), body: "1".into(), expires: NEVER };
        cache.put(b"a", record);
        // At whatever it is just now.
        if round % 2 == 0 {
            std::thread::yield_now();
        }
        cache.forget(b"a");
        cache.flush();
        assert_eq!(get(&cache, "a", "k"), None, "{round}");
    }
    cache.close();
    assert!(cache.note(vec![b"late".to_vec()]).is_err() && cache.set_state("apps", b"late").is_err());
    // Another one may have it.
    assert_eq!(open(&settings).state("apps"), None);
}

#[test]
fn a_damaged_word_of_forgetting_takes_what_was_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 16 << 20);
    let cache = open(&settings);
    put(&cache, "a", "k", vec![1]);
    // Into the next segment.
    put(&cache, "b", "k", vec![1; 200 << 10]);
    put(&cache, "c", "k", vec![1; 200 << 10]);
    cache.forget(b"a");
    cache.note(vec![b"what is to be forgotten".to_vec()]).unwrap();
    put(&cache, "d", "k", vec![1; 200 << 10]);
    drop(cache);
    let damaged = fs::read_dir(&settings.folder).unwrap().map(|it| it.unwrap().path()).find(|path| {
        let bytes = fs::read(path).unwrap();
        let at = bytes.windows(23).position(|it| it == b"what is to be forgotten");
        at.is_some_and(|at| {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
            true
        })
    });
    assert!(damaged.is_some());
    let cache = open(&settings);
    assert!(get(&cache, "a", "k").is_none() && get(&cache, "b", "k").is_none());
    assert!(get(&cache, "d", "k").is_some());
}

/// A file system of so many bytes, taken away when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, and a word, where the system does not allow it.
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=0700");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "copal-test"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        if mounted.is_ok_and(|it| it.success()) {
            return Some(Self(folder));
        }
        let _ = io::Write::write_all(
            &mut io::stderr(),
            b"skipped a test of full disks: mounting one is not allowed here\n",
        );
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_small_disk_has_the_newest_and_leaves_something_to_others() {
    let Some(small) = Small::mount(24 << 20) else { return };
    let settings = settings(small.0.path(), 1 << 30);
    let cache = open(&settings);
    for number in 0..2000 {
        put(&cache, &number.to_string(), "k", vec![1; 50_000]);
    }
    assert!(get(&cache, "1999", "k").is_some() && get(&cache, "1900", "k").is_some(), "{:?}", cache.totals());
    assert_eq!((get(&cache, "0", "k"), cache.totals().failed), (None, 0));
    fs::write(small.0.path().join("other"), vec![0; 100_000]).unwrap();
    drop(cache);
    assert!(get(&open(&settings), "1999", "k").is_some());
}

#[test]
fn a_disk_that_others_fill_loses_what_is_kept_and_gives_nothing_wrong() {
    let Some(small) = Small::mount(24 << 20) else { return };
    let settings = settings(small.0.path(), 16 << 20);
    let cache = open(&settings);
    for number in 0..100 {
        put(&cache, &number.to_string(), "k", vec![1; 50_000]);
    }
    // As much as there is.
    let mut other = fs::File::create(small.0.path().join("other")).unwrap();
    while io::Write::write(&mut other, &[0; 65536]).is_ok() {}
    for number in 0..300 {
        cache.forget(number.to_string().as_bytes());
        put(&cache, &number.to_string(), "k", vec![2; 50_000]);
        let found = get(&cache, &number.to_string(), "k");
        assert!(found.is_none_or(|it| it[0] == 2), "{number}");
    }
    // A purge is done, whether it can be written down or not.
    let noted = cache.note(vec![vec![b'x'; 3000]]).is_ok();
    assert!(noted || cache.totals().entries == 0);
    // There is room again.
    drop(other);
    fs::remove_file(small.0.path().join("other")).unwrap();
    drop(cache);
    let cache = open(&settings);
    for number in 0..300 {
        let found = get(&cache, &number.to_string(), "k");
        assert!(found.is_none_or(|it| it[0] == 2), "{number}");
    }
    put(&cache, "a", "k", vec![3]);
    assert!(get(&cache, "a", "k").is_some());
}
