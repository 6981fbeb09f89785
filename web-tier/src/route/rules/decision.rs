//! What rules decide.

use super::{ForeignTarget, Guard, Site, Target};
use common::config::{HeaderEdit, HeaderEditKind, Maintenance};
use std::{borrow::Cow, rc::Rc};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision<'a> {
    /// To a server of a cluster.
    Proxy(&'a Target),
    /// To a server that is not ours.
    HttpProxy(&'a ForeignTarget),
    /// A file of this server, by [`Site::answer`].
    Static(&'a Rc<Site>),
    /// 301 or 302, and a `Location` of graphic ASCII characters.
    Redirect { status: u16, location: String },
    /// An error page, with the rule's own text if it has one.
    Error { status: u16, message: Option<&'a str> },
    /// The site is closed: a page.
    Maintenance(&'a Maintenance),
    /// No rule: 404.
    None,
}

impl Decision<'_> {
    /// Whether its rule says itself what the answer looks like.
    pub(crate) fn has_words(&self) -> bool {
        matches!(self, Self::Maintenance(_) | Self::Error { message: Some(_), .. })
    }

    /// Whether its rule lets answers be compressed.
    pub(crate) fn compresses(&self) -> bool {
        match self {
            Self::Proxy(target) => target.compression,
            Self::HttpProxy(target) => target.compression,
            _ => true,
        }
    }
}

/// A decision, and what the rules on the way to it change.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) decision: Decision<'a>,
    pub(crate) noted: Noted<'a>,
    /// Values of `Set-Cookie` fields that the answer gets.
    pub(crate) set_cookies: Vec<String>,
    /// What takes the place of the request's path and query, after a `forward`.
    pub(crate) rewritten: Option<Rewritten>,
}

/// What is noted on the way to a decision, each in the order of the rules.
#[derive(Debug, Default)]
pub(crate) struct Noted<'a> {
    /// For the request and for the answer, whatever gives it.
    pub(crate) edits: Vec<Edit<'a>>,
    /// What the request has to pass.
    pub(crate) guards: Vec<&'a Guard>,
    /// The places of the clusters that get copies, in the worker's list.
    pub(crate) mirrors: Vec<usize>,
    /// Some requests like this one have copies: by what those are known is nothing that a client may say.
    pub(crate) may_mirror: bool,
}

/// What a rule changes of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit<'a> {
    pub(super) rule: &'a HeaderEdit,
    /// Empty where that means to take the header away.
    pub(crate) value: Cow<'a, str>,
}

impl Edit<'_> {
    pub(crate) fn kind(&self) -> HeaderEditKind {
        self.rule.kind
    }

    /// In lower case.
    pub(crate) fn name(&self) -> &str {
        &self.rule.name
    }
}

impl Default for Outcome<'_> {
    fn default() -> Self {
        Self { decision: Decision::None, noted: Noted::default(), set_cookies: Vec::new(), rewritten: None }
    }
}

/// A path and query that a rule made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Normalised and percent-encoded, as a server is asked for it.
    pub(crate) path: String,
    /// Percent-encoded, without `?`.
    pub(crate) query: Option<String>,
    /// `path` as rules see it.
    pub(crate) seen: String,
}

impl Rewritten {
    /// Path and query, as a request line has them.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}
