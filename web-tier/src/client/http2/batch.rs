//! What a connection of HTTP/2 says leaves in few system calls. `h2` asks after each frame of data that it may leave; here it waits for the
//! others that are ready at the same time, so that one write to the socket, and one look of the kernel, serves them all.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream that two have: `h2`, which reads and writes, and the connection's task, which lets what was written leave.
#[derive(Debug)]
pub(super) struct Batch<'a, S> {
    stream: RefCell<&'a mut S>,
    /// What is written waits for [`Batch::leave`].
    gathers: Cell<bool>,
    waits: Cell<bool>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Batch<'a, S> {
    /// One with which everything leaves at once.
    pub(super) fn new(stream: &'a mut S) -> Self {
        Self { stream: RefCell::new(stream), gathers: Cell::new(false), waits: Cell::new(false) }
    }

    /// From now on what is written leaves when it is asked for: whoever polls `h2` is to ask when it waits. Or it leaves at once again.
    pub(super) fn gather(&self, gathers: bool) {
        self.gathers.set(gathers);
    }

    /// Reads or writes.
    pub(super) fn with<T>(&self, act: impl FnOnce(Pin<&mut S>) -> T) -> T {
        act(Pin::new(&mut **self.stream.borrow_mut()))
    }

    /// What was written is to leave, or may wait.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathers.get() {
            self.waits.set(true);
            return Poll::Ready(Ok(()));
        }
        self.with(|stream| stream.poll_flush(cx))
    }

    /// Lets leave what waits; true when the client has not taken it all.
    pub(super) fn leave(&self, cx: &mut Context<'_>) -> bool {
        if !self.waits.get() {
            return false;
        }
        // An error is found again by `h2`, which reads.
        let waits = self.with(|stream| stream.poll_flush(cx)).is_pending();
        self.waits.set(waits);
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::{BufWriter, DuplexStream, duplex};

    fn filled(peer: &mut DuplexStream) -> usize {
        let mut bytes = [0; 64];
        let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
        let _ = Pin::new(peer).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        buffer.filled().len()
    }

    #[test]
    fn what_is_written_leaves_when_it_is_asked_for() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (near, mut peer) = duplex(8);
        let mut near = BufWriter::new(near);
        let batch = Batch::new(&mut near);
        let write = |cx: &mut Context<'_>| {
            assert!(batch.with(|it| it.poll_write(cx, b"123456")).is_ready());
            assert!(batch.poll_flush(cx).is_ready());
        };
        write(cx);
        assert_eq!(filled(&mut peer), 6, "at once");
        batch.gather(true);
        write(cx);
        write(cx);
        assert_eq!(filled(&mut peer), 0);
        assert!(batch.leave(cx), "there is room for eight bytes");
        assert_eq!(filled(&mut peer), 8);
        assert!(!batch.leave(cx));
        assert_eq!(filled(&mut peer), 4);
        assert!(!batch.leave(cx), "nothing waits");
    }
}
