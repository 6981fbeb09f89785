//! Runs as operators list and end them.

use super::*;
use proto::hub::v1::{ListRuns, ManageRun, PipelineTotals, RunManaged, RunState};

impl World {
    /// Numbers of listed runs, and where more may be.
    fn listed(&self, state: RunState, after: u64, limit: u32) -> (Vec<u64>, u64) {
        let call = ListRuns { pipeline: "p".into(), state: state.into(), after, limit };
        let listed = self.queues.list_runs(&call);
        (listed.runs.iter().map(|it| it.id).collect(), listed.next)
    }

    fn totals(&self) -> Vec<[u64; 4]> {
        let numbers = |it: PipelineTotals| [it.going_on, it.done, it.halted, it.failed];
        self.queues.pipelines().map(numbers).collect()
    }

    pub(super) fn ends(&mut self, pipeline: &str, run: u64) -> RunManaged {
        let call = ManageRun { pipeline: pipeline.into(), run, author: None };
        let managed = self.queues.end_run(&call, self.now_ms, &mut Vec::new());
        self.again();
        managed
    }
}

#[test]
fn runs_are_listed_by_state_a_part_at_a_time() {
    let mut world = World::with_steps(1, "");
    let runs: Vec<u64> = ["1", "2", "3", "4"].map(|body| world.run(body, 0)).into();
    world.handled("1", "x", None);
    world.handled("2", "x", Some(halt()));
    world.dies("3");
    world.handled("4", "", Some(parts("b", &["5", "6"])));
    assert_eq!(world.totals(), [[1; 4]]);
    for (state, run) in
        [(RunState::Done, 0), (RunState::Halted, 1), (RunState::Failed, 2), (RunState::GoingOn, 3)]
    {
        assert_eq!(world.listed(state, 0, 9), (vec![runs[run]], 0), "{state:?}");
    }
    assert_eq!(world.listed(RunState::Any, 0, 3), (runs[..3].to_vec(), runs[2]));
    assert_eq!(world.listed(RunState::Any, runs[2], 3), (runs[3..].to_vec(), 0));
    assert_eq!(world.listed(RunState::Any, u64::MAX, 3), (vec![], 0));
    let call = ListRuns { pipeline: "p".into(), limit: 9, ..ListRuns::default() };
    let listed = world.queues.list_runs(&call);
    let told = |place: usize| {
        let it = &listed.runs[place];
        (it.pipeline.as_str(), it.app.as_str(), it.parts, it.dead, reason(&it.why))
    };
    assert_eq!(told(2), ("p", "shop", 0, 1, "failed at a: no stock".into()));
    assert_eq!(told(3), ("p", "shop", 2, 0, "failed ".into()));
    assert_eq!((listed.runs[3].begun_ms, listed.runs[3].ended_ms), (world.now_ms, 0));
    assert_eq!((listed.runs[0].ended_ms, listed.pipelines[0].done), (world.now_ms, 1));
    // One that is replayed goes on; what is forgotten is counted no more.
    assert_eq!(world.replay("a"), 1);
    assert_eq!(world.totals(), [[2, 1, 1, 0]]);
    world.handled("3", "x", None);
    for body in ["5", "6"] {
        world.handled(body, "x", None);
    }
    world.pass(RESULT_MS);
    assert_eq!((world.totals(), world.listed(RunState::Any, 0, 9)), (vec![], (vec![], 0)));
    assert!(!world.queues.list_runs(&call).unknown, "it has steps");
    for unknown in ["o", "pi", "q"] {
        let call = ListRuns { pipeline: unknown.into(), ..call.clone() };
        assert!(world.queues.list_runs(&call).unknown, "{unknown}");
    }
}

#[test]
fn an_answer_looks_at_a_bounded_number_of_runs() {
    let mut world = World::with_steps(1, "");
    let begin = |world: &mut World, pipeline: &str| {
        let run = Run {
            pipeline: pipeline.into(),
            app: "shop".into(),
            begun_ms: world.now_ms,
            result_ms: RESULT_MS,
            asker: None,
            end: None,
            dead: 0,
            parts: 0,
        };
        let id = world.queues.next();
        world.queues.put_run(id, run);
        id
    };
    let others: Vec<u64> = (0..10_001).map(|_| begin(&mut world, "other")).collect();
    let own = begin(&mut world, "p");
    let (none, next) = world.listed(RunState::Any, 0, 9);
    assert_eq!((none, next), (vec![], others[9_999]));
    assert_eq!(world.listed(RunState::Any, next, 9), (vec![own], 0));
    world.again();
}

#[test]
fn an_operator_ends_a_run_once_and_what_is_left_of_it_goes() {
    let mut world = World::with_steps(1, "");
    let run = world.run("1", 5_000);
    world.handled("1", "", Some(parts("b", &["2", "3", "4"])));
    world.handled("2", "x", None);
    assert_eq!(world.ends("q", run), RunManaged { unknown: true, over: false });
    assert_eq!(world.ends("p", run + 99), RunManaged { unknown: true, over: false });
    assert_eq!(world.ends("p", run), RunManaged::default());
    assert_eq!((world.end(run).unwrap(), world.replies()), ("halted ".into(), vec!["halted ".to_owned()]));
    assert!(world.queues.joins.is_empty() && world.queues.joined.is_empty());
    assert_eq!((world.ends("p", run).over, world.totals()), (true, vec![[0, 0, 1, 0]]));
    // Who has a part of it may go on; nothing comes of that.
    world.handled("3", "x", Some(to("c")));
    world.dies("4");
    assert_eq!((world.bodies(), world.end(run).unwrap()), (vec![], "halted ".into()));
    // One that has failed is over then: what is replayed of it is dropped.
    let run = world.run("5", 0);
    world.dies("5");
    assert_eq!(world.ends("p", run), RunManaged::default());
    assert_eq!(world.end(run).unwrap(), "halted ");
    world.replay("a");
    assert_eq!(world.bodies(), Vec::<String>::new());
    world.pass(RESULT_MS);
    assert!(world.queues.runs.is_empty() && world.queues.pipelines.is_empty());
    world.again();
}
