//! How a client stays with a backend that knows nothing of us: the cookies of a request say where it belongs, and those of an
//! answer where the next one will. docs/balancing.md tells why it is done this way.

use super::ForeignPool;
use crate::{
    balance::{
        Affinity,
        sticky_cookie::{companion_name, put_companion, put_inserted},
        sticky_token::StickyTokens,
    },
    http1::{Fields, Name},
    sticky,
};
use cluster_port::ClusterKey;
use common::{config::ForeignSticky, id::ServerId};

/// What the clients of one pool stay by.
#[derive(Debug)]
pub(super) enum Stickiness {
    None,
    /// `session-cookie`: the backends' own cookie, and the web tier's beside it.
    Session {
        name: Box<str>,
        companion: Box<str>,
        tokens: StickyTokens,
    },
    /// `insert-cookie`: a cookie of the web tier.
    Inserted {
        name: Box<str>,
        tokens: StickyTokens,
    },
}

/// Where a request belongs, by its cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belongs<'a> {
    pub(crate) affinity: Affinity<'a>,
    /// The backend that its token names.
    token: Option<usize>,
}

impl Stickiness {
    /// The tokens depend on the cookie's name, the backends and the cluster key alone: all web tiers have the same.
    pub(super) fn new<'a>(
        sticky: &ForeignSticky,
        key: &ClusterKey,
        ids: impl IntoIterator<Item = &'a ServerId>,
    ) -> Self {
        match sticky {
            ForeignSticky::None => Self::None,
            ForeignSticky::SessionCookie(name) => Self::Session {
                companion: companion_name(name).into(),
                tokens: StickyTokens::new(key, name, ids),
                name: name.as_str().into(),
            },
            ForeignSticky::InsertCookie(name) => {
                Self::Inserted { tokens: StickyTokens::new(key, name, ids), name: name.as_str().into() }
            }
        }
    }
}

impl ForeignPool {
    /// Where a request with these fields belongs.
    pub(crate) fn belongs<'a>(&self, fields: &'a Fields) -> Belongs<'a> {
        let anywhere = Belongs::of(Affinity::None);
        match &self.stickiness {
            Stickiness::None => anywhere,
            Stickiness::Session { name, companion, tokens } => {
                let Some(key) = sticky::session(fields, name) else { return anywhere };
                let token = sticky::session(fields, companion).and_then(|it| tokens.find(it));
                let affinity = token.map_or(Affinity::Key(key), |index| Affinity::Server { index, key });
                Belongs { affinity, token }
            }
            Stickiness::Inserted { name, tokens } => {
                // One that names nobody is none: a backend that is gone leaves its clients to the strategy.
                let found = sticky::session(fields, name).and_then(|it| Some((it, tokens.find(it)?)));
                let Some((key, index)) = found else { return anywhere };
                Belongs { affinity: Affinity::Server { index, key }, token: Some(index) }
            }
        }
    }

    /// Adds the cookies to an answer that bring the client back to the backend that gave it. `token` is what the request said
    /// ([`Belongs::token`]), `secure` whether the client came over TLS.
    pub(crate) fn put_cookies(&self, token: Option<usize>, index: usize, answer: &mut Fields, secure: bool) {
        match &self.stickiness {
            Stickiness::None => {}
            Stickiness::Session { name, tokens, .. } => {
                let mut companions = Vec::new();
                for value in answer.named("set-cookie") {
                    let mut companion = Vec::new();
                    if put_companion(&mut companion, value, name, tokens.token(index)) {
                        companions.push(companion);
                    }
                }
                companions.iter().for_each(|it| answer.push(Name::Other, b"set-cookie", it));
            }
            Stickiness::Inserted { name, tokens } => {
                if token != Some(index) {
                    let mut cookie = Vec::new();
                    put_inserted(&mut cookie, name, tokens.token(index), secure);
                    answer.push(Name::Other, b"set-cookie", &cookie);
                }
            }
        }
    }
}

impl<'a> Belongs<'a> {
    /// Without a token.
    pub(crate) fn of(affinity: Affinity<'a>) -> Self {
        Self { affinity, token: None }
    }

    /// The backend that the request's token names.
    pub(crate) fn token(&self) -> Option<usize> {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{Backend, BackendProtocol, HttpProxy, Secret};
    use proptest::prelude::*;

    fn pool(sticky: ForeignSticky, hosts: &[&str]) -> ForeignPool {
        let backends = hosts.iter().map(|host| Backend {
            host: (*host).to_owned(),
            port: 80,
            protocol: BackendProtocol::Http1,
            weight: 100,
        });
        let config = HttpProxy { backends: backends.collect(), sticky, ..HttpProxy::default() };
        ForeignPool::new(
            &config,
            &ClusterKey::new(&Secret::from(&b"a key for tests only"[..])),
            &mut super::super::Left(Vec::new()),
        )
    }

    fn cookies(line: &str) -> Fields {
        let mut fields = Fields::default();
        fields.push(Name::Cookie, b"cookie", line.as_bytes());
        fields
    }

    fn set(fields: &Fields) -> Vec<String> {
        fields.named("set-cookie").map(|it| String::from_utf8(it.to_vec()).unwrap()).collect()
    }

    fn answered(pool: &ForeignPool, token: Option<usize>, index: usize, sets: &[&str]) -> Vec<String> {
        let mut answer = Fields::default();
        sets.iter().for_each(|it| answer.push(Name::Other, b"Set-Cookie", it.as_bytes()));
        pool.put_cookies(token, index, &mut answer, false);
        set(&answer)
    }

    #[test]
    fn an_inserted_cookie_brings_a_client_back_on_any_web_tier() {
        let make = || pool(ForeignSticky::InsertCookie("SRV".to_owned()), &["10.0.0.1", "10.0.0.2"]);
        let (one, two) = (make(), make());
        let sets = answered(&one, None, 1, &["a=1"]);
        assert_eq!((sets.len(), &*sets[0]), (2, "a=1"));
        let pair = sets[1].strip_suffix("; Path=/; HttpOnly; SameSite=Lax").unwrap();
        let request = cookies(&format!("a=1; {pair}"));
        let belongs = two.belongs(&request);
        assert_eq!(belongs.token(), Some(1));
        let key = pair.strip_prefix("SRV=").unwrap();
        assert_eq!(belongs.affinity, Affinity::Server { index: 1, key });
        assert_eq!(answered(&two, belongs.token(), 1, &[]), [] as [&str; 0], "it has it already");
        assert_eq!(answered(&two, belongs.token(), 0, &[]).len(), 1, "another one has answered");
    }

    #[test]
    fn a_token_of_a_backend_that_is_gone_names_nobody_and_others_keep_theirs() {
        let sticky = || ForeignSticky::InsertCookie("SRV".to_owned());
        let before = pool(sticky(), &["10.0.0.1", "10.0.0.2"]);
        let after = pool(sticky(), &["10.0.0.3", "10.0.0.2"]);
        let pair = |index| answered(&before, None, index, &[])[0].split(';').next().unwrap().to_owned();
        assert_eq!(after.belongs(&cookies(&pair(0))).affinity, Affinity::None);
        assert_eq!(after.belongs(&cookies(&pair(1))).token(), Some(1));
        assert_eq!(after.belongs(&cookies("SRV=AAAAAAAAAAAAAAAAAAAA")).affinity, Affinity::None);
    }

    #[test]
    fn a_backends_own_cookie_has_a_companion() {
        let pool = pool(ForeignSticky::SessionCookie("PHPSESSID".to_owned()), &["10.0.0.1", "10.0.0.2"]);
        let sets = answered(&pool, None, 1, &["theme=dark", "PHPSESSID=abc; Path=/shop; Secure"]);
        assert_eq!(sets.len(), 3);
        let token = sets[2].strip_prefix("PHPSESSID.srv=").unwrap();
        let token = token.strip_suffix("; Path=/shop; Secure; HttpOnly").unwrap();
        assert_eq!(answered(&pool, Some(0), 1, &["theme=dark"]), ["theme=dark"], "no session, no companion");
        let affinity = |line: &str| format!("{:?}", pool.belongs(&cookies(line)).affinity);
        assert_eq!(
            affinity(&format!("PHPSESSID=abc; PHPSESSID.srv={token}")),
            format!("{:?}", Affinity::Server { index: 1, key: "abc" })
        );
        let by_value = format!("{:?}", Affinity::Key("abc"));
        assert_eq!(affinity("PHPSESSID=abc"), by_value);
        assert_eq!(affinity("PHPSESSID.srv=guess; PHPSESSID=abc"), by_value);
        assert_eq!(affinity(&format!("PHPSESSID.srv={token}")), "None", "its session is over");
    }

    #[test]
    fn without_stickiness_cookies_mean_nothing() {
        let pool = pool(ForeignSticky::None, &["10.0.0.1"]);
        assert_eq!(pool.belongs(&cookies("a=b; SRV=x")).affinity, Affinity::None);
        assert_eq!(answered(&pool, None, 0, &["a=b"]), ["a=b"]);
    }

    #[test]
    fn an_inserted_cookie_is_secure_where_the_client_came_over_tls() {
        let pool = pool(ForeignSticky::InsertCookie("SRV".to_owned()), &["10.0.0.1"]);
        let mut answer = Fields::default();
        pool.put_cookies(None, 0, &mut answer, true);
        assert!(set(&answer)[0].ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"));
    }

    proptest! {
        /// Whatever a client sends, it belongs to a backend that there is, by the very token of that backend, or to none.
        #[test]
        fn any_cookies_name_a_backend_by_its_token_or_nobody(
            line in "[ -~]{0,60}", value in "[!-+--:<-~]{1,24}", forged: bool, index in 0_usize..3,
        ) {
            for sticky in [ForeignSticky::InsertCookie("S".to_owned()), ForeignSticky::SessionCookie("S".to_owned())] {
                let pool = pool(sticky, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
                let token = match &pool.stickiness {
                    Stickiness::None => unreachable!(),
                    Stickiness::Session { tokens, .. } | Stickiness::Inserted { tokens, .. } => tokens.token(index).to_owned(),
                };
                let said = if forged { value.clone() } else { token.clone() };
                let request = cookies(&format!("S={said}; S.srv={said}; {line}"));
                let belongs = pool.belongs(&request);
                prop_assert_eq!(belongs.token(), (said == token).then_some(index));
                match belongs.affinity {
                    Affinity::Server { index: home, .. } => prop_assert_eq!(belongs.token(), Some(home)),
                    Affinity::Session(_) => prop_assert!(false, "its ids are not ours"),
                    Affinity::None | Affinity::Key(_) => prop_assert_eq!(belongs.token(), None),
                }
            }
        }
    }
}
