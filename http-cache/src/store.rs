//! Whether an answer may be stored (RFC 9111 §3), for how long it is fresh, and which of its fields are left out (§3.1).

use crate::{
    Fields,
    directives::AnswerDirectives,
    freshness::{Dates, Heuristic, Times, lifetime},
    tags::tags,
    vary::Vary,
};

/// What the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRules {
    /// What is fresh though its server does not say so.
    pub heuristic: Option<Heuristic>,
    /// Seconds for which an answer is fresh that has a validator, and of which its server says nothing.
    pub default_lifetime: Option<u32>,
    /// The longest time that an error (400 to 599) is fresh, in seconds.
    pub error_max: u32,
    /// Answers that set cookies are stored with them.
    pub set_cookie: bool,
    /// An answer that varies is for one client alone (Resin's `rewrite-vary-as-private`).
    pub vary_is_private: bool,
}

/// What of the request counts for its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// It has `Authorization`, or a session: its answer is for one user, unless that is said to be otherwise.
    pub of_a_user: bool,
    /// `Cache-Control: no-store`.
    pub no_store: bool,
}

/// An answer that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storable {
    /// What it says.
    pub directives: AnswerDirectives,
    /// How old it was when it came, in seconds.
    pub initial_age: u64,
    /// How long it is fresh, in seconds from when it was made.
    pub lifetime: u64,
    /// Which fields of requests it depends on.
    pub vary: Vary,
    /// Whether it can be asked of its server whether it is still so.
    pub has_validator: bool,
    /// The names by which it can be purged.
    pub tags: Box<[Box<str>]>,
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// It says so.
    NoStore,
    /// The request says so.
    RequestNoStore,
    /// It is for one client.
    Private,
    /// It is for a user, and does not say that others may have it.
    User,
    /// It sets a cookie.
    SetCookie,
    /// It depends on more than a request's fields, or on too many.
    Vary,
    /// It has more or longer surrogate keys than are kept: by some of them it could not be purged.
    Tags,
    /// Its status is not one that is stored.
    Status,
    /// It does not say how long it is fresh.
    NoLifetime,
    /// It is stale already, and nothing could make it fresh again.
    Stale,
}

impl WhyNot {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoStore,
        Self::RequestNoStore,
        Self::Private,
        Self::User,
        Self::SetCookie,
        Self::Vary,
        Self::Tags,
        Self::Status,
        Self::NoLifetime,
        Self::Stale,
    ];

    /// Whether it is so whoever asks, and not of this request.
    pub fn is_of_the_answer(self) -> bool {
        !matches!(self, Self::RequestNoStore | Self::User | Self::Status)
    }

    /// As operators read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::RequestNoStore => "the request has no-store",
            Self::Private => "private",
            Self::User => "of a user (Authorization or a session), and neither public nor s-maxage",
            Self::SetCookie => "sets a cookie",
            Self::Vary => "varies by too much",
            Self::Tags => "has too many surrogate keys, or too long ones",
            Self::Status => "its status is not stored",
            Self::NoLifetime => "does not say how long it is fresh",
            Self::Stale => "is stale when it comes",
        }
    }
}

/// Statuses whose meaning this cache knows (RFC 9110 §15), as far as they can be stored.
const UNDERSTOOD: [u16; 20] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 500, 501, 502, 503, 504, 226];

/// Those that may be stored without a word on how long they are fresh (RFC 9110 §15.1).
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// What no answer is stored with: it is a part, it is about a request's fields that no key has (an attacker's may be among them), or it is
/// no final answer.
fn is_never_stored(status: u16) -> bool {
    matches!(status, 100..200 | 206 | 304 | 400..=403 | 406..=409 | 411..=413 | 415..=418 | 421..=431 | 505..=511)
}

impl Storable {
    /// Looks at the answer to a `GET`.
    ///
    /// # Errors
    /// Why it is not to be stored.
    pub fn of(
        asked: Asked,
        status: u16,
        fields: &(impl Fields + ?Sized),
        times: Times,
        rules: &StoreRules,
    ) -> Result<Self, WhyNot> {
        let directives = AnswerDirectives::of(fields);
        let understood = UNDERSTOOD.contains(&status);
        // `must-understand` is for caches that know it: to these it says that `no-store` is for the others (RFC 9111 §5.2.2.3).
        if directives.must_understand && !understood {
            return Err(WhyNot::Status);
        }
        if directives.no_store && !directives.must_understand {
            return Err(WhyNot::NoStore);
        }
        if asked.no_store {
            return Err(WhyNot::RequestNoStore);
        }
        if directives.private.is_whole() {
            return Err(WhyNot::Private);
        }
        if is_never_stored(status) {
            return Err(WhyNot::Status);
        }
        let shared = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
        if asked.of_a_user && !shared {
            return Err(WhyNot::User);
        }
        let found = Found::of(fields);
        let cookie_left_out = directives
            .no_cache
            .fields()
            .iter()
            .chain(directives.private.fields())
            .any(|it| it == "set-cookie");
        if found.sets_cookie && !rules.set_cookie && !cookie_left_out {
            return Err(WhyNot::SetCookie);
        }
        let vary = Vary::of(fields).ok_or(WhyNot::Vary)?;
        if rules.vary_is_private && !vary.is_encoding_alone() {
            return Err(WhyNot::Private);
        }
        let tags = tags(fields).ok_or(WhyNot::Tags)?;
        let dates = Dates::of(fields);
        let may_guess = HEURISTIC.contains(&status) || directives.public;
        let guessed = rules.default_lifetime.filter(|_| found.has_validator).map(u64::from);
        let said = lifetime(&directives, &dates, times, rules.heuristic.filter(|_| may_guess));
        let Some(mut fresh) =
            said.or(guessed.filter(|_| may_guess)).or((found.has_validator && may_guess).then_some(0))
        else {
            return Err(WhyNot::NoLifetime);
        };
        if status >= 400 {
            fresh = fresh.min(rules.error_max.into());
        }
        let initial_age = dates.initial_age(times);
        let usable_when_stale = found.has_validator
            || directives.stale_while_revalidate.is_some_and(|it| it > 0)
            || directives.stale_if_error.is_some_and(|it| it > 0);
        if (fresh <= initial_age || directives.no_cache.is_whole()) && !usable_when_stale {
            return Err(WhyNot::Stale);
        }
        Ok(Self { directives, initial_age, lifetime: fresh, vary, has_validator: found.has_validator, tags })
    }

    /// Whether a field of the answer is stored: not those of one connection (the caller has taken away what `Connection` names), nor those that
    /// the answer keeps for itself, nor `Age`, which is told anew each time.
    pub fn keeps(&self, name: &[u8]) -> bool {
        // By their lengths, as this is asked of each field.
        let never: &[&str] = match name.len() {
            2 => &["te"],
            3 => &["age"],
            7 => &["upgrade", "trailer"],
            10 => &["connection", "keep-alive"],
            12 => &["cache-status"],
            14 => &["content-length"],
            16 => &["proxy-connection"],
            17 => &["transfer-encoding", "surrogate-control"],
            18 => &["proxy-authenticate"],
            19 => &["proxy-authorization"],
            25 => &["proxy-authentication-info"],
            _ => &[],
        };
        !never.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes())) && !self.is_for_one(name)
    }

    /// Whether a field is for the client alone who has asked (`no-cache` or `private` name it).
    pub fn is_for_one(&self, name: &[u8]) -> bool {
        let AnswerDirectives { no_cache, private, .. } = &self.directives;
        let names = |of: &[String]| of.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()));
        names(no_cache.fields()) || names(private.fields())
    }
}

/// What is looked for in an answer besides.
#[derive(Debug, Default)]
struct Found {
    sets_cookie: bool,
    has_validator: bool,
}

impl Found {
    fn of(fields: &(impl Fields + ?Sized)) -> Self {
        let mut found = Self::default();
        fields.each(&mut |name, value| match name.len() {
            4 if name.eq_ignore_ascii_case(b"etag") => found.has_validator = true,
            10 | 11 if name[..10].eq_ignore_ascii_case(b"set-cookie") => found.sets_cookie = true,
            13 if name.eq_ignore_ascii_case(b"last-modified") => {
                found.has_validator |= crate::date(value).is_some();
            }
            _ => {}
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Times = Times { asked: 1_700_000_000, answered: 1_700_000_000 };
    const RULES: StoreRules = StoreRules {
        heuristic: None,
        default_lifetime: None,
        error_max: 10,
        set_cookie: false,
        vary_is_private: false,
    };

    fn of(status: u16, fields: &[(&str, &str)]) -> Result<Storable, WhyNot> {
        Storable::of(Asked::default(), status, fields, NOW, &RULES)
    }

    fn of_control(value: &str) -> Result<Storable, WhyNot> {
        of(200, &[("Cache-Control", value)])
    }

    #[test]
    fn what_is_said_to_be_fresh_is_stored_and_nothing_else_by_a_guess() {
        assert_eq!(of_control("max-age=60").map(|it| it.lifetime), Ok(60));
        assert_eq!(of(200, &[]), Err(WhyNot::NoLifetime));
        assert_eq!(of(200, &[("Content-Type", "image/png")]), Err(WhyNot::NoLifetime), "no guess by a type");
        assert_eq!(of(200, &[("ETag", "\"a\"")]).map(|it| it.lifetime), Ok(0), "to be asked of its server");
        assert_eq!(of(599, &[("ETag", "\"a\"")]), Err(WhyNot::NoLifetime));
        assert_eq!(of_control("max-age=0"), Err(WhyNot::Stale));
        assert_eq!(of_control("max-age=60, no-cache"), Err(WhyNot::Stale));
        assert!(of_control("max-age=0, stale-while-revalidate=5").is_ok());
        let rules = StoreRules { default_lifetime: Some(9), ..RULES };
        let by_mapping = |fields: &[(&str, &str)]| {
            Storable::of(Asked::default(), 200, fields, NOW, &rules).map(|it| it.lifetime)
        };
        assert_eq!(by_mapping(&[("ETag", "\"a\"")]), Ok(9));
        assert_eq!(by_mapping(&[]), Err(WhyNot::NoLifetime), "for answers with a validator alone");
        assert_eq!(by_mapping(&[("ETag", "\"a\""), ("Cache-Control", "max-age=1")]), Ok(1));
    }

    #[test]
    fn what_is_for_one_client_is_not_stored() {
        assert_eq!(of_control("private, max-age=60"), Err(WhyNot::Private));
        assert_eq!(of_control("no-store, max-age=60"), Err(WhyNot::NoStore));
        assert_eq!(
            of(200, &[("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")]),
            Err(WhyNot::SetCookie)
        );
        assert_eq!(
            of(200, &[("Cache-Control", "max-age=60"), ("Set-Cookie2", "a=b")]),
            Err(WhyNot::SetCookie)
        );
        let partly =
            of(200, &[("Cache-Control", "max-age=60, private=\"Set-Cookie\""), ("Set-Cookie", "a=b")])
                .unwrap();
        for never in [
            "Age",
            "Connection",
            "Keep-Alive",
            "TE",
            "Transfer-Encoding",
            "Upgrade",
            "Proxy-Connection",
            "Proxy-Authenticate",
            "Proxy-Authentication-Info",
            "Proxy-Authorization",
            "Content-Length",
            "Cache-Status",
            "Surrogate-Control",
            "Trailer",
        ] {
            assert!(!partly.keeps(never.as_bytes()), "{never}");
        }
        assert!(!partly.keeps(b"Set-Cookie") && partly.keeps(b"etag") && !partly.keeps(b"AGE"));
        let of_a_user = |value: &str| {
            let asked = Asked { of_a_user: true, no_store: false };
            Storable::of(asked, 200, &[("Cache-Control", value)], NOW, &RULES).err()
        };
        assert_eq!(of_a_user("max-age=60"), Some(WhyNot::User));
        for shared in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
            assert_eq!(of_a_user(shared), None, "{shared}");
        }
        assert_eq!(of(200, &[("Cache-Control", "max-age=60"), ("Vary", "*")]), Err(WhyNot::Vary));
    }

    #[test]
    fn errors_are_fresh_for_a_short_time_and_those_that_a_field_can_provoke_never() {
        for status in [404, 410, 500, 502, 503, 504, 599] {
            assert_eq!(
                of(status, &[("Cache-Control", "max-age=3600")]).map(|it| it.lifetime),
                Ok(10),
                "{status}"
            );
        }
        for status in [100, 206, 304, 400, 401, 413, 416, 429, 431, 505] {
            assert_eq!(
                of(status, &[("Cache-Control", "max-age=3600, public")]),
                Err(WhyNot::Status),
                "{status}"
            );
        }
        assert_eq!(of(599, &[("Cache-Control", "max-age=3600, must-understand")]), Err(WhyNot::Status));
        assert!(of(200, &[("Cache-Control", "max-age=3600, no-store, must-understand")]).is_ok());
        assert_eq!(of(302, &[("Cache-Control", "max-age=3600")]).map(|it| it.lifetime), Ok(3600));
    }
}
