//! What a process prints: log lines of the server, and the last of them for error reports.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    task::JoinHandle,
};

/// A longer line is cut into several.
const LINE_MAX: usize = 8 * 1024;

/// Lines that are kept for error reports.
const TAIL: usize = 50;

/// Bytes of a process's output that are logged in a second, and at once after silence: what prints without end does not fill the disk that
/// the hub's log may be on.
const LOGGED_A_SECOND: u64 = 256 << 10;
const LOGGED_AT_ONCE: u64 = 4 << 20;

/// The output of one process over all its lives.
#[derive(Debug)]
pub(crate) struct Output {
    app: String,
    tail: Mutex<VecDeque<String>>,
    budget: Mutex<Budget>,
}

/// How much may be logged now.
#[derive(Debug)]
struct Budget {
    bytes: u64,
    filled: Instant,
    /// Lines that were not logged since one was.
    dropped: u64,
}

impl Budget {
    /// Whether a line of so many bytes is logged, and how many before it were not.
    fn take(&mut self, bytes: u64, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled).as_millis();
        let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(LOGGED_A_SECOND) / 1000;
        if more > 0 {
            (self.bytes, self.filled) = (self.bytes.saturating_add(more).min(LOGGED_AT_ONCE), now);
        }
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Some(std::mem::take(&mut self.dropped))
            }
            None => {
                self.dropped += 1;
                None
            }
        }
    }
}

impl Output {
    /// Nothing printed yet.
    pub(crate) fn new(app: &str) -> Self {
        let budget = Budget { bytes: LOGGED_AT_ONCE, filled: Instant::now(), dropped: 0 };
        Self { app: app.to_owned(), tail: Mutex::default(), budget: Mutex::new(budget) }
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.lock().map(|tail| tail.iter().cloned().collect()).unwrap_or_default()
    }

    /// Copies a pipe of the process to the log until it is closed, in a task that ends then.
    pub(crate) fn follow(self: &Arc<Self>, pipe: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let output = self.clone();
        tokio::spawn(async move { output.copy(BufReader::with_capacity(LINE_MAX, pipe)).await })
    }

    async fn copy(&self, mut pipe: BufReader<impl AsyncRead + Unpin>) {
        let mut line = Vec::new();
        loop {
            let (taken, ended) = match pipe.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(bytes) => {
                    let room = LINE_MAX - line.len();
                    let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
                    let taken = end.map_or(bytes.len().min(room), |end| end + 1);
                    line.extend_from_slice(&bytes[..taken]);
                    (taken, end.is_some())
                }
            };
            pipe.consume(taken);
            if ended || line.len() >= LINE_MAX {
                self.print(&line);
                line.clear();
            }
        }
        if !line.is_empty() {
            self.print(&line);
        }
    }

    fn print(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        // An app must not forge log lines or drive a terminal: control characters are shown escaped.
        let text: String = text
            .chars()
            .flat_map(|c| {
                if c.is_control() && c != '\t' {
                    Shown::Escaped(c.escape_default())
                } else {
                    Shown::Plain(Some(c))
                }
            })
            .collect();
        let now = Instant::now();
        let logged = self.budget.lock().map_or(Some(0), |mut it| it.take(text.len() as u64, now));
        if let Some(dropped @ 1..) = logged {
            tracing::warn!(target: "app", app = %self.app, dropped, "it prints more than is logged: lines were left out");
        }
        if logged.is_some() {
            tracing::info!(target: "app", app = %self.app, "{text}");
        }
        if let Ok(mut tail) = self.tail.lock() {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text);
        }
    }
}

/// A character of a log line.
enum Shown {
    Plain(Option<char>),
    Escaped(std::char::EscapeDefault),
}

impl Iterator for Shown {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Self::Plain(c) => c.take(),
            Self::Escaped(escape) => escape.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_prints_without_end_is_logged_in_part() {
        let began = Instant::now();
        let mut budget = Budget { bytes: LOGGED_AT_ONCE, filled: began, dropped: 0 };
        let line = 1 << 10;
        let mut logged =
            |now, lines: u64| (0..lines).filter_map(|_| budget.take(line, now)).collect::<Vec<_>>();
        assert_eq!(logged(began, 5000), vec![0; 4096], "4 MiB at once");
        let later = logged(began + Duration::from_secs(2), 1000);
        assert_eq!(
            (later.len(), later[0], later[1]),
            (512, 904, 0),
            "256 KiB a second; those left out are told"
        );
        let much_later = began + Duration::from_secs(1 << 40);
        assert_eq!(logged(much_later, 5000).len(), 4096, "and no more after a long silence");
    }

    async fn lines(printed: &[u8]) -> Vec<String> {
        let output = Output::new("shop");
        output.copy(BufReader::with_capacity(LINE_MAX, printed)).await;
        output.tail()
    }

    #[tokio::test]
    async fn keeps_the_last_lines_in_order() {
        let printed: String = (0..60).map(|number| format!("line {number}\n")).collect();
        let tail = lines(printed.as_bytes()).await;
        assert_eq!(tail.len(), TAIL);
        assert_eq!((tail[0].as_str(), tail[49].as_str()), ("line 10", "line 59"));
    }

    #[tokio::test]
    async fn cuts_endless_lines_and_shows_the_unfinished_one() {
        let printed = vec![b'x'; 2 * LINE_MAX + 3];
        let lengths: Vec<_> = lines(&printed).await.iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_MAX, LINE_MAX, 3]);
    }

    #[tokio::test]
    async fn escapes_what_could_forge_a_line() {
        assert_eq!(lines(b"a\x1b[2Jb\rc\xff\n").await, ["a\\u{1b}[2Jb\\rc\u{fffd}"]);
    }
}
