//! What a form sends, `application/x-www-form-urlencoded` (WHATWG URL §5.1).

use percent_encoding::percent_decode_str;

/// The fields of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body.
    pub(crate) fn read(body: &str) -> Self {
        let decoded =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = body.split('&').filter(|it| !it.is_empty());
        let pairs = pairs.map(|it| it.split_once('=').unwrap_or((it, "")));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    /// A field; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded() {
        let form = Form::read("user=ops&password=a%2Bb+c%26%3D%C3%A9&empty=&bare&&x=1&x=2");
        assert_eq!((form.field("user"), form.field("password")), ("ops", "a+b c&=é"));
        assert_eq!(
            (form.field("empty"), form.field("bare"), form.field("none"), form.field("x")),
            ("", "", "", "1")
        );
        assert_eq!(Form::read("").field(""), "");
    }
}
