//! What Copal tells an app's process in its environment.

use crate::{dev::Dev, error::ServeError};
use std::path::PathBuf;

/// Where to listen, and how to reach the app API.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `PORT` or `SOCKET`.
    pub listen: Listen,
    /// `COPAL_HUB` and `COPAL_TOKEN`; `None` with `COPAL_DEV`: sessions in this process's memory.
    pub hub: Option<(PathBuf, Token)>,
    /// `COPAL_SERVER`: the server that the app runs on; `local` with `COPAL_DEV`.
    pub server: String,
    /// `COPAL_APP`: the app, whichever of its versions this is; `local` with `COPAL_DEV`.
    pub app: String,
    /// What there is in memory with `COPAL_DEV`.
    pub(crate) dev: Dev,
}

/// Where the app listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On this loopback port.
    Port(u16),
    /// On this Unix socket.
    Socket(PathBuf),
}

/// `COPAL_TOKEN`: what the app proves itself with; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub(crate) String);

impl Token {
    /// Whether a request bears it. How long that takes tells nothing of it.
    pub(crate) fn is_of(&self, headers: &http::HeaderMap) -> bool {
        let given = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let (given, expected) = (given.unwrap_or_default(), format!("Bearer {}", self.0));
        let differing = expected.bytes().zip(given).fold(0, |differing, (a, b)| differing | (a ^ b));
        given.len() == expected.len() && differing == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The port of an app that is tried without Copal.
const DEV_PORT: u16 = 8081;

/// The server and the app that are tried without Copal.
const LOCAL: &str = "local";

impl Environment {
    /// Reads this process's environment.
    ///
    /// # Errors
    /// [`ServeError::Environment`]: the process was not started by Copal, or a value is wrong.
    pub fn read() -> Result<Self, ServeError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// As with `COPAL_DEV=1`: all is in this process's memory. For an app's own tests.
    pub fn in_memory() -> Self {
        let (server, app) = (LOCAL.to_owned(), LOCAL.to_owned());
        Self { listen: Listen::Port(DEV_PORT), hub: None, server, app, dev: Dev::default() }
    }

    /// Reads an environment.
    ///
    /// # Errors
    /// See [`Environment::read`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ServeError> {
        let dev = lookup("COPAL_DEV").is_some_and(|value| value == "1");
        let wrong = |text: String| Err(ServeError::Environment(text));
        let listen = match (lookup("SOCKET"), lookup("PORT")) {
            (Some(path), _) => Listen::Socket(path.into()),
            (None, Some(port)) => match port.parse() {
                Ok(port) => Listen::Port(port),
                Err(_) => return wrong(format!("PORT is {port:?}: expected a number from 0 to 65535")),
            },
            (None, None) if dev => Listen::Port(DEV_PORT),
            (None, None) => return wrong(format!("neither PORT nor SOCKET is set{HINT}")),
        };
        let hub = match (lookup("COPAL_HUB"), lookup("COPAL_TOKEN")) {
            (Some(path), Some(token)) => Some((path.into(), Token(token))),
            (Some(_), None) => return wrong(format!("COPAL_HUB is set, but COPAL_TOKEN is not{HINT}")),
            (None, _) if dev => None,
            (None, _) => return wrong(format!("COPAL_HUB is not set{HINT}")),
        };
        let server = lookup("COPAL_SERVER").unwrap_or_else(|| LOCAL.to_owned());
        let app = lookup("COPAL_APP").unwrap_or_else(|| LOCAL.to_owned());
        Ok(Self { listen, hub, server, app, dev: Dev::default() })
    }
}

const HINT: &str = ": Copal sets it for the apps that it starts. To try this app alone, with sessions in its memory, set COPAL_DEV=1";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::from_lookup(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn under_copal() {
        let found = read(&[
            ("PORT", "8123"),
            ("COPAL_HUB", "/run/api.sock"),
            ("COPAL_TOKEN", "t"),
            ("COPAL_SERVER", "a"),
            ("COPAL_APP", "default/shop"),
        ]);
        let found = found.unwrap();
        assert_eq!(found.app, "default/shop");
        assert_eq!((found.listen, found.server.as_str()), (Listen::Port(8123), "a"));
        assert_eq!(found.hub, Some(("/run/api.sock".into(), Token("t".to_owned()))));
    }

    #[test]
    fn alone() {
        let found = read(&[("COPAL_DEV", "1")]).unwrap();
        assert_eq!((found.listen, found.hub, found.server.as_str()), (Listen::Port(DEV_PORT), None, "local"));
        let found = Environment::in_memory();
        assert_eq!((found.hub, found.server.as_str(), found.app.as_str()), (None, "local", "local"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(read(&[]).unwrap_err().contains("neither PORT nor SOCKET is set"));
        assert!(read(&[("SOCKET", "/s")]).unwrap_err().contains("COPAL_HUB is not set: Copal sets it"));
        assert!(read(&[("PORT", "1"), ("COPAL_HUB", "/h")]).unwrap_err().contains("COPAL_TOKEN"));
        assert!(read(&[("PORT", "x")]).unwrap_err().contains("PORT is \"x\""));
    }
}
