//! What the web-tiers of a cluster have together on the hub: its names there, and what it holds.

use crate::times::renewal;
use aws_lc_rs::digest::{SHA256, digest};
use common::id::ClusterId;
use instant_acme::AccountCredentials;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use x509::X509;

/// The names of a cluster's records.
#[derive(Debug, Clone)]
pub(crate) struct Names(String);

impl Names {
    pub(crate) fn new(cluster: &ClusterId) -> Self {
        Self(format!("acme/{cluster}/"))
    }

    /// With what all of them begin.
    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    /// The certificate whose first name is `domain`.
    pub(crate) fn certificate(&self, domain: &str) -> String {
        format!("{}certificate/{domain}", self.0)
    }

    /// How its orders go.
    pub(crate) fn attempts(&self, domain: &str) -> String {
        format!("{}attempts/{domain}", self.0)
    }

    /// The account at a directory, with or without another account that it is bound to.
    pub(crate) fn account(&self, directory: &str, key_id: Option<&str>) -> String {
        let bound = key_id.unwrap_or_default();
        format!("{}account/{}", self.0, short_hash(&format!("{directory}\n{bound}")))
    }

    /// The answer to a challenge.
    pub(crate) fn challenge(&self, token: &str) -> String {
        format!("{}challenge/{}", self.0, short_hash(token))
    }

    /// Of which kind the record `name` is, and what stands after it; `None` for another cluster's.
    pub(crate) fn kind<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        name.strip_prefix(&self.0)?.split_once('/')
    }
}

fn short_hash(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The account.
#[derive(Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    pub(crate) credentials: AccountCredentials,
    /// As the authority knows them.
    pub(crate) contact: Vec<String>,
}

/// A certificate, and by what it was ordered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateRecord {
    pub(crate) directory: String,
    pub(crate) key_type: String,
    /// In the order of the file.
    pub(crate) names: Vec<String>,
    /// With its chain, in PEM.
    pub(crate) chain: String,
    /// Its private key, in PEM.
    pub(crate) key: String,
}

/// What a record's certificate says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// When it is to be renewed.
    pub(crate) renewal: i64,
}

impl CertificateRecord {
    /// Its certificates, its own first.
    pub(crate) fn certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect();
        found.ok().filter(|it| !it.is_empty())
    }

    pub(crate) fn private_key(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()
    }

    /// `None` when it holds no certificate.
    pub(crate) fn validity(&self) -> Option<Validity> {
        let certificates = self.certificates()?;
        let leaf = certificates.first()?;
        let X509 { not_before, not_after, .. } = X509::parse(leaf)?;
        let hash = digest(&SHA256, leaf);
        let spread = u32::from_be_bytes(*hash.as_ref().first_chunk()?);
        Some(Validity { not_before, not_after, renewal: renewal(not_before, not_after, spread) })
    }
}

/// How the orders of a certificate go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptsRecord {
    /// That failed since the last one that did not.
    pub(crate) failures: u32,
    /// Before this nobody orders, in milliseconds since 1970.
    pub(crate) next_ms: u64,
    pub(crate) last_error: String,
    /// The authority has asked to wait: it is waited for whoever asks.
    #[serde(default)]
    pub(crate) is_held_back: bool,
    /// When an operator had it tried last, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) by_hand_ms: u64,
    /// Of what was ordered: another certificate, or another authority, begins anew, if no try has failed.
    pub(crate) wanted: String,
    /// One has begun; nobody has written how it ended. Until it is known that it has not, it has failed.
    #[serde(default)]
    pub(crate) begun: bool,
    /// When the last tries began, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) tried_ms: Vec<u64>,
    /// When the last orders were done, in milliseconds since 1970. Servers whose files differ would order in turns for ever.
    #[serde(default)]
    pub(crate) done_ms: Vec<u64>,
}

/// So many orders of one certificate are done in such a time at most.
const DONE_MAX: usize = 4;

/// So many begin, those included that fail. One file alone comes to five.
const TRIED_MAX: usize = 8;

const CROWDED_MS: u64 = 6 * 3600 * 1000;

impl AttemptsRecord {
    /// When one who wants `wanted` may order next. After a failure one waits whatever one wants: servers whose files differ would take turns.
    /// `by_hand`: an operator wants it now, and may every so often.
    pub(crate) fn next_ms(&self, wanted: &str, by_hand: Option<Duration>) -> u64 {
        let goes_on = self.wanted == wanted || self.failed() > 0;
        let next_ms = match by_hand {
            _ if !goes_on => 0,
            Some(_) if !self.is_held_back && self.by_hand_ms == 0 => 0,
            Some(every) if !self.is_held_back => {
                self.next_ms.min(self.by_hand_ms.saturating_add(millis(every)))
            }
            _ => self.next_ms,
        };
        let crowded = crowded(&self.done_ms, DONE_MAX).max(crowded(&self.tried_ms, TRIED_MAX));
        crowded.max(next_ms)
    }

    /// Since when it has not been tried: a wish of before counts until it is.
    pub(crate) fn last_tried_ms(&self) -> Option<u64> {
        self.tried_ms.last().copied()
    }

    /// Tries that failed, one included whose end nobody has written down.
    pub(crate) fn failed(&self) -> u32 {
        self.failures.saturating_add(self.begun.into())
    }

    /// What is written before a try. One before its time is an operator's.
    pub(crate) fn begin(self, wanted: String, now_ms: u64, next_ms: u64) -> Self {
        let (failures, is_by_hand) = (self.failed(), self.is_early(&wanted, now_ms));
        let Self { last_error, done_ms, mut tried_ms, mut by_hand_ms, .. } = self;
        push_bounded(&mut tried_ms, now_ms, TRIED_MAX);
        if is_by_hand {
            by_hand_ms = now_ms;
        }
        let is_held_back = false;
        Self {
            failures,
            next_ms,
            last_error,
            is_held_back,
            by_hand_ms,
            wanted,
            begun: true,
            tried_ms,
            done_ms,
        }
    }

    /// Whether a try of now comes before it would have come by itself.
    pub(crate) fn is_early(&self, wanted: &str, now_ms: u64) -> bool {
        now_ms < self.next_ms(wanted, None)
    }

    /// What is written after one that has brought a certificate.
    pub(crate) fn done(self, now_ms: u64) -> Self {
        let Self { wanted, tried_ms, mut done_ms, .. } = self;
        push_bounded(&mut done_ms, now_ms, DONE_MAX);
        Self { wanted, tried_ms, done_ms, ..Self::default() }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Until when there are as many as may be; 0 when there are not.
fn crowded(times_ms: &[u64], max: usize) -> u64 {
    let oldest = times_ms.len().checked_sub(max).and_then(|it| times_ms.get(it));
    oldest.map_or(0, |it| it.saturating_add(CROWDED_MS))
}

fn push_bounded(times_ms: &mut Vec<u64>, now_ms: u64, max: usize) {
    times_ms.push(now_ms);
    let beyond = times_ms.len().saturating_sub(max);
    times_ms.drain(..beyond);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts() -> AttemptsRecord {
        AttemptsRecord { next_ms: 5000, wanted: "a".into(), ..AttemptsRecord::default() }
    }

    #[test]
    fn another_wish_begins_anew_but_not_for_ever() {
        let mut attempts = attempts();
        assert_eq!((attempts.next_ms("a", None), attempts.next_ms("b", None)), (5000, 0));
        for now_ms in 1..=3 {
            attempts = attempts.done(now_ms);
        }
        assert_eq!(attempts.next_ms("b", None), 0);
        attempts = attempts.done(4);
        assert_eq!(attempts.next_ms("b", None), 1 + CROWDED_MS);
        attempts = attempts.done(5);
        assert_eq!((attempts.next_ms("b", None), attempts.done_ms.len()), (2 + CROWDED_MS, DONE_MAX));
    }

    #[test]
    fn after_a_failure_one_waits_whatever_one_wants() {
        let attempts = AttemptsRecord { failures: 1, ..attempts() };
        assert_eq!((attempts.next_ms("a", None), attempts.next_ms("b", None)), (5000, 5000));
        // They take turns, and one of them comes to its end each time: not for ever.
        let mut attempts = attempts;
        for now_ms in 1..=8 {
            assert_eq!(attempts.next_ms("c", None), if now_ms == 1 { 5000 } else { 0 });
            attempts = attempts.begin(now_ms.to_string(), now_ms, 7000);
            assert_eq!(
                attempts.next_ms("c", None).min(CROWDED_MS),
                if now_ms < 8 { 7000 } else { CROWDED_MS }
            );
            (attempts.begun, attempts.failures) = (false, 0);
        }
        assert_eq!(attempts.next_ms("c", None), 1 + CROWDED_MS);
    }

    #[test]
    fn an_operator_need_not_wait_unless_the_authority_wants_it() {
        const EVERY: Option<Duration> = Some(Duration::from_secs(1));
        let attempts = AttemptsRecord { failures: 3, ..attempts() };
        assert_eq!((attempts.next_ms("a", None), attempts.next_ms("a", EVERY)), (5000, 0));
        let held_back = AttemptsRecord { is_held_back: true, ..attempts.clone() };
        assert_eq!(held_back.next_ms("a", EVERY), 5000);
        let tried_ms = (1..=TRIED_MAX as u64).collect();
        let crowded = AttemptsRecord { tried_ms, ..attempts.clone() };
        assert_eq!(crowded.next_ms("a", EVERY), 1 + CROWDED_MS, "nor for ever");
        // Nor again and again.
        let tried = attempts.clone().begin("a".into(), 2000, 9000);
        assert_eq!(
            (tried.by_hand_ms, tried.next_ms("a", EVERY), tried.last_tried_ms()),
            (2000, 3000, Some(2000))
        );
        let by_itself = attempts.begin("a".into(), 5000, 9000);
        assert_eq!((by_itself.by_hand_ms, by_itself.next_ms("a", EVERY)), (0, 0));
    }

    #[test]
    fn a_try_whose_end_nobody_has_seen_has_failed() {
        let attempts = attempts().begin("a".into(), 1, 9000);
        assert_eq!((attempts.failures, attempts.failed(), attempts.next_ms("b", None)), (0, 1, 9000));
        let attempts = attempts.begin("a".into(), 2, 9000);
        assert_eq!((attempts.failures, attempts.failed()), (1, 2));
        let attempts = attempts.done(3);
        assert_eq!((attempts.failed(), attempts.next_ms("a", None), attempts.tried_ms.len()), (0, 0, 2));
        let former = r#"{"failures":1,"next_ms":2,"last_error":"","wanted":"a"}"#;
        assert_eq!(serde_json::from_str::<AttemptsRecord>(former).unwrap().failed(), 1);
    }

    #[test]
    fn records_are_named_by_their_cluster() {
        let names = Names::new(&"web".into());
        let certificate = names.certificate("example.com");
        assert_eq!(names.kind(&certificate), Some(("certificate", "example.com")));
        assert_eq!(Names::new(&"we".into()).kind(&certificate), None);
        let (one, other) = (names.account("https://a", None), names.account("https://a", Some("kid")));
        assert!(one != other && one.starts_with(names.prefix()));
    }
}

/// The answer to a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChallengeRecord {
    /// For who asks for the token's path.
    Http { token: String, answer: String },
    /// For who asks for the name by `acme-tls/1`: the SHA-256 that the certificate bears, in hex.
    TlsAlpn { name: String, digest: String },
}
