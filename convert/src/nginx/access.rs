//! `allow` and `deny`: the first that fits decides.

use super::directive::Levels;
use crate::{
    left::Remarks,
    output::{Entries, Line, Rule},
    value::is_network,
    yaml::Yaml,
};

/// The rules that refuse what nginx does at `regexp`.
pub(super) fn rules(levels: Levels<'_>, regexp: Option<&str>, remarks: &mut Remarks) -> Vec<Line> {
    let (mut lines, mut allowed) = (Vec::new(), Vec::<String>::new());
    for directive in levels.any(&["allow", "deny"]) {
        let who = directive.argument(0);
        let refuses = directive.name == "deny";
        if who != "all" && !is_network(who) {
            let why = "`remote-addr` takes addresses and networks without bits beyond the prefix: the path is closed";
            lines.push(Line::Remark(remarks.leave(&directive.place, &directive.name, why)));
            lines.push(Line::Rule(Rule::refusal(regexp, &directive.name)));
            return lines;
        }
        if !refuses && who == "all" {
            break;
        }
        if !refuses {
            allowed.push(who.to_owned());
            continue;
        }
        let mut conditions: Entries = Vec::new();
        if who != "all" {
            conditions.push(("remote-addr", Yaml::text(who)));
        }
        if !allowed.is_empty() {
            let others = Yaml::Map(vec![("remote-addr", Yaml::texts(allowed.iter().cloned()))]);
            conditions.push(("not", others));
        }
        lines.push(Line::Rule(Rule::new("forbidden", regexp, Vec::new()).only(&conditions)));
        if who == "all" {
            break;
        }
    }
    lines
}
