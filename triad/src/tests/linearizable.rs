//! Whether a history of concurrent operations could have come from one copy that does one thing at a time: the search of Wing and
//! Gong (1993) with Lowe's memory of what was tried (2017). Pure; the model is a function from state and input to state and output.

use std::{
    collections::HashSet,
    fmt::{self, Debug, Write},
    hash::Hash,
};

/// Steps of the search before it is given up: a history that needs more is too long or has too many open outcomes.
const STEPS_MAX: usize = 20_000_000;

/// One operation as its caller saw it. Times are those of one clock that all callers share.
#[derive(Debug, Clone)]
pub(super) struct Operation<I, O> {
    pub(super) caller: usize,
    pub(super) called: u64,
    pub(super) input: I,
    /// When it was answered, and what. Without an answer it has happened at any time after the call, or never.
    pub(super) answered: Option<(u64, O)>,
}

impl<I: Debug, O: Debug> fmt::Display for Operation<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, called, input, answered } = self;
        match answered {
            Some((at, output)) => write!(f, "{called:>6} – {at:<6} client {caller}: {input:?} -> {output:?}"),
            None => write!(f, "{called:>6} – ?      client {caller}: {input:?} -> unknown"),
        }
    }
}

/// Looks for an order of `history` in which each operation happens between its call and its answer and the model answers what was
/// answered.
///
/// # Errors
/// There is none: the history as a text, with the longest order that was found and what could not follow it.
pub(super) fn check<S, I, O>(
    initial: &S,
    mut history: Vec<Operation<I, O>>,
    apply: impl Fn(&S, &I) -> (S, O),
) -> Result<(), String>
where
    S: Clone + Eq + Hash + Debug,
    I: Debug,
    O: Eq + Debug,
{
    history.sort_by_key(|it| it.called);
    Search { history: &history, apply, tried: HashSet::new(), longest: Vec::new() }.run(initial)
}

/// Which operations have happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn with(&self, at: usize) -> Self {
        let mut next = self.clone();
        next.0[at / 64] |= 1 << (at % 64);
        next
    }
}

/// A point of the search: what has happened, the state that it led to, and what is still to be tried next.
struct Point<S> {
    done: Done,
    state: S,
    next: Vec<usize>,
    /// What led here.
    last: Option<usize>,
    /// Everything before it has happened or has no answer that it must match.
    first: usize,
}

struct Search<'a, S, I, O, F> {
    history: &'a [Operation<I, O>],
    apply: F,
    tried: HashSet<(Done, S)>,
    longest: Vec<usize>,
}

impl<S, I, O, F> Search<'_, S, I, O, F>
where
    S: Clone + Eq + Hash + Debug,
    I: Debug,
    O: Eq + Debug,
    F: Fn(&S, &I) -> (S, O),
{
    fn run(mut self, initial: &S) -> Result<(), String> {
        let done = Done(vec![0; self.history.len().div_ceil(64)]);
        let mut path = vec![self.point(done, initial.clone(), None)];
        for _ in 0..STEPS_MAX {
            let Some(point) = path.last_mut() else { return Err(self.report(initial)) };
            if point.first == self.history.len() {
                return Ok(());
            }
            let Some(at) = point.next.pop() else {
                path.pop();
                continue;
            };
            let (state, output) = (self.apply)(&point.state, &self.history[at].input);
            let fits = match &self.history[at].answered {
                Some((_, answer)) => *answer == output,
                // One that changes nothing need not have happened.
                None => state != point.state,
            };
            let done = point.done.with(at);
            if fits && self.tried.insert((done.clone(), state.clone())) {
                path.push(self.point(done, state, Some(at)));
                if path.len() > self.longest.len() + 1 {
                    self.longest = path.iter().filter_map(|it| it.last).collect();
                }
            }
        }
        Err(format!("undecided after {STEPS_MAX} steps: make the history shorter"))
    }

    /// What may happen next: what was called before the first answer that is still owed. Those that have answers are tried first,
    /// the earliest answer before the others.
    fn point(&self, done: Done, state: S, last: Option<usize>) -> Point<S> {
        let owed = |at: &usize| !done.has(*at) && self.history[*at].answered.is_some();
        let first = (0..self.history.len()).find(owed).unwrap_or(self.history.len());
        let answer = |at: usize| self.history[at].answered.as_ref().map_or(u64::MAX, |it| it.0);
        let mut limit = u64::MAX;
        let mut next = Vec::new();
        for (at, operation) in self.history.iter().enumerate() {
            if operation.called > limit {
                break;
            }
            if !done.has(at) {
                limit = limit.min(answer(at));
                next.push(at);
            }
        }
        next.sort_by_key(|at| std::cmp::Reverse(answer(*at)));
        Point { done, state, next, last, first }
    }

    fn report(&self, initial: &S) -> String {
        let mut text = String::from("no order of these operations explains the answers\n");
        let mut state = initial.clone();
        for &at in &self.longest {
            state = (self.apply)(&state, &self.history[at].input).0;
            writeln!(text, "  {}", self.history[at]).expect("a string grows");
        }
        writeln!(text, "and from there, with the state {state:?}, none of the following fits:")
            .expect("a string grows");
        for (at, operation) in self.history.iter().enumerate() {
            if !self.longest.contains(&at) {
                writeln!(text, "  {operation}").expect("a string grows");
            }
        }
        text
    }
}

mod tests {
    use super::{Operation, check};

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Input {
        Read,
        Write(u32),
        /// Writes the second if the first is there.
        Swap(u32, u32),
    }
    use Input::{Read, Swap, Write};

    /// A register: answers what it holds, or 1 and 0 for whether it has swapped.
    fn register(state: &u32, input: &Input) -> (u32, u32) {
        match *input {
            Read => (*state, *state),
            Write(value) => (value, 0),
            Swap(old, new) if old == *state => (new, 1),
            Swap(..) => (*state, 0),
        }
    }

    const OPEN: u64 = 0;

    /// `(called, answered, input, output)`.
    fn judge(history: &[(u64, u64, Input, u32)]) -> Result<(), String> {
        let operations = history.iter().enumerate().map(|(caller, &(called, at, input, output))| Operation {
            caller,
            called,
            input,
            answered: (at != OPEN).then_some((at, output)),
        });
        check(&0, operations.collect(), register)
    }

    #[test]
    fn good_histories_are_accepted() {
        for (what, history) in [
            ("nothing", &[][..]),
            ("one after the other", &[(1, 2, Write(5), 0), (3, 4, Read, 5)]),
            ("a read beside a write sees it", &[(1, 9, Write(5), 0), (2, 3, Read, 5)]),
            ("a read beside a write sees it not", &[(1, 9, Write(5), 0), (2, 3, Read, 0)]),
            ("an open write seen late", &[(1, OPEN, Write(5), 0), (2, 3, Read, 0), (4, 5, Read, 5)]),
            ("an open write never seen", &[(1, OPEN, Write(5), 0), (2, 3, Read, 0), (4, 5, Read, 0)]),
            ("one of two swaps", &[(1, 9, Swap(0, 5), 1), (2, 8, Swap(0, 6), 0), (10, 11, Read, 5)]),
            ("the later swap is first", &[(1, 9, Swap(6, 5), 1), (2, 8, Swap(0, 6), 1), (10, 11, Read, 5)]),
        ] {
            assert_eq!(judge(history), Ok(()), "{what}");
        }
    }

    #[test]
    fn bad_histories_are_refused() {
        for (what, history) in [
            ("a stale read", &[(1, 2, Write(5), 0), (3, 4, Read, 0)][..]),
            ("a value from nowhere", &[(1, 2, Write(5), 0), (3, 4, Read, 7)]),
            ("a write that was seen and is gone", &[(1, 9, Write(5), 0), (2, 3, Read, 5), (4, 5, Read, 0)]),
            ("an open write seen, then not", &[(1, OPEN, Write(5), 0), (2, 3, Read, 5), (4, 5, Read, 0)]),
            ("an open write seen before its call", &[(2, 3, Read, 5), (4, OPEN, Write(5), 0)]),
            ("a lost update", &[(1, 9, Swap(0, 5), 1), (2, 8, Swap(0, 6), 1)]),
            ("a write that is read after a refusal", &[(1, 2, Swap(3, 5), 0), (3, 4, Read, 5)]),
            (
                "two readers disagree on the order",
                &[
                    (1, 20, Write(5), 0),
                    (2, 21, Write(6), 0),
                    (3, 4, Read, 5),
                    (5, 6, Read, 6),
                    (7, 8, Read, 5),
                ],
            ),
        ] {
            let refused = judge(history).expect_err(what);
            assert!(refused.contains("none of the following fits"), "{refused}");
        }
    }

    #[test]
    fn the_report_shows_what_was_explained_and_what_was_not() {
        let refused = judge(&[(1, 2, Write(5), 0), (3, 4, Read, 0), (5, 6, Read, 5)]).unwrap_err();
        let lines: Vec<_> = refused.lines().map(str::trim).collect();
        assert_eq!(lines[1], "1 – 2      client 0: Write(5) -> 0");
        assert!(lines[2].contains("with the state 5"), "{refused}");
        assert_eq!(lines[3], "3 – 4      client 1: Read -> 0");
    }

    #[test]
    fn many_concurrent_operations_are_decided_in_time() {
        // Twelve at a time, each batch beside open writes that never happened.
        let mut history = Vec::new();
        for batch in 0..40_u64 {
            let start = batch * 100 + 1;
            history.push((start, OPEN, Swap(9999, 1), 0));
            for n in 0..12 {
                let value = u32::try_from(batch * 12 + n).unwrap();
                history.push((start + n, start + 50 + n, Swap(value, value + 1), 1));
            }
        }
        assert_eq!(judge(&history), Ok(()));
        history.push((5000, 5001, Read, 479));
        assert!(judge(&history).is_err());
    }
}
