//! Names of queues: those that apps use, and those that jobs and durable subscriptions have. So many of each kind, so that none takes the others' room.

use super::{Queues, run::step_of, topic::subscription_of};
use crate::state::job::job_of;
use std::sync::Arc;

/// Names that apps may use, and those that one app has brought about.
pub(crate) const QUEUES_MAX: usize = 1000;
pub(super) const APP_QUEUES_MAX: usize = QUEUES_MAX / 2;
const APP_STEP_QUEUES_MAX: usize = STEP_QUEUES_MAX / 2;

/// Queues of declared jobs, of durable subscriptions, and of steps of pipelines.
pub(crate) const JOB_QUEUES_MAX: usize = 5000;
pub(crate) const SUBSCRIPTION_QUEUES_MAX: usize = 2000;
pub(crate) const STEP_QUEUES_MAX: usize = 2000;

/// Whose a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Job,
    Subscription,
    Step,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        match (job_of(name), subscription_of(name), step_of(name)) {
            (Some(_), ..) => Self::Job,
            (_, Some(_), _) => Self::Subscription,
            (.., Some(_)) => Self::Step,
            _ => Self::Plain,
        }
    }

    /// How many there may be.
    pub(super) fn max(self) -> usize {
        match self {
            Self::Plain => QUEUES_MAX,
            Self::Job => JOB_QUEUES_MAX,
            Self::Subscription => SUBSCRIPTION_QUEUES_MAX,
            Self::Step => STEP_QUEUES_MAX,
        }
    }
}

impl Queues {
    /// Whether there is room for so many more names, which may be made where nothing is; how many there may be if there is none.
    pub(super) fn room_for_names(&mut self, kind: Kind, app: &str, new: usize) -> Result<(), usize> {
        let over_app = |it: &Self| {
            let own = it.apps.get(app).copied().unwrap_or_default();
            match kind {
                Kind::Plain => (own.queues + new).saturating_sub(APP_QUEUES_MAX),
                Kind::Step => (own.steps + new).saturating_sub(APP_STEP_QUEUES_MAX),
                Kind::Job | Kind::Subscription => 0,
            }
        };
        let over_all = |it: &Self| (it.kinds[kind as usize] + new).saturating_sub(kind.max());
        let over = over_app(self);
        if over > 0 {
            self.drop_idle(kind, Some(app), over);
        }
        let over = over_all(self);
        if over > 0 {
            self.drop_idle(kind, None, over);
        }
        match (over_app(self), over_all(self)) {
            (0, 0) => Ok(()),
            (0, _) => Err(kind.max()),
            _ if kind == Kind::Step => Err(APP_STEP_QUEUES_MAX),
            _ => Err(APP_QUEUES_MAX),
        }
    }

    /// Gives up so many names where nothing is; of one app, if one is named.
    fn drop_idle(&mut self, kind: Kind, app: Option<&str>, count: usize) {
        let is_idle = |name: &Arc<str>| {
            Kind::of(name) == kind
                && self.all.get(name).is_some_and(|it| it.is_idle() && app.is_none_or(|app| *it.app == *app))
                && !self.is_received(name)
                && !self.is_subscribed(name)
        };
        let idle: Vec<Arc<str>> = self.all.keys().filter(|it| is_idle(it)).take(count).cloned().collect();
        for name in idle {
            if let Some(line) = self.all.remove(&name) {
                self.count_name(&name, &line.app, false);
            }
        }
    }

    fn count_name(&mut self, name: &str, app: &Arc<str>, is_new: bool) {
        let kind = Kind::of(name);
        let change = |count: &mut usize| if is_new { *count += 1 } else { *count -= 1 };
        change(&mut self.kinds[kind as usize]);
        match kind {
            Kind::Plain => self.share(app, |it| change(&mut it.queues)),
            Kind::Step => self.share(app, |it| change(&mut it.steps)),
            Kind::Job | Kind::Subscription => {}
        }
    }

    /// The name of a queue that is there from now on.
    pub(super) fn queue(&mut self, name: &str, app: &Arc<str>) -> Arc<str> {
        if let Some((name, _)) = self.all.get_key_value(name) {
            return name.clone();
        }
        let name: Arc<str> = name.into();
        self.all.insert(name.clone(), super::line::Line::new(app.clone()));
        self.count_name(&name, app, true);
        name
    }
}
