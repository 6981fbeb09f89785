//! Whatever comes in, nothing panics, and what nobody signed is not believed.

use super::{ISSUER, NOW, check, url};
use crate::{Keys, Rules, TEXT_MAX, verify};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Values of JSON, some levels deep.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c.]{0,2}", inner), 0..4)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_token_panics(token in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "[A-Za-z0-9_.-]{0,300}".prop_map(String::into_bytes),
    ]) {
        prop_assert!(verify(&token, &ISSUER.keys(), &Rules::default(), NOW).is_err());
    }

    #[test]
    fn no_header_and_no_claims_panic(header in value(), payload in value(), alg in "HS256|RS256|ES256|EdDSA|none") {
        let mut header = header;
        if let Some(header) = header.as_object_mut() {
            header.insert("alg".to_owned(), alg.into());
        }
        let token = format!("{}.{}.AAAA", url(header.to_string().as_bytes()), url(payload.to_string().as_bytes()));
        prop_assert!(check(&token).is_err());
    }

    #[test]
    fn no_signed_claims_panic_and_their_text_fits_a_header(it in value(), time in value(), name in "[a-c.]{0,5}") {
        let claims = json!({"exp": NOW + 9, "a": it, "nbf": 0, "aud": time});
        let rules = Rules { audience: vec![String::new()], ..Rules::default() };
        let token = ISSUER.token(&json!({"alg": "HS256"}), &claims);
        let _ = verify(token.as_bytes(), &ISSUER.keys(), &rules, NOW);
        let timed = ISSUER.token(&json!({"alg": "HS256"}), &json!({"exp": time}));
        let _ = check(&timed);
        if let Ok(claims) = check(&token) {
            let text = claims.text(&name).unwrap_or_default();
            prop_assert!(text.len() <= TEXT_MAX && !text.contains(char::is_control));
        }
    }

    #[test]
    fn no_keys_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), keys in value(), label in "PUBLIC KEY|CERTIFICATE|X") {
        prop_assert!(Keys::parse(&bytes).is_err());
        let set = json!({"keys": keys}).to_string();
        prop_assert!(Keys::parse(set.as_bytes()).is_err());
        prop_assert!(Keys::parse(super::pem(&label, &bytes).as_bytes()).is_err());
    }

    #[test]
    fn no_key_of_a_set_panics(at in 0usize..5, name in "kty|crv|n|e|x|y|k|kid|use|alg|key_ops", it in value()) {
        let mut key = ISSUER.set()["keys"][at].clone();
        key[name.as_str()] = it;
        if let Ok(keys) = Keys::parse(json!({"keys": [key]}).to_string().as_bytes()) {
            prop_assert!(keys.passed_over().is_empty());
        }
    }
}
