//! The body of a kept answer, which many clients may read while it is still coming.

use super::Room;
use bytes::{Bytes, BytesMut};
use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::sync::Notify;

/// A body. Whoever makes it grows it to its end, or drops its [`Filling`]: then it is broken.
#[derive(Debug, Default)]
pub(crate) struct Body {
    whole: OnceLock<Bytes>,
    coming: Mutex<Coming>,
    changed: Notify,
    /// Its one reader has read on.
    read_on: Notify,
    /// What it takes of the memory for what is not in the table.
    room: Mutex<Option<Room>>,
}

/// What comes in small pieces is put together up to this length, so that there are few, however it comes.
const PIECE_MIN: usize = 16 << 10;

#[derive(Debug, Default)]
struct Coming {
    /// What of it is there but for the last of it, and where each piece begins.
    pieces: VecDeque<(u64, Bytes)>,
    last: BytesMut,
    length: u64,
    broken: bool,
    /// It is only passed on: what its one reader has read goes.
    passing: bool,
    ended: bool,
    /// Where that reader is.
    taken: u64,
}

impl Body {
    /// All of it, if it is there.
    pub(crate) fn get(&self) -> Option<&Bytes> {
        self.whole.get()
    }

    /// One that is there.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { whole: OnceLock::from(bytes), ..Self::default() }
    }

    /// It takes this of the memory for what is not in the table.
    pub(super) fn is_outside(&self, room: Room) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
    }

    /// It is in the table, which counts it, or nobody has it any more.
    pub(super) fn is_inside(&self) {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// One that is coming, with room for it.
    pub(crate) fn with_room(room: Room) -> Self {
        Self { room: Mutex::new(Some(room)), ..Self::default() }
    }

    /// Whether there is room for all that has come.
    pub(crate) fn fits(&self) -> bool {
        let length = self.length();
        self.room.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_none_or(|it| it.grow_to(length))
    }

    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More of it has come.
    pub(crate) fn push(&self, piece: &[u8]) {
        let mut coming = self.coming();
        coming.length += piece.len() as u64;
        coming.last.extend_from_slice(piece);
        if coming.last.len() >= PIECE_MIN {
            coming.close_last();
        }
        drop(coming);
        self.changed.notify_waiters();
    }

    /// How much has come.
    pub(crate) fn length(&self) -> u64 {
        self.get().map_or_else(|| self.coming().length, |it| it.len() as u64)
    }

    /// All of it has come.
    pub(crate) fn finish(&self) {
        let mut coming = self.coming();
        let (pieces, last) = (std::mem::take(&mut coming.pieces), std::mem::take(&mut coming.last));
        // As long as it has to be: it may be kept for long.
        let mut whole = Vec::with_capacity(usize::try_from(coming.length).unwrap_or_default());
        pieces.iter().for_each(|(_, it)| whole.extend_from_slice(it));
        whole.extend_from_slice(&last);
        let whole = Bytes::from(whole);
        let _ = self.whole.set(whole);
        drop(coming);
        self.changed.notify_waiters();
    }

    /// No more of it will come.
    pub(crate) fn break_off(&self) {
        self.coming().broken = true;
        self.changed.notify_waiters();
    }

    /// From now on it is passed on to its one reader, and not kept.
    pub(crate) fn begin_passing(&self) {
        let mut coming = self.coming();
        coming.passing = true;
        coming.forget_taken();
    }

    /// All of it has been passed on, or is there for its reader.
    pub(crate) fn end_passing(&self) {
        self.coming().ended = true;
        self.changed.notify_waiters();
    }

    /// Waits until its reader is no further behind than this.
    pub(crate) async fn is_taken_to(&self, behind: u64) {
        loop {
            let mut read_on = std::pin::pin!(self.read_on.notified());
            read_on.as_mut().enable();
            {
                let coming = self.coming();
                if coming.length - coming.taken <= behind {
                    return;
                }
            }
            read_on.await;
        }
    }

    /// What is there from `at` on; waits until there is something. `None`: that is the end.
    ///
    /// # Errors
    /// It broke off.
    pub(crate) async fn read(&self, at: u64) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(whole) = self.whole.get() {
                let at = usize::try_from(at).unwrap_or(usize::MAX).min(whole.len());
                return Ok((at < whole.len()).then(|| whole.slice(at..)));
            }
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut coming = self.coming();
                if self.whole.get().is_some() {
                    continue;
                }
                coming.taken = coming.taken.max(at);
                if coming.passing {
                    coming.forget_taken();
                    self.read_on.notify_waiters();
                }
                if at < coming.length {
                    // What one reader has read another one can't.
                    let there = coming.at(at).filter(|it| !it.is_empty());
                    return there.map(Some).ok_or_else(|| io::ErrorKind::ConnectionReset.into());
                }
                if coming.ended {
                    return Ok(None);
                }
                if coming.broken {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
            changed.await;
        }
    }
}

impl Coming {
    fn forget_taken(&mut self) {
        while let Some((start, first)) = self.pieces.front()
            && start + first.len() as u64 <= self.taken
        {
            self.pieces.pop_front();
        }
    }

    fn close_last(&mut self) {
        let start = self.length - self.last.len() as u64;
        let piece = self.last.split().freeze();
        self.pieces.push_back((start, piece));
    }

    fn at(&self, at: u64) -> Option<Bytes> {
        let last = self.length - self.last.len() as u64;
        let from = |start: u64| usize::try_from(at - start).unwrap_or_default();
        if at >= last {
            return Some(Bytes::copy_from_slice(&self.last[from(last)..]));
        }
        let place = self.pieces.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        let (start, piece) = self.pieces.get(place)?;
        Some(piece.slice(from(*start).min(piece.len())..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn many_read_what_is_still_coming() {
        let body = Arc::new(Body::default());
        let reader = |body: Arc<Body>| async move {
            let mut got = Vec::new();
            while let Some(piece) = body.read(got.len() as u64).await? {
                got.extend_from_slice(&piece);
            }
            io::Result::Ok(got)
        };
        let readers: Vec<_> = (0..3).map(|_| tokio::spawn(reader(body.clone()))).collect();
        for piece in ["ab", "c", "def"] {
            tokio::task::yield_now().await;
            body.push(piece.as_bytes());
        }
        body.finish();
        for it in readers {
            assert_eq!(it.await.unwrap().unwrap(), b"abcdef");
        }
        assert_eq!(reader(body.clone()).await.unwrap(), b"abcdef");
        assert_eq!(body.read(2).await.unwrap().unwrap(), "cdef");
        assert_eq!(body.read(6).await.unwrap(), None);
    }

    #[tokio::test]
    async fn pieces_of_any_size_are_read_from_anywhere() {
        let (body, mut all) = (Body::default(), Vec::new());
        for length in [1, 1, 3000, 20_000, 1, 16_384, 5, 40_000, 7] {
            let piece: Vec<u8> = (0..length).map(|it| (it % 251) as u8).collect();
            all.extend_from_slice(&piece);
            body.push(&piece);
            for at in [0, all.len() / 3, all.len() / 2, all.len() - 1] {
                let got = body.read(at as u64).await.unwrap().unwrap();
                assert!(!got.is_empty() && all[at..].starts_with(&got));
            }
        }
        assert!(body.coming().pieces.len() <= 5, "small ones are put together");
        body.finish();
        assert_eq!(body.read(0).await.unwrap().unwrap(), all);
    }

    #[tokio::test]
    async fn what_is_passed_on_is_forgotten_as_it_is_read() {
        let body = Body::default();
        body.push(&[b'a'; 20_000]);
        body.begin_passing();
        body.push(&[b'b'; 20_000]);
        assert_eq!(body.read(20_000).await.unwrap().unwrap()[0], b'b');
        assert_eq!(body.coming().pieces.len(), 1);
        body.is_taken_to(20_000).await;
        body.end_passing();
        assert_eq!(body.read(40_000).await.unwrap(), None);
    }

    #[tokio::test]
    async fn who_reads_what_breaks_off_is_told() {
        let body = Body::default();
        body.push(b"ab");
        assert_eq!(body.read(0).await.unwrap().unwrap(), "ab");
        body.break_off();
        assert!(body.read(2).await.is_err());
    }
}
