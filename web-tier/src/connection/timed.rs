//! The time-outs of a connection, or of a stream of one: one timer, which looks at the progress when it fires.

use super::{Client, registry::Entry};
use crate::deadline::Verdict;
use pin_project_lite::pin_project;
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
    let timer = sleep_until((client.worker.now() + client.worker.routes().limits.shortest).into());
    Timed { client, entry, running, timer, started: false }
}

pin_project! {
    /// Written out rather than `async`: an idle connection holds each field once.
    pub(super) struct Timed<'a, F> {
        client: &'a Client,
        entry: &'a Entry,
        running: Pin<&'a mut F>,
        #[pin]
        timer: Sleep,
        started: bool,
    }
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = Ended<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.started {
            self.entry.wake_by(cx.waker());
        }
        loop {
            if let Poll::Ready(done) = self.as_mut().project().running.as_mut().poll(cx) {
                return Poll::Ready(Ended::Done(done));
            }
            match self.as_mut().look(cx) {
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
    fn look(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Look {
        let this = self.project();
        let (client, mut timer) = (*this.client, this.timer);
        // Once it is polled the timer wakes this task; to poll it with each request would only cost.
        if *this.started && !timer.is_elapsed() {
            return Look::Wait;
        }
        *this.started = true;
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
                    *this.started = false;
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
