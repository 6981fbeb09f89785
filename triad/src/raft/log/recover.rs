//! Reads the log back at the start. An unfinished last write is cut, with a log line; anything else that can't be read is
//! damage, named by file and offset, and refused: a server that forgets what it acknowledged is worse than one that is down.
//! So is a log that ends before what is known to have been synced.

use super::{
    super::{LogId, codec, frame},
    index::{Index, Place},
    mark::{self, Synced},
    writer::{FORMAT, GROUP_MAGIC, Segment, file_name, group_mark, kind},
};
use crate::disk::{Disk, read_whole};
use bytes::Bytes;
use prost::Message;
use proto::hub::v1::{LogSegmentHead, LogTruncated, RaftEntry, RaftLogId, RaftVote};
use std::io;

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The disk.
    #[error("the hub's log: {0}")]
    Io(#[from] io::Error),
    /// Bytes that were once synced can't be read.
    #[error(
        "the hub's log is damaged: {file} at offset {offset}: {cause}. Replace the disk if it fails; delete this server's hub folder so that it fetches everything from the other hub servers"
    )]
    Damaged {
        /// The segment's file.
        file: String,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        cause: String,
    },
    /// The log ends before what was once synced.
    #[error(
        "the hub's log is damaged: {file} at offset {offset}: what follows was on disk, up to {synced}, and {cause}. Replace the disk if it fails; delete this server's hub folder so that it fetches everything from the other hub servers. Only if none of them has it: delete hub/log/{name} to go on without what is lost here",
        name = mark::FILE
    )]
    Lost {
        /// The segment's file.
        file: String,
        /// Where in it the log ends.
        offset: u64,
        /// The file, and the offset in it, up to which it was synced.
        synced: String,
        /// What is wrong.
        cause: String,
    },
    /// A segment between others is gone.
    #[error("the hub's log is damaged: {0} is missing")]
    Missing(String),
    /// Entries are gone.
    #[error("the hub's log is damaged: entries {from} to {to} are missing")]
    Hole {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// Written by a newer version.
    #[error("the hub's log file {file} has format {found}, this server knows {FORMAT}: upgrade it")]
    Format {
        /// The segment's file.
        file: String,
        /// Its format.
        found: u32,
    },
}

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) segments: Vec<Segment>,
    /// There was no log.
    pub(super) new: bool,
}

/// Reads all segments, or makes the first.
pub(super) fn recover(disk: &dyn Disk) -> Result<Recovered, LogError> {
    let mut numbers = numbers(disk)?;
    numbers.sort_unstable();
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(LogError::Missing(file_name(pair[0] + 1)));
    }
    let mut replay = Replay {
        index: Index::default(),
        last: None,
        segments: Vec::new(),
        synced: Synced::read(disk)?.filter(|_| !numbers.is_empty()),
    };
    for (place, &number) in numbers.iter().enumerate() {
        replay.segment(disk, number, place == 0, place + 1 == numbers.len())?;
    }
    let new = replay.segments.is_empty();
    if new {
        let head = LogSegmentHead { format: FORMAT, number: 1, ..LogSegmentHead::default() };
        replay.segments.push(Segment::create(disk, &head)?);
    }
    let mut index = replay.index;
    if let Some((expected, first)) = index.settle() {
        return Err(LogError::Hole { from: expected, to: first - 1 });
    }
    index.files = replay.segments.iter().map(|it| (it.number, it.file.clone())).collect();
    Ok(Recovered { index, segments: replay.segments, new })
}

fn numbers(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let number = |name: String| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok();
    Ok(disk.list()?.into_iter().filter_map(number).collect())
}

struct Replay {
    index: Index,
    /// The last entry so far, seen or before the first segment.
    last: Option<LogId>,
    segments: Vec<Segment>,
    /// How far the last process had synced it, if that is known.
    synced: Option<Synced>,
}

impl Replay {
    fn segment(&mut self, disk: &dyn Disk, number: u64, oldest: bool, newest: bool) -> Result<(), LogError> {
        let name = file_name(number);
        let file = disk.open(&name)?;
        let bytes = Bytes::from(read_whole(&*file)?);
        let damaged = |offset: usize, cause: String| LogError::Damaged { file: name.clone(), offset, cause };
        let (mut offset, mut greatest, mut last_group) = (0, None, 0);
        let torn = loop {
            match frame::read(&bytes, offset) {
                Ok(Some(record)) => {
                    let place = Place {
                        segment: number,
                        offset: offset as u64,
                        length: record.end - offset - frame::HEAD,
                    };
                    if offset == 0 {
                        self.head(&record, number, oldest).map_err(|cause| match cause {
                            HeadError::Format(found) => LogError::Format { file: name.clone(), found },
                            HeadError::Other(cause) => damaged(0, cause),
                        })?;
                    } else {
                        let index = self.record(&record, place).map_err(|cause| damaged(offset, cause))?;
                        greatest = greatest.max(index);
                        if record.kind == kind::GROUP {
                            last_group = offset;
                        }
                    }
                    offset = record.end;
                }
                Ok(None) => break None,
                Err(cause) => break Some(cause),
            }
        };
        if let Some(cause) = &torn
            && (!newest || group_after(&bytes, offset))
        {
            return Err(damaged(offset, cause.to_string()));
        }
        self.check_end(number, offset as u64, newest, torn.as_ref())?;
        if let Some(cause) = torn {
            let lost = bytes.len() - offset;
            tracing::warn!(file = name, offset, lost, %cause, "the hub's log: cut a write that a crash left unfinished");
        }
        if offset == 0 {
            // Made, but its head was never synced: nothing was in it.
            return if newest { Ok(disk.remove(&name)?) } else { Err(damaged(0, "it is empty".to_owned())) };
        }
        if newest {
            file.truncate(offset as u64)?;
            // What a killed process wrote may still be in memory only. If its sync failed, the system may believe that these
            // pages are on disk and not write them again, whatever is synced: so they are made new. All groups before the
            // last one were synced without an error.
            file.write_at(last_group as u64, &bytes[last_group..offset])?;
            file.sync()?;
            // Nor need the file's own name be.
            disk.sync()?;
        }
        self.segments.push(Segment { number, file, length: offset as u64, greatest });
        Ok(())
    }

    /// Refuses a segment that ends before what was synced of it, and a newest one that is not the last one that was.
    fn check_end(
        &self,
        number: u64,
        end: u64,
        newest: bool,
        torn: Option<&frame::FrameError>,
    ) -> Result<(), LogError> {
        let lacks =
            |it: &Synced| (it.segment == number && it.length > end) || (newest && it.segment > number);
        let Some(synced) = self.synced.filter(lacks) else { return Ok(()) };
        let cause = torn.map_or_else(|| "is not there".to_owned(), |it| format!("can't be read: {it}"));
        Err(LogError::Lost {
            file: file_name(number),
            offset: end,
            synced: format!("{} at offset {}", file_name(synced.segment), synced.length),
            cause,
        })
    }

    fn head(&mut self, record: &frame::Record, number: u64, oldest: bool) -> Result<(), HeadError> {
        if record.kind != kind::SEGMENT {
            return Err(HeadError::Other(format!("it begins with a record of kind {}", record.kind)));
        }
        let head =
            LogSegmentHead::decode(record.payload.clone()).map_err(|it| HeadError::Other(it.to_string()))?;
        if head.format != FORMAT {
            return Err(HeadError::Format(head.format));
        }
        if head.number != number {
            return Err(HeadError::Other(format!("it says that it is segment {}", head.number)));
        }
        if oldest {
            self.index.vote = head.vote.as_ref().map(codec::vote);
            self.index.committed = head.committed.as_ref().map(codec::log_id);
            self.index.purged = head.purged.as_ref().map(codec::log_id);
            self.last = head.last.as_ref().map(codec::log_id);
        }
        Ok(())
    }

    /// Takes a record in; the index of the entry if it is one.
    fn record(&mut self, record: &frame::Record, place: Place) -> Result<Option<u64>, String> {
        let payload = record.payload.clone();
        let text = |cause: prost::DecodeError| cause.to_string();
        match record.kind {
            kind::GROUP if payload[..] == group_mark(place.offset) => {}
            kind::ENTRY => {
                let entry = RaftEntry::decode(payload).map_err(text)?;
                let id = codec::log_id(&entry.log_id.ok_or("an entry without log id")?);
                if let Some(last) = self.last
                    && last.index + 1 != id.index
                {
                    return Err(format!("entry {} follows entry {}", id.index, last.index));
                }
                self.last = Some(id);
                self.index.recover(id, place);
                return Ok(Some(id.index));
            }
            kind::VOTE => {
                self.index.vote = Some(codec::vote(&RaftVote::decode(payload).map_err(text)?));
            }
            kind::COMMITTED => {
                self.index.committed = Some(codec::log_id(&RaftLogId::decode(payload).map_err(text)?));
            }
            kind::TRUNCATED => {
                let kept = LogTruncated::decode(payload).map_err(text)?;
                self.last = kept.last.as_ref().map(codec::log_id);
                self.index.truncate_after(self.last);
            }
            kind::PURGED => {
                let purged = codec::log_id(&RaftLogId::decode(payload).map_err(text)?);
                self.last = self.last.max(Some(purged));
                self.index.purge(purged);
            }
            other => return Err(format!("a record of unknown kind {other}")),
        }
        Ok(None)
    }
}

enum HeadError {
    Format(u32),
    Other(String),
}

/// Whether a group begins behind `offset`. Groups are written only when the one before is synced, so then the bytes at
/// `offset` were on disk once: they are damaged, not unfinished.
fn group_after(bytes: &Bytes, offset: usize) -> bool {
    let mark_at = frame::HEAD + 1;
    let starts = bytes.windows(GROUP_MAGIC.len()).enumerate().filter(|(_, it)| *it == GROUP_MAGIC);
    starts.filter_map(|(at, _)| at.checked_sub(mark_at)).any(|at| {
        at > offset
            && matches!(frame::read(bytes, at), Ok(Some(record))
                if record.kind == kind::GROUP && record.payload[..] == group_mark(at as u64))
    })
}
