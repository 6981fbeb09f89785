//! An app at its place: a request in, a response out.

use crate::{
    body::{Request, Response},
    error::RequestError,
    process_app::ProcessApp,
};
use futures_util::future::BoxFuture;
use std::{fmt, sync::Arc};

/// What answers requests: static files, or a process with them before it. (In-process services and WebAssembly may follow.)
pub(crate) trait App: fmt::Debug + Send + Sync {
    /// Answers a request whose path is below `prefix`, the web-app's own path.
    fn call<'a>(&'a self, prefix: &'a str, request: Request)
    -> BoxFuture<'a, Result<Response, RequestError>>;

    /// What it is, for the status page.
    fn kind(&self) -> Kind<'_> {
        Kind::BuiltIn
    }
}

/// What an app is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// A folder of files.
    Static,
    /// Processes.
    Process(&'a ProcessApp),
    /// A part of this server.
    BuiltIn,
}

/// An app at its web-app path.
#[derive(Debug)]
pub(crate) struct Deployed {
    /// `host/path`, for people.
    pub(crate) name: String,
    /// The web-app's path, without a slash at its end: empty for the root.
    pub(crate) path: String,
    /// What answers.
    pub(crate) app: Arc<dyn App>,
}

/// What answers in place of an app that an administrator has stopped.
#[derive(Debug)]
pub(crate) struct StoppedApp(pub(crate) String);

impl App for StoppedApp {
    fn call<'a>(&'a self, _: &'a str, _: Request) -> BoxFuture<'a, Result<Response, RequestError>> {
        Box::pin(std::future::ready(Err(RequestError::AppStopped { app: self.0.clone() })))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use common::config::SessionConfig;

    #[derive(Debug)]
    struct Nothing;

    impl App for Nothing {
        fn call<'a>(&'a self, _: &'a str, _: Request) -> BoxFuture<'a, Result<Response, RequestError>> {
            Box::pin(std::future::ready(Err(RequestError::NotFound)))
        }
    }

    /// An app that answers 404.
    pub(crate) fn deployed(name: &str, path: &str) -> Arc<Deployed> {
        Arc::new(Deployed { name: name.to_owned(), path: path.to_owned(), app: Arc::new(Nothing) })
    }

    /// `session-config` with its defaults.
    pub(crate) fn session_config() -> SessionConfig {
        SessionConfig::default()
    }
}
