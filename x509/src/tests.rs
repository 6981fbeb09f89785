//! Certificates that rcgen makes, and bytes that nobody made.

use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SerialNumber, date_time_ymd};

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params =
        CertificateParams::new(vec!["Example.com".to_owned(), "*.example.com".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn names_validity_and_serial_are_read() {
    let der = certificate(|params| {
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 12, 31);
        params.serial_number = Some(SerialNumber::from_slice(&[0, 0xff, 0x10]));
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
    });
    let found = X509::parse(&der).unwrap();
    assert_eq!(found.dns_names, ["Example.com", "*.example.com"]);
    assert_eq!(
        found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.1", "2001:db8::1"]
    );
    assert_eq!((found.not_before, found.not_after), (1_709_164_800, 2_587_593_600));
    assert_eq!(
        (date(found.not_before).as_str(), date(found.not_after).as_str()),
        ("2024-02-29", "2051-12-31")
    );
    assert_eq!(found.serial, [0xff, 0x10]);
    assert_eq!(found.issuer, found.subject);
}

#[test]
fn distinguished_names_are_text_that_a_header_may_hold() {
    for (name, expected) in [
        (
            vec![
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Example"),
                (DnType::CommonName, "Ada"),
            ],
            "CN=Ada,O=Example,C=DE",
        ),
        (vec![(DnType::CommonName, "a,b+c=d\\\"<>;")], "CN=a\\,b\\+c=d\\\\\\\"\\<\\>\\;"),
        (vec![(DnType::CommonName, " #x ")], "CN=\\ #x\\ "),
        (vec![(DnType::CommonName, "#")], "CN=\\#"),
        (vec![(DnType::CommonName, " ")], "CN=\\ "),
        (vec![(DnType::CommonName, "Zoë\r\nX-Admin: 1\0")], "CN=Zo\\C3\\AB\\0D\\0AX-Admin: 1\\00"),
        (vec![(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 99_999]), "x")], "1.3.6.1.4.1.99999=#0c0178"),
        (vec![(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), "a@b")], "emailAddress=a@b"),
        (vec![], ""),
    ] {
        let der = certificate(|params| {
            for (kind, value) in &name {
                params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
            }
        });
        let text = distinguished_name(X509::parse(&der).unwrap().subject).unwrap();
        assert_eq!(text, expected);
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
    let long = certificate(|params| {
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String("x".repeat(3000)));
    });
    assert_eq!(distinguished_name(X509::parse(&long).unwrap().subject), None);
}

#[test]
fn a_certificate_that_is_cut_is_none() {
    let der = certificate(|_| {});
    assert!((0..der.len()).all(|cut| X509::parse(&der[..cut]).is_none()));
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (X509::parse(&bytes), distinguished_name(&bytes));
    }

    #[test]
    fn a_changed_certificate_has_an_answer(at in any::<prop::sample::Index>(), byte in any::<u8>(), seed in 0_u8..4) {
        let mut der = certificates()[usize::from(seed % 2)].clone();
        let at = at.index(der.len());
        der[at] = byte;
        if let Some(found) = X509::parse(&der) {
            let _ = (distinguished_name(found.subject), distinguished_name(found.issuer), date(found.not_after));
        }
    }

    #[test]
    fn dates_are_what_they_were(days in -30_000_i64..2_000_000) {
        let text = date(days * 86_400 + 7);
        let digits: String = text.replace('-', "") + "000000Z";
        if digits.len() == 15 {
            let element = der::Element { tag: tag::GENERALIZED_TIME, content: digits.as_bytes(), whole: &[] };
            prop_assert_eq!(time::read(&element), Some(days * 86_400));
        }
    }
}

/// Two certificates, made once: keys take time.
fn certificates() -> &'static [Vec<u8>; 2] {
    static MADE: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
    MADE.get_or_init(|| {
        let named = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "Ada");
            params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        });
        [certificate(|_| {}), named]
    })
}
