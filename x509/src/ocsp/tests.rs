//! A responder of the tests, and answers that won't do.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SigningKey, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

const NOW: i64 = 1_800_000_000;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority");
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2100, 1, 1);
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    fn leaf(&self) -> CertificateDer<'static> {
        let url = element(tag::URI, &[b"http://ocsp.test/a"]);
        let access = element(tag::SEQUENCE, &[&element(tag::OBJECT_IDENTIFIER, &[OCSP]), &url]);
        let access = element(tag::SEQUENCE, &[&access]);
        self.issue(|params| {
            params.custom_extensions =
                vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)];
        })
        .0
    }
}

/// What a responder says.
struct Said<'a> {
    id: &'a [u8],
    status: &'a [u8],
    this: &'a str,
    next: Option<&'a str>,
    certificates: &'a [&'a [u8]],
}

fn said<'a>(id: &'a [u8]) -> Said<'a> {
    Said { id, status: &[0x80, 0], this: "20270110000000Z", next: Some("20270120000000Z"), certificates: &[] }
}

fn response(said: &Said<'_>, key: &impl SigningKey) -> Vec<u8> {
    let time = |text: &str| element(tag::GENERALIZED_TIME, &[text.as_bytes()]);
    let next = said.next.map(|it| element(0xa0, &[&time(it)])).unwrap_or_default();
    let single = element(tag::SEQUENCE, &[said.id, said.status, &time(said.this), &next]);
    let who = element(0xa2, &[&element(tag::OCTET_STRING, &[&[7; 20]])]);
    let data = element(tag::SEQUENCE, &[&who, &time("20270110000000Z"), &element(tag::SEQUENCE, &[&single])]);
    // ecdsa-with-SHA256
    let algorithm = element(
        tag::SEQUENCE,
        &[&element(tag::OBJECT_IDENTIFIER, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])],
    );
    let signature = element(tag::BIT_STRING, &[&[0], &key.sign(&data).unwrap()]);
    let more = match said.certificates {
        [] => Vec::new(),
        list => element(0xa0, &[&element(tag::SEQUENCE, list)]),
    };
    let basic = element(tag::SEQUENCE, &[&data, &algorithm, &signature, &more]);
    let bytes =
        [element(tag::OBJECT_IDENTIFIER, &[OCSP_BASIC]), element(tag::OCTET_STRING, &[&basic])].concat();
    let bytes = element(0xa0, &[&element(tag::SEQUENCE, &[&bytes])]);
    element(tag::SEQUENCE, &[&[tag::ENUMERATED, 1, 0], &bytes])
}

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    webpki::ALL_VERIFICATION_ALGS
}

#[test]
fn a_good_answer_of_the_authority_is_one_to_show() {
    let authority = Authority::new();
    let leaf = authority.leaf();
    let question = question(&leaf, &authority.der).unwrap();
    assert_eq!(question.url, "http://ocsp.test/a");
    let good = response(&said(&question.id), authority.issuer.key());
    let answered = |response: &[u8], now| question.answered(response, &authority.der, now, algorithms());
    let staple = answered(&good, NOW).unwrap();
    assert_eq!((staple.this_update, staple.next_update), (1_799_539_200, 1_800_403_200));
    assert_eq!(staple.response, good);
    assert_eq!(answered(&good, 1_800_403_200), Err(Unusable::NotNow), "it is over");
    assert_eq!(answered(&good, 1_799_000_000), Err(Unusable::NotNow), "it does not hold yet");
    for (change, why) in [
        (Said { status: &[0xa1, 0], ..said(&question.id) }, Unusable::Revoked),
        (Said { status: &[0x82, 0], ..said(&question.id) }, Unusable::Unknown),
        (Said { next: None, ..said(&question.id) }, Unusable::NotNow),
    ] {
        assert_eq!(answered(&response(&change, authority.issuer.key()), NOW), Err(why));
    }
    let other = self::question(&authority.leaf(), &authority.der).unwrap();
    assert_eq!(answered(&response(&said(&other.id), authority.issuer.key()), NOW), Err(Unusable::Other));
    assert_eq!(
        answered(&element(tag::SEQUENCE, &[&[tag::ENUMERATED, 1, 6]]), NOW),
        Err(Unusable::Refused(6))
    );
    for end in 0..good.len() {
        assert!(answered(&good[..end], NOW).is_err(), "{end} bytes");
    }
    for at in 0..good.len() {
        let mut broken = good.clone();
        broken[at] ^= 0x10;
        if let Ok(staple) = answered(&broken, NOW) {
            panic!("byte {at} says nothing: {staple:?}");
        }
    }
}

#[test]
fn another_may_sign_if_the_authority_says_so() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let leaf = authority.leaf();
    let question = question(&leaf, &authority.der).unwrap();
    let answered = |by: &Authority, is_responder: bool| {
        let (certificate, key) = by.issue(|params| {
            if is_responder {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
            }
        });
        let said = Said { certificates: &[&certificate], ..said(&question.id) };
        question.answered(&response(&said, &key), &authority.der, NOW, algorithms()).map(drop)
    };
    assert_eq!(answered(&authority, true), Ok(()));
    assert_eq!(answered(&authority, false), Err(Unusable::Signature), "any certificate of it will not do");
    assert_eq!(answered(&stranger, true), Err(Unusable::Signature));
    let by_stranger = response(&said(&question.id), stranger.issuer.key());
    assert_eq!(question.answered(&by_stranger, &authority.der, NOW, algorithms()), Err(Unusable::Signature));
}

#[test]
fn a_certificate_without_a_responder_asks_nobody() {
    let authority = Authority::new();
    assert_eq!(question(&authority.issue(|_| {}).0, &authority.der), None);
    assert_eq!(question(b"", &authority.der), None);
}
