//! An app that is a process: static files first, if it has any, then the process with the request's session.

use crate::{
    app::{App, Kind},
    body::{Request, Response, empty},
    duties::Duties,
    error::RequestError,
    process::Processes,
    proxy::{
        Answer, Backend, HUB_AGE, REQUEST, SESSION_ID, SESSION_LINK, SESSION_URL, end_to_end, without_own,
    },
    session::{Finished, Sessions, Visit},
    static_files::StaticFiles,
    upgrade::{AppSide, announce, has_token, wanted},
};
use common::hub_age;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::BodyExt;
use std::sync::Arc;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where an app is, if not at the root.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// An app with processes.
#[derive(Debug)]
pub(crate) struct ProcessApp {
    pub(crate) statics: Option<StaticFiles>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) duties: Duties,
}

impl App for ProcessApp {
    fn call<'a>(
        &'a self,
        prefix: &'a str,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, RequestError>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if let Some(statics) = &self.statics
                && let Some(response) = statics.find(prefix, &parts).await?
            {
                return Ok(response);
            }
            // After the last wait: an app may have declared its paths meanwhile.
            if self.duties.has_path(prefix, parts.uri.path()) {
                return Err(RequestError::NotFound);
            }
            self.forward(prefix, Request::from_parts(parts, body)).await
        })
    }

    fn kind(&self) -> Kind<'_> {
        Kind::Process(self)
    }
}

impl ProcessApp {
    /// This version is in use from now on: what it runs beside requests begins.
    pub(crate) fn begin(&self) {
        self.duties.begin();
    }

    /// The same ends, in order.
    pub(crate) async fn end(&self) {
        self.duties.end().await;
    }

    async fn forward(&self, prefix: &str, mut request: Request) -> Result<Response, RequestError> {
        let backend = self.processes.pick()?;
        below(prefix, &mut request);
        let wanted = wanted(&request);
        let headers = request.headers_mut();
        let in_url = headers.remove(SESSION_URL);
        let cookie = self.sessions.named_in_cookie(headers).await;
        let named = match &in_url {
            // A cookie wins over the URL.
            Some(named) if cookie.is_none() => self.sessions.named_in_url(headers, named).await,
            _ => None,
        };
        let guard = Visit::begin(&self.sessions, headers, cookie, named, is_secure(headers));
        let (trailers, chunked) =
            (has_token(headers, &header::TE, "trailers"), headers.contains_key(header::TRANSFER_ENCODING));
        end_to_end(headers);
        without_own(headers);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if chunked {
            // Said outright: hyper would send a GET's body of unknown length as none.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(protocol) = wanted.clone() {
            announce(headers, protocol);
        }
        headers.insert(SESSION_ID, name(guard.session_id()));
        headers.insert(REQUEST, name(&guard.handle()));
        if in_url.is_some() && !guard.came_by_cookie() {
            let link = format!(";jsessionid={}", guard.session_id());
            headers
                .insert(SESSION_LINK, HeaderValue::try_from(link).expect("session ids are valid in headers"));
        }
        let asked = ask(guard.visit(), &backend, request).await;
        let (mut response, protocol) = asked.map_err(|cause| match guard.visit().moved_cookie() {
            Some(cookie) => RequestError::Moved { cookie, cause: Box::new(cause) },
            None => cause,
        })?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // An app must not switch unasked, nor to what it does not name.
            let Some(protocol) = protocol.filter(|_| wanted.is_some()) else {
                return Err(backend.failed("it switched protocols unasked"));
            };
            announce(response.headers_mut(), protocol);
            let app = hyper::upgrade::on(&mut response);
            let (mut head, body) = response.into_parts();
            // Until the tunnel ends the app may call for the session, and the process has a request in flight.
            head.extensions.insert(AppSide::new(app, Box::new((guard, body))));
            return Ok(Response::from_parts(head, empty()));
        }
        response.body_mut().on_end(Box::new(guard));
        Ok(response.map(BodyExt::boxed_unsync))
    }
}

/// An app need not know where it is: it sees the path below its own, and that in a header. A client's own such header is dropped by the web-tier.
fn below(prefix: &str, request: &mut Request) {
    let Some(own) = HeaderValue::from_str(prefix).ok().filter(|it| !it.is_empty()) else { return };
    let asked = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let Some(rest) = asked.strip_prefix(prefix) else { return };
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    if let Ok(rest) = rest.parse::<Uri>() {
        *request.uri_mut() = rest;
        request.headers_mut().insert(FORWARDED_PREFIX, own);
    }
}

/// The app's answer with what its head says of the session, and the protocol that it names for an upgrade.
async fn ask(
    visit: &Visit,
    backend: &Arc<Backend>,
    request: Request,
) -> Result<(http::Response<Answer>, Option<HeaderValue>), RequestError> {
    visit.assure().await.map_err(RequestError::CutOff)?;
    let mut response = backend.send(request).await?;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    end_to_end(response.headers_mut());
    let Finished { cookie, alone } = visit.finish().await?;
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    if let Some(age) = alone {
        response.headers_mut().insert(HUB_AGE, name(hub_age::format(age).as_str()));
    }
    Ok((response, protocol))
}

/// By the web-tier's word: on this connection it is believed.
fn is_secure(headers: &HeaderMap) -> bool {
    headers.get(FORWARDED_PROTO).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"))
}

fn name(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).expect("session ids, handles and ages are of letters, digits, `_` and `-`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_sees_what_is_below_its_path() {
        let seen = |prefix: &str, asked: &str| {
            let mut request = Request::new(empty());
            *request.uri_mut() = asked.parse().unwrap();
            below(prefix, &mut request);
            let own = request.headers().get(FORWARDED_PREFIX).map(|it| it.to_str().unwrap().to_owned());
            (request.uri().to_string(), own)
        };
        for (prefix, asked, path) in [
            ("/shop", "/shop/a%2Fb?x=/shop/", "/a%2Fb?x=/shop/"),
            ("/shop", "/shop/", "/"),
            ("/shop", "/shop", "/"),
            ("/shop", "/shop?x", "/?x"),
            ("/shop", "/shop//a", "//a"),
        ] {
            assert_eq!(seen(prefix, asked), (path.to_owned(), Some(prefix.to_owned())), "{asked}");
        }
        assert_eq!(seen("", "/a?b"), ("/a?b".to_owned(), None));
    }
}
