//! What a process prints: log lines of the server, and the last of them for error reports.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    task::JoinHandle,
};

/// A longer line is cut into several.
const LINE_MAX: usize = 8 * 1024;

/// Lines that are kept for error reports.
const TAIL: usize = 50;

/// The output of one process over all its lives.
#[derive(Debug)]
pub(crate) struct Output {
    app: String,
    tail: Mutex<VecDeque<String>>,
}

impl Output {
    /// Nothing printed yet.
    pub(crate) fn new(app: &str) -> Self {
        Self { app: app.to_owned(), tail: Mutex::default() }
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
        tracing::info!(target: "app", app = %self.app, "{text}");
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
