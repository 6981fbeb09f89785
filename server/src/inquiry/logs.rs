//! What this process has logged lately, for whichever server shows the status page.

use common::recent_logs::{LogFilter, LogLevel, LogLine, recent_logs};
use proto::logs::v1::{
    self as wire, LogTail, TailLogs,
    logs_server::{Logs, LogsServer},
};
use tonic::{Request, Response, Status};

/// Lines of one answer, unless it is asked for another number, and at most.
const LINES: u32 = 300;
const LINES_MAX: u32 = 1000;

/// The longest words of a question, in bytes.
const WORDS_MAX: usize = 512;

/// The service, for the cluster port.
pub(super) fn service() -> LogsServer<impl Logs> {
    LogsServer::new(LogService)
}

#[derive(Debug)]
struct LogService;

#[tonic::async_trait]
impl Logs for LogService {
    async fn tail(&self, request: Request<TailLogs>) -> Result<Response<LogTail>, Status> {
        let asked = request.into_inner();
        for (field, words) in [("text", &asked.text), ("app", &asked.app)] {
            if words.len() > WORDS_MAX {
                let found = words.len();
                return Err(Status::invalid_argument(format!(
                    "{field} has {found} bytes: expected at most {WORDS_MAX}"
                )));
            }
        }
        let max = if asked.lines_max == 0 { LINES } else { asked.lines_max.min(LINES_MAX) };
        let filter =
            LogFilter { least: least(asked.least()), text: asked.text, app: asked.app, after: asked.after };
        let tail = recent_logs().tail(&filter, max as usize);
        let lines = tail.lines.iter().map(|it| line(it)).collect();
        Ok(Response::new(LogTail { lines, first: tail.first, last: tail.last }))
    }
}

fn least(level: wire::LogLevel) -> Option<LogLevel> {
    match level {
        wire::LogLevel::Unspecified => None,
        wire::LogLevel::Trace => Some(LogLevel::Trace),
        wire::LogLevel::Debug => Some(LogLevel::Debug),
        wire::LogLevel::Info => Some(LogLevel::Info),
        wire::LogLevel::Warn => Some(LogLevel::Warn),
        wire::LogLevel::Error => Some(LogLevel::Error),
    }
}

fn line(line: &LogLine) -> wire::LogLine {
    let level = match line.level {
        LogLevel::Trace => wire::LogLevel::Trace,
        LogLevel::Debug => wire::LogLevel::Debug,
        LogLevel::Info => wire::LogLevel::Info,
        LogLevel::Warn => wire::LogLevel::Warn,
        LogLevel::Error => wire::LogLevel::Error,
    };
    wire::LogLine {
        sequence: line.sequence,
        time_ms: line.time_ms,
        level: level.into(),
        target: line.target.clone(),
        app: line.app.clone(),
        text: line.text.clone(),
    }
}
