//! Tokens that somebody made who has no key of the issuer's.

use super::{ALGORITHMS, ISSUER, NOW, check, claims, sign_with_secret, url};
use crate::{Keys, Refused, Rules, TOKEN_MAX, verify};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

#[test]
fn a_token_with_one_byte_changed_is_refused() {
    let keys = ISSUER.keys();
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA", "HS256"] {
        let token = ISSUER.token(&json!({"alg": algorithm}), &claims());
        for at in 0..token.len() {
            for change in [1, 2, 0x20, 0x80] {
                let mut changed = token.clone().into_bytes();
                changed[at] ^= change;
                let found = verify(&changed, &keys, &Rules::default(), NOW);
                assert!(found.is_err(), "{algorithm}: byte {at} changed by {change}");
            }
        }
        for cut in 0..token.len() {
            assert!(check(&token[..cut]).is_err(), "{algorithm}: cut at {cut}");
        }
        for more in ["=", "A", ".", ".e30", " ", "\n"] {
            assert!(check(&format!("{token}{more}")).is_err(), "{algorithm}: {more:?} added");
        }
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let message = format!("{}.{}", url(br#"{"alg":"HS256"}"#), url(claims().to_string().as_bytes()));
    for (name, der) in ISSUER.public() {
        let pem = ISSUER.pem(name);
        let keys = Keys::parse(pem.as_bytes()).unwrap();
        let jwk = ISSUER.set()["keys"][0]["n"].to_string().into_bytes();
        let raw = ISSUER.rsa.public_key().as_ref().to_vec();
        for secret in [pem.clone().into_bytes(), pem.trim_end().as_bytes().to_vec(), der.clone(), jwk, raw] {
            let token = format!("{message}.{}", url(&sign_with_secret("HS256", &secret, message.as_bytes())));
            for algorithms in [vec![], vec!["HS256".parse().unwrap()]] {
                let rules = Rules { algorithms, ..Rules::default() };
                assert_eq!(verify(token.as_bytes(), &keys, &rules, NOW), Err(Refused::Algorithm), "{name}");
            }
        }
    }
}

#[test]
fn a_key_that_is_named_is_used_with_its_own_algorithms_alone() {
    for (algorithm, of) in ALGORITHMS {
        for (_, named) in ALGORITHMS.into_iter().filter(|(_, it)| *it != of) {
            let token = ISSUER.token(&json!({"alg": algorithm, "kid": named}), &claims());
            assert_eq!(check(&token), Err(Refused::Algorithm), "{algorithm} with {named}");
        }
    }
}

#[test]
fn none_is_refused_however_it_is_spelt() {
    let payload = url(claims().to_string().as_bytes());
    for alg in
        ["none", "None", "NONE", "nOnE", "", " none", "none ", "hs256", "HS256 ", "RS1", "ES512", "A128KW"]
    {
        let header = url(json!({"alg": alg}).to_string().as_bytes());
        for signature in ["", "AA"] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(check(&token), Err(Refused::Algorithm), "{alg:?}");
        }
        assert_eq!(check(&format!("{header}.{payload}")), Err(Refused::Malformed));
    }
    for alg in [Value::Null, json!(0), json!(["HS256"]), json!({"HS256": true})] {
        let token = ISSUER.token_of("HS256", &json!({"alg": alg}).to_string(), &claims().to_string());
        assert_eq!(check(&token), Err(Refused::Malformed), "{alg}");
    }
    assert_eq!(check(&ISSUER.token_of("HS256", "{}", &claims().to_string())), Err(Refused::Malformed));
}

#[test]
fn signatures_of_zeros_and_of_nothing_are_refused() {
    for (algorithm, id) in ALGORITHMS {
        let message = format!(
            "{}.{}",
            url(json!({"alg": algorithm, "kid": id}).to_string().as_bytes()),
            url(claims().to_string().as_bytes())
        );
        for size in [0, 1, 32, 48, 64, 96, 256, 1024] {
            let token = format!("{message}.{}", url(&vec![0; size]));
            assert_eq!(check(&token), Err(Refused::Signature), "{algorithm}, {size}");
        }
    }
}

#[test]
fn a_key_that_a_token_brings_along_is_not_used() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": url(pair.public_key().as_ref())});
    let header = json!({"alg": "EdDSA", "jwk": jwk, "jku": "https://example.com/keys", "x5c": ["AA=="]});
    let message = format!("{}.{}", url(header.to_string().as_bytes()), url(claims().to_string().as_bytes()));
    let token = format!("{message}.{}", url(pair.sign(message.as_bytes()).as_ref()));
    assert_eq!(check(&token), Err(Refused::Signature));
}

#[test]
fn extensions_that_must_be_known_are_refused() {
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), Value::Null, json!("x")] {
        let token = ISSUER.token(&json!({"alg": "HS256", "b64": true, "crit": crit}), &claims());
        assert_eq!(check(&token), Err(Refused::Critical), "{crit}");
    }
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let exp = NOW + 1;
    let good = claims().to_string();
    for header in [r#"{"alg":"HS256","alg":"HS256"}"#, r#"{"alg":"HS256","kid":"oct","k\u0069d":"oct"}"#] {
        assert_eq!(check(&ISSUER.token_of("HS256", header, &good)), Err(Refused::Malformed), "{header}");
    }
    for claims in [
        format!(r#"{{"exp":{exp},"sub":"ada","sub":"root"}}"#),
        format!(r#"{{"exp":1,"exp":{exp}}}"#),
        format!(r#"{{"exp":{exp},"\u0065xp":{exp}}}"#),
    ] {
        let token = ISSUER.token_of("HS256", r#"{"alg":"HS256"}"#, &claims);
        assert_eq!(check(&token), Err(Refused::Malformed), "{claims}");
    }
}

#[test]
fn what_is_no_object_of_json_is_refused() {
    let nested = |open: &str, close: &str| {
        format!(r#"{{"exp":{},"a":{}1{}}}"#, NOW + 1, open.repeat(900), close.repeat(900))
    };
    for claims in [
        nested("[", "]"),
        nested(r#"{"a":"#, "}"),
        "[".repeat(5000),
        format!(r#"{{"exp":{}}} {{}}"#, NOW + 1),
        r#"{"exp":1e999}"#.to_owned(),
        r#"{"exp":NaN}"#.to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        let token = ISSUER.token_of("HS256", r#"{"alg":"HS256"}"#, &claims);
        assert_eq!(check(&token), Err(Refused::Malformed), "{claims}");
    }
}

#[test]
fn what_is_not_utf_8_is_refused() {
    let message = format!("{}.{}", url(br#"{"alg":"HS256"}"#), url(b"{\"exp\":9999999999,\"sub\":\"\xff\"}"));
    let token = format!("{message}.{}", url(&ISSUER.sign("HS256", message.as_bytes())));
    assert_eq!(check(&token), Err(Refused::Malformed));
    assert_eq!(verify(b"\xff.\xff.\xff", &ISSUER.keys(), &Rules::default(), NOW), Err(Refused::Malformed));
}

#[test]
fn a_token_may_have_8_kib_and_no_more() {
    let of = |more: usize| {
        let mut claims = claims();
        claims["more"] = "x".repeat(more).into();
        ISSUER.token(&json!({"alg": "HS256"}), &claims)
    };
    let most = (0..=TOKEN_MAX).rev().find(|more| of(*more).len() <= TOKEN_MAX).unwrap();
    assert!(check(&of(most)).is_ok());
    assert_eq!(check(&of(most + 3)), Err(Refused::TooLong));
}
