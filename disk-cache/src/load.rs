//! What was kept before: found again at the start.

use crate::{
    index::{Location, Position},
    record::{Header, Kind},
    segment::{Listed, Segment, Source},
    shared::Shared,
};
use bytes::Bytes;
use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A note of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is in front of it was there before it.
    pub position: Position,
    /// What was written.
    pub bytes: Bytes,
}

/// What is in a folder.
pub(crate) struct Opened {
    pub(crate) secret: [u8; 32],
    pub(crate) lock: File,
    /// The oldest first.
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// The longest name and content of a state's file.
const STATE_MAX: u64 = 4 << 20;

/// Which start of the machine the files were written in.
const BOOT: &str = "boot";

/// The files were written to their end, and are on disk.
const CLEAN: &str = "clean";

/// What the hashes of keys depend on.
const SECRET: &str = "secret";

/// Takes a folder.
pub(crate) fn open(folder: &Path) -> io::Result<Opened> {
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    lock.try_lock().map_err(|_| {
        io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "{} is in use: by another process, or it is still being closed after a reload",
                folder.display()
            ),
        )
    })?;
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let is_same_boot = !boot.is_empty() && read_state(folder, BOOT).is_some_and(|it| it == boot);
    let secret = read_state(folder, SECRET).and_then(|it| <[u8; 32]>::try_from(it).ok());
    let is_whole = secret.is_some() && (is_same_boot || folder.join(CLEAN).exists());
    let (mut segments, mut is_whole) = (Vec::new(), is_whole);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match Segment::open(path.clone()) {
            // Of those in which nothing was written nothing is needed.
            Ok(Some(segment)) if segment.file.metadata().is_ok_and(|it| it.len() == 0) => segment.remove(),
            Ok(segment) => segments.extend(segment.map(Arc::new)),
            // It may say what is to be forgotten of the others.
            Err(cause) => {
                tracing::warn!(%cause, path = %path.display(), "a file of what was kept can't be opened: nothing of it is used");
                is_whole = false;
                fs::remove_file(path)?;
            }
        }
    }
    segments.sort_by_key(|it| it.number);
    // The last that were written before the power went may be lost: among them that something is to be forgotten.
    if !is_whole && !segments.is_empty() {
        tracing::info!(folder = %folder.display(), "what was kept on disk is not used: it was not closed properly");
        segments.drain(..).for_each(|it| it.remove());
        for name in state_names(folder) {
            fs::remove_file(folder.join(name))?;
        }
    }
    let secret = secret.filter(|_| is_whole);
    let (is_new, secret) = (secret.is_none(), secret.unwrap_or_else(rand::random));
    let begin = || {
        if is_new {
            write_state(folder, SECRET, &secret)?;
        }
        write_state(folder, BOOT, &boot)
    };
    while let Err(cause) = begin() {
        // What is kept makes room for what has to be said of it.
        if cause.kind() != io::ErrorKind::StorageFull || segments.is_empty() {
            return Err(cause);
        }
        segments.remove(0).remove();
    }
    match fs::remove_file(folder.join(CLEAN)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    // Before anything else is written: else the power could go, and this not.
    File::open(folder)?.sync_all()?;
    Ok(Opened { secret, lock, segments })
}

/// All is on disk that was written.
pub(crate) fn mark_clean(folder: &Path) {
    let _ = write_state(folder, CLEAN, b"");
}

/// Something that is to be forgotten could not be written down: nothing of it may be used at the next start.
pub(crate) fn distrust(folder: &Path) {
    for name in [BOOT, CLEAN] {
        let _ = fs::remove_file(folder.join(name));
    }
}

/// The files that users of this crate have written.
fn state_names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|it| it.file_name().into_string().ok());
    names.filter(|it| it.ends_with(".state")).collect()
}

fn file_name(name: &str) -> String {
    match name {
        BOOT | CLEAN | SECRET => name.to_owned(),
        _ => format!("{name}.state"),
    }
}

pub(crate) fn read_state(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let path = folder.join(file_name(name));
    if fs::metadata(&path).ok()?.len() > STATE_MAX {
        return None;
    }
    let mut bytes = fs::read(path).ok()?;
    let sum = bytes.split_off(bytes.len().checked_sub(4)?);
    (crc32fast::hash(&bytes).to_le_bytes() == sum[..]).then_some(bytes)
}

/// Written beside, then put in its place.
pub(crate) fn write_state(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(file_name(name));
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.write_all(&crc32fast::hash(bytes).to_le_bytes())?;
    file.sync_data()?;
    fs::rename(&beside, &path)
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

/// What a look at the files finds.
#[derive(Default)]
struct Finds {
    forgotten: HashSet<u64>,
    /// Things whose newest is past its time: those before it are out of date.
    past: HashSet<(u64, u64)>,
    /// The newest first.
    notes: Vec<Note>,
}

/// Finds what is in the files, the newest first: what comes later has taken the place of what was before.
pub(crate) fn run(shared: &Shared, segments: &[Arc<Segment>], told: impl FnOnce(Vec<Note>)) {
    let (began, now_s, mut finds) = (Instant::now(), now_s(), Finds::default());
    let newest = segments.last().map_or(0, |it| it.number);
    for segment in segments.iter().rev() {
        if shared.is_closing() {
            return;
        }
        // It may have made room already.
        if !shared.has(segment.number) {
            continue;
        }
        let is_whole = match segment.list() {
            Ok((list, source)) => {
                let is_good = match source {
                    Source::List => true,
                    // The last word of a process that was killed may be half a one.
                    Source::Torn if segment.number != newest => false,
                    Source::Whole | Source::Torn => segment.mend(&list).is_ok(),
                };
                is_good && take_in(shared, segment, list, now_s, &mut finds)
            }
            Err(_) => false,
        };
        if !is_whole {
            // It may have said what is to be forgotten of those before it.
            tracing::warn!(
                segment = segment.number,
                "a file of what was kept is damaged: those before it are not used"
            );
            for former in segments.iter().filter(|it| it.number < segment.number) {
                shared.drop_segment(former);
            }
            break;
        }
    }
    finds.notes.reverse();
    told(finds.notes);
    shared.index.loaded();
    let entries = shared.index.entries();
    if entries > 0 {
        tracing::info!(
            entries,
            taken_ms = began.elapsed().as_millis() as u64,
            "what was kept on disk is found"
        );
    }
}

/// Takes in what a file has; false: a note of it can't be read.
fn take_in(shared: &Shared, segment: &Segment, list: Vec<Listed>, now_s: u64, finds: &mut Finds) -> bool {
    for (offset, header) in list.into_iter().rev() {
        let position = Position::new(segment.number, offset);
        let Ok(length) = u32::try_from(header.length()) else { continue };
        let Header { group, key_hash, expires, .. } = header;
        match header.kind {
            Kind::Entry if u64::from(expires) <= now_s => {
                finds.past.insert((group, key_hash));
            }
            Kind::Entry => {
                if !finds.forgotten.contains(&group) && !finds.past.contains(&(group, key_hash)) {
                    shared.index.insert_former(group, Location { key_hash, position, length, expires });
                }
            }
            Kind::Forget => {
                finds.forgotten.insert(group);
            }
            Kind::Note => match segment.read(position, length) {
                Some((_, record)) => finds.notes.push(Note { position, bytes: record.body }),
                None => return false,
            },
        }
    }
    true
}
