//! Pipes of a worker, through which bytes pass from socket to socket without being copied into this process (splice(2)).

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

/// What a pipe should hold: with less there are more system calls. The kernel gives less when one user has too much in pipes.
const SIZE: usize = 256 * 1024;

/// The most pipes that are in use; who gets none copies.
const MAX: usize = 128;

/// The most that wait for their next use.
const KEPT_MAX: usize = 16;

/// Pages move where they can, and nothing waits.
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// The pipes of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pipes(Rc<Stock>);

#[derive(Debug, Default)]
struct Stock {
    kept: RefCell<Vec<Ends>>,
    in_use: Cell<usize>,
}

#[derive(Debug)]
struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// A pipe; dropped when it is empty, it serves others.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<Ends>,
    filled: usize,
    stock: Rc<Stock>,
}

impl Pipes {
    /// An empty one; `None` when there are too many, or too many open files.
    pub(crate) fn take(&self) -> Option<Pipe> {
        if self.0.in_use.get() >= MAX {
            return None;
        }
        let kept = self.0.kept.borrow_mut().pop();
        let ends = kept.map_or_else(Ends::new, Ok).ok()?;
        self.0.in_use.set(self.0.in_use.get() + 1);
        Some(Pipe { ends: Some(ends), filled: 0, stock: self.0.clone() })
    }
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller one does as well.
        let _ = fcntl_setpipe_size(&writer, SIZE);
        Ok(Self { reader, writer })
    }
}

impl Pipe {
    /// Whether all that was put in has been taken out.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes what a socket has, as far as there is room; 0 at its end.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, or no room.
    pub(crate) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let count = self.pass(|ends| splice(from, None, &ends.writer, None, SIZE, FLAGS))?;
        self.filled += count;
        Ok(count)
    }

    /// Gives a socket what there is, as far as it takes it.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing.
    pub(crate) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let filled = self.filled;
        let count = self.pass(|ends| splice(&ends.reader, None, to, None, filled, FLAGS))?;
        self.filled = self.filled.saturating_sub(count);
        Ok(count)
    }

    fn pass(&self, call: impl FnOnce(&Ends) -> rustix::io::Result<usize>) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or_else(|| io::Error::other("a pipe without ends"))?;
        Ok(call(ends)?)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.stock.in_use.set(self.stock.in_use.get() - 1);
        let mut kept = self.stock.kept.borrow_mut();
        // What is left in one was for somebody else.
        if let Some(ends) = self.ends.take().filter(|_| self.filled == 0 && kept.len() < KEPT_MAX) {
            kept.push(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    #[test]
    fn bytes_go_through_and_a_pipe_with_something_in_it_serves_nobody_else() {
        let pipes = Pipes::default();
        let ((mut client, from), (to, mut server)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        from.set_nonblocking(true).unwrap();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(pipe.fill(&from).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"hello").unwrap();
        assert_eq!((pipe.fill(&from).unwrap(), pipe.is_empty()), (5, false));
        assert_eq!((pipe.drain(&to).unwrap(), pipe.is_empty()), (5, true));
        let mut heard = [0; 5];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        drop(pipe);
        assert_eq!(pipes.0.kept.borrow().len(), 1);
        let mut pipe = pipes.take().unwrap();
        client.write_all(b"secret").unwrap();
        pipe.fill(&from).unwrap();
        drop(pipe);
        assert_eq!((pipes.0.kept.borrow().len(), pipes.0.in_use.get()), (0, 0));
        drop(client);
        assert_eq!(pipes.take().unwrap().fill(&from).unwrap(), 0);
    }

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let pipes = Pipes::default();
        let all: Vec<_> = (0..MAX).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        drop(all);
        assert_eq!((pipes.0.kept.borrow().len(), pipes.0.in_use.get()), (KEPT_MAX, 0));
    }
}
