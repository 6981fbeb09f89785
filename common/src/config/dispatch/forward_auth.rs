//! Reads `forward-auth`: an authority that is asked about each request.

use super::{
    super::{bounds::TIMEOUT, decode::Fields, names, quoted::quoted, rule::ForwardAuth},
    changeable, http_proxy,
};
use crate::config::HeaderEditKind;
use std::time::Duration;

/// The most headers that are taken over.
const HEADERS_MAX: usize = 32;

/// Reads the rule but for `regexp` and `if`. `None` without a good backend.
pub(super) fn decode(fields: &Fields<'_>) -> Option<ForwardAuth> {
    let context = fields.context;
    let path = fields.get("path").map(|node| context.checked(node, names::request_target));
    let mut copy_headers = Vec::new();
    let items = fields.items("copy-headers");
    if let Some(beyond) = items.get(HEADERS_MAX) {
        context.error(beyond.span, format!("at most {HEADERS_MAX} headers are taken over"));
    }
    for item in items.iter().take(HEADERS_MAX) {
        let check = |text: &str| {
            changeable(text, HeaderEditKind::SetOnRequest)?;
            match text.eq_ignore_ascii_case("host") {
                true => Err(format!("{} is not an authority's to say", quoted(text))),
                false => Ok(()),
            }
        };
        copy_headers.extend(context.checked(item, check).map(|name| name.to_ascii_lowercase()));
    }
    let timeout = fields.duration("timeout", TIMEOUT).unwrap_or(Duration::from_secs(5));
    let proxy = http_proxy::servers(fields)?;
    let path = match path {
        Some(path) => path?,
        None => "/".to_owned(),
    };
    Some(ForwardAuth { proxy, path, copy_headers, timeout })
}
