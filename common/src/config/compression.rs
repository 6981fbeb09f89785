//! `compression`: which answers a web-tier compresses for clients that take it.

use super::{
    decode::{Context, Fields},
    keys,
    node::Node,
    quoted::quoted,
};

/// What is compressed where nothing else is said: text, and what is as compressible. Streams of events are not among it.
const TYPES: [&str; 26] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/javascript",
    "text/xml",
    "text/csv",
    "text/markdown",
    "text/calendar",
    "text/vtt",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/geo+json",
    "application/problem+json",
    "application/manifest+json",
    "application/graphql-response+json",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/x-icon",
];

/// `compression`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// `types` (text, JSON, XML, SVG, WebAssembly, fonts that are not compressed).
    pub types: Vec<MediaRange>,
    /// `min-size` (1K): the shortest body that is compressed, in bytes.
    pub min_size: u64,
    /// `encodings` (zstd, br, gzip): of those that a client takes the first is taken.
    pub encodings: Vec<Encoding>,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            types: TYPES.iter().filter_map(|it| MediaRange::of(it)).collect(),
            min_size: 1 << 10,
            encodings: Encoding::ALL.to_vec(),
        }
    }
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `zstd` (RFC 8878).
    Zstd,
    /// `br` (RFC 7932).
    Br,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Encoding {
    /// All, those first that make the most of a processor's time.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// As fields have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// A media type, or several: `text/html`, `text/*`, `*/*+json`. In lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    /// None: any.
    main: Option<String>,
    sub: SubType,
}

/// What stands behind the slash.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SubType {
    Is(String),
    /// `*`, or `*+json`: that ends so.
    Ends(String),
}

impl MediaRange {
    /// As it is written; `None`: it is no such thing.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (main, sub) = text.split_once('/')?;
        let is_token = |it: &str| {
            !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&it))
        };
        let main = if main == "*" { None } else { Some(main).filter(|it| is_token(it)).map(Some)? };
        let sub = match sub.strip_prefix('*') {
            Some("") => SubType::Ends(String::new()),
            Some(end) if end.starts_with('+') && is_token(end) => SubType::Ends(end.to_owned()),
            Some(_) => return None,
            None => SubType::Is(Some(sub).filter(|it| is_token(it))?.to_owned()),
        };
        Some(Self { main: main.map(str::to_owned), sub })
    }

    /// Whether a type without parameters, in two parts, is in it.
    pub fn has(&self, main: &[u8], sub: &[u8]) -> bool {
        let ends = |end: &[u8]| {
            sub.len().checked_sub(end.len()).is_some_and(|at| sub[at..].eq_ignore_ascii_case(end))
        };
        let sub_is_in = match &self.sub {
            SubType::Is(name) => sub.eq_ignore_ascii_case(name.as_bytes()),
            // Who waits for events would wait for an encoder: only by its own name.
            SubType::Ends(end) => ends(end.as_bytes()) && !sub.eq_ignore_ascii_case(b"event-stream"),
        };
        sub_is_in && self.main.as_ref().is_none_or(|it| main.eq_ignore_ascii_case(it.as_bytes()))
    }
}

/// Reads `compression` of a cluster; `None` if it has none.
pub(super) fn decode(cluster: &Fields<'_>) -> Option<Compression> {
    let fields = Fields::open(cluster.context, cluster.get("compression")?, &keys::COMPRESSION)?;
    let default = Compression::default();
    let types: Vec<_> =
        fields.items("types").iter().filter_map(|it| media_range(fields.context, it)).collect();
    let encodings = Encoding::ALL.map(|it| (it.name(), it));
    let mut chosen: Vec<Encoding> = Vec::new();
    for item in fields.items("encodings") {
        let Some(encoding) = fields.context.choice(item, &encodings) else { continue };
        if chosen.contains(&encoding) {
            fields.context.error(item.span, format!("`{}` is named twice in `encodings`", encoding.name()));
        }
        chosen.push(encoding);
    }
    for (key, is_empty) in [("types", types.is_empty()), ("encodings", chosen.is_empty())] {
        if is_empty && fields.get(key).is_some_and(Node::is_empty) {
            let message = format!("`{key}` names nothing: leave it out, or say `enable: false`");
            fields.context.error(fields.span(key), message);
        }
    }
    let compression = Compression {
        types: if types.is_empty() { default.types } else { types },
        min_size: fields.size("min-size", 0..=1 << 30).unwrap_or(default.min_size),
        encodings: if chosen.is_empty() { default.encodings } else { chosen },
    };
    fields.boolean("enable").unwrap_or(true).then_some(compression)
}

fn media_range(context: Context<'_>, node: &Node) -> Option<MediaRange> {
    let text = context.checked(node, |text| match MediaRange::of(text) {
        Some(_) => Ok(()),
        None => Err(format!(
            "expected a media type such as `text/html`, `text/*` or `*/*+json`, found {}",
            quoted(text)
        )),
    })?;
    MediaRange::of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_ranges_mean_themselves_or_several() {
        for (range, kind, expected) in [
            ("text/html", "text/html", true),
            ("Text/HTML", "text/HTML", true),
            ("text/html", "text/htmlx", false),
            ("text/*", "text/anything", true),
            ("text/*", "text/event-stream", false),
            ("*/*", "text/event-stream", false),
            ("text/event-stream", "text/event-stream", true),
            ("*/*+json", "application/vnd.api+json", true),
            ("application/*+json", "image/x+json", false),
            ("*/*", "image/png", true),
            ("*/*+json", "a/json", false),
        ] {
            let (main, sub) = kind.split_once('/').unwrap();
            let has = MediaRange::of(range).unwrap().has(main.as_bytes(), sub.as_bytes());
            assert_eq!(has, expected, "{range} {kind}");
        }
        for wrong in
            ["", "text", "text/", "/html", "text/html; charset=utf-8", "te xt/html", "text/*json", "t*/html"]
        {
            assert_eq!(MediaRange::of(wrong), None, "{wrong}");
        }
        assert_eq!(Compression::default().types.len(), TYPES.len());
    }
}
