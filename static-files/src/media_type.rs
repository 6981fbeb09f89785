//! The media type of a file by its name's extension: the table of `mime_guess`, and what browsers expect where it says otherwise.

use std::{borrow::Cow, path::Path};

/// By extension without case, with `charset=utf-8` where text is meant; `application/octet-stream` for what is not known.
pub(crate) fn media_type(path: &Path) -> Cow<'static, str> {
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
    if let Some((_, known)) = FIRST.iter().find(|(it, _)| *it == extension) {
        return Cow::Borrowed(known);
    }
    match mime_guess::from_ext(&extension).first_raw() {
        Some(text) if text.starts_with("text/") => Cow::Owned(format!("{text}; charset=utf-8")),
        Some(other) => Cow::Borrowed(other),
        None => Cow::Borrowed("application/octet-stream"),
    }
}

/// What comes before the table: it lacks some, and of those that have several types it names first what no browser wants.
const FIRST: [(&str, &str); 16] = [
    ("ico", "image/x-icon"),
    ("jxl", "image/jxl"),
    // RFC 9239 §6.
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("m2ts", "video/mp2t"),
    // RFC 8216 §4.
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4s", "video/iso.segment"),
    ("map", "application/json"),
    ("mpd", "application/dash+xml"),
    // RFC 8081 §4.4.4.
    ("otf", "font/otf"),
    ("rss", "application/rss+xml"),
    // RFC 8216 §3.2.
    ("ts", "video/mp2t"),
    ("webmanifest", "application/manifest+json"),
    // RFC 8081 §4.4.5.
    ("woff", "font/woff"),
    ("xml", "application/xml"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_browsers_expect() {
        let expected = [
            ("index.html", "text/html; charset=utf-8"),
            ("a.CSS", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.js.map", "application/json"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.log", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.vtt", "text/vtt; charset=utf-8"),
            ("a.ics", "text/calendar; charset=utf-8"),
            ("a.xml", "application/xml"),
            ("a.xhtml", "application/xhtml+xml"),
            ("feed.rss", "application/rss+xml"),
            ("feed.atom", "application/atom+xml"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.jpeg", "image/jpeg"),
            ("a.webp", "image/webp"),
            ("a.avif", "image/avif"),
            ("a.jxl", "image/jxl"),
            ("favicon.ico", "image/x-icon"),
            ("a.woff", "font/woff"),
            ("a.woff2", "font/woff2"),
            ("a.ttf", "font/ttf"),
            ("a.otf", "font/otf"),
            ("list.m3u8", "application/vnd.apple.mpegurl"),
            ("part.ts", "video/mp2t"),
            ("part.m4s", "video/iso.segment"),
            ("a.mpd", "application/dash+xml"),
            ("a.mp4", "video/mp4"),
            ("a.webm", "video/webm"),
            ("a.mov", "video/quicktime"),
            ("a.mp3", "audio/mpeg"),
            ("a.ogg", "audio/ogg"),
            ("a.wav", "audio/wav"),
            ("a.flac", "audio/flac"),
            ("model.glb", "model/gltf-binary"),
            ("model.gltf", "model/gltf+json"),
            ("a.pdf", "application/pdf"),
            ("a.epub", "application/epub+zip"),
            ("a.zip", "application/zip"),
            ("a.tar", "application/x-tar"),
            ("a.gz", "application/gzip"),
            ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            ("a.unheard-of", "application/octet-stream"),
            ("Makefile", "application/octet-stream"),
        ];
        let found = expected.map(|(name, _)| (name, media_type(Path::new(name))));
        let wrong: Vec<_> = found.iter().zip(expected).filter(|(it, right)| it.1 != right.1).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
