//! Rewrite rules: the first that matches a path says what happens to the request.

use crate::upstream::Upstreams;
use common::config::{Action, Rule, Strategy};
use regex::Regex;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// The cluster's place in the worker's list.
    pub(crate) upstream: usize,
    pub(crate) strategy: Strategy,
    pub(crate) sticky: bool,
}

/// The rules of one host, in order.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<(Option<Regex>, Target)>);

impl Rules {
    /// Of a host's `dispatch`. Each worker has its own copy: a `Regex` that threads share has a lock.
    pub(crate) fn new(dispatch: &[Rule], upstreams: &mut Upstreams<'_>) -> Self {
        let rules = dispatch.iter().filter_map(|rule| {
            let Action::LoadBalance(action) = &rule.action else { return None };
            let target = Target {
                upstream: upstreams.place(&action.cluster)?,
                strategy: action.strategy,
                sticky: action.sticky_sessions,
            };
            // The empty regexp matches all: no need to ask it.
            Some((rule.regexp.clone().filter(|regexp| !regexp.as_str().is_empty()), target))
        });
        Self(rules.collect())
    }

    /// The first rule for a decoded, normalised path.
    pub(crate) fn find(&self, path: &str) -> Option<&Target> {
        let matches = |regexp: &Option<Regex>| regexp.as_ref().is_none_or(|it| it.is_match(path));
        self.0.iter().find(|(regexp, _)| matches(regexp)).map(|(_, target)| target)
    }
}
