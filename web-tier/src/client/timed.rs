//! The time-outs of a connection, or of a stream of one: one timer, which looks at the progress when it fires.

use crate::worker::deadline::Verdict;
use crate::worker::{client::Client, connections::Entry};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep_until};

/// Why a connection or stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended<T> {
    Done(T),
    Stuck,
    Late,
}

/// Runs a connection, or a stream of one, under its time-outs.
pub(super) fn timed<'a, F: Future>(
    client: &'a Client,
    entry: &'a Entry,
    running: Pin<&'a mut F>,
) -> Timed<'a, F> {
    let timer = Box::pin(sleep_until((client.worker.now() + client.worker.routes().limits.shortest).into()));
    Timed { client, entry, running, timer, started: false }
}

/// Written out rather than `async`: an idle connection holds each field once. The timer is in a box of its own, with which the
/// connection's task fits into 256 bytes: the allocator rounds up to powers of two, as a task is aligned to 128.
pub(super) struct Timed<'a, F> {
    client: &'a Client,
    entry: &'a Entry,
    running: Pin<&'a mut F>,
    timer: Pin<Box<Sleep>>,
    started: bool,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = Ended<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.started {
            self.entry.wake_by(cx.waker());
            self.client.entry.set(self.entry.place());
        }
        loop {
            if let Poll::Ready(done) = self.running.as_mut().poll(cx) {
                return Poll::Ready(Ended::Done(done));
            }
            let (client, entry) = (self.client, self.entry);
            if entry.is_shed(|| client.progress.is_spare(client.worker.now())) {
                return Poll::Ready(Ended::Stuck);
            }
            match client.makes_room() {
                Some(Verdict::Late) => return Poll::Ready(Ended::Late),
                Some(_) => return Poll::Ready(Ended::Stuck),
                None => {}
            }
            match self.look(cx) {
                Look::Wait => return Poll::Pending,
                Look::PollAgain => {}
                Look::Stuck => return Poll::Ready(Ended::Stuck),
                Look::Late => return Poll::Ready(Ended::Late),
            }
        }
    }
}

impl<F> Timed<'_, F> {
    /// Looks at the clock, if the timer has fired.
    fn look(&mut self, cx: &mut Context<'_>) -> Look {
        let (client, timer) = (self.client, &mut self.timer);
        // Once it is polled the timer wakes this task; to poll it with each request would only cost.
        if self.started && !timer.is_elapsed() {
            return Look::Wait;
        }
        self.started = true;
        while timer.as_mut().poll(cx).is_ready() {
            let (now, limits) = (client.worker.read_clock(), client.worker.routes().limits);
            match client.progress.verdict(now, &limits) {
                Verdict::Wait(until) => timer.as_mut().reset(until.into()),
                Verdict::Late => return Look::Late,
                Verdict::Idle | Verdict::ClientStuck | Verdict::AnswerStuck => {
                    return Look::Stuck;
                }
                Verdict::ServerSilent => {
                    client.server_silent.set(true);
                    timer.as_mut().reset((now + limits.shortest).into());
                    self.started = false;
                    return Look::PollAgain;
                }
            }
        }
        Look::Wait
    }
}

enum Look {
    Wait,
    PollAgain,
    Stuck,
    Late,
}
