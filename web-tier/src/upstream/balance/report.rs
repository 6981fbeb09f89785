//! A server as one worker sees it, for the status page.

use super::server::{Openness, Presence, ServerState, Standing, TroubleKind};
use proto::{
    hub::v1::MemberAdmin,
    status::v1::{Standing as Shown, Trouble, WorkerView},
};
use std::time::{Duration, Instant};

impl ServerState {
    /// What there is to tell of it, without its sockets.
    pub(super) fn report(&self, now: Instant) -> WorkerView {
        let ago = self.last_trouble().map(|(_, at)| millis(now.saturating_duration_since(at)));
        let probe = match self.standing(now) {
            Standing::Failing(until) | Standing::Ejected(until) => {
                Some(millis(until.saturating_duration_since(now)))
            }
            Standing::Probe => Some(0),
            Standing::Well | Standing::Busy { .. } | Standing::Away => None,
        };
        WorkerView {
            standing: self.shown(now).into(),
            active: self.active(),
            warmup: self.sixteenths(now),
            answers: self.answers(),
            troubles: self.troubles(),
            trouble: self.last_trouble().map_or(Trouble::None, |(kind, _)| trouble(kind)).into(),
            trouble_ago_ms: ago,
            probe_in_ms: probe,
            latency_us: self.average().map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX)),
            ..WorkerView::default()
        }
    }

    /// Why it gets no requests, or how it does with those that it gets.
    fn shown(&self, now: Instant) -> Shown {
        match (self.presence(), self.admin()) {
            (Presence::Down, _) => return Shown::Down,
            (Presence::Standby, _) => return Shown::Stopping,
            (_, MemberAdmin::Disabled) => return Shown::Disabled,
            _ => {}
        }
        match (self.standing(now), self.openness()) {
            (Standing::Away, _) => Shown::Unhealthy,
            (Standing::Failing(_), _) => Shown::Failing,
            (Standing::Ejected(_), _) => Shown::Ejected,
            (Standing::Probe, _) => Shown::Probe,
            (Standing::Busy { .. }, _) => Shown::Busy,
            (Standing::Well, Openness::OwnSessions) => Shown::DisabledSoft,
            (Standing::Well, Openness::Draining) => Shown::Draining,
            (Standing::Well, Openness::All | Openness::Nothing) => Shown::Well,
        }
    }
}

fn trouble(kind: TroubleKind) -> Trouble {
    match kind {
        TroubleKind::Unreachable => Trouble::Unreachable,
        TroubleKind::Broke => Trouble::Broke,
        TroubleKind::Busy => Trouble::Busy,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::Backend;
    use proto::hub::v1::{Member, MemberState};

    const SECOND: Duration = Duration::from_secs(1);

    fn server() -> ServerState {
        let backend = Backend {
            id: "a".into(),
            weight: 100,
            recover_time: SECOND * 15,
            busy_recover_time: SECOND * 15,
            warmup_time: SECOND * 16,
            backup: false,
        };
        ServerState::new(&backend)
    }

    fn member(state: MemberState, admin: MemberAdmin) -> Member {
        Member {
            id: "a".into(),
            state: state.into(),
            admin: admin.into(),
            started_ms: 1,
            ..Member::default()
        }
    }

    #[test]
    fn a_server_that_fails_says_why_how_long_ago_and_when_it_is_tried_again() {
        let (mut server, now) = (server(), Instant::now());
        let view = server.report(now);
        assert_eq!((view.standing(), view.trouble(), view.warmup), (Shown::Well, Trouble::None, 16));
        server.connect_failed(now);
        let view = server.report(now + SECOND / 4);
        assert_eq!((view.standing(), view.trouble()), (Shown::Failing, Trouble::Unreachable));
        assert_eq!((view.trouble_ago_ms, view.probe_in_ms, view.troubles), (Some(250), Some(750), 1));
        assert_eq!(server.report(now + SECOND).standing(), Shown::Probe);
        let mut ticket = server.begin(now + SECOND);
        server.succeeded(now + SECOND, &mut ticket);
        let view = server.report(now + SECOND);
        assert_eq!((view.standing(), view.trouble(), view.active), (Shown::Well, Trouble::Unreachable, 1));
        server.end(ticket);
    }

    #[test]
    fn the_hubs_and_an_administrators_word_comes_first() {
        let now = Instant::now();
        for (state, admin, shown) in [
            (MemberState::Active, MemberAdmin::Enabled, Shown::Well),
            (MemberState::Active, MemberAdmin::Disabled, Shown::Disabled),
            (MemberState::Active, MemberAdmin::DisabledSoft, Shown::DisabledSoft),
            (MemberState::Draining, MemberAdmin::Enabled, Shown::Draining),
            (MemberState::Standby, MemberAdmin::Disabled, Shown::Stopping),
            (MemberState::Down, MemberAdmin::Enabled, Shown::Down),
        ] {
            let mut server = server();
            let _sockets = server.member_seen(now, Some(&member(state, admin)));
            assert_eq!(server.report(now).standing(), shown, "{state:?} {admin:?}");
        }
        let mut server = server();
        let _sockets = server.health_changed(now, false);
        assert_eq!(server.report(now).standing(), Shown::Unhealthy);
    }
}
