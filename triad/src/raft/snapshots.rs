//! Snapshots on disk: one file, named by the last entry in it, of records that end with a SHA-256 over all of them.

use super::{LogId, SnapshotMeta, codec, frame};
use crate::{
    disk::{Disk, DiskFile},
    state::{Restore, RestoreError, State},
};
use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::hub::v1::SnapshotHead;
use sha2::{Digest, Sha256};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The newest version of commands that a snapshot's state may have seen.
const VERSION: u32 = crate::command::VERSION;

/// Items are collected into records of about this size; files travel in pieces of it too.
pub(crate) const CHUNK: usize = 256 << 10;

const HEAD: u8 = 1;
const ITEMS: u8 = 2;
const END: u8 = 3;

/// Why a snapshot can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The disk.
    #[error("a snapshot of the hub: {0}")]
    Io(#[from] io::Error),
    /// A file that was here at the start is of no use.
    #[error(
        "hub/snapshots/{file}: {cause}. Replace the disk if it fails; delete this server's hub folder so that it fetches everything from the other hub servers"
    )]
    File {
        /// Its name.
        file: String,
        /// What is wrong with it.
        cause: Box<SnapshotError>,
    },
    /// A record is damaged.
    #[error("a snapshot of the hub is damaged at offset {offset}: {cause}")]
    Damaged {
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        cause: String,
    },
    /// Written by a newer version.
    #[error("a snapshot of the hub has version {0}, this server knows {VERSION}: upgrade it")]
    Version(u32),
    /// Its items.
    #[error(transparent)]
    Items(#[from] RestoreError),
}

impl SnapshotError {
    /// Names the file that is damaged.
    fn in_file(self, name: &str) -> Self {
        match self {
            Self::Damaged { .. } | Self::Items(_) => {
                Self::File { file: name.to_owned(), cause: Box::new(self) }
            }
            other => other,
        }
    }
}

/// A snapshot's file and, where it was just read, its content.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    /// Its name in the folder.
    name: String,
    /// The open file: it stays readable when a newer snapshot takes its place.
    pub(crate) file: Arc<dyn DiskFile>,
    /// Length in bytes.
    pub(crate) length: u64,
    content: Option<(SnapshotMeta, State)>,
    /// While it is not kept.
    temporary: Option<Arc<Temporary>>,
    /// It was found damaged on disk. Clones share it.
    damaged: Arc<AtomicBool>,
}

/// Removes a snapshot's file when the last who may want it is gone, unless it was kept meanwhile.
#[derive(Debug)]
struct Temporary {
    disk: Arc<dyn Disk>,
    name: String,
    kept: AtomicBool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed)
            && let Err(cause) = self.disk.remove(&self.name)
        {
            tracing::warn!(%cause, "a snapshot that is not needed stays until the next start");
        }
    }
}

impl SnapshotFile {
    /// Reads and checks the whole file.
    pub(crate) fn read(&mut self) -> Result<(SnapshotMeta, State), SnapshotError> {
        match self.content.take() {
            Some(content) => Ok(content),
            None => read(&*self.file, self.length),
        }
    }

    /// Whether [`SnapshotFile::examine`] has found it damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads and checks the whole file once more; says in the log what is wrong with it, and remembers it for
    /// [`Snapshots::is_damaged`].
    pub(crate) fn examine(&self) {
        if let Err(cause) = read(&*self.file, self.length) {
            tracing::error!(
                file = self.name, %cause,
                "a snapshot of this server is damaged on disk: a new one is made from the state in memory. Check the disk"
            );
            self.damaged.store(true, Ordering::Relaxed);
        }
    }
}

/// The folder of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    current: Arc<Mutex<Option<(SnapshotMeta, SnapshotFile)>>>,
}

impl Snapshots {
    /// Opens the folder, removes unfinished files and finds the newest snapshot.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Self, SnapshotError> {
        let mut newest: Option<(u64, String)> = None;
        for name in disk.list()? {
            match index_of(&name) {
                Some(index) if newest.as_ref().is_none_or(|(other, _)| index > *other) => {
                    if let Some((_, older)) = newest.replace((index, name)) {
                        disk.remove(&older)?;
                    }
                }
                _ => disk.remove(&name)?,
            }
        }
        // The newest one's name may be in memory only, after a process that was killed.
        disk.sync()?;
        let current = match newest {
            None => None,
            Some((_, name)) => {
                let file = disk.open(&name)?;
                let length = file.length()?;
                let (meta, state) = read(&*file, length).map_err(|it| it.in_file(&name))?;
                let content = Some((meta.clone(), state));
                let file =
                    SnapshotFile { name, file, length, content, temporary: None, damaged: Arc::default() };
                Some((meta, file))
            }
        };
        Ok(Self { disk, current: Arc::new(Mutex::new(current)) })
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (meta, file) = current.as_mut()?;
        // What was read at the start is handed out once: it would keep an old state in memory.
        let content = file.content.take();
        Some((meta.clone(), SnapshotFile { content, ..file.clone() }))
    }

    /// Length of the newest snapshot in bytes, 0 without one.
    pub(crate) fn current_bytes(&self) -> u64 {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map_or(0, |(_, file)| file.length)
    }

    /// Whether the newest snapshot was found damaged: another one has to take its place.
    pub(crate) fn is_damaged(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|(_, file)| file.is_damaged())
    }

    /// Writes a snapshot of `state` and makes it the newest.
    pub(crate) fn write(&self, meta: &SnapshotMeta, state: &State) -> io::Result<SnapshotFile> {
        let mut receiving = self.receive("building")?;
        let head = SnapshotHead {
            version: version(state),
            last: meta.last_log_id.as_ref().map(codec::put_log_id),
            membership: Some(codec::put_stored(&meta.last_membership)),
            time_ms: state.time_ms(),
            away_ms: state.away_ms(),
        };
        let mut hash = Sha256::new();
        let mut buffer = BytesMut::new();
        frame::put(&mut buffer, HEAD, &head);
        hash.update(&buffer);
        receiving.add(&buffer)?;
        state.export(CHUNK, |items| {
            buffer.clear();
            frame::put_raw(&mut buffer, ITEMS, items);
            hash.update(&buffer);
            receiving.add(&buffer)
        })?;
        buffer.clear();
        frame::put_raw(&mut buffer, END, &hash.finalize());
        receiving.add(&buffer)?;
        let file = receiving.finish(None)?;
        self.keep(meta, file)
    }

    /// A new file that takes a snapshot in.
    pub(crate) fn receive(&self, purpose: &str) -> io::Result<Receiving> {
        let name = format!("{purpose}-{:016x}.tmp", rand::random::<u64>());
        let file = self.disk.create(&name)?;
        let temporary =
            Temporary { disk: self.disk.clone(), name: name.clone(), kept: AtomicBool::new(false) };
        let temporary = Some(Arc::new(temporary));
        let damaged = Arc::default();
        Ok(Receiving { file: SnapshotFile { name, file, length: 0, content: None, temporary, damaged } })
    }

    /// Makes a finished file the newest snapshot, durably, and removes the one before. An older one than the newest is not
    /// kept.
    pub(crate) fn keep(&self, meta: &SnapshotMeta, mut file: SnapshotFile) -> io::Result<SnapshotFile> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name_of(meta.last_log_id.as_ref());
        if let Some((newest, kept)) = &*current {
            if kept.name == file.name {
                return Ok(kept.clone());
            }
            if newest.last_log_id > meta.last_log_id {
                return Ok(kept.clone());
            }
        }
        if file.name != name {
            self.disk.rename(&file.name, &name)?;
            if let Some(temporary) = file.temporary.take() {
                temporary.kept.store(true, Ordering::Relaxed);
            }
            self.disk.sync()?;
        }
        file.name = name;
        file.content = None;
        let before = current.replace((meta.clone(), file.clone()));
        if let Some((_, before)) = before.filter(|(_, before)| before.name != file.name) {
            self.disk.remove(&before.name)?;
        }
        Ok(file)
    }
}

/// A snapshot's file that is being written; removed when it is dropped before it is kept.
#[derive(Debug)]
pub(crate) struct Receiving {
    file: SnapshotFile,
}

impl Receiving {
    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.file.write_at(self.file.length, bytes)?;
        self.file.length += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.file.length
    }

    /// Syncs the file. With `content`, it is remembered for who installs it.
    pub(crate) fn finish(mut self, content: Option<(SnapshotMeta, State)>) -> io::Result<SnapshotFile> {
        self.file.file.sync()?;
        self.file.content = content;
        Ok(self.file)
    }

    /// Reads and checks what was received.
    pub(crate) fn check(&self) -> Result<(SnapshotMeta, State), SnapshotError> {
        read(&*self.file.file, self.file.length)
    }
}

fn name_of(last: Option<&LogId>) -> String {
    let (index, term, node) =
        last.map_or((0, 0, 0), |it| (it.index, it.leader_id.term, it.leader_id.node_id));
    format!("{index:020}-{term}-{node}.snapshot")
}

fn index_of(name: &str) -> Option<u64> {
    name.strip_suffix(".snapshot")?.split('-').next()?.parse().ok()
}

fn read(file: &dyn DiskFile, length: u64) -> Result<(SnapshotMeta, State), SnapshotError> {
    let mut hash = Sha256::new();
    let mut offset = 0;
    let mut restoring: Option<(SnapshotMeta, Restore)> = None;
    while offset < length {
        let (kind, payload, raw) = record(file, offset, length)?;
        let damaged = |cause: String| SnapshotError::Damaged { offset, cause };
        match (kind, restoring.as_mut()) {
            (HEAD, None) => restoring = Some(head(payload).map_err(damaged)??),
            (ITEMS, Some((_, restore))) => restore.add(payload)?,
            (END, Some(_)) => {
                let end = offset + raw.len() as u64;
                if payload[..] != hash.finalize()[..] || end != length {
                    return Err(damaged("its SHA-256 is wrong".to_owned()));
                }
                let (meta, restore) = restoring.ok_or_else(|| damaged("it has no head".to_owned()))?;
                return Ok((meta, restore.finish()));
            }
            (other, _) => return Err(damaged(format!("a record of kind {other} in this place"))),
        }
        hash.update(&raw);
        offset += raw.len() as u64;
    }
    Err(SnapshotError::Damaged { offset, cause: "it ends too early".to_owned() })
}

/// A record's kind and payload, and all of its bytes.
fn record(file: &dyn DiskFile, offset: u64, length: u64) -> Result<(u8, Bytes, Bytes), SnapshotError> {
    let damaged = |cause: frame::FrameError| SnapshotError::Damaged { offset, cause: cause.to_string() };
    let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
    if left < frame::HEAD {
        return Err(damaged(frame::FrameError::Short));
    }
    let mut head = [0; frame::HEAD];
    file.read_at(offset, &mut head)?;
    let (body, _) = frame::head(head).map_err(damaged)?;
    if left - frame::HEAD < body {
        return Err(damaged(frame::FrameError::Short));
    }
    let mut raw = vec![0; frame::HEAD + body];
    file.read_at(offset, &mut raw)?;
    let raw = Bytes::from(raw);
    let record = frame::read(&raw, 0).map_err(damaged)?.ok_or_else(|| damaged(frame::FrameError::Short))?;
    Ok((record.kind, record.payload, raw))
}

/// The oldest version that can read all of `state`: an older server would lose what administrators have said.
fn version(state: &State) -> u32 {
    // A snapshot of a server that did not count commands has them all the same.
    let administered = state.members().iter().any(|it| it.admin_since_ms != 0);
    state.commands().max(if administered { 2 } else { 1 })
}

/// The inner error is a version that this server does not know.
fn head(payload: Bytes) -> Result<Result<(SnapshotMeta, Restore), SnapshotError>, String> {
    let head = SnapshotHead::decode(payload).map_err(|it| it.to_string())?;
    if !(1..=VERSION).contains(&head.version) {
        return Ok(Err(SnapshotError::Version(head.version)));
    }
    let meta = SnapshotMeta {
        last_log_id: head.last.as_ref().map(codec::log_id),
        last_membership: codec::stored(head.membership).map_err(|it| it.to_string())?,
    };
    Ok(Ok((meta, Restore::new(head.time_ms, head.version, head.away_ms))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use openraft::impls::leader_id_adv::LeaderId;
    use proto::hub::v1::{
        Batch, Command, Member, SaveSession, SessionKey, SessionWrite, SetMemberAdmin, command,
        session_write::Write,
    };

    fn filled(sessions: u64) -> State {
        let save = |n: u64| SaveSession {
            key: Some(SessionKey { app: "shop".into(), id: format!("s{n}") }),
            set: [("value".to_owned(), vec![7; 1000].into())].into(),
            owner: "app-a".into(),
            timeout_ms: 1000,
            ..SaveSession::default()
        };
        let write = |n| SessionWrite { write: Some(Write::Save(save(n))) };
        let commands = (0..sessions).map(|n| Command { command: Some(command::Command::Session(write(n))) });
        let mut state = State::default();
        state.apply(Batch { version: 1, time_ms: 5, commands: commands.collect() });
        state
    }

    fn meta(index: u64) -> SnapshotMeta {
        let id = LogId::new(LeaderId { term: 2, node_id: 1 }, index);
        SnapshotMeta { last_log_id: Some(id), ..SnapshotMeta::default() }
    }

    #[test]
    fn a_snapshot_survives_a_crash_and_takes_the_older_ones_place() {
        let disk = SimDisk::default();
        let snapshots = Snapshots::open(Arc::new(disk.clone())).unwrap();
        snapshots.write(&meta(3), &filled(2)).unwrap();
        let state = filled(600);
        snapshots.write(&meta(9), &state).unwrap();
        snapshots.write(&meta(4), &filled(1)).unwrap();
        assert_eq!(disk.list().unwrap().len(), 1);
        let found = Snapshots::open(Arc::new(disk.crash(0))).unwrap();
        let (found_meta, mut file) = found.current().unwrap();
        assert_eq!(found_meta, meta(9));
        assert!(file.length > 600_000);
        assert_eq!(file.read().unwrap(), (meta(9), state));
    }

    #[test]
    fn a_snapshot_bears_the_oldest_version_that_can_read_it() {
        let mut state = filled(1);
        assert_eq!(version(&state), 1);
        let member = Member { id: "app-a".into(), ..Member::default() };
        let admin = SetMemberAdmin { id: "app-a".into(), admin: 2, author: None };
        let commands = [command::Command::RegisterMember(member), command::Command::SetMemberAdmin(admin)];
        let commands = commands.map(|it| Command { command: Some(it) }).into();
        state.apply(Batch { version: 2, time_ms: 6, commands });
        assert_eq!(version(&state), 2);
        let disk = SimDisk::default();
        Snapshots::open(Arc::new(disk.clone())).unwrap().write(&meta(3), &state).unwrap();
        let (_, mut file) = Snapshots::open(Arc::new(disk)).unwrap().current().unwrap();
        assert_eq!(file.read().unwrap().1, state);
    }

    #[test]
    fn any_damage_is_refused() {
        let disk = SimDisk::default();
        Snapshots::open(Arc::new(disk.clone())).unwrap().write(&meta(3), &filled(3)).unwrap();
        let name = disk.list().unwrap().remove(0);
        let length = read_whole_length(&disk, &name);
        for at in (0..length).step_by(97) {
            let damaged = disk.crash(0);
            damaged.edit(&name, |bytes| bytes[at] ^= 4);
            assert!(Snapshots::open(Arc::new(damaged)).is_err(), "byte {at}");
        }
        for cut in [1, 50, length] {
            let short = disk.crash(0);
            short.edit(&name, |bytes| bytes.truncate(length - cut));
            assert!(Snapshots::open(Arc::new(short)).is_err(), "cut by {cut}");
        }
    }

    #[test]
    fn one_that_is_damaged_while_it_is_in_use_gives_way_to_another_of_the_same_entry() {
        let disk = SimDisk::default();
        let snapshots = Snapshots::open(Arc::new(disk.clone())).unwrap();
        snapshots.write(&meta(3), &filled(3)).unwrap();
        let (_, file) = snapshots.current().unwrap();
        file.examine();
        assert!(!snapshots.is_damaged());
        let name = name_of(meta(3).last_log_id.as_ref());
        disk.edit(&name, |bytes| bytes[60] ^= 4);
        file.examine();
        assert!(snapshots.is_damaged());
        let refused = Snapshots::open(Arc::new(disk.clone())).unwrap_err().to_string();
        assert!(refused.contains(&name) && refused.contains("at offset"), "{refused}");
        snapshots.write(&meta(3), &filled(3)).unwrap();
        assert!(!snapshots.is_damaged());
        assert_eq!(snapshots.current().unwrap().1.read().unwrap(), (meta(3), filled(3)));
        assert_eq!(disk.list().unwrap(), [name]);
    }

    fn read_whole_length(disk: &SimDisk, name: &str) -> usize {
        usize::try_from(disk.open(name).unwrap().length().unwrap()).unwrap()
    }

    #[test]
    fn a_snapshot_that_was_taken_in_and_not_needed_leaves_nothing() {
        let disk = SimDisk::default();
        let snapshots = Snapshots::open(Arc::new(disk.clone())).unwrap();
        let taken_in = || {
            let mut receiving = snapshots.receive("receiving").unwrap();
            receiving.add(b"anything").unwrap();
            receiving.finish(None).unwrap()
        };
        // The library has it already, or is at its end.
        let (one, another) = (taken_in(), taken_in());
        drop(one.clone());
        assert_eq!(disk.list().unwrap().len(), 2);
        drop(one);
        assert_eq!(disk.list().unwrap().len(), 1);
        let kept = snapshots.keep(&meta(5), another).unwrap();
        drop(snapshots.keep(&meta(4), taken_in()).unwrap());
        drop(kept);
        assert_eq!(disk.list().unwrap(), [name_of(meta(5).last_log_id.as_ref())]);
    }

    #[test]
    fn an_unfinished_snapshot_leaves_nothing() {
        let disk = SimDisk::default();
        let snapshots = Snapshots::open(Arc::new(disk.clone())).unwrap();
        drop(snapshots.receive("receiving").unwrap());
        assert!(disk.list().unwrap().is_empty());
        disk.fail_after(2);
        assert!(snapshots.write(&meta(1), &filled(9)).is_err());
        assert!(snapshots.current().is_none());
    }
}
