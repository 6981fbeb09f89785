//! What responders say of the certificates of listeners (OCSP), stapled to handshakes (RFC 6066 §8): asked in the background, renewed at half of its
//! time, kept over failures to its end. No handshake waits for any of it.

use super::{
    certificate::{Hash, hash},
    listener::{TlsListener, provider, unix_now},
};
use futures_util::future::join_all;
use httparse::{EMPTY_HEADER, Response, Status};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use x509::{
    X509,
    ocsp::{Question, Staple, question},
};

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(3);

/// For a question and its whole answer.
const ASK: Duration = Duration::from_secs(10);

/// So many questions are under way at most: one responder that does not answer holds up few others.
const ASKED_AT_ONCE: usize = 16;

/// The longest text of a certificate's names in the log, in characters.
const NAMES_MAX: usize = 200;

/// The largest answer, with its head.
const ANSWER_MAX: u64 = 64 << 10;

/// After a question without a good answer, in seconds: 5 minutes, twice as long each further time, at most 6 hours.
const RETRY: i64 = 300;
const RETRY_MAX: i64 = 6 * 3600;

/// The shortest time after which an answer is asked for again, in seconds.
const RENEW_MIN: i64 = 3600;

/// What has been said; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staples(Arc<Mutex<HashMap<Hash, Held>>>);

#[derive(Debug, Default)]
struct Held {
    staple: Option<Staple>,
    /// When it is asked next, in seconds since 1970.
    next: i64,
    failures: u32,
}

/// A certificate of which somebody can be asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Of the certificate.
    hash: Hash,
    /// The host names in it, for people.
    names: String,
    question: Question,
    issuer: Vec<u8>,
}

impl Asked {
    /// `None` where the certificate names no responder, or its issuer is not in the chain.
    pub(super) fn of(chain: &[impl AsRef<[u8]>]) -> Option<Self> {
        let [leaf, issuer, ..] = chain else { return None };
        let question = question(leaf.as_ref(), issuer.as_ref())?;
        let names = names(&X509::parse(leaf.as_ref())?);
        Some(Self { hash: hash(&[leaf.as_ref()]), names, question, issuer: issuer.as_ref().to_vec() })
    }
}

/// What people know a certificate by: its host names and addresses, or its number.
fn names(x509: &X509<'_>) -> String {
    let names = x509.dns_names.iter().map(ToString::to_string);
    let names: Vec<_> = names.chain(x509.addresses.iter().map(ToString::to_string)).collect();
    if names.is_empty() {
        return x509.serial.iter().fold("serial ".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    }
    names.join(", ").chars().take(NAMES_MAX).collect()
}

impl Staples {
    /// What is to be stapled for a certificate.
    pub(super) fn staple(&self, asked: &Asked) -> Option<Vec<u8>> {
        let held = self.lock();
        let staple = held.get(&asked.hash)?.staple.as_ref()?;
        (staple.next_update > unix_now()).then(|| staple.response.clone())
    }

    /// Forgets those of certificates that no listener shows any more: `asked` are those of all. True: what was said of one has ended.
    fn settle(&self, asked: &[Asked], now: i64) -> bool {
        let mut held = self.lock();
        held.retain(|hash, _| asked.iter().any(|it| it.hash == *hash));
        let mut has_ended = false;
        for it in held.values_mut() {
            has_ended |= it.staple.take_if(|it| it.next_update <= now).is_some();
        }
        has_ended
    }

    /// Which of these are to be asked for now.
    fn due(&self, asked: Vec<Asked>, now: i64) -> Vec<Asked> {
        let held = self.lock();
        asked.into_iter().filter(|it| held.get(&it.hash).is_none_or(|held| held.next <= now)).collect()
    }

    /// Takes what was said; true when there is something to show.
    fn take(&self, asked: &Asked, said: Result<Staple, String>, now: i64) -> bool {
        let mut all = self.lock();
        let held = all.entry(asked.hash).or_default();
        match said {
            Ok(staple) => {
                let half = staple.this_update + (staple.next_update - staple.this_update) / 2;
                *held = Held { next: half.max(now + RENEW_MIN), staple: Some(staple), failures: 0 };
                true
            }
            Err(cause) => {
                held.failures = held.failures.saturating_add(1);
                held.next = now + (RETRY << (held.failures - 1).min(10)).min(RETRY_MAX);
                let (certificate, url) = (&asked.names, &asked.question.url);
                tracing::warn!(certificate, url, %cause, "no OCSP response to staple: what there is stays to its end");
                false
            }
        }
    }

    /// Questions without a good answer.
    #[cfg(test)]
    pub(super) fn failures(&self) -> u32 {
        self.lock().values().map(|it| it.failures).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for the certificates of all listeners, until it is dropped.
pub(super) async fn keep(listeners: &[TlsListener]) {
    loop {
        let (asked, now) = (listeners.iter().flat_map(TlsListener::asked).collect::<Vec<_>>(), unix_now());
        // They share what was said: of the same certificate nobody is asked twice.
        let ended: Vec<_> = listeners.iter().map(|it| it.staples().settle(&asked, now)).collect();
        for listener in listeners {
            keep_one(listener, ended.contains(&true)).await;
        }
        sleep(LOOK).await;
    }
}

/// The same for one; `is_other`: there is something else to show.
async fn keep_one(listener: &TlsListener, mut is_other: bool) {
    let staples = listener.staples();
    for some in staples.due(listener.asked(), unix_now()).chunks(ASKED_AT_ONCE) {
        let said = join_all(some.iter().map(ask)).await;
        for (it, said) in some.iter().zip(said) {
            is_other |= staples.take(it, said, unix_now());
        }
    }
    // Another listener may have asked for the same certificate.
    if is_other || listener.lacks_staples() {
        let listener = listener.clone();
        if let Ok(Err(cause)) = spawn_blocking(move || listener.reload()).await {
            tracing::warn!(%cause, "OCSP responses wait: the files of certificates are refused");
        }
    }
}

async fn ask(asked: &Asked) -> Result<Staple, String> {
    let question = &asked.question;
    let fetched = timeout(ASK, fetch(&question.url, &question.request)).await;
    let response =
        fetched.map_err(|_| format!("no answer within {ASK:?}"))?.map_err(|cause| cause.to_string())?;
    let algorithms = provider().signature_verification_algorithms;
    question.answered(&response, &asked.issuer, unix_now(), algorithms.all).map_err(|cause| cause.to_string())
}

/// Asks a responder (RFC 6960 §A.1): over plain HTTP, as answers are signed. HTTP/1.0, so that an answer ends with its connection.
async fn fetch(url: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let refuse = |what: &str| io::Error::other(format!("{what}: {url:?}"));
    let rest = url.strip_prefix("http://").ok_or_else(|| refuse("the responder's URL is not one of http"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !url.bytes().all(|it| it.is_ascii_graphic()) || authority.is_empty() || authority.contains('@') {
        return Err(refuse("the responder's URL is none"));
    }
    let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let to = if port { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(to).await?;
    let path = if path.is_empty() { "/" } else { path };
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
        request.len()
    );
    stream.write_all(&[head.as_bytes(), request].concat()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX + 1).read_to_end(&mut answer).await?;
    if answer.len() as u64 > ANSWER_MAX {
        return Err(refuse("the answer is too large"));
    }
    let mut fields = [EMPTY_HEADER; 64];
    let mut parsed = Response::new(&mut fields);
    let Ok(Status::Complete(end)) = parsed.parse(&answer) else {
        return Err(refuse("the answer is none of HTTP"));
    };
    match parsed.code {
        Some(200) => Ok(answer.split_off(end)),
        code => Err(refuse(&format!("the responder answers {}", code.unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(number: u8) -> Asked {
        let question = Question::default();
        Asked { hash: [number; 32], names: String::new(), question, issuer: Vec::new() }
    }

    #[test]
    fn what_was_said_of_one_listeners_certificate_outlives_the_turn_of_another() {
        let (staples, all) = (Staples::default(), [asked(1), asked(2)]);
        let said = |next_update| Ok(Staple { response: vec![1], this_update: 0, next_update });
        for round in 0..3 {
            assert!(!staples.settle(&all, 10));
            for it in &all {
                let due = staples.due(vec![it.clone()], 10);
                assert_eq!(due.len(), usize::from(round == 0), "each is asked for once");
                due.iter().for_each(|it| assert!(staples.take(it, said(100_000), 10)));
            }
        }
        assert!(staples.settle(&all, 100_000), "it has ended");
        assert!(!staples.settle(&all, 100_001));
        assert!(!staples.settle(&all[..1], 100_001));
        assert_eq!(staples.lock().len(), 1, "a certificate that nobody shows is forgotten");
    }
}
