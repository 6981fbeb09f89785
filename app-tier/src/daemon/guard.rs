//! The process that ends daemons in time, `copal guard-daemons`: it watches the clock, and this server, so that a server that was killed or stopped
//! leaves no daemon running past its lease. It hears of processes by lines on its standard input, and answers each on its standard output:
//!
//! | line | means | answer |
//! |---|---|---|
//! | `watch ID PID RUN UNTIL` | kill that process and all that it started at `UNTIL`, nanoseconds of `CLOCK_BOOTTIME`; 0: what has the mark `RUN` | `ok ID` |
//! | `until ID UNTIL` | not then but later | `put off ID` |
//! | `drop ID` | it is none of yours any more | |
//!
//! The end of its input is the server's: what is watched then is killed at once. It prints `late ID` of what it kills by the clock.

use crate::{lease::BootTime, process::Marked};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
    stdio::stdin,
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

/// The longest line.
const LINE_MAX: usize = 4096;

/// A machine that slept, and this process with it, is noticed within this.
const LOOK: Duration = Duration::from_millis(20);

/// Reads in a row before the clock is looked at.
const READS_MAX: usize = 64;

/// While nothing is due for so long it is not looked so often.
const SOON: Duration = Duration::from_secs(1);

/// Runs until its input ends, or makes no sense.
///
/// # Errors
/// It can't read or answer, or was told what it does not know: what it watched is killed.
pub fn guard_daemons() -> io::Result<()> {
    let mut guard = Guard::default();
    let ended = guard.run();
    let left: Vec<Marked> = std::mem::take(&mut guard.watched).into_values().map(|it| it.marked).collect();
    Marked::kill_all(&left);
    ended
}

/// What is watched.
#[derive(Debug, Default)]
struct Guard {
    watched: BTreeMap<u64, Watched>,
    input: Vec<u8>,
}

#[derive(Debug)]
struct Watched {
    marked: Marked,
    until: BootTime,
}

impl Guard {
    fn run(&mut self) -> io::Result<()> {
        loop {
            // What was said while this process was kept from running comes first: some may have been put off.
            let mut wait = self.wait();
            for _ in 0..READS_MAX {
                if !is_readable(wait)? {
                    break;
                }
                if !self.hear()? {
                    return Ok(());
                }
                wait = Some(Duration::ZERO);
            }
            self.kill_late()?;
        }
    }

    /// Reads what there is and obeys; false: that is the end.
    fn hear(&mut self) -> io::Result<bool> {
        let mut bytes = [0; LINE_MAX];
        let count = match read(stdin(), &mut bytes) {
            Ok(count) => count,
            Err(Errno::INTR) => return Ok(true),
            Err(cause) => return Err(cause.into()),
        };
        self.input.extend_from_slice(&bytes[..count]);
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = std::str::from_utf8(&line[..end]).map_err(|_| odd(&line))?;
            if let Some(answer) = self.obey(line)? {
                say(&answer)?;
            }
        }
        if self.input.len() > LINE_MAX {
            return Err(odd(&self.input));
        }
        Ok(count > 0)
    }

    /// How long it is until something may be due; `None`: nothing is.
    fn wait(&self) -> Option<Duration> {
        let now = BootTime::now();
        let left = self.watched.values().map(|it| it.until.left(now)).min()?;
        // Timers may count no time in which the machine sleeps.
        Some(if left > SOON { (left - SOON).min(SOON) } else { left.min(LOOK) })
    }

    fn kill_late(&mut self) -> io::Result<()> {
        let now = BootTime::now();
        let late = self.watched.iter().filter(|(_, it)| it.until <= now).map(|(id, _)| *id);
        let late: Vec<u64> = late.collect();
        let gone: Vec<Marked> =
            late.iter().filter_map(|id| self.watched.remove(id)).map(|it| it.marked).collect();
        Marked::kill_all(&gone);
        late.iter().try_for_each(|id| say(&format!("late {id}")))
    }

    fn obey(&mut self, line: &str) -> io::Result<Option<String>> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| odd(line.as_bytes()));
        match words[..] {
            ["watch", id, pid, run, until] => {
                let (id, until) = (number(id)?, BootTime::from_nanos(number(until)?));
                let pid = pid.parse().ok().filter(|pid| *pid == 0 || *pid > 1);
                let pid = pid.ok_or_else(|| odd(line.as_bytes()))?;
                self.watched.insert(id, Watched { marked: Marked::new(pid, run), until });
                Ok(Some(format!("ok {id}")))
            }
            ["until", id, until] => {
                let (id, until) = (number(id)?, BootTime::from_nanos(number(until)?));
                if let Some(process) = self.watched.get_mut(&id) {
                    process.until = process.until.max(until);
                }
                Ok(Some(format!("put off {id}")))
            }
            ["drop", id] => {
                self.watched.remove(&number(id)?);
                Ok(None)
            }
            _ => Err(odd(line.as_bytes())),
        }
    }
}

/// Waits for a line, for so long at most; whether there is one.
fn is_readable(wait: Option<Duration>) -> io::Result<bool> {
    let wait = wait.and_then(|it| Timespec::try_from(it).ok());
    match poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], wait.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(cause) => Err(cause.into()),
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn odd(line: &[u8]) -> io::Error {
    let line = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
    io::Error::new(io::ErrorKind::InvalidData, format!("{line:?}: expected watch, until or drop"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::is_process;
    use std::{os::unix::process::CommandExt, process::Command};

    fn sleeper(run: &str) -> (std::process::Child, u32) {
        let child = Command::new("sleep").arg("60").env("COPAL_RUN", run).process_group(0).spawn().unwrap();
        let pid = child.id();
        (child, pid)
    }

    #[test]
    fn it_kills_what_is_late_or_told_and_nothing_else() {
        let mut guard = Guard::default();
        let (mut late, late_pid) = sleeper("guard-test-late");
        let (mut told, told_pid) = sleeper("guard-test-told");
        let (mut dropped, dropped_pid) = sleeper("guard-test-dropped");
        let now = BootTime::now();
        let soon = (now + Duration::from_millis(1)).as_nanos();
        let far = (now + Duration::from_secs(3600)).as_nanos();
        let mut obey = |line: &str| guard.obey(line).unwrap();
        assert_eq!(obey(&format!("watch 1 {late_pid} guard-test-late {soon}")), Some("ok 1".into()));
        assert_eq!(obey(&format!("watch 2 {told_pid} guard-test-told {soon}")), Some("ok 2".into()));
        assert_eq!(obey(&format!("watch 3 {dropped_pid} guard-test-dropped {soon}")), Some("ok 3".into()));
        assert_eq!(obey(&format!("until 2 {far}")), Some("put off 2".into()));
        assert_eq!(obey(&format!("until 2 {soon}")), Some("put off 2".into()), "never earlier than was said");
        assert_eq!(obey("drop 3"), None);
        while BootTime::now() < BootTime::from_nanos(soon) {
            std::hint::spin_loop();
        }
        guard.kill_late().unwrap();
        assert!(!late.wait().unwrap().success());
        assert!(told.try_wait().unwrap().is_none() && dropped.try_wait().unwrap().is_none());
        // By its mark alone, as it was not there yet when the guard was told.
        guard.obey(&format!("watch 2 0 guard-test-told {soon}")).unwrap();
        guard.kill_late().unwrap();
        assert!(!told.wait().unwrap().success());
        assert!(guard.watched.is_empty() && dropped.try_wait().unwrap().is_none());
        dropped.kill().unwrap();
        dropped.wait().unwrap();
    }

    #[test]
    fn an_id_that_went_to_another_process_is_not_killed() {
        let (mut first, pid) = sleeper("guard-test-first");
        let marked = Marked::new(i32::try_from(pid).unwrap(), "guard-test-first");
        first.kill().unwrap();
        first.wait().unwrap();
        assert!(!is_process(i32::try_from(pid).unwrap()));
        marked.kill();
    }

    #[test]
    fn what_it_does_not_know_ends_it() {
        let mut guard = Guard::default();
        for line in
            ["", "watch", "watch 1 2", "watch 1 1 r 5", "watch 1 -1 r 5", "watch a 3 r 5", "kill 1", "end 1"]
        {
            assert!(guard.obey(line).is_err(), "{line}");
        }
        assert_eq!(guard.obey("until 9 5").unwrap(), Some("put off 9".into()));
    }
}
