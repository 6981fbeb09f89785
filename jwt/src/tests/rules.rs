//! Times, issuers, audiences, algorithms, ids and claims that are asked for.

use super::{ISSUER, NOW, check, claims, parse};
use crate::{Keys, Refused, Rules, verify};
use serde_json::{Value, json};

fn of(claims: &Value, rules: &Rules) -> Option<Refused> {
    let token = ISSUER.token(&json!({"alg": "HS256"}), claims);
    verify(token.as_bytes(), &ISSUER.keys(), rules, NOW).err()
}

#[test]
fn a_token_has_its_time() {
    let leeway = Rules { leeway_s: 60, ..Rules::default() };
    let none = Rules::default();
    for (claims, rules, expected) in [
        (json!({"sub": "ada"}), &leeway, Some(Refused::NoExpiry)),
        (json!({"exp": NOW}), &none, Some(Refused::Expired)),
        (json!({"exp": NOW + 1}), &none, None),
        (json!({"exp": NOW - 60}), &leeway, Some(Refused::Expired)),
        (json!({"exp": NOW - 59}), &leeway, None),
        (json!({"exp": NOW as f64 + 0.5}), &none, None),
        (json!({"exp": NOW as f64 - 0.5}), &none, Some(Refused::Expired)),
        (json!({"exp": 0}), &leeway, Some(Refused::Expired)),
        (json!({"exp": -1}), &leeway, Some(Refused::Expired)),
        (json!({"exp": i64::MIN}), &leeway, Some(Refused::Expired)),
        (json!({"exp": u64::MAX}), &leeway, None),
        (json!({"exp": f64::MAX}), &leeway, None),
        (json!({"exp": NOW + 1, "nbf": NOW}), &none, None),
        (json!({"exp": NOW + 9, "nbf": NOW + 1}), &none, Some(Refused::Early)),
        (json!({"exp": NOW + 999, "nbf": NOW + 60}), &leeway, None),
        (json!({"exp": NOW + 999, "nbf": NOW + 61}), &leeway, Some(Refused::Early)),
        (json!({"exp": NOW + 9, "iat": NOW}), &none, None),
        (json!({"exp": NOW + 9, "iat": NOW + 1}), &none, Some(Refused::Early)),
        (json!({"exp": NOW + 9, "iat": f64::MAX}), &none, Some(Refused::Early)),
        (json!({"exp": (NOW + 9).to_string()}), &none, Some(Refused::Malformed)),
        (json!({"exp": null}), &none, Some(Refused::Malformed)),
        (json!({"exp": [NOW + 9]}), &none, Some(Refused::Malformed)),
        (json!({"exp": NOW + 9, "nbf": "now"}), &none, Some(Refused::Malformed)),
        (json!({"exp": NOW + 9, "iat": true}), &none, Some(Refused::Malformed)),
    ] {
        assert_eq!(of(&claims, rules), expected, "{claims}");
    }
    let endless = Rules { leeway_s: u64::MAX, ..Rules::default() };
    assert_eq!(of(&json!({"exp": 1}), &endless), None);
}

#[test]
fn the_issuer_is_one_of_the_rules() {
    let rules = Rules { issuer: vec!["https://a".into(), "https://b".into()], ..Rules::default() };
    for (issuer, expected) in [
        (json!("https://a"), None),
        (json!("https://b"), None),
        (json!("https://a/"), Some(Refused::Issuer)),
        (json!("HTTPS://A"), Some(Refused::Issuer)),
        (json!(["https://a"]), Some(Refused::Issuer)),
        (Value::Null, Some(Refused::Issuer)),
    ] {
        assert_eq!(of(&json!({"exp": NOW + 9, "iss": issuer}), &rules), expected, "{issuer}");
    }
    assert_eq!(of(&claims(), &rules), Some(Refused::Issuer));
}

#[test]
fn the_audience_has_one_of_the_rules() {
    let rules = Rules { audience: vec!["shop".into(), "api".into()], ..Rules::default() };
    for (audience, expected) in [
        (json!("shop"), None),
        (json!(["other", "api"]), None),
        (json!(["other", 1, null, "api"]), None),
        (json!("shop "), Some(Refused::Audience)),
        (json!(["other"]), Some(Refused::Audience)),
        (json!([]), Some(Refused::Audience)),
        (json!([["shop"]]), Some(Refused::Audience)),
        (json!({"shop": "shop"}), Some(Refused::Audience)),
        (json!(1), Some(Refused::Audience)),
    ] {
        assert_eq!(of(&json!({"exp": NOW + 9, "aud": audience}), &rules), expected, "{audience}");
    }
    assert_eq!(of(&claims(), &rules), Some(Refused::Audience));
}

#[test]
fn claims_that_are_asked_for_must_be_there() {
    let rules = Rules { required_claims: vec!["sub".into(), "realm.roles".into()], ..Rules::default() };
    let good = json!({"exp": NOW + 9, "sub": "ada", "realm": {"roles": []}});
    assert_eq!(of(&good, &rules), None);
    for (name, value) in [("sub", Value::Null), ("realm", Value::Null), ("realm", json!({"roles": null}))] {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(of(&claims, &rules), Some(Refused::MissingClaim), "{claims}");
    }
}

#[test]
fn algorithms_of_the_rules_are_the_only_ones() {
    let rules = Rules { algorithms: vec!["RS256".parse().unwrap()], ..Rules::default() };
    let of = |algorithm: &str| {
        let token = ISSUER.token(&json!({"alg": algorithm}), &claims());
        verify(token.as_bytes(), &ISSUER.keys(), &rules, NOW).err()
    };
    assert_eq!(of("RS256"), None);
    for algorithm in ["RS384", "PS256", "ES256", "EdDSA", "HS256"] {
        assert_eq!(of(algorithm), Some(Refused::Algorithm), "{algorithm}");
    }
}

#[test]
fn an_id_chooses_the_key() {
    let unknown = ISSUER.token(&json!({"alg": "RS256", "kid": "new"}), &claims());
    assert_eq!(check(&unknown), Err(Refused::UnknownKey));
    assert_eq!(check(&ISSUER.token(&json!({"alg": "RS256", "kid": 1}), &claims())), Err(Refused::Malformed));
    // Keys of PEM text have no ids: they are tried whatever the token says.
    let pem = Keys::parse(ISSUER.pem("rsa").as_bytes()).unwrap();
    assert!(verify(unknown.as_bytes(), &pem, &Rules::default(), NOW).is_ok());
    // Of two keys with one id, each is tried.
    let mut set = ISSUER.set();
    set["keys"][0]["kid"] = "one".into();
    set["keys"][3]["kid"] = "one".into();
    for algorithm in ["RS256", "EdDSA"] {
        let token = ISSUER.token(&json!({"alg": algorithm, "kid": "one"}), &claims());
        assert!(verify(token.as_bytes(), &parse(&set), &Rules::default(), NOW).is_ok(), "{algorithm}");
    }
}

#[test]
fn nothing_is_told_of_the_claims_of_a_token_that_is_not_signed() {
    let token = ISSUER.token(&json!({"alg": "HS256"}), &json!({"exp": 1}));
    let other = Keys::secret(&[7; 64]).unwrap();
    assert_eq!(verify(token.as_bytes(), &other, &Rules::default(), NOW), Err(Refused::Signature));
    assert_eq!(check(&token), Err(Refused::Expired));
}

#[test]
fn texts_and_codes_may_stand_in_a_header() {
    let all = [
        Refused::TooLong,
        Refused::Malformed,
        Refused::Critical,
        Refused::Algorithm,
        Refused::UnknownKey,
        Refused::Signature,
        Refused::NoExpiry,
        Refused::Expired,
        Refused::Early,
        Refused::Issuer,
        Refused::Audience,
        Refused::MissingClaim,
    ];
    for refused in all {
        let text = refused.to_string();
        assert!(text.chars().all(|it| matches!(it, ' '..='~') && it != '"' && it != '\\'), "{text}");
    }
    let of = |refused: Refused| (refused.code(), refused.status());
    assert_eq!(of(Refused::TooLong), ("invalid_request", 400));
    assert_eq!(of(Refused::Expired), ("invalid_token", 401));
    assert_eq!(of(Refused::MissingClaim), ("insufficient_scope", 403));
    assert_eq!(Refused::TooLong.to_string(), "the token is longer than 8192 bytes");
}
