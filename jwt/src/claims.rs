//! What a believed token says of its bearer.

use serde_json::{Map, Value};

/// The longest text that a claim gives, in bytes.
pub const TEXT_MAX: usize = 1024;

/// The claims of a token that was believed (RFC 7519 §4).
#[derive(Debug, Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// The claim of this name, or else the one at the end of a path of names with dots between them (`realm_access.roles`).
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let mut names = name.split('.');
            let first = self.0.get(names.next()?)?;
            names.try_fold(first, |value, name| value.as_object()?.get(name))
        })
    }

    /// A claim as the value of a header: a string, a number or a boolean as it is; the strings of a list with a space between them.
    /// `name` is a claim's whole name (`https://example.com/role`), or else a path with dots (`realm_access.roles`).
    ///
    /// `None` if there is no such claim, or if it can't be told without a doubt: an object, `null`, a list of other things than strings
    /// or of strings that have white space of their own, control characters, more than [`TEXT_MAX`] bytes.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = match self.get(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(is) => is.to_string(),
            Value::Array(members) => joined(members)?,
            Value::Null | Value::Object(_) => return None,
        };
        let fits = text.len() <= TEXT_MAX && !text.contains(char::is_control);
        fits.then_some(text)
    }
}

fn joined(members: &[Value]) -> Option<String> {
    let words: Option<Vec<&str>> = members.iter().map(Value::as_str).collect();
    let words = words.filter(|it| it.iter().all(|word| !word.contains(char::is_whitespace)))?;
    Some(words.join(" "))
}
