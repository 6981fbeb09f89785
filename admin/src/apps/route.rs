//! What a request below `/api/v1` asks for.

use crate::{apps::archive::Upload, refusal::Refusal};
use common::app_tag::AppTag;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use std::{borrow::Cow, time::Duration};

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AppRoute {
    /// `GET /apps`.
    List,
    /// `GET /apps/TAG`, with `?after=ETAG&wait=SECONDS` when it is different.
    Show { tag: AppTag, after: Option<String>, wait: Duration },
    /// `PUT /apps/TAG`.
    Deploy(AppTag),
    /// `PUT /apps/TAG/archive?message=MSG&rolling=true&replace=true&timeout-s=SECONDS`.
    Archive(AppTag, Upload),
    /// `DELETE /apps/TAG`.
    Undeploy(AppTag),
    /// `POST /apps/TAG/start`, `/stop`.
    SetStopped(AppTag, bool),
    /// `POST /apps/TAG/restart`.
    Restart(AppTag),
    /// `POST /apps/TAG/rollback`.
    RollBack(AppTag),
    /// `POST /apps/TAG/copy`.
    Copy(AppTag),
    /// `GET /apps/TAG/log`.
    Log(AppTag),
    /// `GET /apps/TAG/diff?from=COMMIT&to=COMMIT`.
    Diff { tag: AppTag, from: String, to: String },
    /// `GET /apps/TAG/ls?path=PATH`.
    Ls { tag: AppTag, path: String },
    /// `GET /apps/TAG/cat?path=PATH`.
    Cat { tag: AppTag, path: String },
    /// `POST /objects/missing`.
    Missing,
    /// `GET /objects/room?bytes=COUNT`.
    Room(Option<u64>),
    /// `POST /objects`.
    Store,
}

impl AppRoute {
    /// Of the parts of a path below `/api/v1`.
    ///
    /// # Errors
    /// Nothing is there, or not for this method.
    pub(crate) fn of(method: &Method, parts: &[&str], uri: &Uri) -> Result<Self, Refusal> {
        let only = |expected: &Method, allowed: &'static str, route: Self| {
            let head = *method == Method::HEAD && *expected == Method::GET;
            if method == expected || head { Ok(route) } else { Err(Refusal::Method(allowed)) }
        };
        let get = |route| only(&Method::GET, "GET, HEAD", route);
        let post = |route| only(&Method::POST, "POST", route);
        let put = |route| only(&Method::PUT, "PUT", route);
        let query = |name: &str| query(uri, name);
        match parts {
            ["apps"] => get(Self::List),
            ["objects", "missing"] => post(Self::Missing),
            ["objects", "room"] => get(Self::Room(query("bytes").and_then(|it| it.parse().ok()))),
            ["objects"] => post(Self::Store),
            ["apps", stage, "webapp", host, name] => {
                let tag = tag(stage, host, name)?;
                match *method {
                    Method::PUT => Ok(Self::Deploy(tag)),
                    Method::DELETE => Ok(Self::Undeploy(tag)),
                    Method::GET | Method::HEAD => {
                        let wait = query("wait").and_then(|it| it.parse().ok()).unwrap_or(0);
                        Ok(Self::Show { tag, after: query("after"), wait: Duration::from_secs(wait) })
                    }
                    _ => Err(Refusal::Method("GET, HEAD, PUT, DELETE")),
                }
            }
            ["apps", stage, "webapp", host, name, verb] => {
                let tag = tag(stage, host, name)?;
                let path = || query("path").unwrap_or_default();
                match *verb {
                    "archive" => put(Self::Archive(tag, Upload::of(uri)?)),
                    "start" => post(Self::SetStopped(tag, false)),
                    "stop" => post(Self::SetStopped(tag, true)),
                    "restart" => post(Self::Restart(tag)),
                    "rollback" => post(Self::RollBack(tag)),
                    "copy" => post(Self::Copy(tag)),
                    "log" => get(Self::Log(tag)),
                    "ls" => get(Self::Ls { tag, path: path() }),
                    "cat" => get(Self::Cat { tag, path: path() }),
                    "diff" => {
                        let (from, to) = (query("from").unwrap_or_default(), query("to").unwrap_or_default());
                        get(Self::Diff { tag, from, to })
                    }
                    _ => Err(Refusal::NotFound),
                }
            }
            _ => Err(Refusal::NotFound),
        }
    }

    /// Whether it changes anything, or prepares a change.
    pub(crate) fn changes(&self) -> bool {
        !matches!(
            self,
            Self::List
                | Self::Show { .. }
                | Self::Log(_)
                | Self::Diff { .. }
                | Self::Ls { .. }
                | Self::Cat { .. }
        )
    }
}

fn tag(stage: &str, host: &str, name: &str) -> Result<AppTag, Refusal> {
    let text = format!("{stage}/webapp/{host}/{name}");
    AppTag::parse(&text).map_err(|cause| Refusal::Body(cause.to_string()))
}

/// All parameters of the query, percent-decoded.
///
/// # Errors
/// They are no UTF-8.
pub(crate) fn query_pairs(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(Cow::into_owned).map_err(|_| Refusal::Body("the query is not UTF-8".to_owned()))
    };
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| Ok((decoded(name)?, decoded(value)?))).collect()
}

/// A parameter of the query, percent-decoded.
fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned)
}
