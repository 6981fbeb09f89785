//! Whether a request that changes something comes from a page of another site: a browser sends a user's credentials along with
//! those, too (cross-site request forgery).

use crate::refusal::Refusal;
use http::{HeaderMap, HeaderName, header};

/// What a browser says of the page that a request comes from (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The host that the client asked for, when a rule has changed `Host`.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Refuses what another site's page sends. Tools such as `curl` send neither header.
///
/// # Errors
/// [`Refusal::CrossSite`].
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(site) = text(&SEC_FETCH_SITE)
        && !matches!(&*site, "same-origin" | "none")
    {
        return Err(Refusal::CrossSite(format!("Sec-Fetch-Site is {:?}", clipped(&site))));
    }
    let Some(origin) = text(&header::ORIGIN) else { return Ok(()) };
    let host = text(&X_FORWARDED_HOST).or_else(|| text(&header::HOST)).unwrap_or_default();
    let (scheme, from) = origin.split_once("://").unwrap_or(("", ""));
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let bare = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    if !from.is_empty() && bare(from) == bare(&host) {
        return Ok(());
    }
    Err(Refusal::CrossSite(format!("Origin is {:?}, and the host {:?}", clipped(&origin), clipped(&host))))
}

fn clipped(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(fields: &[(&'static str, &'static str)]) -> bool {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        check(&fields.collect::<HeaderMap>()).is_ok()
    }

    #[test]
    fn tools_and_pages_of_the_same_origin_may() {
        assert!(allowed(&[("host", "h")]));
        assert!(allowed(&[
            ("host", "h:8080"),
            ("origin", "http://H:8080"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(allowed(&[("host", "h"), ("origin", "https://h:443"), ("sec-fetch-site", "none")]));
        assert!(allowed(&[("host", "[::1]:80"), ("origin", "http://[::1]")]));
        assert!(allowed(&[("host", "inner"), ("x-forwarded-host", "h"), ("origin", "https://h")]));
    }

    #[test]
    fn pages_of_other_sites_may_not() {
        assert!(!allowed(&[("host", "h"), ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("host", "h"), ("sec-fetch-site", "same-site")]));
        assert!(!allowed(&[("host", "h"), ("origin", "https://evil.example")]));
        assert!(!allowed(&[("host", "h:8080"), ("origin", "http://h:8081")]));
        assert!(!allowed(&[("host", "h"), ("origin", "https://h.evil.example")]));
        assert!(!allowed(&[("host", "h"), ("origin", "null")]));
        assert!(!allowed(&[("host", ""), ("origin", "http://")]));
        assert!(!allowed(&[("origin", "http://h")]));
        assert!(!allowed(&[("host", "h"), ("origin", "http://h"), ("sec-fetch-site", "cross-site")]));
    }
}
