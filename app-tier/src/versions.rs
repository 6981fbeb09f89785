//! Several versions of an app at one path: new users get the highest, those whose session began in an older one stay there for a while
//! (`versioning: multiversion-routing`). Which one that is says a cookie beside the session's, so that it holds on every server.

use crate::{
    app::App,
    body::{Request, Response},
    error::RequestError,
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};
use std::{sync::Arc, time::Instant};

/// The versions of one app.
#[derive(Debug)]
pub(crate) struct Versions {
    /// The name of the sessions' cookie.
    pub(crate) session_cookie: String,
    /// The highest version.
    pub(crate) highest: (String, Arc<dyn App>),
    /// The others, and until when their users stay.
    pub(crate) older: Vec<(String, Arc<dyn App>, Instant)>,
}

impl App for Versions {
    fn call<'a>(
        &'a self,
        prefix: &'a str,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, RequestError>> {
        Box::pin(async move {
            let (version, app) = self.of(request.headers());
            let mut response = app.call(prefix, request).await?;
            if self.begins_session(response.headers()) {
                let path = if prefix.is_empty() { "/" } else { prefix };
                let name = self.cookie();
                let cookie = format!("{name}={version}; Path={path}; HttpOnly; SameSite=Lax");
                if let Ok(cookie) = HeaderValue::try_from(cookie) {
                    response.headers_mut().append(header::SET_COOKIE, cookie);
                }
            }
            Ok(response)
        })
    }
}

impl Versions {
    fn cookie(&self) -> String {
        format!("{}-version", self.session_cookie)
    }

    /// The version for a request.
    fn of(&self, headers: &HeaderMap) -> (&str, &Arc<dyn App>) {
        let (version, app) = &self.highest;
        let stays = cookie(headers, &self.session_cookie).and(cookie(headers, &self.cookie()));
        let older = stays.and_then(|named| {
            self.older.iter().find(|(version, _, until)| version == named && Instant::now() < *until)
        });
        older.map_or((version, app), |(version, app, _)| (version, app))
    }

    fn begins_session(&self, headers: &HeaderMap) -> bool {
        let begins = |value: &HeaderValue| {
            let rest = value.as_bytes().strip_prefix(self.session_cookie.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"="))
        };
        headers.get_all(header::SET_COOKIE).iter().any(begins)
    }
}

/// The value of a cookie, if a request has it once or more: the first one.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{empty, full};
    use http_body_util::BodyExt;
    use std::time::Duration;

    /// Answers with its name, and begins a session when asked to.
    #[derive(Debug)]
    struct Named(&'static str);

    impl App for Named {
        fn call<'a>(&'a self, _: &'a str, request: Request) -> BoxFuture<'a, Result<Response, RequestError>> {
            let mut response = Response::new(full(self.0));
            if request.uri().path() == "/login" {
                response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static("S=a1; HttpOnly"));
            }
            Box::pin(std::future::ready(Ok(response)))
        }
    }

    async fn asked(versions: &Versions, path: &str, cookies: &str) -> (String, Option<String>) {
        let request = http::Request::get(path).header("cookie", cookies).body(empty()).unwrap();
        let response = versions.call("/shop", request).await.unwrap();
        let set =
            response.headers().get_all(header::SET_COOKIE).iter().map(|it| it.to_str().unwrap().to_owned());
        let set = set.into_iter().find(|it| it.starts_with("S-version"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (String::from_utf8(body.to_vec()).unwrap(), set)
    }

    #[tokio::test]
    async fn sessions_stay_where_they_began_until_the_time_is_over() {
        let app = |name| Arc::new(Named(name)) as Arc<dyn App>;
        let (later, before) = (Instant::now() + Duration::from_secs(3600), Instant::now());
        let versions = Versions {
            session_cookie: "S".into(),
            highest: ("1.10".into(), app("new")),
            older: vec![("1.9".into(), app("old"), later), ("1.1".into(), app("oldest"), before)],
        };
        let (body, set) = asked(&versions, "/login", "").await;
        assert_eq!(
            (body.as_str(), set.as_deref()),
            ("new", Some("S-version=1.10; Path=/shop; HttpOnly; SameSite=Lax"))
        );
        assert_eq!(asked(&versions, "/", "S=a1; S-version=1.10").await, ("new".into(), None));
        assert_eq!(asked(&versions, "/", "x=y; S=a1; S-version=1.9").await, ("old".into(), None));
        assert_eq!(asked(&versions, "/", "S-version=1.9").await.0, "new", "there is no session");
        assert_eq!(asked(&versions, "/", "S=a1; S-version=1.1").await.0, "new", "its time is over");
        assert_eq!(asked(&versions, "/", "S=a1; S-version=../etc").await.0, "new");
        let (body, set) = asked(&versions, "/login", "S=a1; S-version=1.9").await;
        assert_eq!((body.as_str(), set.is_some_and(|it| it.contains("1.9"))), ("old", true));
    }
}
