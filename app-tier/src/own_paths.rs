//! The paths by which this server calls an app: nobody else gets to them. Apps read paths in many ways, so whatever some app could take for one of them
//! is closed too.

use common::config::{DaemonRun, Declarations};
use percent_encoding::percent_decode_str;

/// Decoded more often than this it is no path that an app understands.
const DECODED_MAX: usize = 3;

/// An app's.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnPaths(Vec<String>);

impl OwnPaths {
    /// Those that the app declares.
    pub(crate) fn of(declared: &Declarations) -> Self {
        let daemons = declared.daemons.iter().flat_map(|daemon| match &daemon.run {
            DaemonRun::Call { start, stop } => [Some(start), stop.as_ref()],
            DaemonRun::Process(_) => [None, None],
        });
        let queues = declared.queues.iter().map(|it| &it.path);
        let jobs = declared.jobs.iter().map(|it| &it.path);
        let topics = declared.topics.iter().map(|it| &it.path);
        let steps = declared.pipelines.iter().flat_map(|it| it.steps.iter().chain(&it.on_error));
        let steps = steps.map(|it| &it.path);
        let all = daemons.flatten().chain(queues).chain(jobs).chain(topics).chain(steps);
        Self(all.map(|path| plain(path)).collect())
    }

    /// Whether a request for `path`, of an app that is mounted at `prefix`, is for one of them.
    pub(crate) fn has(&self, prefix: &str, path: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        // Some look no further than a parameter, or a NUL; some look past a suffix such as `.json`.
        let cut = decoded(path).split([';', '\0', '?', '#']).next().unwrap_or_default().to_owned();
        let read = [path, &cut].into_iter().flat_map(|path| [Some(path), path.strip_prefix(prefix)]);
        read.flatten().map(plain).any(|read| self.0.iter().any(|own| is_for(own, &read)))
    }
}

/// Whether some app could take `read` for `own`: as it is, with something below it, or with a suffix to a segment.
fn is_for(own: &str, read: &str) -> bool {
    let Some(rest) = read.strip_prefix(own) else { return false };
    own.is_empty() && rest.is_empty() || !own.is_empty() && (rest.is_empty() || rest.starts_with(['/', '.']))
}

fn decoded(path: &str) -> String {
    let mut decoded = path.to_owned();
    for _ in 0..DECODED_MAX {
        let next = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
        if next == decoded {
            break;
        }
        decoded = next;
    }
    decoded
}

/// A path without what some servers look past: escapes, parameters, empty and dotted segments, capitals.
fn plain(path: &str) -> String {
    let decoded = decoded(path.split(['?', '#']).next().unwrap_or_default());
    let mut segments: Vec<String> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment.split([';', '\0', '?', '#']).next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment.to_lowercase()),
        }
    }
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_app_could_take_for_them_is_closed() {
        let own = OwnPaths(vec![plain("/d/Start")]);
        for path in [
            "/d/Start",
            "/d/start",
            "//d//start/",
            "/d/%73tart",
            "/d/%2573tart",
            "/d/start;x=1",
            "/d;a/start",
            "/x/../d/start",
            "/d/./start",
            "/d\\start",
            "/d/start%00",
            "/d/start%3fx",
            "/D/START",
            "/d/start%20",
            "/shop/d/start",
            "/shop//d/start",
            "/d/start.json",
            "/d/start/x",
            "/d/start.json/x",
            "/d/start.",
            "/d/start%00/x",
            "/d/start;/x",
            "/shop/d/start.json;x/y",
        ] {
            assert!(own.has("/shop", path), "{path}");
        }
        for path in ["/d", "/d/starts", "/start", "/other/d/start", "/"] {
            assert!(!own.has("/shop", path), "{path}");
        }
        assert!(!OwnPaths::default().has("", "/"));
    }
}
