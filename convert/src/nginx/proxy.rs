//! `proxy_pass` and what belongs to it; headers of requests and answers.

use super::{
    directive::{Directive, Levels},
    upstream::{Target, Upstreams},
    variables::translated,
};
use crate::{
    backends::{NO_BACKEND, SOCKET_TLS, VERIFIED},
    header::{self, Side},
    left::{Remarks, TOO_MUCH},
    output::{Entries, Line, Rule},
    value::{host_port, milliseconds, nginx_duration},
    yaml::Yaml,
};

/// What a `proxy_pass` at a place needs to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proxy<'a> {
    pub(super) upstreams: &'a Upstreams,
    /// Whether there is a cache, which is for some locations only.
    pub(super) has_cache: bool,
}

impl Proxy<'_> {
    /// The rules to backends. `path`: the literal path of the location.
    pub(super) fn rules(
        self,
        pass: &Directive,
        levels: Levels<'_>,
        (regexp, path): (Option<&str>, Option<&str>),
        remarks: &mut Remarks,
    ) -> Vec<Line> {
        let refused = |remarks: &mut Remarks, why: &str| {
            let comment = remarks.leave(&pass.place, &pass.name, why);
            vec![Line::Remark(comment), Line::Rule(Rule::refusal(regexp, &pass.name))]
        };
        let text = pass.argument(0);
        if text.contains('$') {
            return refused(remarks, "backends are named, not made of variables: write a rule for each");
        }
        // gRPC needs no scheme.
        let plain = format!("grpc://{text}");
        let whole = if pass.name == "grpc_pass" && !text.contains("://") { plain.as_str() } else { text };
        let Some(target) = Target::of(whole) else {
            return refused(remarks, "expected `http://`, a name, and perhaps a path");
        };
        let Some(scheme) = scheme(target.scheme) else {
            return refused(remarks, "backends speak HTTP");
        };
        if target.uri.is_some_and(|uri| Some(uri) != path) {
            return refused(
                remarks,
                "the path is not changed for one backend: let the app take the whole path, or, where no other location \
                 has the new one, write `forward` and a rule for that",
            );
        }
        if !remarks.takes(self.upstreams.count(target.name)) {
            return refused(remarks, TOO_MUCH);
        }
        let Some(upstream) =
            self.upstreams.named(target.name, if scheme == "https" || scheme == "h2" { 443 } else { 80 })
        else {
            return refused(remarks, &format!("there is no such upstream, and {NO_BACKEND}"));
        };
        if matches!(scheme, "https" | "h2") && upstream.has_sockets() {
            return refused(remarks, SOCKET_TLS);
        }
        let Some(mut keys) = upstream.keys(scheme) else {
            return refused(remarks, "none of its servers could be translated");
        };
        let mut left = None;
        if matches!(scheme, "https" | "h2") {
            left = tls(pass, levels, &mut keys, remarks);
        }
        let time = |name: &str| levels.get(name).and_then(|it| nginx_duration(it.argument(0)));
        keys.extend(time("proxy_connect_timeout").map(|it| ("connect-timeout", Yaml::plain(it))));
        let waits = ["proxy_read_timeout", "proxy_send_timeout"].map(time);
        let longest = waits.into_iter().flatten().max_by_key(|it| milliseconds(it));
        keys.push(("socket-timeout", Yaml::plain(longest.unwrap_or_else(|| "60s".to_owned()))));
        if self.has_cache && levels.get("proxy_cache").is_none_or(|it| it.says("off")) {
            keys.push(("cache", Yaml::plain("off")));
        }
        if levels.get("gzip").is_some_and(|it| it.says("off")) {
            keys.push(("compression", Yaml::plain("off")));
        }
        let name = if target.name.starts_with("unix:") { "localhost" } else { target.name };
        let mut lines = request_headers(levels, name, regexp, remarks);
        lines.extend(left.map(Line::Remark));
        lines.push(Line::Rule(Rule::new("http-proxy", regexp, keys)));
        lines
    }
}

/// The scheme of backends.
fn scheme(theirs: &str) -> Option<&'static str> {
    match theirs {
        "http" => Some("http"),
        "grpc" => Some("h2c"),
        "https" => Some("https"),
        "grpcs" => Some("h2"),
        _ => None,
    }
}

/// `proxy_ssl_…`; nginx takes any certificate unless it is told not to.
pub(super) fn tls(
    pass: &Directive,
    levels: Levels<'_>,
    keys: &mut Entries,
    remarks: &mut Remarks,
) -> Option<String> {
    let said = |name: &str| levels.get(name).map(|it| it.argument(0));
    let mut entries: Entries = Vec::new();
    let verifies = said("proxy_ssl_verify") == Some("on");
    let authority = said("proxy_ssl_trusted_certificate").filter(|it| verifies && !it.is_empty());
    entries.extend(authority.map(|it| ("ca", Yaml::text(it))));
    let name = said("proxy_ssl_name").filter(|it| host_port(it, 1) == Some((Some((*it).to_owned()), 1)));
    entries.extend(name.map(|it| ("server-name", Yaml::text(it))));
    if !entries.is_empty() {
        keys.push(("tls", Yaml::Map(entries)));
    }
    (!verifies).then(|| remarks.leave(&pass.place, &pass.name, VERIFIED))
}

/// `proxy_set_header`; without one for `Host` the backend's name is it.
fn request_headers(
    levels: Levels<'_>,
    backend: &str,
    regexp: Option<&str>,
    remarks: &mut Remarks,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut host = Some(backend.to_owned());
    for directive in levels.all("proxy_set_header") {
        let (name, value) = (directive.argument(0), directive.argument(1));
        if header::is_sent_anyway(name) {
            continue;
        }
        if name.eq_ignore_ascii_case("host") {
            host = match value {
                "$proxy_host" => Some(backend.to_owned()),
                // As the client has sent it, which is so without a rule.
                "$host" | "$http_host" | "$host:$server_port" => None,
                other => Some(other.to_owned()),
            };
            continue;
        }
        let written = translated(value, 0);
        let unknown = |it: &String| {
            format!(
                "the variable `{it}` has no counterpart in headers: what a client sends there is taken away"
            )
        };
        let (value, why) = written.map_or_else(|it| (String::new(), Some(unknown(&it))), |it| (it, None));
        let checked = header::checked(Side::Request, name, &value);
        if checked.is_ok() {
            lines.push(rule("set-request-header", regexp, name, &value));
        }
        if let Some(why) = checked.err().or(why) {
            lines.push(Line::Remark(remarks.leave(&directive.place, "proxy_set_header", why)));
        }
    }
    // An upstream's name may have characters that no host has: it is not worth a word.
    lines.extend(
        host.filter(|it| header::checked(Side::Request, "Host", it).is_ok())
            .map(|it| rule("set-request-header", regexp, "Host", &it)),
    );
    lines
}

fn rule(kind: &'static str, regexp: Option<&str>, name: &str, value: &str) -> Line {
    let entries = vec![("name", Yaml::text(name)), ("value", Yaml::text(value))];
    Line::Rule(Rule::new(kind, regexp, entries))
}

/// `add_header`.
pub(super) fn answer_headers(levels: Levels<'_>, regexp: Option<&str>, remarks: &mut Remarks) -> Vec<Line> {
    let mut lines = Vec::new();
    for directive in levels.all("add_header") {
        let (name, value) = (directive.argument(0), directive.argument(1));
        let value =
            translated(value, 0).map_err(|it| format!("the variable `{it}` has no counterpart in headers"));
        let value = value.and_then(|it| header::checked(Side::Answer, name, &it).map(|()| it));
        lines.push(match value {
            Ok(value) if value.is_empty() => continue,
            Ok(value) => rule("add-header", regexp, name, &value),
            Err(why) => Line::Remark(remarks.leave(&directive.place, "add_header", why)),
        });
    }
    lines
}
