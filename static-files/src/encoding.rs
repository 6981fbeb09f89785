//! Which precompressed variants a client takes: `Accept-Encoding` (RFC 9110 §12.5.3).

use http::{HeaderMap, header};

/// An encoding that a file can lie beside itself in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// Best first.
    pub(crate) const ALL: [Self; 2] = [Self::Brotli, Self::Gzip];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }
}

/// What the client takes, best first; a weight of zero is a no.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<Encoding> {
    let fields = headers.get_all(header::ACCEPT_ENCODING);
    let items: Vec<(&str, bool)> = fields
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(item)
        .collect();
    let said =
        |name: &str| items.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, taken)| *taken);
    Encoding::ALL.into_iter().filter(|it| said(it.name()).or_else(|| said("*")).unwrap_or(false)).collect()
}

/// A coding and whether its weight is above zero.
fn item(text: &str) -> (&str, bool) {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let weight =
        parameters.trim().strip_prefix(['q', 'Q']).and_then(|rest| rest.trim_start().strip_prefix('='));
    let taken = weight.is_none_or(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0));
    (name.trim(), taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(field: &str) -> Vec<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, field.parse().unwrap());
        accepted(&headers).into_iter().map(Encoding::name).collect()
    }

    #[test]
    fn weights_and_wildcards() {
        assert_eq!(names("gzip, deflate, br"), ["br", "gzip"]);
        assert_eq!(names("GZIP;q=0.5"), ["gzip"]);
        assert_eq!(names("br;q=0, *"), ["gzip"]);
        assert_eq!(names("br; q=0.0,gzip;q=nonsense"), [""; 0]);
        assert_eq!(names("*;q=0"), [""; 0]);
        assert_eq!(names("identity"), [""; 0]);
        assert!(accepted(&HeaderMap::new()).is_empty());
    }
}
