//! A file of records of one size, as many as there are steps in the time that is kept. A step has one place in it, whose record of a
//! round before it overwrites. A record that is torn, or of another round, is none: nothing that a crash leaves behind is an error.

use crate::{PLACES, Point};
use common::private;
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Places of a file: 24 hours by 10 seconds, 30 days by 5 minutes.
pub(crate) const SLOTS: u64 = 8640;

/// Bytes of a record: step, samples, values, checksum.
pub(crate) const RECORD: usize = 4 + 4 + 4 * PLACES + 4;

/// What a file begins with, as long as a record.
const MAGIC: &[u8; 16] = b"copal history 1\n";

/// A file.
#[derive(Debug)]
pub(crate) struct Ring {
    file: File,
}

impl Ring {
    /// For writing; it is made where there is none, and begun anew where it is of another kind.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(path: &Path, step_s: u64) -> io::Result<Self> {
        let file = private::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let header = header(step_s);
        if head(&file)? != header {
            file.set_len(0)?;
            file.write_all_at(&header, 0)?;
        }
        Ok(Self { file })
    }

    /// For reading; `None`: there is none, or it is of another kind.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn look(path: &Path, step_s: u64) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        Ok((head(&file)? == header(step_s)).then_some(Self { file }))
    }

    /// Keeps the point of a step.
    ///
    /// # Errors
    /// The system's. What was there may be torn then.
    pub(crate) fn write(&self, slot: u64, point: &Point) -> io::Result<()> {
        self.file.write_all_at(&encode(slot, point), place(slot))
    }

    /// The points of the steps from `first` on, one each; [`Point::NONE`] where there is none.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read(&self, first: u64, count: u64) -> io::Result<Vec<Point>> {
        let count = count.min(SLOTS);
        let mut points = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        let before_end = count.min(SLOTS - first % SLOTS);
        for (first, count) in [(first, before_end), (first + before_end, count - before_end)] {
            let bytes = self.bytes(first, count)?;
            let records = bytes.chunks(RECORD).map(Some).chain(std::iter::repeat(None));
            let slots = first..first + count;
            points.extend(
                slots
                    .zip(records)
                    .map(|(slot, record)| record.and_then(|it| decode(slot, it)).unwrap_or(Point::NONE)),
            );
        }
        Ok(points)
    }

    /// Of places that follow each other; fewer where the file ends before.
    fn bytes(&self, first: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default() * RECORD];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], place(first) + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// Where the record of a step is.
fn place(slot: u64) -> u64 {
    (1 + slot % SLOTS) * RECORD as u64
}

fn header(step_s: u64) -> [u8; RECORD] {
    let mut header = [0; RECORD];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    let numbers = [step_s, SLOTS, RECORD as u64];
    for (number, bytes) in numbers.into_iter().zip(header[MAGIC.len()..].chunks_mut(8)) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    header
}

/// The first bytes of a file; zeros behind its end.
fn head(file: &File) -> io::Result<[u8; RECORD]> {
    let mut head = [0; RECORD];
    match file.read_exact_at(&mut head, 0) {
        Err(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => Err(cause),
        _ => Ok(head),
    }
}

fn encode(slot: u64, point: &Point) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    let values = point.values().iter().map(|it| it.to_bits());
    let words = [slot, point.samples].into_iter().chain(values);
    for (word, bytes) in words.zip(record.chunks_mut(4)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let sum = crc32fast::hash(&record[..RECORD - 4]);
    record[RECORD - 4..].copy_from_slice(&sum.to_le_bytes());
    record
}

/// `None`: it is not whole, or of another step.
fn decode(slot: u64, record: &[u8]) -> Option<Point> {
    let (data, sum) = record.split_last_chunk::<4>().filter(|_| record.len() == RECORD)?;
    let mut words = data.chunks_exact(4).map(|it| u32::from_le_bytes(it.try_into().unwrap_or_default()));
    if u64::from(words.next()?) != slot || crc32fast::hash(data) != u32::from_le_bytes(*sum) {
        return None;
    }
    let samples = words.next()?;
    let mut values = [f32::NAN; PLACES];
    values.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_bits(word));
    Some(Point::read(samples, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::STEP_S;
    use proptest::prelude::*;
    use proto::history::v1::Series;
    use std::{collections::BTreeMap, fs};

    fn point(value: u64) -> Point {
        let mut point = Point::sample();
        point.set(Series::RequestsPerS, value as f64);
        point
    }

    fn seen(points: &[Point]) -> Vec<Option<u64>> {
        points.iter().map(|it| it.get(Series::RequestsPerS).map(|it| it as u64)).collect()
    }

    #[test]
    fn a_step_overwrites_that_of_the_round_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app-a.10s");
        let ring = Ring::open(&path, STEP_S).unwrap();
        for slot in [5, 6, 5 + SLOTS] {
            ring.write(slot, &point(slot)).unwrap();
        }
        assert_eq!(seen(&ring.read(4, 4).unwrap()), [None, None, Some(6), None]);
        assert_eq!(seen(&ring.read(5 + SLOTS, 2).unwrap()), [Some(5 + SLOTS), None]);
        // Across the end of the file.
        for slot in [SLOTS - 1, SLOTS] {
            ring.write(slot, &point(slot)).unwrap();
        }
        let ring = Ring::look(&path, STEP_S).unwrap().unwrap();
        assert_eq!(seen(&ring.read(SLOTS - 2, 4).unwrap()), [None, Some(SLOTS - 1), Some(SLOTS), None]);
        assert_eq!(ring.read(0, u64::from(u32::MAX)).unwrap().len(), 8640);
        assert!(fs::metadata(&path).unwrap().len() <= (SLOTS + 1) * RECORD as u64);
    }

    #[test]
    fn a_file_of_another_kind_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app-a.10s");
        assert!(Ring::look(&path, STEP_S).unwrap().is_none());
        fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(Ring::look(&path, STEP_S).unwrap().is_none());
        let ring = Ring::open(&path, STEP_S).unwrap();
        assert_eq!(seen(&ring.read(0, 50).unwrap()), vec![None; 50]);
        ring.write(7, &point(7)).unwrap();
        assert_eq!(seen(&Ring::open(&path, STEP_S).unwrap().read(7, 1).unwrap()), [Some(7)]);
        assert!(Ring::look(&path, STEP_S * 30).unwrap().is_none(), "other steps are another kind");
    }

    proptest! {
        /// However a crash leaves the file: what is read is what was written, or nothing.
        #[test]
        fn what_a_crash_leaves_is_read_as_it_was_written_or_not_at_all(
            slots in prop::collection::vec(0_u64..3 * SLOTS, 1..40),
            cut in prop::option::of(0_usize..2_000_000),
            garbage in prop::collection::vec((0_usize..1_000_000, any::<u8>()), 0..200),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ring");
            let mut kept = BTreeMap::new();
            let ring = Ring::open(&path, STEP_S).unwrap();
            for slot in slots {
                ring.write(slot, &point(slot + 1)).unwrap();
                kept.insert(slot % SLOTS, slot);
            }
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            bytes.truncate(cut.unwrap_or(usize::MAX));
            for (at, byte) in garbage {
                let at = at % whole.len();
                if let Some(it) = bytes.get_mut(at) { *it = byte; }
            }
            fs::write(&path, &bytes).unwrap();
            let same_head = bytes.get(..RECORD) == whole.get(..RECORD);
            let read = Ring::look(&path, STEP_S).unwrap();
            prop_assert_eq!(read.is_some(), same_head);
            for (position, slot) in &kept {
                let Some(ring) = &read else { break };
                let range = usize::try_from((position + 1) * RECORD as u64).unwrap();
                let range = range..range + RECORD;
                let untouched = bytes.get(range.clone()) == whole.get(range);
                let found = seen(&ring.read(*slot, 1).unwrap())[0];
                prop_assert_eq!(found, untouched.then_some(slot + 1), "{}", slot);
            }
            // And it can be written on.
            let ring = Ring::open(&path, STEP_S).unwrap();
            ring.write(17, &point(18)).unwrap();
            prop_assert_eq!(seen(&ring.read(17, 1).unwrap()), [Some(18)]);
        }
    }
}
