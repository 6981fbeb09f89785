//! What was kept before: found again at the start.

use crate::{
    index::{Location, Position},
    record::{Header, Kind},
    segment::Segment,
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
            format!("{} is in use by another process", folder.display()),
        )
    })?;
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let is_same_boot = !boot.is_empty() && read_state(folder, BOOT).is_some_and(|it| it == boot);
    let secret = read_state(folder, SECRET).and_then(|it| <[u8; 32]>::try_from(it).ok());
    let is_whole = secret.is_some() && (is_same_boot || folder.join(CLEAN).exists());
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Ok(Some(segment)) = Segment::open(path) {
            segments.push(Arc::new(segment));
        }
    }
    segments.sort_by_key(|it| it.number);
    // The last that were written before the power went may be lost: among them that something is to be forgotten.
    if !is_whole && !segments.is_empty() {
        tracing::info!(folder = %folder.display(), "what was kept on disk is not used: the machine was not shut down properly");
        segments.drain(..).for_each(|it| it.remove());
        for name in state_names(folder) {
            fs::remove_file(folder.join(name))?;
        }
    }
    let secret = match secret.filter(|_| is_whole) {
        Some(secret) => secret,
        None => {
            let secret: [u8; 32] = rand::random();
            write_state(folder, SECRET, &secret)?;
            secret
        }
    };
    write_state(folder, BOOT, &boot)?;
    match fs::remove_file(folder.join(CLEAN)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(Opened { secret, lock, segments }),
    }
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
    fs::read(path).ok()
}

/// Written beside, then put in its place.
pub(crate) fn write_state(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(file_name(name));
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&beside, &path)
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

/// Finds what is in the files, the newest first: what comes later has taken the place of what was before.
pub(crate) fn run(shared: &Shared, segments: &[Arc<Segment>], told: impl FnOnce(Vec<Note>)) {
    let (began, now_s) = (Instant::now(), now_s());
    let (mut forgotten, mut notes) = (HashSet::new(), Vec::new());
    for segment in segments.iter().rev() {
        if shared.is_closing() {
            return;
        }
        // It may have made room already.
        if !shared.has(segment.number) {
            continue;
        }
        let list = match segment.list() {
            Ok(list) => list,
            Err(cause) => {
                tracing::warn!(%cause, "a file of what was kept can't be read");
                continue;
            }
        };
        for (offset, header) in list.into_iter().rev() {
            let position = Position::new(segment.number, offset);
            let Ok(length) = u32::try_from(header.length()) else { continue };
            match header.kind {
                Kind::Entry if u64::from(header.expires) > now_s && !forgotten.contains(&header.group) => {
                    let Header { key_hash, expires, group, .. } = header;
                    shared.index.insert_former(group, Location { key_hash, position, length, expires });
                }
                Kind::Entry => {}
                Kind::Forget => {
                    forgotten.insert(header.group);
                }
                Kind::Note => {
                    if let Some((_, record)) = segment.read(position, length) {
                        notes.push(Note { position, bytes: record.body });
                    }
                }
            }
        }
    }
    notes.reverse();
    told(notes);
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
