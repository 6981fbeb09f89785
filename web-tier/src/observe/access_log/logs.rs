//! The logs of one server, as its configuration has them: a file, a syslog server, a file for what failed, each with a writer of its
//! own, so that none waits for another.

use super::writer::{Destination, LogPipe, LogWriter};
use common::config::AccessLog as Settings;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The writers of a server's logs.
#[derive(Debug)]
pub(crate) struct Logs {
    settings: Arc<Settings>,
    file: Option<LogWriter>,
    syslog: Option<LogWriter>,
    errors: Option<LogWriter>,
}

/// What a worker has of them.
#[derive(Debug, Clone)]
pub(crate) struct LogPipes {
    pub(super) settings: Arc<Settings>,
    pub(super) file: Option<LogPipe>,
    pub(super) syslog: Option<LogPipe>,
    pub(super) errors: Option<LogPipe>,
}

/// A file that can't be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) path: PathBuf,
    pub(crate) cause: io::Error,
}

/// What a new configuration makes of the logs, with all that could fail done.
#[derive(Debug)]
pub(crate) struct NextLogs {
    settings: Option<Settings>,
    file: Next,
    syslog: Next,
    errors: Next,
}

/// What becomes of one writer.
#[derive(Debug)]
enum Next {
    Same,
    Other(Option<LogWriter>),
}

impl Logs {
    /// Opens what a server is to have. `settings` are its own.
    ///
    /// # Errors
    /// A file or its folder can't be made or opened, or this takes too long. A syslog server may come later.
    pub(crate) fn start(settings: Option<Settings>) -> Result<Option<Self>, OpenError> {
        let next = NextLogs::prepare(None, settings)?;
        Ok(next.and_then(|next| Self::exchange(None, next).0))
    }

    /// Takes over what was prepared. Returns the writers that have ended too.
    pub(crate) fn exchange(former: Option<Self>, next: NextLogs) -> (Option<Self>, Vec<LogWriter>) {
        let (file, syslog, errors) = former.map_or((None, None, None), |it| (it.file, it.syslog, it.errors));
        let mut ended = Vec::new();
        let mut take = |former: Option<LogWriter>, next| match next {
            Next::Same => former,
            Next::Other(writer) => {
                ended.extend(former);
                writer
            }
        };
        let writers = (take(file, next.file), take(syslog, next.syslog), take(errors, next.errors));
        let logs = next.settings.map(|settings| {
            let (file, syslog, errors) = writers;
            Self { settings: Arc::new(settings), file, syslog, errors }
        });
        (logs, ended)
    }

    /// What the configuration says of them.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The way of one more worker.
    pub(crate) fn pipes(&self) -> LogPipes {
        let pipe = |writer: &Option<LogWriter>| writer.as_ref().map(LogWriter::pipe);
        LogPipes {
            settings: self.settings.clone(),
            file: pipe(&self.file),
            syslog: pipe(&self.syslog),
            errors: pipe(&self.errors),
        }
    }

    /// Lets go of the files, which were renamed, and writes on in new ones of their old names. Returns at once.
    pub(crate) fn reopen(&self) {
        self.file.iter().chain(&self.errors).for_each(LogWriter::reopen);
    }

    /// How many lines were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.writers().map(LogWriter::lost).sum()
    }

    /// All of them, to end.
    pub(crate) fn into_writers(self) -> impl Iterator<Item = LogWriter> {
        [self.file, self.syslog, self.errors].into_iter().flatten()
    }

    fn writers(&self) -> impl Iterator<Item = &LogWriter> {
        self.file.iter().chain(&self.syslog).chain(&self.errors)
    }
}

/// As an operator is told of them.
impl fmt::Display for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { path, syslog, errors, format, .. } = &*self.settings;
        let path = path.as_deref().map(|it| it.display().to_string());
        let syslog = syslog.as_ref().map(|it| it.address.to_string());
        let requests: Vec<_> = path.into_iter().chain(syslog).collect();
        if !requests.is_empty() {
            write!(f, "access log {} ({})", requests.join(" and "), format.name())?;
        }
        let Some(errors) = errors else { return Ok(()) };
        let gap = if requests.is_empty() { "" } else { ", " };
        write!(f, "{gap}errors in {}", errors.display())
    }
}

impl LogPipes {
    /// Whether requests are written that have not failed.
    pub(super) fn has_requests(&self) -> bool {
        self.file.is_some() || self.syslog.is_some()
    }
}

impl NextLogs {
    /// Opens what is wanted and not there before. `None`: nothing changes. Blocks.
    ///
    /// # Errors
    /// As [`Logs::start`].
    pub(crate) fn prepare(
        before: Option<&Settings>,
        wanted: Option<Settings>,
    ) -> Result<Option<Self>, OpenError> {
        if before == wanted.as_ref() {
            return Ok(None);
        }
        let file = |path: Option<&PathBuf>| path.cloned().map(Destination::File);
        let syslog = |it: &Settings| it.syslog.clone().map(Destination::Syslog);
        let next = |before: Option<Destination>, wanted: Option<Destination>| {
            if before == wanted {
                return Ok(Next::Same);
            }
            let Some(wanted) = wanted else { return Ok(Next::Other(None)) };
            let path = wanted.path().map(Path::to_owned).unwrap_or_default();
            let started = LogWriter::start(wanted).map_err(|cause| OpenError { path, cause })?;
            Ok(Next::Other(Some(started)))
        };
        let (old, new) = (before, wanted.as_ref());
        Ok(Some(Self {
            file: next(file(old.and_then(|it| it.path.as_ref())), file(new.and_then(|it| it.path.as_ref())))?,
            syslog: next(old.and_then(syslog), new.and_then(syslog))?,
            errors: next(
                file(old.and_then(|it| it.errors.as_ref())),
                file(new.and_then(|it| it.errors.as_ref())),
            )?,
            settings: wanted,
        }))
    }
}
