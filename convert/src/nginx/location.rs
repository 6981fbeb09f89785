//! A `location`: the rules for its paths.

use super::{
    access,
    directive::{Directive, Levels},
    proxy::{Proxy, answer_headers},
    reasons, rewrite,
    variables::translated,
};
use crate::{
    left::Remarks,
    output::{Line, Rule},
    pattern,
    yaml::Yaml,
};

/// How a location says its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exact,
    /// `^~`: no expression is asked.
    First,
    Prefix,
    Expression,
}

/// A location and the expression for its paths.
#[derive(Debug)]
pub(super) struct Location<'a> {
    pub(super) kind: Kind,
    pub(super) path: &'a str,
    pub(super) regexp: String,
    pub(super) directive: &'a Directive,
}

impl<'a> Location<'a> {
    /// Takes a location apart.
    ///
    /// # Errors
    /// Why its paths can't be said.
    pub(super) fn of(directive: &'a Directive) -> Result<Self, String> {
        let (modifier, path) = match directive.arguments.as_slice() {
            [path] if path.starts_with("^~") => ("^~", &path[2..]),
            [path] if path.starts_with("~*") => ("~*", &path[2..]),
            [path] if path.starts_with('~') => ("~", &path[1..]),
            [path] if path.starts_with('=') => ("=", &path[1..]),
            [path] => ("", path.as_str()),
            [modifier, path] => (modifier.as_str(), path.as_str()),
            _ => return Err("expected a path".to_owned()),
        };
        let (kind, regexp) = match modifier {
            "=" => (Kind::Exact, format!("{}$", pattern::prefix(path))),
            "^~" => (Kind::First, pattern::prefix(path)),
            "" => (Kind::Prefix, pattern::prefix(path)),
            "~" => (Kind::Expression, pattern::checked(path, false)?),
            "~*" => (Kind::Expression, pattern::checked(path, true)?),
            other => return Err(format!("`{other}` is not known before a path")),
        };
        Ok(Self { kind, path, regexp, directive })
    }

    /// Its literal path.
    fn literal(&self) -> Option<&'a str> {
        (self.kind != Kind::Expression).then_some(self.path)
    }
}

/// What the rules of a location go by: what stands around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) server: &'a Directive,
    pub(super) http: &'a [Directive],
    pub(super) proxy: Proxy<'a>,
    /// The folder of the host's own files.
    pub(super) root: Option<&'a str>,
}

/// The rules of the locations of a server, and the folders that they serve.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) lines: Vec<Line>,
    pub(super) web_apps: Vec<(String, String)>,
}

impl Rules {
    /// How much is written of them.
    pub(super) fn size(&self) -> usize {
        let backends = |rule: &Rule| {
            let mut lists = rule.further.iter().map(|(_, value)| value);
            lists
                .find_map(|it| if let Yaml::List(items) = it { Some(items.len()) } else { None })
                .unwrap_or(0)
        };
        let of = |line: &Line| if let Line::Rule(rule) = line { 1 + backends(rule) } else { 1 };
        self.web_apps.len() + self.lines.iter().map(of).sum::<usize>()
    }

    pub(super) fn remark(&mut self, comment: String) {
        self.lines.push(Line::Remark(comment));
    }

    pub(super) fn rule(&mut self, kind: &'static str, regexp: Option<&str>) {
        self.lines.push(Line::Rule(Rule::new(kind, regexp, Vec::new())));
    }

    /// Adds the rules of a location.
    pub(super) fn location(&mut self, location: &Location<'_>, around: Around<'_>, remarks: &mut Remarks) {
        let regexp = Some(location.regexp.as_str());
        let inside = location.directive.inside();
        if self.guarded(inside, regexp, remarks) {
            return;
        }
        for directive in inside {
            match directive.name.as_str() {
                "if" => self.condition(directive, regexp, remarks),
                "rewrite" if location.kind == Kind::Expression => {
                    let why = "beside the location's expression it has one of its own: write one `forward` or `redirect` of the two";
                    self.remark(remarks.leave(&directive.place, "rewrite", why));
                }
                "rewrite" => self.lines.extend(rewrite::rewrite(directive, location.literal(), remarks)),
                "return" => return self.lines.extend(rewrite::answer(directive, regexp, remarks)),
                "location" => {
                    self.remark(remarks.leave(
                        &directive.place,
                        "location",
                        "locations in locations: write them side by side",
                    ));
                    let inner = Location::of(directive).ok().filter(|it| it.kind != Kind::Expression);
                    self.lines.extend(
                        inner.map(|it| Line::Rule(Rule::refusal(Some(&it.regexp), "location in a location"))),
                    );
                }
                name => {
                    if let Some(why) = reasons::why(name).filter(|_| !name.ends_with("_pass")) {
                        self.remark(remarks.leave(&directive.place, name, why));
                    }
                }
            }
        }
        self.answered(location, regexp, around, remarks);
    }

    /// An `if`; one that refuses and can't be translated closes the path.
    pub(super) fn condition(&mut self, directive: &Directive, regexp: Option<&str>, remarks: &mut Remarks) {
        if let Some(lines) = rewrite::condition(directive, regexp, remarks) {
            return self.lines.extend(lines);
        }
        self.remark(remarks.leave(&directive.place, "if", reasons::why("if").unwrap_or_default()));
        let refuses =
            |it: &Directive| it.name == "deny" || it.name == "return" && it.argument(0).starts_with('4');
        if directive.inside().iter().any(refuses) {
            self.lines.push(Line::Rule(Rule::refusal(regexp, "if")));
        }
    }

    /// Whether there is a restriction that can't be translated: the path is closed then.
    pub(super) fn guarded(
        &mut self,
        inside: &[Directive],
        regexp: Option<&str>,
        remarks: &mut Remarks,
    ) -> bool {
        let guards = inside
            .iter()
            .filter(|it| reasons::GUARDS.contains(&it.name.as_str()) && !it.says("off") && !it.says("any"));
        let guards: Vec<_> = guards.collect();
        for guard in &guards {
            self.remark(remarks.leave(
                &guard.place,
                &guard.name,
                reasons::why(&guard.name).unwrap_or_default(),
            ));
        }
        self.lines.extend(guards.first().map(|it| Line::Rule(Rule::refusal(regexp, &it.name))));
        !guards.is_empty()
    }

    /// Who may ask, and what answers.
    fn answered(
        &mut self,
        location: &Location<'_>,
        regexp: Option<&str>,
        around: Around<'_>,
        remarks: &mut Remarks,
    ) {
        let inside = location.directive.inside();
        let levels = [inside, around.server.inside(), around.http];
        let levels = Levels(&levels);
        self.lines.extend(access::rules(levels, regexp, remarks));
        self.lines.extend(answer_headers(levels, regexp, remarks));
        let pass = inside.iter().find(|it| it.name.ends_with("_pass"));
        let files = inside.iter().find(|it| it.name == "try_files");
        if let Some(files) = files {
            if !self.folder(location, levels, around, remarks) {
                return self.rule("not-found", regexp);
            }
            if self.try_files(files, pass, regexp, around, remarks) {
                return;
            }
        }
        match pass {
            Some(pass) => self.pass(pass, levels, (regexp, location.literal()), around, remarks),
            None => self.files(location, regexp, levels, around, remarks),
        }
    }

    fn pass(
        &mut self,
        pass: &Directive,
        levels: Levels<'_>,
        place: (Option<&str>, Option<&str>),
        around: Around<'_>,
        remarks: &mut Remarks,
    ) {
        if matches!(pass.name.as_str(), "proxy_pass" | "grpc_pass") {
            return self.lines.extend(around.proxy.rules(pass, levels, place, remarks));
        }
        self.remark(remarks.leave(&pass.place, &pass.name, reasons::why(&pass.name).unwrap_or_default()));
        self.lines.push(Line::Rule(Rule::refusal(place.0, &pass.name)));
    }

    /// Files of a folder.
    fn files(
        &mut self,
        location: &Location<'_>,
        regexp: Option<&str>,
        levels: Levels<'_>,
        around: Around<'_>,
        remarks: &mut Remarks,
    ) {
        if !self.folder(location, levels, around, remarks) {
            return self.rule("not-found", regexp);
        }
        if let Some(index) = levels.get("index").filter(|it| it.argument(0) != "index.html") {
            self.remark(remarks.leave(&index.place, "index", "the file of a folder is index.html"));
        }
        self.rule("dispatch", regexp);
    }

    /// Notes the folder of a location. `false`: there is none, or it can't be said.
    fn folder(
        &mut self,
        location: &Location<'_>,
        levels: Levels<'_>,
        around: Around<'_>,
        remarks: &mut Remarks,
    ) -> bool {
        let alias = location.directive.inside().iter().find(|it| it.name == "alias");
        let Some(named) = alias.or(levels.get("root")) else { return false };
        let path = named.argument(0).trim_end_matches('/');
        if alias.is_none() && around.root.map(|it| it.trim_end_matches('/')) == Some(path) {
            return true;
        }
        let prefix =
            matches!(location.kind, Kind::Prefix | Kind::First).then(|| location.path.trim_end_matches('/'));
        let Some(prefix) = prefix.filter(|it| is_path(it)) else {
            self.remark(remarks.leave(
                &named.place,
                &named.name,
                "a folder is served at a path, not at an expression: 404 is answered",
            ));
            return false;
        };
        let folder = if alias.is_some() { path.to_owned() } else { format!("{path}{prefix}") };
        self.web_apps.push((prefix.to_owned(), folder));
        true
    }

    /// Whether all is said with it.
    fn try_files(
        &mut self,
        files: &Directive,
        pass: Option<&Directive>,
        regexp: Option<&str>,
        around: Around<'_>,
        remarks: &mut Remarks,
    ) -> bool {
        let Some((last, tried)) = files.arguments.split_last() else { return false };
        if tried.iter().any(|it| !matches!(it.as_str(), "$uri" | "$uri/" | "$uri/index.html")) {
            let why = "only `$uri` and `$uri/` are tried: write `forward` for other names";
            self.remark(remarks.leave(&files.place, "try_files", why));
        }
        if last == "=404" {
            self.rule("dispatch", regexp);
            return true;
        }
        let exists = vec![("file-exists", Yaml::plain(true))];
        self.lines.push(Line::Rule(Rule::new("dispatch", regexp, Vec::new()).only(&exists)));
        if let Some(code) =
            last.strip_prefix('=').and_then(|it| it.parse::<u16>().ok()).filter(|it| (400..600).contains(it))
        {
            self.lines.push(Line::Rule(Rule::new("send-error", regexp, vec![("code", Yaml::plain(code))])));
        } else if last.starts_with('@') {
            let named =
                around.server.inside().iter().find(|it| it.name == "location" && it.argument(0) == last);
            let found =
                named.and_then(|it| Some((it, it.inside().iter().find(|it| it.name.ends_with("_pass"))?)));
            let Some((named, pass)) = found else {
                self.remark(remarks.leave(
                    &files.place,
                    "try_files",
                    format!("there is no `location {last}` with a backend"),
                ));
                self.lines.push(Line::Rule(Rule::refusal(regexp, "try_files")));
                return true;
            };
            let levels = [named.inside(), around.server.inside(), around.http];
            self.pass(pass, Levels(&levels), (regexp, None), around, remarks);
        } else if let Some(target) = fallback(last) {
            let whole = regexp.filter(|it| *it != "^/").map(pattern::whole);
            self.lines.push(Line::Rule(Rule::new(
                "forward",
                whole.as_deref(),
                vec![("target", Yaml::text(target))],
            )));
        } else if pass.is_some() && last.starts_with("$uri") {
            return false;
        } else {
            self.remark(remarks.leave(&files.place, "try_files", format!("`{last}` has no counterpart")));
            self.lines.push(Line::Rule(Rule::refusal(regexp, "try_files")));
        }
        true
    }
}

/// Where a request goes on. The query goes along by itself.
fn fallback(text: &str) -> Option<String> {
    let text = text.strip_suffix("$is_args$args").or(text.strip_suffix("?$args")).unwrap_or(text);
    if text.starts_with('/') { translated(text, 0).ok() } else { None }
}

/// Whether a path can be a web-app's.
fn is_path(text: &str) -> bool {
    text.is_empty()
        || text.starts_with('/')
            && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'/' | b'-' | b'_' | b'.'))
}
