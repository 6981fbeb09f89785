//! Directives: `Cache-Control` (RFC 9111 §5.2, RFC 5861, RFC 8246), `Pragma` (§5.4) and fields that are for a target (RFC 9213).

use crate::{Fields, members};
use std::borrow::Cow;

/// Times beyond this are this (RFC 9111 §1.2.2).
pub const SECONDS_MAX: u32 = 1 << 31;

/// Fields for this cache, the nearest first; one that is there and valid takes the place of `Cache-Control` and `Expires`.
pub const TARGETS: [&str; 2] = ["copal-cache-control", "cdn-cache-control"];

/// All fields that count before `Cache-Control`, where they count: of 17 and of 19 bytes.
const FOR_THIS_CACHE: [&str; 3] = [TARGETS[0], TARGETS[1], SURROGATE_CONTROL];

const SURROGATE_CONTROL: &str = "surrogate-control";

/// This cache's name in `Surrogate-Control`.
const SURROGATE: &str = "copal";

/// What servers are told of it (Edge Architecture 1.0 §2.2).
pub const SURROGATE_CAPABILITY: &str = "copal=\"Surrogate/1.0\"";

/// A directive that may be about some fields alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Qualified {
    /// It is not there.
    #[default]
    No,
    /// About the whole answer.
    Whole,
    /// About these fields, in lower case.
    Fields(Vec<String>),
}

impl Qualified {
    fn add(&mut self, value: Option<&[u8]>) {
        let names = value.map(|it| String::from_utf8_lossy(it).to_ascii_lowercase());
        let names: Vec<String> = names
            .iter()
            .flat_map(|it| it.split(','))
            .map(|it| it.trim().to_owned())
            .filter(|it| !it.is_empty())
            .collect();
        match self {
            _ if names.is_empty() => *self = Self::Whole,
            Self::No => *self = Self::Fields(names),
            Self::Whole => {}
            Self::Fields(known) => known.extend(names),
        }
    }

    /// Whether it is about the whole answer.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// The fields that it is about.
    pub fn fields(&self) -> &[String] {
        if let Self::Fields(names) = self { names } else { &[] }
    }
}

/// What an answer says of its being cached. Times are in seconds; one that is no number is 0: the answer is stale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerDirectives {
    /// By a field for this cache alone: what is for all caches does not count.
    pub targeted: bool,
    /// `max-age`, the least where it stands several times.
    pub max_age: Option<u32>,
    /// `s-maxage`.
    pub s_maxage: Option<u32>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`.
    pub no_cache: Qualified,
    /// `private`.
    pub private: Qualified,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `stale-while-revalidate` (RFC 5861 §3).
    pub stale_while_revalidate: Option<u32>,
    /// `stale-if-error` (RFC 5861 §4).
    pub stale_if_error: Option<u32>,
}

impl AnswerDirectives {
    /// Those of an answer.
    pub fn of(fields: &(impl Fields + ?Sized)) -> Self {
        let (mut found, mut for_this_cache) = (Self::default(), false);
        fields.each(&mut |name, value| match name.len() {
            13 if name.eq_ignore_ascii_case(b"cache-control") => members(value).for_each(|it| found.add(it)),
            17 | 19 => {
                for_this_cache |= FOR_THIS_CACHE.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()));
            }
            _ => {}
        });
        if !for_this_cache {
            return found;
        }
        let targeted = TARGETS.into_iter().find_map(|target| Self::targeted(fields, target));
        targeted.or_else(|| Self::surrogate(fields)).unwrap_or(found)
    }

    /// Those of a field for this cache: a dictionary (RFC 8941 §3.2), which counts as a whole or not at all (RFC 9213 §2.1); an empty one is none.
    fn targeted(fields: &(impl Fields + ?Sized), target: &str) -> Option<Self> {
        let mut found = Self { targeted: true, ..Self::default() };
        let (mut there, mut valid) = (false, true);
        fields.each(&mut |name, value| {
            if name.eq_ignore_ascii_case(target.as_bytes()) {
                for it in members(value) {
                    there = true;
                    valid &= found.add_structured(it);
                }
            }
        });
        (there && valid).then_some(found)
    }

    /// Those of `Surrogate-Control`, for this cache or for any (Edge Architecture 1.0 §2.3): `max-age=60+30;copal, no-store`. What is behind a `+`
    /// is for when it is stale.
    fn surrogate(fields: &(impl Fields + ?Sized)) -> Option<Self> {
        let mut found = Self { targeted: true, ..Self::default() };
        let mut there = false;
        fields.each(&mut |name, value| {
            if !name.eq_ignore_ascii_case(SURROGATE_CONTROL.as_bytes()) {
                return;
            }
            for member in members(value) {
                let mut parts = member.splitn(2, |it| *it == b';');
                let (directive, target) = (parts.next().unwrap_or_default(), parts.next());
                if target.is_some_and(|it| it.trim_ascii() != SURROGATE.as_bytes()) {
                    continue;
                }
                let mut times = directive.splitn(2, |it| *it == b'+');
                let directive = times.next().unwrap_or_default();
                found.add(directive);
                if let Some(stale) = times.next() {
                    found.stale_while_revalidate = seconds(stale);
                }
                there |= found.max_age.is_some() || found.no_store;
            }
        });
        there.then_some(found)
    }

    /// A member of a dictionary, whose parameters say nothing; whether it is valid. The last one of a name counts.
    fn add_structured(&mut self, member: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(member) else { return false };
        let end = text.find(['=', ';']).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        let starts = key.starts_with(|it: char| it.is_ascii_lowercase() || it == '*');
        let inner =
            |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, '_' | '-' | '.' | '*');
        if !starts || !key.chars().all(inner) {
            return false;
        }
        let value = rest.strip_prefix('=').map(|it| it.split(';').next().unwrap_or_default());
        if value.is_some_and(|it| !is_bare_item(it)) {
            return false;
        }
        let is_set = |it: Option<&str>| it.is_none_or(|it| it == "?1");
        // What is no whole number is no time: ignored, as a directive of an unknown kind is.
        let seconds = |it: Option<&str>| {
            it.and_then(|it| it.parse::<i64>().ok()).map(|it| it.clamp(0, SECONDS_MAX.into()) as u32)
        };
        let whole = |set: bool| if set { Qualified::Whole } else { Qualified::No };
        match key {
            "max-age" => self.max_age = seconds(value).or(self.max_age),
            "s-maxage" => self.s_maxage = seconds(value).or(self.s_maxage),
            "stale-while-revalidate" => self.stale_while_revalidate = seconds(value),
            "stale-if-error" => self.stale_if_error = seconds(value),
            "no-store" => self.no_store = is_set(value),
            "no-cache" => self.no_cache = whole(is_set(value)),
            "private" => self.private = whole(is_set(value)),
            "public" => self.public = is_set(value),
            "must-revalidate" => self.must_revalidate = is_set(value),
            "proxy-revalidate" => self.proxy_revalidate = is_set(value),
            "must-understand" => self.must_understand = is_set(value),
            "no-transform" => self.no_transform = is_set(value),
            "immutable" => self.immutable = is_set(value),
            _ => {}
        }
        true
    }

    fn add(&mut self, member: &[u8]) {
        let (name, value) = directive(member);
        let least = |known: Option<u32>| {
            let seconds = value.as_deref().and_then(seconds).unwrap_or(0);
            Some(known.map_or(seconds, |known| known.min(seconds)))
        };
        match name.bytes() {
            b"max-age" => self.max_age = least(self.max_age),
            b"s-maxage" => self.s_maxage = least(self.s_maxage),
            b"stale-while-revalidate" => self.stale_while_revalidate = least(self.stale_while_revalidate),
            b"stale-if-error" => self.stale_if_error = least(self.stale_if_error),
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache.add(value.as_deref()),
            b"private" => self.private.add(value.as_deref()),
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"no-transform" => self.no_transform = true,
            b"immutable" => self.immutable = true,
            _ => {}
        }
    }

    /// The same as a `Cache-Control` that says it, but for whom it is for.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut say = |name: &str, value: Option<&str>| {
            let parts = [if text.is_empty() { "" } else { ", " }, name];
            parts.into_iter().for_each(|it| text.push_str(it));
            if let Some(value) = value {
                text.push('=');
                text.push_str(value);
            }
        };
        for (name, seconds) in [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.stale_while_revalidate),
            ("stale-if-error", self.stale_if_error),
        ] {
            seconds.into_iter().for_each(|it| say(name, Some(&it.to_string())));
        }
        for (name, said) in [
            ("no-store", self.no_store),
            ("public", self.public),
            ("must-revalidate", self.must_revalidate),
            ("proxy-revalidate", self.proxy_revalidate),
            ("must-understand", self.must_understand),
            ("no-transform", self.no_transform),
            ("immutable", self.immutable),
        ] {
            if said {
                say(name, None);
            }
        }
        for (name, qualified) in [("no-cache", &self.no_cache), ("private", &self.private)] {
            match qualified {
                Qualified::No => {}
                Qualified::Whole => say(name, None),
                Qualified::Fields(fields) => {
                    let fields = fields.join(", ").replace('\\', "\\\\").replace('"', "\\\"");
                    say(name, Some(&format!("\"{fields}\"")));
                }
            }
        }
        text
    }

    /// Whether it says how long the answer is fresh.
    pub fn is_explicit(&self) -> bool {
        self.max_age.is_some() || self.s_maxage.is_some()
    }

    /// Whether a stale answer may not be used, whatever else is said (RFC 9111 §4.2.4; `s-maxage` implies `proxy-revalidate`, §5.2.2.10).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some() || self.no_cache.is_whole()
    }
}

/// Whether this is an item of a structured field: a number, a string, a token, a byte sequence or a boolean.
fn is_bare_item(text: &str) -> bool {
    let mut chars = text.chars();
    match chars.next() {
        Some('"') => text.len() >= 2 && text.ends_with('"'),
        Some('?') => matches!(text, "?0" | "?1"),
        Some(':') => text.len() >= 2 && text.ends_with(':'),
        Some('-' | '0'..='9') => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
            match digits.split_once('.') {
                Some((whole, part)) => plain(whole) && plain(part) && whole.len() <= 12 && part.len() <= 3,
                None => plain(digits) && digits.len() <= 15,
            }
        }
        Some(first) => {
            (first.is_ascii_alphabetic() || first == '*')
                && text.bytes().all(|it| it.is_ascii_graphic() && !b"\"(),;<=>?@[\\]{}".contains(&it))
        }
        None => false,
    }
}

/// What a request asks of caches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`.
    pub max_age: Option<u32>,
    /// `min-fresh`.
    pub min_fresh: Option<u32>,
    /// `max-stale`; without a number, any.
    pub max_stale: Option<u32>,
    /// `no-cache`, or `Pragma: no-cache` without a `Cache-Control`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Adds the directives of a `Cache-Control`.
    pub fn add(&mut self, value: &[u8]) {
        for member in members(value) {
            let (name, value) = directive(member);
            let time = || Some(value.as_deref().and_then(seconds).unwrap_or(0));
            match name.bytes() {
                b"max-age" => self.max_age = time(),
                // What is no number asks for the most.
                b"min-fresh" => {
                    self.min_fresh = Some(value.as_deref().and_then(seconds).unwrap_or(SECONDS_MAX));
                }
                b"max-stale" => self.max_stale = if value.is_none() { Some(SECONDS_MAX) } else { time() },
                b"no-cache" => self.no_cache = true,
                b"no-store" => self.no_store = true,
                b"only-if-cached" => self.only_if_cached = true,
                _ => {}
            }
        }
    }
}

/// The longest name of a directive that is known, in bytes.
const NAME_MAX: usize = 22;

/// A name in lower case; one that is too long is none that is known.
struct LowerName([u8; NAME_MAX], usize);

impl LowerName {
    fn of(name: &[u8]) -> Self {
        let mut lower = [0; NAME_MAX];
        let Some(place) = lower.get_mut(..name.len()) else { return Self(lower, 0) };
        place.copy_from_slice(name);
        place.make_ascii_lowercase();
        Self(lower, name.len())
    }

    fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// A name, and what is behind its `=`, without quotes.
fn directive(member: &[u8]) -> (LowerName, Option<Cow<'_, [u8]>>) {
    match member.iter().position(|it| *it == b'=') {
        None => (LowerName::of(member), None),
        Some(place) => (LowerName::of(&member[..place]), Some(unquoted(&member[place + 1..]))),
    }
}

fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"") else { return value.into() };
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    let mut escaped = false;
    let kept = |it: &&u8| {
        let skip = **it == b'\\' && !escaped;
        escaped = skip;
        !skip
    };
    inner.iter().filter(kept).copied().collect()
}

/// A number of seconds (RFC 9111 §1.2.2); one that is too large is the largest.
fn seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(value).ok()?.trim_start_matches('0');
    if digits.len() > 10 {
        return Some(SECONDS_MAX);
    }
    let number = if digits.is_empty() { 0 } else { digits.parse::<u64>().ok()? };
    Some(u32::try_from(number).unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str) -> AnswerDirectives {
        AnswerDirectives::of(&[("Cache-Control", value)])
    }

    #[test]
    fn directives_are_read_in_any_case_and_quoted_or_not() {
        let it = of("Max-Age=\"60\", s-maxage=030, No-Cache=\"Set-Cookie, a\", PRIVATE, stale-if-error=1");
        assert_eq!((it.max_age, it.s_maxage, it.stale_if_error), (Some(60), Some(30), Some(1)));
        assert_eq!(it.no_cache.fields(), ["set-cookie", "a"]);
        assert!(it.private.is_whole() && it.forbids_stale());
        assert_eq!(of("a=\"max-age=3600\", max-age=1").max_age, Some(1));
        assert_eq!(of("max-age=1, max-age=1800").max_age, Some(1), "the least counts");
        for wrong in [
            "max-age='3600'",
            "max-age=3600.0",
            "max-age=-1",
            "max-age",
            "max-age=",
            "max-age=a1",
            "max-age= 3600",
        ] {
            assert_eq!(of(wrong).max_age, Some(0), "{wrong}");
        }
        assert_eq!(of("max-age =3600").max_age, None);
        for large in ["4294967296", "99999999999", "2147483649"] {
            assert_eq!(of(&format!("max-age={large}")).max_age, Some(SECONDS_MAX), "{large}");
        }
    }

    #[test]
    fn a_field_for_this_cache_counts_alone_if_it_is_valid() {
        let of =
            |cdn: &str| AnswerDirectives::of(&[("Cache-Control", "no-store"), ("CDN-Cache-Control", cdn)]);
        for valid in [
            "max-age=60",
            "max-age=60;a=b",
            "x=\"a, b\", max-age=60",
            "max-age=1, max-age=60",
            "no-store=?0, max-age=60",
        ] {
            let it = of(valid);
            assert!(it.targeted && !it.no_store && it.max_age == Some(60), "{valid}: {it:?}");
        }
        for invalid in ["", "Max-Age=60", "max-age=60, &", "max-age=6 0", "max-age='60'", "max-age=", "=1"] {
            assert!(of(invalid).no_store, "{invalid}");
        }
        // Of another type: it says nothing, and the rest of the field counts.
        assert_eq!(of("max-age=\"60\"").max_age, None);
        assert!(of("no-store").no_store);
        let both = [("CDN-Cache-Control", "max-age=1"), ("Copal-Cache-Control", "max-age=2")];
        assert_eq!(AnswerDirectives::of(&both).max_age, Some(2), "the nearest");
    }

    #[test]
    fn surrogate_control_is_for_this_cache_or_for_any() {
        let of = |surrogate: &str| {
            AnswerDirectives::of(&[("Cache-Control", "max-age=1"), ("Surrogate-Control", surrogate)])
        };
        assert_eq!((of("max-age=60").max_age, of("Max-Age=60;copal").max_age), (Some(60), Some(60)));
        assert_eq!((of("max-age=60;other").max_age, of("content=\"ESI/1.0\"").max_age), (Some(1), Some(1)));
        let stale = of("max-age=60+30");
        assert_eq!((stale.max_age, stale.stale_while_revalidate), (Some(60), Some(30)));
        assert!(of("no-store").no_store && of("max-age= 60").max_age == Some(0));
    }

    #[test]
    fn requests_ask() {
        let mut it = RequestDirectives::default();
        it.add(b"max-age=0, min-fresh=x, max-stale, no-cache, only-if-cached, No-Store");
        assert_eq!((it.max_age, it.min_fresh, it.max_stale), (Some(0), Some(SECONDS_MAX), Some(SECONDS_MAX)));
        assert!(it.no_cache && it.only_if_cached && it.no_store);
    }

    proptest! {
        /// What is said is read again as it was.
        #[test]
        fn what_is_said_is_read_again(said in "(public|no-store|max-age=[0-9]{1,4}|s-maxage=7|no-cache|no-cache=\"a, b\"|no-cache=\"x\\\\\"\"|private|private=c|immutable|must-revalidate|proxy-revalidate|no-transform|must-understand|stale-if-error=5|stale-while-revalidate=6|, ){0,8}") {
            let read = |text: &str| AnswerDirectives::of(&[("cache-control", text)]);
            let first = read(&said);
            prop_assert_eq!(read(&first.text()), first);
        }
    }
}
