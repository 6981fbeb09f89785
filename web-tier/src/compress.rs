//! Bodies that are compressed on their way to clients that take it: how many at a time, and what is counted of them. What is worth it and how
//! it is done the crate `compression` knows; `proxy::compressed` decides of an answer.

use common::config::Encoding;
use compression::encoder::Encoder;
use std::{
    cell::Cell,
    io,
    ops::Add,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// How many bodies a worker compresses at a time: each takes up to a megabyte of memory for as long as its client reads it. Beyond that
/// answers go as they are.
const AT_A_TIME: usize = 256;

/// What a worker compresses.
#[derive(Debug)]
pub(crate) struct Encoders {
    /// Bodies that are under way.
    open: Rc<Cell<usize>>,
    counters: Arc<CompressionCounters>,
}

/// What one worker has compressed, counted by its own thread.
#[derive(Debug, Default)]
pub(crate) struct CompressionCounters {
    answers: AtomicU64,
    plain: AtomicU64,
    packed: AtomicU64,
}

impl CompressionCounters {
    /// The counts now.
    pub(crate) fn totals(&self) -> CompressionTotals {
        let read = |count: &AtomicU64| count.load(Relaxed);
        CompressionTotals {
            answers: read(&self.answers),
            plain_bytes: read(&self.plain),
            packed_bytes: read(&self.packed),
        }
    }

    /// A body that was compressed before goes to one more client.
    pub(crate) fn reused(&self, plain: usize, packed: usize) {
        up(&self.answers, 1);
        up(&self.plain, plain);
        up(&self.packed, packed);
    }
}

/// Only one thread writes.
fn up(count: &AtomicU64, more: usize) {
    count.store(count.load(Relaxed).wrapping_add(more as u64), Relaxed);
}

/// What was compressed since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompressionTotals {
    /// Answers that clients got compressed by this server.
    pub answers: u64,
    /// Bytes of their bodies as servers gave them.
    pub plain_bytes: u64,
    /// Bytes that were sent.
    pub packed_bytes: u64,
}

impl CompressionTotals {
    /// What has been counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            answers: self.answers.saturating_sub(before.answers),
            plain_bytes: self.plain_bytes.saturating_sub(before.plain_bytes),
            packed_bytes: self.packed_bytes.saturating_sub(before.packed_bytes),
        }
    }
}

impl Add for CompressionTotals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answers: self.answers + other.answers,
            plain_bytes: self.plain_bytes + other.plain_bytes,
            packed_bytes: self.packed_bytes + other.packed_bytes,
        }
    }
}

/// A body that is being compressed.
#[derive(Debug)]
pub(crate) struct BodyEncoder {
    /// Until its end.
    encoder: Option<Encoder>,
    /// Its reader has not got all that was written.
    unflushed: bool,
    open: Rc<Cell<usize>>,
    counters: Arc<CompressionCounters>,
}

impl Encoders {
    /// A worker's.
    pub(crate) fn new(counters: Arc<CompressionCounters>) -> Self {
        Self { open: Rc::default(), counters }
    }

    /// What is counted.
    pub(crate) fn counters(&self) -> &CompressionCounters {
        &self.counters
    }

    /// Begins a body, of `length` bytes if that is known; `None`: too many are under way, or there is no memory.
    pub(crate) fn begin(&self, encoding: Encoding, length: Option<u64>) -> Option<BodyEncoder> {
        if self.open.get() >= AT_A_TIME {
            return None;
        }
        let encoder = Encoder::new(encoding, length).ok()?;
        self.open.set(self.open.get() + 1);
        up(&self.counters.answers, 1);
        Some(BodyEncoder {
            encoder: Some(encoder),
            unflushed: false,
            open: self.open.clone(),
            counters: self.counters.clone(),
        })
    }
}

impl BodyEncoder {
    /// Takes a piece, and appends what comes out.
    pub(crate) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.with(out, |encoder, out| encoder.write(piece, out))?;
        self.unflushed |= !piece.is_empty();
        up(&self.counters.plain, piece.len());
        Ok(())
    }

    /// Whether its reader still lacks something of what was written.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Appends what its reader lacks: what follows may come late.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if std::mem::take(&mut self.unflushed) {
            self.with(out, Encoder::flush)?;
        }
        Ok(())
    }

    /// Appends the end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let before = out.len();
        self.encoder.take().map_or(Ok(()), |it| it.finish(out))?;
        up(&self.counters.packed, out.len() - before);
        Ok(())
    }

    fn with(
        &mut self,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = out.len();
        self.encoder.as_mut().map_or(Ok(()), |it| act(it, out))?;
        up(&self.counters.packed, out.len() - before);
        Ok(())
    }
}

impl Drop for BodyEncoder {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}
