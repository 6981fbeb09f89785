//! `outlier-detection`: when a server whose requests fail more than others' is left alone, and for how long.

use super::{
    bounds::TIMEOUT,
    decode::{Context, Fields},
    keys,
    node::Node,
    units::format_duration,
};
use std::{ops::RangeInclusive, time::Duration};

/// A second is little for a share, an hour is no window any more.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// `outlier-detection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `error-rate-max` (50): the share of requests that fail, in percent, from which on a server is ejected.
    pub error_rate_max: u32,
    /// `requests-min` (20): so many in the window, or nothing is said.
    pub requests_min: u32,
    /// `window` (10 s): the requests of the last so many seconds count.
    pub window: Duration,
    /// `eject-time` (10 s): for how long, the first time. It doubles with each ejection that follows.
    pub eject_time: Duration,
    /// `eject-time-max` (5 min): up to this. A server that has been in for as long begins anew.
    pub eject_time_max: Duration,
    /// `ejected-max` (50): the share of the servers that may be out at a time, in percent; one may be in any case.
    pub ejected_max: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            error_rate_max: 50,
            requests_min: 20,
            window: Duration::from_secs(10),
            eject_time: Duration::from_secs(10),
            eject_time_max: Duration::from_secs(300),
            ejected_max: 50,
        }
    }
}

/// Reads the key; `None` without it.
pub(super) fn decode(fields: &Fields<'_>) -> Option<OutlierDetection> {
    read(fields.context, fields.get("outlier-detection")?)
}

fn read(context: Context<'_>, node: &Node) -> Option<OutlierDetection> {
    let fields = Fields::open(context, node, &keys::OUTLIER_DETECTION)?;
    let defaults = OutlierDetection::default();
    let percent = |key: &str, default| fields.integer(key, 1..=100).unwrap_or(default);
    let eject_time = fields.duration("eject-time", TIMEOUT).unwrap_or(defaults.eject_time);
    let read = OutlierDetection {
        error_rate_max: percent("error-rate-max", defaults.error_rate_max),
        requests_min: fields.integer("requests-min", 1..=1_000_000).unwrap_or(defaults.requests_min),
        window: fields.duration("window", WINDOW).unwrap_or(defaults.window),
        eject_time,
        eject_time_max: fields
            .duration("eject-time-max", TIMEOUT)
            .unwrap_or_else(|| defaults.eject_time_max.max(eject_time)),
        ejected_max: percent("ejected-max", defaults.ejected_max),
    };
    if read.eject_time > read.eject_time_max {
        let message = format!(
            "`eject-time` ({}) must not be above `eject-time-max` ({})",
            format_duration(read.eject_time),
            format_duration(read.eject_time_max)
        );
        context.error(fields.span("eject-time-max"), message);
    }
    Some(read)
}
