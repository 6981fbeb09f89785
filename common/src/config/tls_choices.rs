//! `ciphers` and `curves` of a listener's `tls`: of what there is, what is spoken.

use super::{decode::Fields, keys::alternatives, model::TlsVersion, quoted::quoted};

/// What is spoken, by the numbers that IANA has given; empty: all that there is, in the order of the library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsChoices {
    /// `ciphers`: cipher suites, of both versions.
    pub ciphers: Vec<u16>,
    /// `curves`: groups of the key exchange, the one that is preferred first.
    pub curves: Vec<u16>,
}

/// A cipher suite or a group.
#[derive(Debug)]
struct Named {
    number: u16,
    /// That of IANA first, then others by which it is known.
    names: &'static [&'static str],
    /// Of TLS 1.3 alone.
    is_13: bool,
}

const fn named(number: u16, names: &'static [&'static str], is_13: bool) -> Named {
    Named { number, names, is_13 }
}

const CIPHERS: [Named; 9] = [
    named(0x1302, &["TLS_AES_256_GCM_SHA384"], true),
    named(0x1301, &["TLS_AES_128_GCM_SHA256"], true),
    named(0x1303, &["TLS_CHACHA20_POLY1305_SHA256"], true),
    named(0xc02c, &["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"], false),
    named(0xc02b, &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"], false),
    named(0xcca9, &["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"], false),
    named(0xc030, &["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"], false),
    named(0xc02f, &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"], false),
    named(0xcca8, &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"], false),
];

const CURVES: [Named; 5] = [
    named(0x11ec, &["X25519MLKEM768"], true),
    named(0x11eb, &["SecP256r1MLKEM768"], true),
    named(0x001d, &["X25519"], false),
    named(0x0017, &["secp256r1", "P-256", "prime256v1"], false),
    named(0x0018, &["secp384r1", "P-384"], false),
];

/// Reads both.
pub(super) fn decode(fields: &Fields<'_>, min_version: TlsVersion) -> TlsChoices {
    let context = fields.context;
    let ciphers = chosen(fields, "ciphers", &CIPHERS);
    let curves = chosen(fields, "curves", &CURVES);
    let is_12 = |table: &[Named], chosen: &[u16]| {
        chosen.iter().any(|it| table.iter().any(|known| known.number == *it && !known.is_13))
    };
    if min_version == TlsVersion::Tls13 {
        let is_13 = |it: &u16| CIPHERS.iter().any(|known| known.number == *it && known.is_13);
        if !ciphers.is_empty() && !ciphers.iter().any(is_13) {
            let message = "`min-version` is 1.3, and none of these ciphers is of TLS 1.3: they do nothing";
            context.report.warning(fields.span("ciphers"), message);
        }
    } else if !curves.is_empty() && !is_12(&CURVES, &curves) && !context.in_default {
        let message = "TLS 1.2 has none of these curves: add `X25519`, `secp256r1` or `secp384r1`, or write `min-version: 1.3`";
        context.error(fields.span("curves"), message);
    }
    TlsChoices { ciphers, curves }
}

fn chosen(fields: &Fields<'_>, key: &str, table: &[Named]) -> Vec<u16> {
    let context = fields.context;
    let mut found = Vec::new();
    let Some(node) = fields.get(key) else { return found };
    for node in context.one_or_more(node) {
        // As nginx and OpenSSL write lists.
        let check = |text: &str| text.split(':').try_for_each(|name| number(name, table).map(drop));
        let text = context.checked(node, check);
        for name in text.iter().flat_map(|it| it.split(':')) {
            match number(name, table) {
                Ok(number) if found.contains(&number) => {
                    context.error(node.span, format!("{} stands twice in `{key}`", quoted(name)));
                }
                Ok(number) => found.push(number),
                Err(_) => {}
            }
        }
    }
    found
}

fn number(name: &str, table: &[Named]) -> Result<u16, String> {
    let is_it = |it: &&Named| it.names.iter().any(|known| known.eq_ignore_ascii_case(name));
    table.iter().find(is_it).map(|it| it.number).ok_or_else(|| {
        let known = alternatives(table.iter().map(|it| it.names[0]));
        format!("expected {known}, found {}", quoted(name))
    })
}

impl TlsChoices {
    /// Whether a cipher suite is spoken. A list that names none of a version leaves that version all of its own, as `ssl_ciphers` of nginx does
    /// with TLS 1.3.
    pub fn has_cipher(&self, number: u16) -> bool {
        let is_13 = |number: u16| CIPHERS.iter().any(|it| it.number == number && it.is_13);
        let mut of_version = self.ciphers.iter().filter(|it| is_13(**it) == is_13(number)).peekable();
        of_version.peek().is_none() || of_version.any(|it| *it == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_iana_and_of_openssl() {
        assert_eq!(number("ECDHE-RSA-AES128-GCM-SHA256", &CIPHERS), Ok(0xc02f));
        assert_eq!(number("tls_aes_128_gcm_sha256", &CIPHERS), Ok(0x1301));
        assert_eq!(number("prime256v1", &CURVES), number("P-256", &CURVES));
        let refused = number("AES256-SHA", &CIPHERS).unwrap_err();
        assert!(
            refused.starts_with("expected `TLS_AES_256_GCM_SHA384`, ")
                && refused.ends_with("found `AES256-SHA`")
        );
    }

    #[test]
    fn a_version_of_which_none_is_named_keeps_its_own() {
        let all = TlsChoices::default();
        assert!(all.has_cipher(0x1301) && all.has_cipher(0xc02f));
        let of_12 = TlsChoices { ciphers: vec![0xc02f], ..TlsChoices::default() };
        assert!(of_12.has_cipher(0xc02f) && !of_12.has_cipher(0xc030) && of_12.has_cipher(0x1301));
        let of_both = TlsChoices { ciphers: vec![0xc02f, 0x1302], ..TlsChoices::default() };
        assert!(of_both.has_cipher(0x1302) && !of_both.has_cipher(0x1301));
    }
}
