//! The stylesheet, the script and the icon of the pages: the same for everybody, so nobody signs in for them, and a browser asks
//! whether they have changed.

use crate::{AnswerBody, answer, apps::record::hex};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

/// A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const ALL: [Asset; 6] = [
    Asset {
        name: "style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("../../assets/style.css"),
    },
    Asset {
        name: "script.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/script.js"),
    },
    Asset {
        name: "graphs.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/graphs.js"),
    },
    // As its authors have made it, after what they ask to be told with it.
    Asset {
        name: "uplot.js",
        content_type: "text/javascript; charset=utf-8",
        text: concat!(
            "/*\n",
            include_str!("../../assets/uplot/LICENSE"),
            "*/\n",
            include_str!("../../assets/uplot/uPlot.iife.min.js")
        ),
    },
    Asset {
        name: "uplot.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("../../assets/uplot/uPlot.min.css"),
    },
    Asset { name: "icon.svg", content_type: "image/svg+xml", text: include_str!("../../assets/icon.svg") },
];

impl Asset {
    /// Of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|it| it.name == name)
    }

    fn etag(self) -> String {
        format!("\"{}\"", hex(&Sha256::digest(self.text.as_bytes())[..16]).unwrap_or_default())
    }

    /// The file, or that the browser has it.
    pub(crate) fn answer(self, headers: &HeaderMap) -> Response<AnswerBody> {
        let etag = self.etag();
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
        let known = known.flat_map(|it| it.split(',')).any(|it| it.trim() == etag);
        let (status, text) = if known { (StatusCode::NOT_MODIFIED, "") } else { (StatusCode::OK, self.text) };
        let mut response = answer(status, self.content_type, text.to_owned());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(etag) = HeaderValue::try_from(etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_a_file_is_not_given_it_again() {
        let asset = Asset::named("style.css").unwrap();
        let first = asset.answer(&HeaderMap::new());
        let etag = first.headers()[header::ETAG].clone();
        assert_eq!(
            (first.status(), &first.headers()[header::CACHE_CONTROL]),
            (StatusCode::OK, &HeaderValue::from_static("no-cache"))
        );
        let has =
            |etag: HeaderValue| asset.answer(&HeaderMap::from_iter([(header::IF_NONE_MATCH, etag)])).status();
        assert_eq!(
            (has(etag), has("\"other\"".parse().unwrap())),
            (StatusCode::NOT_MODIFIED, StatusCode::OK)
        );
        assert_eq!(Asset::named("../lib.rs"), None);
    }

    #[test]
    fn they_are_small_and_name_no_other_place() {
        assert!(ALL.iter().map(|it| it.text.len()).sum::<usize>() < 90_000);
        for it in ALL {
            let named = ["http://www.w3.org/2000/svg", "https://github.com/leeoniya/uPlot"];
            let elsewhere = named.iter().fold(it.text.to_owned(), |text, it| text.replace(it, ""));
            assert!(!elsewhere.contains("://") && !elsewhere.contains("eval"), "{}", it.name);
        }
    }
}
