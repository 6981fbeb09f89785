//! Claims as text for a header.

use super::{ISSUER, NOW, check};
use crate::TEXT_MAX;
use serde_json::{Value, json};

fn text(value: &Value) -> Option<String> {
    let token = ISSUER.token(&json!({"alg": "HS256"}), &json!({"exp": NOW + 9, "it": value}));
    check(&token).unwrap().text("it")
}

#[test]
fn plain_values_are_text() {
    for (value, expected) in [
        (json!("ada"), "ada"),
        (json!("Ada Lovelace"), "Ada Lovelace"),
        (json!("Zoë"), "Zoë"),
        (json!(""), ""),
        (json!(true), "true"),
        (json!(42), "42"),
        (json!(-1.5), "-1.5"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(["reader", "writer"]), "reader writer"),
        (json!([]), ""),
        (json!("x".repeat(TEXT_MAX)), &"x".repeat(TEXT_MAX)),
    ] {
        assert_eq!(text(&value).as_deref(), Some(expected), "{value}");
    }
}

#[test]
fn what_can_not_be_told_without_a_doubt_is_none() {
    for value in [
        Value::Null,
        json!({"a": "b"}),
        json!(["a", 1]),
        json!([["a"]]),
        // One role, which would look like two.
        json!(["reader admin"]),
        json!(["reader\u{a0}admin"]),
        json!("ada\r\nX-Admin: yes"),
        json!("ada\0"),
        json!("ada\t"),
        json!("ada\u{7f}"),
        json!("ada\u{85}"),
        json!(["ada\n"]),
        json!("x".repeat(TEXT_MAX + 1)),
        json!(vec!["xxxx"; 300]),
    ] {
        assert_eq!(text(&value), None, "{value}");
    }
}

#[test]
fn names_may_be_paths() {
    let claims = json!({"exp": NOW + 9, "a": {"b": {"c": "deep"}, "d": ["x"]}, "a.b.c": "whole", "a.d": null,
        "https://example.com/role": "admin"});
    let claims = check(&ISSUER.token(&json!({"alg": "HS256"}), &claims)).unwrap();
    for (name, expected) in [
        ("a.b.c", Some("whole")),
        ("https://example.com/role", Some("admin")),
        ("a.d", None),
        ("a.b", None),
        ("a.d.0", None),
        ("a.b.c.d", None),
        ("a.", None),
        (".a", None),
        (".", None),
        ("", None),
        ("b", None),
    ] {
        assert_eq!(claims.text(name).as_deref(), expected, "{name:?}");
    }
    let claims =
        check(&ISSUER.token(&json!({"alg": "HS256"}), &json!({"exp": NOW + 9, "a": {"b": {"c": 1}}})))
            .unwrap();
    assert_eq!(claims.text("a.b.c").as_deref(), Some("1"));
}
