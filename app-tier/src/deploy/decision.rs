//! What a server does next for an app, and what the hub is to be told: functions of what the hub says of it and what the server holds.

use proto::hub::v1::{
    App, AppServer, AppServerState, Rollout, RolloutOutcome, RolloutReport, RolloutServer, RolloutStep,
    report_app::Report,
};

/// A version, as Git names it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) commit: Vec<u8>,
    pub(crate) tree: Vec<u8>,
}

/// What a server holds of an app.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Holds {
    /// What takes requests.
    pub(crate) current: Option<Files>,
    /// The rollout and commit that runs beside it, healthy.
    pub(crate) prepared: Option<(u64, Vec<u8>)>,
    /// The last rollout whose version took the requests here.
    pub(crate) activated: Option<u64>,
    /// The rollout that has failed here, and why.
    pub(crate) failed: Option<(u64, String)>,
    /// What is in use elsewhere and could not be brought up here, and why.
    pub(crate) unable: Option<(Files, String)>,
    /// Requests are told that the app is stopped.
    pub(crate) stopped: bool,
}

/// This server's process, as the hub knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Me<'a> {
    pub(crate) server: &'a str,
    pub(crate) started_ms: u64,
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
    /// To take the requests from the app and tell them so: an administrator has stopped it.
    Stop,
    /// To take it away: it was never in use.
    TakeAway,
    /// To bring up what is in use elsewhere, and let it take the requests.
    CatchUp,
}

/// What a server does next.
pub(crate) fn next(holds: &Holds, app: &App, me: Me<'_>) -> Next {
    let rollout = app.rollout.as_ref();
    if let Some((number, commit)) = &holds.prepared {
        return match rollout.filter(|it| it.number == *number).map(Rollout::outcome) {
            Some(RolloutOutcome::UnderWay) => Next::Nothing,
            Some(RolloutOutcome::Activated) => Next::Activate,
            // There has been another one since.
            None if app.commit == *commit => Next::Activate,
            Some(RolloutOutcome::Failed) | None => Next::Discard,
        };
    }
    if is_to_prepare(holds, app, me) {
        return Next::Prepare;
    }
    if app.stopped {
        return if holds.current.is_some() || !holds.stopped { Next::Stop } else { Next::Nothing };
    }
    let current = holds.current.as_ref().map(|it| &it.commit[..]).unwrap_or_default();
    let goes_ahead = under_way(app).is_some_and(|it| it.rolling && it.commit == current);
    if app.commit.is_empty() || app.commit == current || goes_ahead {
        // Of a first rollout that was rolling and failed nothing stays.
        let orphan = app.commit.is_empty() && !current.is_empty() && !goes_ahead;
        return if orphan { Next::TakeAway } else { Next::Nothing };
    }
    Next::CatchUp
}

/// Whether a rollout waits for this server to begin.
pub(crate) fn is_to_prepare(holds: &Holds, app: &App, me: Me<'_>) -> bool {
    // What the hub says may be older than what this server has told it.
    let done = |it: &Rollout| {
        holds.activated == Some(it.number) || holds.failed.as_ref().is_some_and(|(no, _)| *no == it.number)
    };
    under_way(app).is_some_and(|it| !done(it) && is_my_turn(it, me))
}

/// What the hub does not know yet of this server: asked again until it does, so that no report is lost for good.
pub(crate) fn unheard(holds: &Holds, app: &App, me: Me<'_>) -> Option<Report> {
    step(holds, app, me).map(Report::Rollout).or_else(|| runs(holds, app, me).map(Report::Runs))
}

/// How far this server is with the last rollout.
fn step(holds: &Holds, app: &App, me: Me<'_>) -> Option<RolloutReport> {
    let rollout = app.rollout.as_ref()?;
    let known = rollout.servers.iter().find(|it| is_mine(it, me))?.step();
    let (number, under_way) = (rollout.number, rollout.outcome() == RolloutOutcome::UnderWay);
    let (step, text) = if holds.activated == Some(number) {
        (RolloutStep::Active, String::new())
    } else if let Some((_, text)) = holds.failed.as_ref().filter(|(no, _)| *no == number && under_way) {
        (RolloutStep::Failed, text.clone())
    } else if holds.prepared.as_ref().is_some_and(|(no, _)| *no == number && under_way) {
        (RolloutStep::Ready, String::new())
    } else {
        return None;
    };
    let news = known < step && (under_way || rollout.outcome() == RolloutOutcome::Activated);
    news.then(|| RolloutReport { number, step: step.into(), text })
}

/// What runs here.
fn runs(holds: &Holds, app: &App, me: Me<'_>) -> Option<AppServer> {
    let unable = holds.unable.as_ref().filter(|(files, _)| files.commit == app.commit && !app.stopped);
    let (state, files, text) = match (unable, &holds.current) {
        (Some((files, text)), _) => (AppServerState::Failed, files.clone(), text.clone()),
        (None, Some(files)) => (AppServerState::Running, files.clone(), String::new()),
        (None, None) if app.stopped => (AppServerState::Stopped, Files::default(), String::new()),
        (None, None) => return None,
    };
    let runs = AppServer {
        server: me.server.to_owned(),
        started_ms: me.started_ms,
        commit: files.commit.into(),
        tree: files.tree.into(),
        state: state.into(),
        text,
    };
    (!app.servers.contains(&runs)).then_some(runs)
}

fn under_way(app: &App) -> Option<&Rollout> {
    app.rollout.as_ref().filter(|it| it.outcome() == RolloutOutcome::UnderWay)
}

fn is_mine(it: &RolloutServer, me: Me<'_>) -> bool {
    it.server == me.server && it.started_ms == me.started_ms
}

/// All at once, or, rolling, when those before have done theirs.
fn is_my_turn(rollout: &Rollout, me: Me<'_>) -> bool {
    let Some(place) = rollout.servers.iter().position(|it| is_mine(it, me)) else { return false };
    let before = &rollout.servers[..place];
    let waits = rollout.rolling && before.iter().any(|it| it.step() < RolloutStep::Active);
    rollout.servers[place].step() < RolloutStep::Ready && !waits
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let current = (!current.is_empty()).then(|| files(current));
        Holds { current, prepared: prepared.map(|it| (3, it.to_vec())), ..Holds::default() }
    }

    fn files(commit: &[u8]) -> Files {
        Files { commit: commit.to_vec(), tree: commit.to_vec() }
    }

    fn me(server: &'static str) -> Me<'static> {
        Me { server, started_ms: 7 }
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
        let b = |holds: &Holds, app: &App| next(holds, app, me("b"));
        assert_eq!(b(&holds(b"1", None), &of(UnderWay)), Next::Prepare);
        assert_eq!(
            next(&holds(b"1", None), &of(UnderWay), Me { started_ms: 8, ..me("b") }),
            Next::Nothing,
            "an older process is meant"
        );
        assert_eq!(
            next(&holds(b"1", None), &of(UnderWay), me("c")),
            Next::Nothing,
            "it is late, and waits for the outcome"
        );
        assert_eq!(
            b(&Holds { failed: Some((3, String::new())), ..holds(b"1", None) }, &of(UnderWay)),
            Next::Nothing
        );
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
        let found = [UnderWay, Activated, Failed].map(|outcome| next(&held, &of(outcome), me("a")));
        assert_eq!(found, [Next::Nothing, Next::Activate, Next::Discard]);
    }

    #[test]
    fn rolling_goes_one_by_one_and_back_when_a_later_one_fails() {
        use RolloutOutcome::{Failed, UnderWay};
        use RolloutStep::{Active, Gone, Waiting};
        let of = |outcome, steps| app(b"1", Some(rollout(b"2", outcome, true, steps)));
        assert_eq!(next(&holds(b"1", None), &of(UnderWay, [Waiting; 2]), me("b")), Next::Nothing);
        for first in [Active, Gone] {
            assert_eq!(next(&holds(b"1", None), &of(UnderWay, [first, Waiting]), me("b")), Next::Prepare);
        }
        let ahead = holds(b"2", None);
        assert_eq!(next(&ahead, &of(UnderWay, [Active, Waiting]), me("a")), Next::Nothing);
        assert_eq!(next(&ahead, &of(Failed, [Active, Waiting]), me("a")), Next::CatchUp);
        let first = app(b"", Some(rollout(b"2", Failed, true, [Active, Waiting])));
        assert_eq!(next(&ahead, &first, me("a")), Next::TakeAway);
    }

    #[test]
    fn a_stopped_app_is_stopped_and_started_again() {
        let stopped = App { stopped: true, ..app(b"1", None) };
        assert_eq!(next(&holds(b"1", None), &stopped, me("a")), Next::Stop);
        // A server that starts tells it as well.
        assert_eq!(next(&holds(b"", None), &stopped, me("a")), Next::Stop);
        let told = Holds { stopped: true, ..Holds::default() };
        assert_eq!(next(&told, &stopped, me("a")), Next::Nothing);
        assert_eq!(next(&told, &app(b"1", None), me("a")), Next::CatchUp);
        assert_eq!(next(&holds(b"", None), &app(b"1", None), me("a")), Next::CatchUp);
    }

    #[test]
    fn what_was_done_is_not_done_again_while_the_hub_has_not_heard_of_it() {
        use RolloutStep::{Active, Starting, Waiting};
        let rolling = app(b"1", Some(rollout(b"2", RolloutOutcome::UnderWay, true, [Starting, Waiting])));
        let ahead = Holds { activated: Some(3), ..holds(b"2", None) };
        assert_eq!(next(&ahead, &rolling, me("a")), Next::Nothing);
        let told = unheard(&ahead, &rolling, me("a"));
        assert!(matches!(told, Some(Report::Rollout(it)) if it.step() == Active && it.number == 3));
    }

    #[test]
    fn the_hub_is_told_until_it_knows() {
        use RolloutOutcome::{Activated, UnderWay};
        use RolloutStep::{Active, Gone, Ready, Starting, Waiting};
        let of = |outcome, step| app(b"1", Some(rollout(b"2", outcome, false, [Waiting, step])));
        let steps = |holds: &Holds, app: &App| step(holds, app, me("b")).map(|it| it.step());
        let prepared = holds(b"1", Some(b"2"));
        assert_eq!(steps(&prepared, &of(UnderWay, Starting)), Some(Ready));
        assert_eq!(steps(&prepared, &of(UnderWay, Ready)), None);
        assert_eq!(steps(&prepared, &of(UnderWay, Gone)), None, "nobody waits for it");
        let active = Holds { activated: Some(3), ..holds(b"2", None) };
        assert_eq!(steps(&active, &of(Activated, Ready)), Some(Active));
        assert_eq!(steps(&active, &of(Activated, Active)), None);
        let failed = Holds { failed: Some((3, "why".into())), ..holds(b"1", None) };
        assert_eq!(step(&failed, &of(UnderWay, Starting), me("b")).unwrap().text, "why");

        let mut one = app(b"1", None);
        let Some(running) = runs(&holds(b"1", None), &one, me("b")) else { panic!("it is told what runs") };
        assert_eq!((running.state(), &running.commit[..]), (AppServerState::Running, &b"1"[..]));
        one.servers.push(running);
        assert_eq!(unheard(&holds(b"1", None), &one, me("b")), None);
        let unable = Holds { unable: Some((files(b"1"), "why".into())), ..Holds::default() };
        assert_eq!(runs(&unable, &one, me("b")).unwrap().state(), AppServerState::Failed);
        one.stopped = true;
        assert_eq!(runs(&unable, &one, me("b")).unwrap().state(), AppServerState::Stopped);
        assert_eq!(unheard(&Holds::default(), &app(b"1", None), me("b")), None);
    }
}
