//! A folder with two files a server: its points by 10 seconds, and by 5 minutes, which are made of the former. So many servers are
//! kept and no more: for a new one the one that was heard longest ago goes.

use crate::{
    LONG_STEP_S, POINTS_MAX, Point, SERVERS_ASKED_MAX, STEP_S,
    ring::{Ring, SLOTS},
};
use common::{id::is_id, log_limit::LogLimit, private};
use proto::history::v1::{Line, Past, ReadHistory, Series, ServerPast};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

/// Servers that are kept.
pub const SERVERS_MAX: usize = 256;

/// How often a failure is told.
const TOLD: Duration = Duration::from_secs(300);

/// How file names end.
const SHORT: &str = "10s";
const LONG: &str = "5min";

/// What is kept on this server.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    servers_max: usize,
    /// By server: when its last point was, in Unix seconds.
    seen: Mutex<BTreeMap<String, u64>>,
    failures: LogLimit,
}

/// What to read: a question that was found to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Unix seconds, a multiple of the step.
    from_s: u64,
    step_s: u64,
    points: u64,
    servers: Vec<String>,
    series: Vec<Series>,
}

/// A question that is not answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Not a multiple of 10, or none.
    #[error("step_s is {0}: expected a multiple of {STEP_S} up to 86400")]
    Step(u32),
    /// From then until then by that is no point, more than [`POINTS_MAX`], or a longer time than is kept.
    #[error(
        "from {from_s} until {until_s} by {step_s} s: expected 1 to {POINTS_MAX} points of no more time than is kept"
    )]
    Points {
        /// Unix seconds.
        from_s: u64,
        /// Unix seconds.
        until_s: u64,
        /// Seconds.
        step_s: u32,
    },
    /// More than [`SERVERS_ASKED_MAX`].
    #[error("{0} servers: expected {SERVERS_ASKED_MAX} at most")]
    Servers(usize),
    /// This is none.
    #[error("series {0}: there is none")]
    Series(i32),
}

impl Question {
    /// Of a call.
    ///
    /// # Errors
    /// Its answer would be too long, or none.
    pub fn of(asked: &ReadHistory) -> Result<Self, QuestionError> {
        let step_s = u64::from(asked.step_s);
        if step_s == 0 || !step_s.is_multiple_of(STEP_S) || step_s > 86_400 {
            return Err(QuestionError::Step(asked.step_s));
        }
        let from_s = asked.from_s - asked.from_s % step_s;
        let points = asked.until_s.saturating_sub(from_s).div_ceil(step_s);
        if !(1..=POINTS_MAX).contains(&points) || points * step_s > SLOTS * ring_step_s(step_s) {
            let (from_s, until_s) = (asked.from_s, asked.until_s);
            return Err(QuestionError::Points { from_s, until_s, step_s: asked.step_s });
        }
        if asked.servers.len() > SERVERS_ASKED_MAX {
            return Err(QuestionError::Servers(asked.servers.len()));
        }
        let named = asked.series.iter().map(|it| {
            let series = Series::try_from(*it).ok().filter(|it| *it != Series::Unspecified);
            series.ok_or(QuestionError::Series(*it))
        });
        let mut series: Vec<Series> = named.collect::<Result<_, _>>()?;
        if series.is_empty() {
            series = (1..).map_while(|it| Series::try_from(it).ok()).collect();
        }
        series.sort_unstable();
        series.dedup();
        Ok(Self { from_s, step_s, points, servers: asked.servers.clone(), series })
    }
}

impl History {
    /// What is in `folder`, which is made when there is something to keep.
    pub fn open(folder: &Path) -> Self {
        Self::with_room(folder, SERVERS_MAX)
    }

    fn with_room(folder: &Path, servers_max: usize) -> Self {
        let seen = Mutex::new(look(folder));
        Self { folder: folder.to_owned(), servers_max, seen, failures: LogLimit::new(TOLD) }
    }

    /// Keeps points of servers that were taken at `unix_s`. What can't be kept is lost, and told in the log once in a while. Blocks.
    pub fn keep(&self, unix_s: u64, points: &[(String, Point)], now: Instant) {
        let failed = points.iter().filter_map(|(server, point)| {
            let kept = self.keep_one(unix_s, server, point);
            kept.err().map(|cause| (server, cause))
        });
        let failed: Vec<_> = failed.collect();
        if let Some((server, cause)) = failed.first()
            && let Some(times) = self.failures.note(now, failed.len() as u64)
        {
            let folder = self.folder.display();
            tracing::warn!(%folder, server, %cause, times, "points of the history are lost: they can't be written");
        }
    }

    fn keep_one(&self, unix_s: u64, server: &str, point: &Point) -> io::Result<()> {
        if !is_id(server) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no id of a server"));
        }
        self.admit(server)?;
        let short = Ring::open(&self.path(server, SHORT), STEP_S)?;
        let slot = unix_s / STEP_S;
        short.write(slot, point)?;
        // Made anew of all that there is of these 5 minutes: so nothing has to be remembered from one point to the next.
        let long_slot = unix_s / LONG_STEP_S;
        let parts = short.read(long_slot * LONG_STEP_S / STEP_S, LONG_STEP_S / STEP_S)?;
        let long = Ring::open(&self.path(server, LONG), LONG_STEP_S)?;
        long.write(long_slot, &Point::over_time(parts.iter()))?;
        self.seen().insert(server.to_owned(), unix_s);
        Ok(())
    }

    /// Makes room for a server that is new.
    fn admit(&self, server: &str) -> io::Result<()> {
        let mut seen = self.seen();
        if seen.contains_key(server) {
            return Ok(());
        }
        private::make_folder(&self.folder)?;
        while seen.len() >= self.servers_max {
            let oldest = seen.iter().min_by_key(|(_, at)| **at).map(|(server, _)| server.clone());
            let Some(oldest) = oldest else { break };
            for end in [SHORT, LONG] {
                match fs::remove_file(self.path(&oldest, end)) {
                    Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                    _ => {}
                }
            }
            seen.remove(&oldest);
        }
        seen.insert(server.to_owned(), 0);
        Ok(())
    }

    /// Answers a question. A file that can't be read has nothing to say. Blocks.
    pub fn read(&self, question: &Question) -> Past {
        let servers = if question.servers.is_empty() {
            let all: Vec<String> = self.seen().keys().cloned().collect();
            let all: Vec<_> = all.iter().map(|it| self.points(question, it)).collect();
            let steps = 0..usize::try_from(question.points).unwrap_or_default();
            let total = steps.map(|step| Point::over_servers(all.iter().filter_map(|it| it.get(step))));
            vec![past("", &total.collect::<Vec<_>>(), &question.series)]
        } else {
            let servers = question.servers.iter();
            servers.map(|it| past(it, &self.points(question, it), &question.series)).collect()
        };
        let step_s = u32::try_from(question.step_s).unwrap_or_default();
        Past { from_s: question.from_s, step_s, servers }
    }

    /// One point a step.
    fn points(&self, question: &Question, server: &str) -> Vec<Point> {
        let Question { from_s, step_s, points, .. } = *question;
        let ring_step_s = ring_step_s(step_s);
        let end = if ring_step_s == LONG_STEP_S { LONG } else { SHORT };
        let each = step_s / ring_step_s;
        let ring = is_id(server).then(|| Ring::look(&self.path(server, end), ring_step_s).ok().flatten());
        let Some(ring) = ring.flatten() else { return Vec::new() };
        let read = ring.read(from_s / ring_step_s, points * each).unwrap_or_default();
        read.chunks(usize::try_from(each).unwrap_or(1)).map(|it| Point::over_time(it.iter())).collect()
    }

    fn path(&self, server: &str, end: &str) -> PathBuf {
        self.folder.join(format!("{server}.{end}"))
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That of the file which points by `step_s` are made of.
fn ring_step_s(step_s: u64) -> u64 {
    if step_s.is_multiple_of(LONG_STEP_S) { LONG_STEP_S } else { STEP_S }
}

/// The servers that a folder has files of, and when these were written last.
fn look(folder: &Path) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    // No folder: no servers.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let server =
            name.to_str().and_then(|it| it.rsplit_once('.')).filter(|(_, end)| [SHORT, LONG].contains(end));
        let Some((server, _)) = server.filter(|(server, _)| is_id(server)) else { continue };
        let written = entry.metadata().and_then(|it| it.modified()).ok();
        let written = written.and_then(|it| it.duration_since(UNIX_EPOCH).ok()).map_or(0, |it| it.as_secs());
        let known = seen.entry(server.to_owned()).or_insert(written);
        *known = written.max(*known);
    }
    seen
}

fn past(server: &str, points: &[Point], series: &[Series]) -> ServerPast {
    let line = |series: &Series| Line {
        series: (*series).into(),
        values: points.iter().map(|it| it.get(*series).unwrap_or(f32::NAN)).collect(),
    };
    ServerPast {
        server: server.to_owned(),
        samples: points.iter().map(|it| it.samples).collect(),
        lines: series.iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests;
