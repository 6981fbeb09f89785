//! `if` and `unless`: alternatives, each an expression about the path and conditions that hold together.

use super::{
    acl::{Criterion, criterion, predefined},
    connection::is_rate,
    parse::{Line, Section},
};
use crate::{
    output::{Entries, Rule},
    pattern,
    yaml::Yaml,
};

/// More alternatives are not written out.
const ALTERNATIVES_MAX: usize = 64;

/// What holds together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Together {
    pub(super) path: Option<String>,
    pub(super) conditions: Entries,
}

/// Alternatives of which one is enough; none of them: never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition(pub(super) Vec<Together>);

impl Condition {
    /// What always holds.
    pub(super) fn always() -> Self {
        Self(vec![Together::default()])
    }

    /// Reads what stands behind `if` or `unless` in a line.
    ///
    /// # Errors
    /// Why it can't be said, and a wider condition that can.
    pub(super) fn of(line: &Line, section: &Section) -> Result<Self, (String, Self)> {
        let Some(at) = line.words.iter().rposition(|it| it == "if" || it == "unless") else {
            return Ok(Self::always());
        };
        let words = &line.words[at + 1..];
        if line.words[at] == "unless" {
            return unless(words, section).map_err(|why| (why, Self::always()));
        }
        let (mut all, mut failed) = (Vec::new(), None);
        for group in words.split(|it| it == "||" || it == "or") {
            // How often somebody asks is no question of who may: nothing is closed for it.
            if let Some(rate) = rate_of(group, section) {
                failed = failed.or(Some(format!("`{rate}` has no counterpart among the conditions")));
                continue;
            }
            let (found, why) = group_of(group, section);
            failed = failed.or(why);
            all.extend(found);
        }
        let whole = Self(all);
        if whole.0.len() > ALTERNATIVES_MAX {
            return Err(("it has too many alternatives".to_owned(), Self::always()));
        }
        failed.map_or(Ok(whole.clone()), |why| Err((why, whole)))
    }

    /// Both have to hold; `None`: two expressions about the path can't both be said.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let mut all = Vec::new();
        for one in &self.0 {
            for two in &other.0 {
                all.push(one.and(two)?);
            }
        }
        (all.len() <= ALTERNATIVES_MAX).then_some(Self(all))
    }

    /// A rule for each alternative.
    pub(super) fn rules(&self, kind: &'static str, further: &Entries, whole: bool) -> Vec<Rule> {
        let rule = |it: &Together| {
            let path = it.path.as_deref();
            let whole = path.filter(|_| whole).map(pattern::whole);
            Rule::new(kind, whole.as_deref().or(path), further.clone()).only(&it.conditions)
        };
        self.0.iter().map(rule).collect()
    }
}

impl Together {
    fn and(&self, other: &Self) -> Option<Self> {
        let path = match (&self.path, &other.path) {
            (Some(one), Some(two)) => Some(pattern::both(one, two)?),
            (one, two) => one.clone().or(two.clone()),
        };
        let mut conditions = self.conditions.clone();
        conditions.extend(other.conditions.iter().filter(|it| !self.conditions.contains(it)).cloned());
        Some(Self { path, conditions })
    }
}

/// What counts requests among words that hold together.
fn rate_of<'a>(words: &'a [String], section: &'a Section) -> Option<&'a str> {
    let lines = || section.lines.iter().chain(&*section.defaults);
    literals(words).into_iter().find_map(|(_, words)| {
        let [only] = words else { return words.first().map(String::as_str).filter(|it| is_rate(it)) };
        let name = only.trim_start_matches('!');
        let mut acls = lines().filter(|it| it.word(0) == "acl" && it.word(1) == name);
        acls.find_map(|it| Some(it.word(2)).filter(|it| is_rate(it)))
    })
}

/// A word of a condition, and whether it is negated.
fn literals(words: &[String]) -> Vec<(bool, &[String])> {
    let (mut found, mut at, mut negated) = (Vec::new(), 0, false);
    while at < words.len() {
        let word = &words[at];
        if word == "!" {
            negated = !negated;
            at += 1;
            continue;
        }
        let bare = word.strip_prefix('!');
        let minus = negated != bare.is_some();
        let opens = bare.unwrap_or(word) == "{";
        let end = if opens {
            words[at..].iter().position(|it| it == "}").map_or(words.len(), |it| at + it)
        } else {
            at
        };
        found.push((minus, if opens { &words[at + 1..end.max(at + 1)] } else { &words[at..=at] }));
        (at, negated) = (end + 1, false);
    }
    found
}

/// The alternatives that an ACL or `{ … }` is.
fn criteria(words: &[String], section: &Section) -> Result<Vec<Criterion>, String> {
    let named = words.len() == 1 && !words[0].contains('(');
    let name = words.first().map_or("", |it| it.trim_start_matches('!'));
    let lines: Vec<&Line> = section
        .lines
        .iter()
        .chain(&*section.defaults)
        .filter(|it| named && it.word(0) == "acl" && it.word(1) == name)
        .collect();
    if !lines.is_empty() {
        return lines.iter().map(|line| criterion(&line.words[2..])).collect();
    }
    if let Some(known) = predefined(name).filter(|_| named) {
        return Ok(vec![known]);
    }
    if named && name != "ssl_fc" {
        return Err(format!("there is no acl `{name}`"));
    }
    criterion(words).map(|it| vec![it])
}

/// The alternatives of words that hold together. What can't be said is left out of them, and told.
fn group_of(words: &[String], section: &Section) -> (Vec<Together>, Option<String>) {
    let (mut all, mut failed) = (vec![Together::default()], None);
    for (negated, words) in literals(words) {
        let found =
            criteria(words, section).and_then(|it| if negated { none_of(&it) } else { Ok(one_of(it)) });
        match found {
            Ok(alternatives) => match (Condition(all.clone())).and(&Condition(alternatives)) {
                Some(both) => all = both.0,
                None => failed = Some("it has two expressions about the path".to_owned()),
            },
            Err(why) => failed = Some(why),
        }
    }
    (all, failed)
}

/// One of the criteria: paths together in one expression, others in one condition.
fn one_of(criteria: Vec<Criterion>) -> Vec<Together> {
    let (mut paths, mut conditions) = (Vec::new(), Vec::new());
    for criterion in criteria {
        match criterion {
            Criterion::Path(path) => paths.push(path),
            Criterion::If(key, value) => conditions.push((key, value)),
            Criterion::Always(true) => return vec![Together::default()],
            Criterion::Always(false) => {}
        }
    }
    let mut all = Vec::new();
    if !paths.is_empty() {
        let path = if paths.len() == 1 {
            paths.remove(0)
        } else {
            paths.iter().map(|it| format!("(?:{it})")).collect::<Vec<_>>().join("|")
        };
        all.push(Together { path: Some(path), conditions: Vec::new() });
    }
    match conditions.len() {
        0 => {}
        1 => all.push(Together { path: None, conditions }),
        _ => {
            let each = conditions.into_iter().map(|it| Yaml::Map(vec![it])).collect();
            all.push(Together { path: None, conditions: vec![("or", Yaml::List(each))] });
        }
    }
    all
}

/// None of the criteria.
fn none_of(criteria: &[Criterion]) -> Result<Vec<Together>, String> {
    let mut conditions = Vec::new();
    for criterion in criteria {
        match criterion {
            Criterion::Path(_) => {
                return Err(
                    "a path can't be excluded by a condition: put a rule for it before this one".to_owned()
                );
            }
            Criterion::If("secure", _) => conditions.push(("secure", Yaml::plain(false))),
            Criterion::If(key, value) => conditions.push(("not", Yaml::Map(vec![(*key, value.clone())]))),
            Criterion::Always(true) => return Ok(Vec::new()),
            Criterion::Always(false) => {}
        }
    }
    Ok(vec![Together { path: None, conditions }])
}

/// `unless a b || c`: not (a and b), and not c.
fn unless(words: &[String], section: &Section) -> Result<Condition, String> {
    let mut whole = Condition::always();
    for group in words.split(|it| it == "||" || it == "or") {
        let mut either = Vec::new();
        for (negated, words) in literals(group) {
            let criteria = criteria(words, section)?;
            either.extend(if negated { one_of(criteria) } else { none_of(&criteria)? });
        }
        whole = whole.and(&Condition(either)).ok_or("it has two expressions about the path")?;
    }
    Ok(whole)
}
