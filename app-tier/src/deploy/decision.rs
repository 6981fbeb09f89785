//! What a server does next for an app: a function of what the hub says of it and what the server holds.

use proto::hub::v1::{App, Rollout, RolloutOutcome, RolloutStep};

/// What a server holds of an app.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Holds {
    /// The commit that takes requests.
    pub(crate) current: Option<Vec<u8>>,
    /// The rollout and commit that runs beside it, healthy.
    pub(crate) prepared: Option<(u64, Vec<u8>)>,
    /// The rollout that has failed here.
    pub(crate) failed: Option<u64>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// To wait for news.
    Nothing,
    /// To bring the rollout's version up beside the one in use.
    Prepare,
    /// To let what is prepared take the requests.
    Activate,
    /// To stop what is prepared: it will not be used.
    Discard,
    /// To take the requests from the app: an administrator has stopped it.
    Stop,
    /// To bring up what is in use elsewhere, and let it take the requests.
    CatchUp,
}

/// What `server`, whose process started at `started_ms`, does next.
pub(crate) fn next(holds: &Holds, app: &App, server: &str, started_ms: u64) -> Next {
    let rollout = app.rollout.as_ref();
    let under_way = rollout.filter(|it| it.outcome() == RolloutOutcome::UnderWay);
    if let Some((number, commit)) = &holds.prepared {
        return match rollout.filter(|it| it.number == *number).map(Rollout::outcome) {
            Some(RolloutOutcome::UnderWay) => Next::Nothing,
            Some(RolloutOutcome::Activated) => Next::Activate,
            // There has been another one since.
            None if app.commit == *commit => Next::Activate,
            Some(RolloutOutcome::Failed) | None => Next::Discard,
        };
    }
    if let Some(rollout) = under_way
        && holds.failed != Some(rollout.number)
        && is_my_turn(rollout, server, started_ms)
    {
        return Next::Prepare;
    }
    if app.stopped {
        return if holds.current.is_some() { Next::Stop } else { Next::Nothing };
    }
    let current = holds.current.as_deref().unwrap_or_default();
    let goes_ahead = under_way.is_some_and(|it| it.rolling && it.commit == current);
    if app.commit.is_empty() || app.commit == current || goes_ahead {
        // Of a first rollout that was rolling and failed nothing stays.
        let orphan = app.commit.is_empty() && !current.is_empty() && !goes_ahead;
        return if orphan { Next::Stop } else { Next::Nothing };
    }
    Next::CatchUp
}

/// All at once, or, rolling, when those before have done theirs.
fn is_my_turn(rollout: &Rollout, server: &str, started_ms: u64) -> bool {
    let mine = |it: &proto::hub::v1::RolloutServer| it.server == server && it.started_ms == started_ms;
    let Some(place) = rollout.servers.iter().position(mine) else { return false };
    let before = &rollout.servers[..place];
    let waits = rollout.rolling && before.iter().any(|it| it.step() < RolloutStep::Active);
    rollout.servers[place].step() < RolloutStep::Ready && !waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::RolloutServer;

    fn app(commit: &'static [u8], rollout: Option<Rollout>) -> App {
        App { commit: commit.into(), rollout, ..App::default() }
    }

    fn rollout(
        commit: &'static [u8],
        outcome: RolloutOutcome,
        rolling: bool,
        steps: [RolloutStep; 2],
    ) -> Rollout {
        let server = |(id, step): (&str, RolloutStep)| RolloutServer {
            server: id.into(),
            started_ms: 7,
            step: step.into(),
            text: String::new(),
        };
        let servers = ["a", "b"].into_iter().zip(steps).map(server).collect();
        let outcome = outcome.into();
        Rollout { number: 3, commit: commit.into(), outcome, rolling, servers, ..Rollout::default() }
    }

    fn holds(current: &[u8], prepared: Option<&[u8]>) -> Holds {
        let current = (!current.is_empty()).then(|| current.to_vec());
        Holds { current, prepared: prepared.map(|it| (3, it.to_vec())), failed: None }
    }

    #[test]
    fn a_rollout_is_prepared_and_waits_for_the_others() {
        use RolloutOutcome::{Activated, Failed, UnderWay};
        use RolloutStep::{Ready, Waiting};
        let of = |outcome| {
            app(
                if outcome == Activated { b"2" } else { b"1" },
                Some(rollout(b"2", outcome, false, [Waiting; 2])),
            )
        };
        let b = |holds: &Holds, app: &App| next(holds, app, "b", 7);
        assert_eq!(b(&holds(b"1", None), &of(UnderWay)), Next::Prepare);
        assert_eq!(
            next(&holds(b"1", None), &of(UnderWay), "b", 8),
            Next::Nothing,
            "an older process is meant"
        );
        assert_eq!(
            next(&holds(b"1", None), &of(UnderWay), "c", 7),
            Next::Nothing,
            "it is late, and waits for the outcome"
        );
        assert_eq!(b(&Holds { failed: Some(3), ..holds(b"1", None) }, &of(UnderWay)), Next::Nothing);
        assert_eq!(b(&holds(b"1", Some(b"2")), &of(UnderWay)), Next::Nothing);
        assert_eq!(b(&holds(b"1", Some(b"2")), &of(Activated)), Next::Activate);
        assert_eq!(b(&holds(b"1", Some(b"2")), &of(Failed)), Next::Discard);
        assert_eq!(b(&holds(b"1", None), &of(Activated)), Next::CatchUp);
        assert_eq!(b(&holds(b"2", None), &of(Activated)), Next::Nothing);
        let ready = app(b"1", Some(rollout(b"2", UnderWay, false, [Waiting, Ready])));
        assert_eq!(b(&holds(b"1", None), &ready), Next::Nothing);
    }

    #[test]
    fn a_restart_is_of_the_same_commit_and_its_failure_changes_nothing() {
        use RolloutOutcome::{Activated, Failed, UnderWay};
        let of = |outcome| app(b"1", Some(rollout(b"1", outcome, false, [RolloutStep::Waiting; 2])));
        let held = holds(b"1", Some(b"1"));
        let found = [UnderWay, Activated, Failed].map(|outcome| next(&held, &of(outcome), "a", 7));
        assert_eq!(found, [Next::Nothing, Next::Activate, Next::Discard]);
    }

    #[test]
    fn rolling_goes_one_by_one_and_back_when_a_later_one_fails() {
        use RolloutOutcome::{Failed, UnderWay};
        use RolloutStep::{Active, Gone, Waiting};
        let of = |outcome, steps| app(b"1", Some(rollout(b"2", outcome, true, steps)));
        assert_eq!(next(&holds(b"1", None), &of(UnderWay, [Waiting; 2]), "b", 7), Next::Nothing);
        for first in [Active, Gone] {
            assert_eq!(next(&holds(b"1", None), &of(UnderWay, [first, Waiting]), "b", 7), Next::Prepare);
        }
        let ahead = holds(b"2", None);
        assert_eq!(next(&ahead, &of(UnderWay, [Active, Waiting]), "a", 7), Next::Nothing);
        assert_eq!(next(&ahead, &of(Failed, [Active, Waiting]), "a", 7), Next::CatchUp);
        let first = app(b"", Some(rollout(b"2", Failed, true, [Active, Waiting])));
        assert_eq!(next(&ahead, &first, "a", 7), Next::Stop);
    }

    #[test]
    fn a_stopped_app_is_stopped_and_started_again() {
        let stopped = App { stopped: true, ..app(b"1", None) };
        assert_eq!(next(&holds(b"1", None), &stopped, "a", 7), Next::Stop);
        assert_eq!(next(&holds(b"", None), &stopped, "a", 7), Next::Nothing);
        assert_eq!(next(&holds(b"", None), &app(b"1", None), "a", 7), Next::CatchUp);
    }
}
