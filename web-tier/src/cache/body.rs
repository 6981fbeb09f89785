//! The body of a kept answer, which many clients may read while it is still coming.

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
}

#[derive(Debug, Default)]
struct Coming {
    /// What of it is there, and where that begins.
    pieces: VecDeque<Bytes>,
    start: u64,
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

    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More of it has come.
    pub(crate) fn push(&self, piece: Bytes) {
        let mut coming = self.coming();
        coming.length += piece.len() as u64;
        coming.pieces.push_back(piece);
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
        let pieces = std::mem::take(&mut coming.pieces);
        let whole = if pieces.len() == 1 {
            pieces.into_iter().next().unwrap_or_default()
        } else {
            let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|it| joined.extend_from_slice(it));
            joined.freeze()
        };
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
                    return Ok(Some(coming.at(at)));
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
        while let Some(first) = self.pieces.front()
            && self.start + first.len() as u64 <= self.taken
        {
            self.start += first.len() as u64;
            self.pieces.pop_front();
        }
    }

    fn at(&self, at: u64) -> Bytes {
        let mut start = self.start;
        for piece in &self.pieces {
            let end = start + piece.len() as u64;
            if at < end {
                return piece.slice(usize::try_from(at - start).unwrap_or_default()..);
            }
            start = end;
        }
        Bytes::new()
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
            body.push(Bytes::from(piece));
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
    async fn who_reads_what_breaks_off_is_told() {
        let body = Body::default();
        body.push(Bytes::from("ab"));
        assert_eq!(body.read(0).await.unwrap().unwrap(), "ab");
        body.break_off();
        assert!(body.read(2).await.is_err());
    }
}
