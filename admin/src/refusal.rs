//! Why a request is refused: the one place that maps it to a status and a text.

use crate::{AnswerBody, json};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::time::Duration;
use triad_client::HubError;

/// How many servers a refusal names.
const NAMED: usize = 64;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the configuration file has no `admin` `users`, so nobody may administrate: `deploy-tool password-generate` makes a line \
         for one"
    )]
    NoUsers,
    #[error("{0}")]
    SignIn(&'static str),
    #[error("wrong user or password")]
    Wrong,
    #[error("too many failed sign-ins from this address: try again in {} s", seconds(.0))]
    Slowed(Duration),
    #[error("too many sign-ins at once: try again")]
    Crowded,
    #[error("{0}: a page of another site may not administrate")]
    CrossSite(String),
    #[error(
        "the user `{user}` may not do that: it needs `operate` among its `roles` in the configuration file"
    )]
    Role { user: String },
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path takes {0} alone")]
    Method(&'static str),
    #[error("{}", unknown(id, known))]
    UnknownServer { id: String, known: Vec<String> },
    #[error("the server `{0}` has never been started: the hub does not know it yet")]
    NeverStarted(String),
    #[error(
        "`{id}` is the last server of the cluster `{cluster}` that takes requests: without it they are answered 503; repeat with \
         force to do it all the same"
    )]
    Last { id: String, cluster: String },
    #[error("{0}")]
    Hub(#[from] HubError),
    #[error("{0}; it may have been done all the same, and will be seen when the hub answers again")]
    Unsure(HubError),
}

/// As JSON.
#[derive(Debug, Serialize)]
struct Told {
    error: String,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::SignIn(_) | Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::NoUsers | Self::CrossSite(_) | Self::Role { .. } => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UnknownServer { .. } => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NeverStarted(_) | Self::Last { .. } | Self::Hub(HubError::Refused(_)) => {
                StatusCode::CONFLICT
            }
            Self::Slowed(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Crowded | Self::Hub(_) | Self::Unsure(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<AnswerBody> {
        let mut response = json(self.status(), &Told { error: self.to_string() });
        let headers = response.headers_mut();
        match self {
            Self::SignIn(_) | Self::Wrong => {
                let challenge =
                    HeaderValue::from_static("Basic realm=\"Copal administration\", charset=\"UTF-8\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::Method(allowed) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Slowed(wait) => {
                headers.insert(header::RETRY_AFTER, seconds(wait).into());
            }
            Self::Crowded
            | Self::Unsure(_)
            | Self::Hub(HubError::Unavailable { .. } | HubError::Overloaded(_)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Whole seconds, rounded up.
fn seconds(wait: &Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn unknown(id: &str, known: &[String]) -> String {
    let distance = |name: &&String| strsim::damerau_levenshtein(id, name);
    let near = known.iter().min_by_key(distance).filter(|name| distance(name) <= name.len().div_ceil(4));
    let near = near.map(|near| format!(" Did you mean `{near}`?")).unwrap_or_default();
    let more = match known.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let known = known.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("there is no server `{id}`.{near} There are {known}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_server_is_told_with_those_that_there_are() {
        let known: Vec<String> = ["app-a", "app-b"].map(str::to_owned).to_vec();
        let text = unknown("app-bb", &known);
        assert_eq!(text, "there is no server `app-bb`. Did you mean `app-b`? There are app-a, app-b");
        assert_eq!(unknown("x", &known), "there is no server `x`. There are app-a, app-b");
        let many: Vec<String> = (0..100).map(|number| format!("server-{number:03}")).collect();
        assert!(unknown("x", &many).ends_with("server-063 and 36 more"));
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds() {
        let refusal = Refusal::Slowed(Duration::from_millis(1001));
        assert!(refusal.to_string().ends_with("in 2 s"));
        let response = refusal.response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (429, &"2".parse().unwrap())
        );
    }
}
