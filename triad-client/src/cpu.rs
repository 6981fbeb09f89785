//! How busy this machine's CPUs are, for heartbeats: web-tiers send less to a member that is short of them. Of the whole
//! machine, as Linux counts it; on other systems it is not known.

use std::{fs::File, io::Read};

/// Measures between one call and the next.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    last: Option<Ticks>,
}

/// Clock ticks of all CPUs together since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl CpuMeter {
    /// The load since the last call, in thousandths; `None` at the first call and where it can't be known.
    pub(crate) fn load(&mut self) -> Option<u32> {
        self.since(read())
    }

    fn since(&mut self, now: Option<Ticks>) -> Option<u32> {
        let last = std::mem::replace(&mut self.last, now)?;
        let now = now?;
        let all = now.all.checked_sub(last.all).filter(|all| *all > 0)?;
        // Counters of single CPUs may step back a little.
        let busy = now.busy.saturating_sub(last.busy).min(all);
        u32::try_from(busy.saturating_mul(1000) / all).ok()
    }
}

fn read() -> Option<Ticks> {
    let mut first = [0; 512];
    let length = File::open("/proc/stat").and_then(|mut file| file.read(&mut first)).ok()?;
    parse(str::from_utf8(&first[..length]).ok()?)
}

/// The first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
fn parse(text: &str) -> Option<Ticks> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    let all = ticks.iter().sum();
    Some(Ticks { busy: all - idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_anything_else_is_not() {
        let ticks = parse("cpu  10 20 30 400 50 6 7 8 9 9\ncpu0 1 2 3 4\n").unwrap();
        assert_eq!(ticks, Ticks { busy: 81, all: 531 });
        for wrong in ["", "cpu0 1 2 3 4", "cpu 1 2", "cpu a b c d", "intr 1 2 3 4 5"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_load_is_that_between_two_calls() {
        let mut meter = CpuMeter::default();
        let at = |busy, all| Some(Ticks { busy, all });
        assert_eq!(meter.since(at(100, 1000)), None);
        assert_eq!(meter.since(at(150, 1200)), Some(250));
        assert_eq!(meter.since(at(150, 1200)), None, "no time has passed");
        assert_eq!(meter.since(at(140, 1300)), Some(0));
        assert_eq!(meter.since(None), None);
        assert_eq!(meter.since(at(500, 2000)), None);
        assert_eq!(meter.since(at(1500, 2500)), Some(1000));
    }
}
