//! Tests of cookies that say where a client belongs.

use super::*;
use common::config::{CookieConfig, SameSite, Secret};
use proptest::prelude::*;
use std::time::Duration;

fn inserted(name: &str) -> StickyCookie {
    StickyCookie::Inserted { name: name.to_owned(), attributes: CookieConfig::default() }
}

fn pool(cookie: &StickyCookie, servers: &[&str]) -> Stickiness {
    let ids: Vec<_> = servers.iter().map(|it| ServerId::from(*it)).collect();
    Stickiness::new(cookie, &ClusterKey::new(&Secret::from(&b"a key for tests only"[..])), &ids)
}

fn cookies(line: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push(Name::Cookie, b"cookie", line.as_bytes());
    fields
}

fn set(fields: &Fields) -> Vec<String> {
    fields.named("set-cookie").map(|it| String::from_utf8(it.to_vec()).unwrap()).collect()
}

fn answered(pool: &Stickiness, token: Option<usize>, index: usize, sets: &[&str]) -> Vec<String> {
    let mut answer = Fields::default();
    sets.iter().for_each(|it| answer.push(Name::Other, b"Set-Cookie", it.as_bytes()));
    pool.put_cookies(token, index, &mut answer, false);
    set(&answer)
}

#[test]
fn an_inserted_cookie_brings_a_client_back_on_any_web_tier() {
    let make = || pool(&inserted("SRV"), &["10.0.0.1", "10.0.0.2"]);
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
    let sticky = || inserted("SRV");
    let before = pool(&sticky(), &["10.0.0.1", "10.0.0.2"]);
    let after = pool(&sticky(), &["10.0.0.3", "10.0.0.2"]);
    let pair = |index| answered(&before, None, index, &[])[0].split(';').next().unwrap().to_owned();
    assert_eq!(after.belongs(&cookies(&pair(0))).affinity, Affinity::None);
    assert_eq!(after.belongs(&cookies(&pair(1))).token(), Some(1));
    assert_eq!(after.belongs(&cookies("SRV=AAAAAAAAAAAAAAAAAAAA")).affinity, Affinity::None);
}

#[test]
fn a_backends_own_cookie_has_a_companion() {
    let pool = pool(&StickyCookie::Session("PHPSESSID".to_owned()), &["10.0.0.1", "10.0.0.2"]);
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
    let pool = pool(&StickyCookie::None, &["10.0.0.1"]);
    assert_eq!(pool.belongs(&cookies("a=b; SRV=x")).affinity, Affinity::None);
    assert_eq!(answered(&pool, None, 0, &["a=b"]), ["a=b"]);
}

#[test]
fn an_inserted_cookie_is_secure_where_the_client_came_over_tls() {
    let pool = pool(&inserted("SRV"), &["10.0.0.1"]);
    let mut answer = Fields::default();
    pool.put_cookies(None, 0, &mut answer, true);
    assert!(set(&answer)[0].ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
}

fn pair(pool: &Stickiness, index: usize, sets: &[&str]) -> String {
    let set = answered(pool, None, index, sets).pop().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Left from former settings, or from another site of the domain: the order of cookies says nothing (RFC 6265 §4.2.2).
#[test]
fn of_several_values_the_one_that_names_a_server_counts() {
    let servers = ["10.0.0.1", "10.0.0.2"];
    let inserted = pool(&inserted("SRV"), &servers);
    let session = pool(&StickyCookie::Session("SID".to_owned()), &servers);
    let (valid, token) = (pair(&inserted, 1, &[]), pair(&session, 1, &["SID=abc"]));
    assert!(token.starts_with("SID.srv="), "{token}");
    for stale in ["AAAAAAAAAAAAAAAAAAAA", "app-1", "\"\""] {
        for line in [format!("SRV={stale}; {valid}"), format!("{valid}; SRV={stale}")] {
            assert_eq!(inserted.belongs(&cookies(&line)).token(), Some(1), "{line}");
        }
        for line in [
            format!("SID=other; SID=abc; SID.srv={stale}; {token}"),
            format!("{token}; SID.srv={stale}; SID=abc; SID=other"),
        ] {
            assert_eq!(session.belongs(&cookies(&line)).token(), Some(1), "{line}");
        }
        let mut fields = cookies(&format!("SRV={stale}"));
        fields.push(Name::Cookie, b"cookie", valid.as_bytes());
        assert_eq!(inserted.belongs(&fields).token(), Some(1), "in two fields");
    }
    let flood = format!("{}{valid}", "SRV=x; ".repeat(cookie::VALUES_MAX));
    assert_eq!(inserted.belongs(&cookies(&flood)).token(), None, "not so many that they cost something");
}

#[test]
fn an_inserted_cookie_has_the_attributes_of_the_file() {
    let attributes = CookieConfig {
        path: "/shop".to_owned(),
        domain: Some("example.com".to_owned()),
        same_site: SameSite::None,
        ..CookieConfig::default()
    };
    let file = |attributes: &CookieConfig| {
        let cookie = StickyCookie::Inserted { name: "S".to_owned(), attributes: attributes.clone() };
        pool(&cookie, &["a"])
    };
    let pool = file(&attributes);
    let mut answer = Fields::default();
    pool.put_cookies(None, 0, &mut answer, true);
    let tail = "; Path=/shop; Domain=example.com; Secure; HttpOnly; SameSite=None";
    assert!(set(&answer)[0].ends_with(tail), "{:?}", set(&answer));
    assert_eq!(answered(&pool, Some(0), 0, &[]), [""; 0]);
    // One that ends by itself is set by every answer: who is there must not lose the session in the midst of it.
    let pool = file(&CookieConfig { max_age: Some(Duration::from_secs(60)), ..attributes });
    assert!(answered(&pool, Some(0), 0, &[])[0].contains("; Max-Age=60; "));
}

proptest! {
    /// Whatever a client sends, it belongs to a backend that there is, by the very token of that backend, or to none.
    #[test]
    fn any_cookies_name_a_backend_by_its_token_or_nobody(
        line in "[ -~]{0,60}", value in "[!-+--:<-~]{1,24}", forged: bool, index in 0_usize..3,
    ) {
        for sticky in [inserted("S"), StickyCookie::Session("S".to_owned())] {
            let pool = pool(&sticky, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
            let token = match &pool {
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
                Affinity::None | Affinity::Key(_) | Affinity::Hash(_) => prop_assert_eq!(belongs.token(), None),
            }
        }
    }
}
