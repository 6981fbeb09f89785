//! Slow and full disks, and files that are rotated.

use super::*;
use std::{fs, sync::mpsc};

fn batch(text: &str) -> Batch {
    Batch(text.as_bytes().to_vec())
}

/// A disk with room for so many bytes.
#[derive(Debug, Default)]
struct Disk {
    room: usize,
    text: Vec<u8>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What can't be written whole is written in part, then the error comes, as file systems do.
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= count;
        self.text.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_loses_whole_lines_and_is_tried_again() {
    let losses = Arc::new(Losses::default());
    let mut sink = Sink::new(Disk { room: 10, text: Vec::new() }, losses.clone());
    let now = Instant::now();
    sink.write(&batch("one\ntwo\nthree\nfour\n"), now);
    assert_eq!(losses.lines(), 2, "three was torn, four not begun");
    sink.write(&batch("five\n"), now);
    assert_eq!(losses.lines(), 3);
    sink.file.room = 1000;
    sink.write(&batch("six\n"), now);
    sink.write(&batch("seven\n"), now);
    assert_eq!(String::from_utf8(sink.file.text).unwrap(), "one\ntwo\nth\nsix\nseven\n");
    assert_eq!(losses.lines(), 3);
}

#[test]
fn a_device_without_room_is_no_end() {
    let losses = Arc::new(Losses::default());
    let mut sink = Sink::new(open(Path::new("/dev/full")).unwrap(), losses.clone());
    sink.write(&batch("one\ntwo\n"), Instant::now());
    assert_eq!(losses.lines(), 2);
}

#[test]
fn a_slow_disk_loses_lines_and_nobody_waits() {
    let (batches, received) = sync_channel(QUEUE);
    let pipe = LogPipe { batches, losses: Arc::default(), behind: "the disk is too slow" };
    // Nobody takes anything out.
    for _ in 0..QUEUE + 3 {
        pipe.pass(b"a\nb\n".to_vec(), 2);
    }
    assert_eq!(pipe.losses.lines(), 6);
    assert_eq!(received.try_iter().count(), QUEUE);
    pipe.pass(b"c\n".to_vec(), 1);
    assert_eq!((pipe.losses.lines(), received.try_iter().count()), (6, 1), "it goes on when there is room");
}

#[tokio::test]
async fn a_rotation_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    fs::write(&file, "from the last start\n").unwrap();
    let writer = LogWriter::start(Destination::File(file.clone())).unwrap();
    let pipe = writer.pipe();
    let mut expected = vec!["from the last start".to_owned()];
    for rotation in 0..20 {
        for number in 0..3 {
            let line = format!("{rotation}-{number}");
            pipe.pass(format!("{line}\n").into_bytes(), 1);
            expected.push(line);
        }
        fs::rename(&file, folder.path().join(format!("old.{rotation}"))).unwrap();
        writer.reopen();
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(writer.lost(), 0);
    drop(pipe);
    writer.finish().await;
    let mut found = Vec::new();
    for rotation in 0..20 {
        found.push(fs::read_to_string(folder.path().join(format!("old.{rotation}"))).unwrap());
    }
    found.push(fs::read_to_string(&file).unwrap());
    let found: Vec<_> = found.iter().flat_map(|text| text.lines()).collect();
    assert_eq!(found, expected, "in their order");
}

#[tokio::test]
async fn a_file_that_can_not_be_opened_anew_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, moved) = (folder.path().join("logs"), folder.path().join("moved"));
    let writer = LogWriter::start(Destination::File(logs.join("access.log"))).unwrap();
    let pipe = writer.pipe();
    fs::rename(&logs, &moved).unwrap();
    fs::write(&logs, "a file where the folder was").unwrap();
    writer.reopen();
    pipe.pass(b"line\n".to_vec(), 1);
    drop(pipe);
    writer.finish().await;
    assert_eq!(fs::read_to_string(moved.join("access.log")).unwrap(), "line\n");
}

#[test]
fn what_can_not_be_opened_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let error = LogWriter::start(Destination::File(folder.path().to_owned())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
}

#[test]
fn others_can_not_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = open(&folder.path().join("a/b/access.log")).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o137, 0);
}

#[test]
fn the_writer_ends_with_its_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LogWriter::start(Destination::File(folder.path().join("a"))).unwrap();
    let LogWriter { pipe, ended, .. } = writer;
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = ended.blocking_recv();
        tell.send(()).unwrap();
    });
    assert!(told.try_recv().is_err());
    drop(pipe);
    thread.join().unwrap();
    assert_eq!(told.try_recv(), Ok(()));
}
