//! `mode tcp`: connections that are passed on as they are.

use super::{
    backend::{self, Mode},
    bind,
    connection::{Acls, Condition, Holds},
    frontend::{Backends, others},
    parse::{Line as Words, Section},
};
use crate::{
    left::{Remarks, TOO_MUCH},
    network::Access,
    output::{Cluster, Entries},
    tcp::{self, Kind, NAMES_MAX, TcpListener, Way},
    value::haproxy_duration,
    yaml::Yaml,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
};

/// Of `tcp-request`: what only watches, so that a connection goes its way without it.
const WATCHES: [&str; 12] = [
    "track-sc",
    "sc-inc",
    "sc-set",
    "sc-add",
    "set-var",
    "unset-var",
    "capture",
    "set-log-level",
    "set-mark",
    "set-tos",
    "set-nice",
    "send-spoe-group",
];

/// What is said of a listener for a line that may refuse connections.
const LEFT_OUT: &str = "the listener is left out";

/// A line with a condition.
struct Ruled<'a, T> {
    line: &'a Words,
    condition: Condition,
    /// What follows.
    then: T,
}

/// What `tcp-request content` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Reject,
}

/// Adds the listeners of a section.
pub(super) fn translate(
    section: &Section,
    backends: &Backends<'_>,
    remarks: &mut Remarks,
    cluster: &mut Cluster,
) {
    let mut comments = others(section, remarks);
    let found = bind::listeners(section, false, remarks, &mut comments);
    let mut left = Vec::new();
    match keys(section, backends, remarks, &mut comments) {
        Ok(keys) => {
            let keys = tcp::shared(keys);
            for (listener, line) in found {
                let new = TcpListener::new(listener.address, listener.port, &keys);
                if let Err(why) = cluster.listen_tcp(new, &mut comments) {
                    left.push(remarks.leave(&line.place, "bind", why));
                }
            }
        }
        Err(comment) => left.push(comment),
    }
    // What belongs to no listener is told at the beginning.
    cluster.remarks.extend(comments.into_iter().chain(left));
}

/// What the listeners of a section say beside their addresses.
///
/// # Errors
/// Why there can be none: the comment for it.
fn keys(
    section: &Section,
    backends: &Backends<'_>,
    remarks: &mut Remarks,
    comments: &mut Vec<String>,
) -> Result<Entries, String> {
    let acls = Acls::of(section);
    let mut content = content(section, &acls, remarks, comments)?;
    let mut keys = tcp::access(access(section, &acls, &mut content, remarks, comments)?);
    let mut goals = Goals { section, backends, known: HashMap::new(), keys: Vec::new(), content: Vec::new() };
    let mut routes = Vec::new();
    for line in section.lines_of(&["use_backend"]) {
        let condition = Condition::of(line, &acls);
        if condition.cuts_labels() {
            let why = "an end without a dot before it is `x.org` and `*.x.org`, and no part of a label";
            comments.push(remarks.leave(&line.place, "use_backend", why));
        }
        let then = goals.of(line.word(1), line, remarks, comments);
        routes.push(Ruled { line, condition, then });
    }
    let default = match section.line_of(&["default_backend"]) {
        Some(line) => goals.of(line.word(1), line, remarks, comments),
        None if section.kind == "listen" && !section.lines_of(&["server"]).is_empty() => {
            goals.own(remarks, comments)
        }
        None => None,
    };
    let mut kinds: Vec<Kind> = routes.iter().flat_map(|it| it.condition.kinds()).collect();
    let of_content = content.iter().chain(goals.content.iter().flatten());
    kinds.extend(of_content.flat_map(|it| it.condition.kinds()));
    let mut seen = HashSet::new();
    kinds.retain(|it| seen.insert(it.clone()));
    if kinds.len() > NAMES_MAX {
        return Err(remarks.leave(
            &section.place,
            &section.title(),
            "it has more than 4096 names: the listener is left out",
        ));
    }
    let untold = RefCell::new(BTreeMap::new());
    let way = |kind: &Kind| way(kind, &content, &routes, default, &goals, &untold);
    let found = tcp::keys(&kinds, &goals.keys, way);
    // Of which connections it can't be told whether a line is for them: they are refused.
    let end = if found.is_ok() { "what it may be about is refused" } else { LEFT_OUT };
    for (line, cause) in untold.into_inner().into_values() {
        let why = format!("its condition can't be said ({cause}): {end}");
        comments.push(remarks.leave(&line.place, &line.name(), why));
    }
    let found = found.map_err(|why| remarks.leave(&section.place, &section.title(), why))?;
    let waits =
        section.line_of(&["tcp-request", "inspect-delay"]).and_then(|it| haproxy_duration(it.word(2)));
    let routed = found.iter().any(|(key, _)| *key == "routes");
    keys.extend(waits.filter(|_| routed).map(|it| ("client-hello-timeout", Yaml::plain(it))));
    keys.extend(found);
    Ok(keys)
}

/// Lines whose condition can't be told for connections that they may be about, by their numbers, and why.
type Untold<'a> = RefCell<BTreeMap<usize, (&'a Words, String)>>;

/// Where connections of a kind go.
fn way<'a>(
    kind: &Kind,
    content: &[Ruled<'a, Verdict>],
    routes: &[Ruled<'a, Option<usize>>],
    default: Option<usize>,
    goals: &Goals<'a, '_>,
    untold: &Untold<'a>,
) -> Way {
    let mut way = Way::default();
    if !accepts(content, kind, untold) {
        return way;
    }
    let checked = |goal: Option<usize>| goal.filter(|it| accepts(&goals.content[*it], kind, untold));
    for route in routes {
        match route.condition.holds(kind) {
            Holds::No => {}
            Holds::Yes => {
                way.others = checked(route.then);
                return way;
            }
            Holds::With(protocols) => way.by_protocol.push((protocols, checked(route.then))),
            // Whoever may be meant is not let in by another line.
            Holds::Unknown(why) => {
                untold.borrow_mut().insert(route.line.place.line, (route.line, why));
                return way;
            }
        }
    }
    way.others = checked(default);
    way
}

/// Whether `tcp-request content` surely lets connections of a kind in.
fn accepts<'a>(content: &[Ruled<'a, Verdict>], kind: &Kind, untold: &Untold<'a>) -> bool {
    let mut maybe = Vec::new();
    for rule in content {
        let why = match rule.condition.holds(kind) {
            Holds::No => continue,
            Holds::Yes if rule.then == Verdict::Accept => return true,
            Holds::Yes => None,
            Holds::With(_) => Some("a route refuses names, and no protocols".to_owned()),
            Holds::Unknown(why) => Some(why),
        };
        maybe.extend(why.map(|why| (rule.line.place.line, (rule.line, why))));
        // Of what may have been accepted, and is not surely, what follows is asked, too.
        if rule.then == Verdict::Reject {
            untold.borrow_mut().extend(maybe);
            return false;
        }
    }
    true
}

/// `tcp-request content`.
///
/// # Errors
/// The comment for a line that may refuse connections, and can't be said.
fn content<'a>(
    section: &'a Section,
    acls: &Acls<'_>,
    remarks: &mut Remarks,
    comments: &mut Vec<String>,
) -> Result<Vec<Ruled<'a, Verdict>>, String> {
    let mut found = Vec::new();
    for line in section.all_of("tcp-request").filter(|it| it.word(1) == "content") {
        let then = verdict(line.word(2));
        let condition = condition(line, acls, then, remarks, comments);
        match then {
            Some(_) if condition.is_never() => {}
            Some(then) => found.push(Ruled { line, condition, then }),
            None => watched(line, remarks, comments)?,
        }
    }
    Ok(found)
}

fn verdict(action: &str) -> Option<Verdict> {
    match action {
        "accept" => Some(Verdict::Accept),
        "reject" | "silent-drop" | "tarpit" => Some(Verdict::Reject),
        _ => None,
    }
}

/// The condition of a line, and what refuses those who come too often taken out and told.
fn condition(
    line: &Words,
    acls: &Acls<'_>,
    then: Option<Verdict>,
    remarks: &mut Remarks,
    comments: &mut Vec<String>,
) -> Condition {
    let mut condition = Condition::of(line, acls);
    if then == Some(Verdict::Reject) && condition.cut_rates() {
        let why = "write `rate-limit` and `connection-limit` at the listener";
        comments.push(remarks.leave(&line.place, &line.name(), why));
    }
    condition
}

/// Whether an action only watches.
pub(super) fn watches(action: &str) -> bool {
    WATCHES.iter().any(|it| action.starts_with(it))
}

/// What is no question of who may connect.
fn watched(line: &Words, remarks: &mut Remarks, comments: &mut Vec<String>) -> Result<(), String> {
    if !watches(line.word(2)) {
        let why = format!("there is nothing like `{}`: {LEFT_OUT}", line.word(2));
        return Err(remarks.leave(&line.place, &line.name(), why));
    }
    let why = "there are no variables and tables: `rate-limit` and `connection-limit` count connections by themselves";
    comments.push(remarks.leave(&line.place, &line.name(), why));
    Ok(())
}

/// `tcp-request connection`, and refusals of addresses at the beginning of `content`.
///
/// # Errors
/// The comment for a line that can't be said.
fn access(
    section: &Section,
    acls: &Acls<'_>,
    content: &mut Vec<Ruled<'_, Verdict>>,
    remarks: &mut Remarks,
    comments: &mut Vec<String>,
) -> Result<(Vec<String>, Vec<String>), String> {
    let mut access = Access::default();
    let long = |access: &Access, line: &Words, remarks: &mut Remarks| {
        let why = format!("these are too many networks: {LEFT_OUT}");
        if access.is_long() { Err(remarks.leave(&line.place, &line.name(), why)) } else { Ok(()) }
    };
    let lines = section.all_of("tcp-request").filter(|it| matches!(it.word(1), "connection" | "session"));
    for line in lines {
        let Some(then) = verdict(line.word(2)) else {
            watched(line, remarks, comments)?;
            continue;
        };
        let condition = condition(line, acls, Some(then), remarks, comments);
        let Some(who) = condition.sources() else {
            let cause = condition.why().unwrap_or("lists go by addresses alone");
            let why = format!("its condition can't be said ({cause}): {LEFT_OUT}");
            return Err(remarks.leave(&line.place, &line.name(), why));
        };
        match then {
            Verdict::Accept => access.allow(&who),
            Verdict::Reject => access.deny(&who),
        }
        long(&access, line, remarks)?;
    }
    while let Some((who, line)) = content.first().filter(|it| it.then == Verdict::Reject).and_then(|it| {
        let plain = it.condition.sources().filter(|who| !who.others().is_empty());
        Some((plain?, it.line))
    }) {
        access.deny_after_all(&who);
        content.remove(0);
        long(&access, line, remarks)?;
    }
    let why = "nobody is let in: the listener is left out";
    access.lists().ok_or_else(|| remarks.leave(&section.place, &section.title(), why))
}

/// The backends that connections go to.
struct Goals<'a, 'b> {
    section: &'a Section,
    backends: &'b Backends<'a>,
    known: HashMap<String, Option<usize>>,
    keys: Vec<Entries>,
    /// What `tcp-request content` says in each of them.
    content: Vec<Vec<Ruled<'a, Verdict>>>,
}

impl<'a> Goals<'a, '_> {
    /// The number of a backend that a line names; `None`: it can't be said.
    fn of(
        &mut self,
        name: &str,
        line: &Words,
        remarks: &mut Remarks,
        comments: &mut Vec<String>,
    ) -> Option<usize> {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let found = match self.backends.get(name) {
            Some(section) => self.add(section, remarks, comments),
            None => {
                let why = if name.contains('%') {
                    "backends are named, not made of variables: write a route for each".to_owned()
                } else {
                    format!("there is no backend `{name}`")
                };
                comments.push(remarks.leave(&line.place, line.word(0), why));
                None
            }
        };
        self.known.insert(name.to_owned(), found);
        found
    }

    /// The servers of a `listen` itself.
    fn own(&mut self, remarks: &mut Remarks, comments: &mut Vec<String>) -> Option<usize> {
        self.push(self.section, Vec::new(), remarks, comments)
    }

    fn add(
        &mut self,
        section: &'a Section,
        remarks: &mut Remarks,
        comments: &mut Vec<String>,
    ) -> Option<usize> {
        if !remarks.takes(section.lines.len()) {
            comments.push(remarks.leave(&section.place, &section.title(), TOO_MUCH));
            return None;
        }
        comments.extend(others(section, remarks));
        match content(section, &Acls::of(section), remarks, comments) {
            Ok(content) => self.push(section, content, remarks, comments),
            Err(comment) => {
                comments.push(comment);
                None
            }
        }
    }

    fn push(
        &mut self,
        section: &'a Section,
        content: Vec<Ruled<'a, Verdict>>,
        remarks: &mut Remarks,
        comments: &mut Vec<String>,
    ) -> Option<usize> {
        let client = self.section.line_of(&["timeout", "client"]).and_then(|it| haproxy_duration(it.word(2)));
        match backend::keys(section, Mode::Tcp(client.as_deref()), comments, remarks) {
            Ok(keys) => {
                self.keys.push(keys);
                self.content.push(content);
                Some(self.keys.len() - 1)
            }
            Err(comment) => {
                comments.push(comment);
                None
            }
        }
    }
}
