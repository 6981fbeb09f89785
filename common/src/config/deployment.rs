//! Deployed apps: whether there are any, and how their versions are used.

use super::decode::Fields;
use crate::app_tag::{AppTag, DEFAULT_HOST, PRODUCTION};
use std::{ops::RangeInclusive, time::Duration};

/// Versions of an app that a server may keep.
const KEPT: RangeInclusive<u64> = 1..=100;

/// `old-version-timeout`, unless the file says otherwise.
const OLD_VERSION_TIMEOUT: Duration = Duration::from_secs(3600);

/// So many unless the file says otherwise.
const KEEP: usize = 3;

/// What the file says of deployments as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployments {
    /// `deploy-service` (false): apps may be deployed, and those that are deployed run.
    pub enabled: bool,
    /// `stage` (production): the stage whose apps the servers run.
    pub stage: String,
    /// `keep-versions` (3): versions of each app, the one in use counted, whose files a server keeps.
    pub keep_versions: usize,
}

/// None, of the usual stage.
impl Default for Deployments {
    fn default() -> Self {
        Self { enabled: false, stage: PRODUCTION.to_owned(), keep_versions: KEEP }
    }
}

/// Reads the root's keys.
pub(super) fn decode(fields: &Fields<'_>, chosen: Option<&str>) -> Deployments {
    let own = fields.get("stage").and_then(|node| fields.context.checked(node, stage));
    Deployments {
        enabled: fields.boolean("deploy-service").unwrap_or(false),
        stage: chosen.map(str::to_owned).or(own).unwrap_or_else(|| PRODUCTION.to_owned()),
        keep_versions: fields.integer("keep-versions", KEPT).unwrap_or(KEEP),
    }
}

fn stage(text: &str) -> Result<(), String> {
    AppTag::new(text, DEFAULT_HOST, "app", None).map(drop).map_err(|cause| cause.to_string())
}

/// How several versions of an app that are deployed side by side are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versioning {
    /// `versioning: multiversion-routing`: users stay with the version in which their session has begun, for so long after a newer one
    /// has come (`old-version-timeout`, 1 h). Without it the highest version is everyone's.
    pub sessions_stay: Option<Duration>,
}

/// Reads a web-app's keys.
pub(super) fn versioning(fields: &Fields<'_>) -> Versioning {
    let timeout = fields.duration("old-version-timeout", Duration::ZERO..=Duration::from_secs(366 * 86_400));
    let routing = fields.choice("versioning", &[("multiversion-routing", true), ("highest", false)]);
    let timeout = timeout.unwrap_or(OLD_VERSION_TIMEOUT);
    Versioning { sessions_stay: routing.unwrap_or_default().then_some(timeout) }
}

/// The name of a deployed app, as a web-app has it under `deploy`.
pub(super) fn app_name(text: &str) -> Result<(), String> {
    AppTag::new(PRODUCTION, DEFAULT_HOST, text, None).map(drop).map_err(|cause| cause.to_string())
}
