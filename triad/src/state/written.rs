//! What was written lately, by whom: a call that is sent again after an election, or a lost answer, counts once.

use imbl::OrdMap;

/// Processes that are remembered. Of more, the one is forgotten that has written nothing for the longest.
const WRITERS_MAX: usize = 4096;

/// Outcomes of one process that are remembered at most; more of its writes are never under way.
const OUTCOMES_MAX: usize = 65_536;

/// The processes that write, by server, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Written<O> {
    writers: OrdMap<String, Writer<O>>,
    /// Grows with each call.
    used: u64,
}

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Writer<O> {
    pub(super) started_ms: u64,
    /// Writes before this number are answered.
    pub(super) settled: u64,
    pub(super) outcomes: OrdMap<u64, O>,
    pub(super) used: u64,
}

impl<O> Default for Written<O> {
    fn default() -> Self {
        Self { writers: OrdMap::new(), used: 0 }
    }
}

impl<O> Writer<O> {
    fn new(started_ms: u64) -> Self {
        Self { started_ms, settled: 0, outcomes: OrdMap::new(), used: 0 }
    }
}

/// What is known of a write.
#[derive(Debug, PartialEq)]
pub(super) enum Known<O> {
    /// Nothing: it is carried out now.
    New,
    /// What came of it.
    Outcome(O),
    /// It was answered.
    Settled,
}

impl<O: Clone> Written<O> {
    /// A call of a process has come, which says what is settled. A process that has taken another's place has its own numbers. False: it is
    /// a call of one whose place was taken.
    pub(super) fn begin(&mut self, server: &str, started_ms: u64, settled: u64) -> bool {
        self.used += 1;
        if !self.writers.contains_key(server) && self.writers.len() >= WRITERS_MAX {
            let oldest = self.writers.iter().min_by_key(|(_, it)| it.used).map(|(server, _)| server.clone());
            oldest.into_iter().for_each(|it| drop(self.writers.remove(&it)));
        }
        let writer = self.writers.entry(server.to_owned()).or_insert_with(|| Writer::new(started_ms));
        if writer.started_ms > started_ms {
            return false;
        }
        if writer.started_ms < started_ms {
            *writer = Writer::new(started_ms);
        }
        writer.used = self.used;
        writer.settled = writer.settled.max(settled);
        while let Some((number, _)) = writer.outcomes.get_min()
            && (*number < writer.settled || writer.outcomes.len() > OUTCOMES_MAX)
        {
            let number = *number;
            writer.outcomes.remove(&number);
        }
        true
    }

    /// What is known of a write of the process that [`Written::begin`] has seen.
    pub(super) fn known(&self, server: &str, number: u64) -> Known<O> {
        let Some(writer) = self.writers.get(server) else { return Known::New };
        if number < writer.settled {
            return Known::Settled;
        }
        writer.outcomes.get(&number).map_or(Known::New, |it| Known::Outcome(it.clone()))
    }

    /// Remembers what came of a write.
    pub(super) fn note(&mut self, server: &str, number: u64, outcome: O) {
        if let Some(writer) = self.writers.get_mut(server) {
            writer.outcomes.insert(number, outcome);
        }
    }

    /// For a snapshot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Writer<O>)> {
        self.writers.iter().map(|(server, it)| (server.as_str(), it))
    }

    /// Puts one back, from a snapshot.
    pub(super) fn restore(&mut self, server: String, writer: Writer<O>) {
        self.used = self.used.max(writer.used);
        self.writers.insert(server, writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_once_until_it_is_settled_and_after() {
        let mut written = Written::default();
        let done = "done";
        assert!(written.begin("a", 5, 0));
        assert_eq!(written.known("a", 1), Known::New);
        written.note("a", 1, done);
        assert_eq!(written.known("a", 1), Known::Outcome(done));
        assert!(written.begin("a", 5, 2));
        assert_eq!((written.known("a", 1), written.known("a", 2)), (Known::Settled, Known::New));
        assert!(written.begin("a", 6, 0), "another process");
        assert_eq!(written.known("a", 1), Known::New);
        assert!(!written.begin("a", 5, 9), "the former one");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut written = Written::<()>::default();
        for number in 0..=WRITERS_MAX {
            assert!(written.begin(&format!("server-{number}"), 1, 0));
        }
        assert_eq!(written.writers.len(), WRITERS_MAX);
        assert!(!written.writers.contains_key("server-0"));
    }
}
