//! Sessions in URLs, for clients that take no cookies: `/cart;jsessionid=ID`, as servlets write them. The parameter is taken out of the
//! path before rules see it, so that rules, route and app have the same path: else `/admin;jsessionid=x/users` would get by a rule
//! about `/admin/`, and be `/admin/users` to the app.

use crate::{
    error::ProxyError,
    http1::RequestHead,
    route::normalise::{Path, normalise},
};

const PARAMETER: &str = ";jsessionid=";

/// A request whose path names a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InUrl {
    /// The path without it, normalised.
    pub(crate) path: String,
    /// What it says: perhaps no id, or nothing.
    pub(crate) session: String,
}

impl InUrl {
    /// What the path of a normalised request names; the first if it names several, all of which go. `merges` as in
    /// [`normalise_request`](crate::route::normalise::normalise_request).
    ///
    /// # Errors
    /// Without them the path is not valid.
    pub(crate) fn of(
        head: &RequestHead,
        merges: impl FnOnce(&RequestHead) -> bool,
    ) -> Result<Option<Self>, ProxyError> {
        let Some((path, session)) = split(head.path()) else { return Ok(None) };
        let path = match normalise(&path, merges(head)).map_err(|cause| ProxyError::Bad(cause.text()))? {
            Path::Same => path,
            Path::Other(normal) => normal,
        };
        Ok(Some(Self { path, session }))
    }
}

/// The path without its parameters, and the value of the first. A value ends where the next parameter or segment begins.
fn split(path: &str) -> Option<(String, String)> {
    let (before, rest) = path.split_once(PARAMETER)?;
    let mut left = before.to_owned();
    let mut session = None;
    for piece in rest.split(PARAMETER) {
        let end = piece.find([';', '/']).unwrap_or(piece.len());
        session.get_or_insert(&piece[..end]);
        left.push_str(&piece[end..]);
    }
    Some((left, session.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::HeadLimits;
    use proptest::prelude::*;

    fn of(target: &str) -> Result<Option<(String, String)>, ProxyError> {
        let mut head = RequestHead::default();
        head.set_target(target, &HeadLimits { count: 9, bytes: 9999, target: 9999 }).unwrap();
        InUrl::of(&head, |_| true).map(|found| found.map(|it| (it.path, it.session)))
    }

    #[test]
    fn the_first_session_of_a_path_is_its_session_and_none_is_left() {
        for (path, left, session) in [
            ("/a;jsessionid=aaX", "/a", "aaX"),
            ("/a;jsessionid=aaX?b=;jsessionid=c", "/a", "aaX"),
            ("/;jsessionid=aaX", "/", "aaX"),
            ("/a;jsessionid=aaX;v=1/b", "/a;v=1/b", "aaX"),
            ("/a;v=1;jsessionid=aaX/b;jsessionid=other", "/a;v=1/b", "aaX"),
            ("/a;jsessionid=;jsessionid=aaX", "/a", ""),
            ("/a;jsessionid=/b", "/a/b", ""),
            ("/a/;jsessionid=x/b", "/a/b", "x"),
            ("/a/.;jsessionid=x/b", "/a/b", "x"),
            ("/a/b/.;jsessionid=x", "/a/b/", "x"),
        ] {
            assert_eq!(of(path).unwrap(), Some((left.to_owned(), session.to_owned())), "{path}");
        }
        for path in
            ["/", "/a", "/a;JSESSIONID=aaX", "/jsessionid=aaX", "/a%3Bjsessionid=aaX", "/a?;jsessionid=b"]
        {
            assert_eq!(of(path).unwrap(), None, "{path}");
        }
        assert_eq!(of("*").unwrap(), None);
        assert!(of("/a/..;jsessionid=x/..;jsessionid=x/b").is_err(), "it would climb above the root");
    }

    proptest! {
        #[test]
        fn nothing_of_it_is_left(path in "/(;jsessionid=|[a./;=]|jsessionid){0,20}") {
            if let Ok(Some((left, session))) = of(&path) {
                prop_assert!(left.starts_with('/') && !left.contains(PARAMETER), "{}", left);
                prop_assert!(!session.contains(['/', ';']));
                prop_assert!(normalise(&left, true).is_ok_and(|it| it == Path::Same), "{}", left);
            }
        }
    }
}
