//! What a web-tier does for its certificates: hears what the hub has, keeps a copy on its disk, and orders what is due.

use crate::{
    copies::Copies,
    live::{Answers, Issued, Live, OrderReport, TlsChallenge},
    order::check,
    orders::{Due, Orders, Tried, wanted},
    records::{AttemptsRecord, CertificateRecord, ChallengeRecord, Names, Validity},
    seal::{Opened, Sealer},
    storage::Storage,
    times::Times,
};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use common::{
    clock::Clock,
    config::{Acme, Secret},
    id::ClusterId,
};
use proto::hub::v1::Secret as Kept;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{pki_types::PrivateKeyDer, sign::CertifiedKey};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::{Future, poll_fn},
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

/// Answers to challenges that are taken from the hub at a time.
const ANSWERS_MAX: usize = 1000;

/// After a fault.
const PAUSE: Duration = Duration::from_secs(60);

/// The longest that nothing is looked at, though nothing is due.
const LOOK: Duration = Duration::from_secs(3600);

/// What a [`Manager`] goes by.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// `acme` of the cluster.
    pub acme: Acme,
    /// The cluster.
    pub cluster: ClusterId,
    /// `cluster-key`.
    pub key: Secret,
    /// `cluster-key-also`.
    pub key_also: Secret,
    /// This server's data folder, for copies.
    pub data: PathBuf,
    /// How long things take.
    pub times: Times,
}

/// By what a [`Manager`] is another one: where in the file it stands does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted(String);

impl Wanted {
    /// What `acme` of a cluster says.
    pub fn new(acme: &Acme, cluster: &ClusterId) -> Self {
        let Acme { directory, ca, contact, challenge, key_type, external_account, domains } = acme;
        let ca = ca.as_ref().map(|it| &it.path);
        let bound = external_account.as_ref().map(|it| (&it.key_id, digest(&SHA256, it.hmac_key.bytes())));
        Self(format!(
            "{cluster} {directory} {ca:?} {contact:?} {challenge:?} {key_type:?} {bound:?} {domains:?}"
        ))
    }
}

/// Looks after the certificates of a web-tier until it is dropped.
#[derive(Debug)]
pub struct Manager {
    running: AbortHandle,
    wanted_now: Arc<Notify>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Manager {
    /// Reads the copies on disk, so that what they hold is shown at once; then goes on in the background. Blocks on the file system.
    pub fn start(
        config: ManagerConfig,
        live: Live,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut keeper = Keeper::new(config, live, storage, clock);
        keeper.read_copies();
        keeper.show();
        let wanted_now = keeper.wanted_now.clone();
        Self { running: tokio::spawn(keeper.run_on()).abort_handle(), wanted_now }
    }

    /// An operator has mended what orders have failed of: each is tried again now, once, unless the authority has asked to wait, or there were too
    /// many.
    pub fn try_now(&self) {
        self.wanted_now.notify_one();
    }
}

/// A certificate that there is.
#[derive(Clone)]
struct Held {
    record: CertificateRecord,
    validity: Validity,
    issued: Arc<Issued>,
    /// As the hub had it; 0: it has not.
    version: u64,
}

impl Held {
    /// `None` when the record is of no use.
    fn new(record: CertificateRecord, version: u64) -> Option<Self> {
        check(&record).ok()?;
        let validity = record.validity()?;
        let issued = Issued {
            name: record.names.first()?.clone(),
            chain: record.certificates()?,
            key: record.private_key()?,
            not_after: validity.not_after,
        };
        Some(Self { record, validity, issued: Arc::new(issued), version })
    }

    /// Of the same order, and issued later; one that ends sooner may be the newer one, where an authority has gone over to shorter lives.
    fn is_newer_than(&self, other: &Self) -> bool {
        let of = |it: &CertificateRecord| (it.directory.clone(), it.key_type.clone(), it.names.clone());
        let issued = |it: &Validity| (it.not_before, it.not_after);
        of(&self.record) == of(&other.record) && issued(&self.validity) > issued(&other.validity)
    }
}

struct Keeper {
    orders: Orders,
    live: Live,
    /// By first name.
    held: HashMap<String, Held>,
    attempts: HashMap<String, AttemptsRecord>,
    /// Of the records that were read, so that none is opened twice.
    heard: HashMap<String, (u64, Bytes)>,
    /// Those that were sealed anew, or given back in place of others.
    put_anew: HashSet<String>,
    /// The hub has not taken something that it was to have.
    is_refused: bool,
    /// An operator asks.
    wanted_now: Arc<Notify>,
    /// When what had failed was last tried when one did: once it is again, that is done.
    by_hand: HashMap<String, Option<u64>>,
    answers: Vec<(String, ChallengeRecord)>,
    /// No order begins before.
    not_before: Instant,
    /// Nor this one's: another server had the lease, or knew more. The others are not kept by it.
    set_back: HashMap<String, Instant>,
}

type Trying = Pin<Box<dyn Future<Output = Tried> + Send>>;

impl Keeper {
    fn new(config: ManagerConfig, live: Live, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        let ManagerConfig { acme, cluster, key, key_also, data, times } = config;
        let orders = Orders {
            acme: Arc::new(acme),
            names: Names::new(&cluster),
            sealer: Sealer::new(&key, &key_also),
            storage,
            clock,
            times,
            copies: Copies::new(&data),
            issued: Arc::default(),
        };
        Self {
            orders,
            live,
            held: HashMap::new(),
            attempts: HashMap::new(),
            heard: HashMap::new(),
            put_anew: HashSet::new(),
            is_refused: false,
            wanted_now: Arc::default(),
            by_hand: HashMap::new(),
            answers: Vec::new(),
            not_before: Instant::now(),
            set_back: HashMap::new(),
        }
    }

    /// Runs, and begins again when a fault of ours ends it: certificates would end unseen.
    async fn run_on(mut self) {
        loop {
            let cause = {
                let mut running = pin!(self.run());
                let ended = poll_fn(|context| {
                    match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                        Ok(polled) => polled.map(Ok),
                        Err(cause) => Poll::Ready(Err(cause)),
                    }
                });
                let Err(cause) = ended.await else { return };
                cause
            };
            let text = cause.downcast_ref::<&str>().copied();
            let cause = text.or_else(|| cause.downcast_ref::<String>().map(String::as_str));
            tracing::error!(
                cause = cause.unwrap_or("unknown"),
                "a fault has ended the upkeep of certificates (ACME): it begins again in {PAUSE:?}"
            );
            sleep(PAUSE).await;
            // What was half heard is heard anew.
            self.heard.clear();
        }
    }

    async fn run(&mut self) {
        let mut secrets = self.orders.storage.secrets();
        let mut trying: Option<(String, Trying)> = None;
        let (wanted_now, mut is_wanted_now) = (self.wanted_now.clone(), false);
        loop {
            let table = secrets.borrow_and_update().clone();
            if let Some(table) = &table {
                self.hear(table).await;
                if mem::take(&mut is_wanted_now) {
                    self.try_now();
                }
            }
            self.show();
            let look = if self.is_refused { self.orders.times.look_again } else { LOOK };
            let mut wake = Instant::now() + look;
            if trying.is_none() && table.is_some() {
                match self.next() {
                    Some((due, at)) if at <= Instant::now() => {
                        let name = due.domains[0].clone();
                        trying = Some((name, Box::pin(self.orders.clone().try_order(due))));
                    }
                    Some((_, at)) => wake = wake.min(at),
                    None => {}
                }
            }
            tokio::select! {
                changed = secrets.changed() => if changed.is_err() { return },
                tried = ended(&mut trying) => self.tried(&tried.0, tried.1),
                () = wanted_now.notified() => is_wanted_now = true,
                () = sleep_until(wake), if trying.is_none() => {}
            }
        }
    }

    /// Takes what the hub has.
    async fn hear(&mut self, table: &BTreeMap<String, Kept>) {
        self.is_refused = false;
        self.heard.retain(|name, _| table.contains_key(name));
        self.answers.retain(|(name, _)| table.contains_key(name));
        let names = self.orders.names.clone();
        self.attempts.retain(|first, _| table.contains_key(&names.attempts(first)));
        for (first, held) in &mut self.held {
            if !table.contains_key(&names.certificate(first)) {
                held.version = 0;
            }
        }
        let of_cluster =
            table.range(names.prefix().to_owned()..).take_while(|(it, _)| it.starts_with(names.prefix()));
        for (name, kept) in of_cluster {
            // A hub that has lost what it had counts anew: the version alone does not tell.
            if self
                .heard
                .get(name)
                .is_some_and(|(version, sealed)| *version == kept.version && *sealed == kept.sealed)
            {
                continue;
            }
            self.heard.insert(name.clone(), (kept.version, kept.sealed.clone()));
            let Some((kind, what)) = names.kind(name) else { continue };
            if kind != "challenge" {
                self.seal_anew(name, kept).await;
            }
            match kind {
                "certificate" => self.hear_certificate(name, what, kept).await,
                "attempts" => {
                    // Of one that is sealed by a key that is unknown here, what was known goes on.
                    if let Some(attempts) = self.orders.read::<AttemptsRecord>(name).0 {
                        self.attempts.insert(what.to_owned(), attempts);
                    }
                }
                "challenge" => {
                    self.answers.retain(|(it, _)| it != name);
                    let answer = self.orders.read::<ChallengeRecord>(name).0;
                    if self.answers.len() < ANSWERS_MAX {
                        self.answers.extend(answer.map(|it| (name.clone(), it)));
                    }
                }
                _ => {}
            }
        }
        self.live.set_answers(answers(&self.answers));
        self.give_back(table).await;
    }

    /// What the former key has sealed: it will be gone one day. Once, as two servers each of which has the other's key for the former one would
    /// never come to an end.
    async fn seal_anew(&mut self, name: &str, kept: &Kept) {
        let Some(Opened { value, is_current: false }) = self.orders.sealer.open(name, &kept.sealed) else {
            return;
        };
        if self.put_anew.contains(name) {
            return;
        }
        let Some(sealed) = self.orders.sealer.seal(name, &value) else { return };
        match self.orders.put_sealed(name, sealed.into(), kept.version, None).await {
            Ok(Some(_)) => drop(self.put_anew.insert(name.to_owned())),
            // Heard of soon.
            Ok(None) => {}
            Err(cause) => {
                tracing::debug!(name, %cause, "the hub does not take this record, sealed anew");
                self.heard.remove(name);
                self.is_refused = true;
            }
        }
    }

    async fn hear_certificate(&mut self, name: &str, first: &str, kept: &Kept) {
        let Some(opened) = self.orders.sealer.open(name, &kept.sealed) else {
            tracing::warn!(
                certificate = first,
                "what the hub has of this certificate was sealed by another cluster-key, and is passed over"
            );
            if let Some(held) = self.held.get_mut(first) {
                held.version = 0;
            }
            return;
        };
        let record = serde_json::from_slice::<CertificateRecord>(&opened.value).ok();
        let Some(held) = record.and_then(|it| Held::new(it, kept.version)) else {
            tracing::warn!(
                certificate = first,
                "what the hub has of this certificate is none, and is passed over"
            );
            return;
        };
        if let Some(known) = self.held.get_mut(first)
            && known.is_newer_than(&held)
        {
            tracing::warn!(
                certificate = first,
                "what the hub has of this certificate is older than the copy here, and is passed over"
            );
            known.version = 0;
            return;
        }
        let is_known = self.held.get(first).is_some_and(|known| known.record == held.record);
        let sealed = if opened.is_current {
            Some(kept.sealed.to_vec())
        } else {
            // Whatever the hub goes on to have: the former key will be gone one day.
            self.orders.sealer.seal(name, &opened.value)
        };
        if is_known {
            if let Some(known) = self.held.get_mut(first) {
                known.version = kept.version;
            }
        } else {
            tracing::info!(
                certificate = first,
                ends = x509::date(held.validity.not_after),
                "a new certificate (ACME)"
            );
            self.held.insert(first.to_owned(), held);
        }
        if let (Some(sealed), true) = (sealed, self.is_wanted(first)) {
            self.orders.copies.write(first, sealed).await;
        }
    }

    fn is_wanted(&self, first: &str) -> bool {
        self.orders.acme.domains.iter().any(|it| it[0] == first)
    }

    /// A hub that has lost what it had gets it back; in place of something else, once: another server may believe that of its own, too.
    async fn give_back(&mut self, table: &BTreeMap<String, Kept>) {
        let lost: Vec<String> =
            self.held.iter().filter(|(_, it)| it.version == 0).map(|(first, _)| first.clone()).collect();
        for first in lost {
            let name = self.orders.names.certificate(&first);
            let version = table.get(&name).map_or(0, |it| it.version);
            if version != 0 && self.put_anew.contains(&name) {
                continue;
            }
            let record = self.held[&first].record.clone();
            match self.orders.put(&name, &record, version, None).await {
                Ok(Some(new)) => {
                    if version != 0 {
                        self.put_anew.insert(name);
                    }
                    tracing::info!(
                        certificate = first,
                        "the hub has this certificate again, from the copy here"
                    );
                    if let Some(held) = self.held.get_mut(&first) {
                        held.version = new;
                    }
                }
                // Heard of soon.
                Ok(None) => {}
                Err(cause) => {
                    tracing::debug!(certificate = first, %cause, "the hub does not take this certificate");
                    self.is_refused = true;
                }
            }
        }
    }

    /// What has failed is due, as an operator wants it. Of an order that is under way it is known when it has ended.
    fn try_now(&mut self) {
        self.by_hand.clear();
        for domains in &self.orders.acme.clone().domains {
            let first = &domains[0];
            let Some(attempts) = self.attempts.get(first).filter(|it| it.failed() > 0).cloned() else {
                continue;
            };
            self.by_hand.insert(first.clone(), attempts.last_tried_ms());
            let wait_ms = self.due_ms(domains, &attempts).saturating_sub(self.orders.clock.unix_ms());
            if wait_ms == 0 {
                tracing::info!(
                    certificate = first,
                    "could not be ordered (ACME), and is tried again, as an operator wants it"
                );
                continue;
            }
            let why = if attempts.is_held_back {
                "as the authority has asked to wait"
            } else {
                "as it was tried for an operator not long ago, or often"
            };
            let minutes = wait_ms / 60_000 + 1;
            tracing::warn!(
                certificate = first,
                minutes,
                "could not be ordered (ACME), and is not tried yet, {why}"
            );
        }
    }

    /// The certificate that is due first, and when.
    fn next(&self) -> Option<(Due, Instant)> {
        let (now, now_ms) = (Instant::now(), self.orders.clock.unix_ms());
        let due = self.orders.acme.domains.iter().map(|domains| {
            let attempts = self.attempts.get(&domains[0]).cloned().unwrap_or_default();
            let wait = Duration::from_millis(self.due_ms(domains, &attempts).saturating_sub(now_ms));
            let set_back = self.set_back.get(&domains[0]).copied();
            let at = (now + wait.min(LOOK)).max(self.not_before).max(set_back.unwrap_or(now));
            (Due { domains: domains.clone(), attempts }, at, set_back)
        });
        // Of those that are due at once, the one whose turn is longest ago.
        let (due, at, _) = due.min_by_key(|(_, at, set_back)| (*at, *set_back))?;
        Some((due, at))
    }

    /// When a certificate is to be ordered, in milliseconds since 1970.
    fn due_ms(&self, domains: &[String], attempts: &AttemptsRecord) -> u64 {
        let acme = &self.orders.acme;
        let wanted = wanted(acme, domains);
        let present = self.held.get(&domains[0]).filter(|it| {
            let of = &it.record;
            of.directory == acme.directory && of.key_type == acme.key_type.name() && of.names == domains
        });
        let renewal =
            present.map_or(0, |it| u64::try_from(it.validity.renewal).unwrap_or(0).saturating_mul(1000));
        let is_by_hand = self.by_hand.get(&domains[0]) == Some(&attempts.last_tried_ms());
        renewal.max(attempts.next_ms(&wanted, is_by_hand.then_some(self.orders.times.by_hand)))
    }

    fn tried(&mut self, name: &str, tried: Tried) {
        if let Some(held) = self.orders.take_issued().and_then(|it| Held::new(it, 0)) {
            let first = held.issued.name.clone();
            if self.held.get(&first).is_none_or(|it| it.record != held.record && !it.is_newer_than(&held)) {
                // It has a turn of its own.
                self.put_anew.remove(&self.orders.names.certificate(&first));
                self.held.insert(first, held);
            }
        }
        let times = &self.orders.times;
        let wait = match tried {
            Tried::Ordered => times.spacing,
            Tried::Failed(cause) => {
                tracing::error!(certificate = name, %cause, "a certificate could not be ordered (ACME): it is tried again later");
                times.spacing
            }
            Tried::ByAnother => {
                self.set_back.insert(name.to_owned(), Instant::now() + times.look_again);
                times.spacing.min(times.look_again)
            }
            Tried::NoHub(cause) => {
                tracing::warn!(certificate = name, %cause, "a certificate is due, and is not ordered without the hub (ACME)");
                times.look_again
            }
        };
        self.not_before = Instant::now() + wait;
    }

    /// Tells the workers, and who asks how it is.
    fn show(&self) {
        let domains = self.orders.acme.domains.iter();
        let held = domains.clone().filter_map(|it| self.held.get(&it[0]));
        self.live.set_certificates(held.map(|it| it.issued.clone()).collect());
        let report = domains.map(|domains| {
            let attempts = self.attempts.get(&domains[0]).cloned().unwrap_or_default();
            OrderReport {
                name: domains[0].clone(),
                not_after: self.held.get(&domains[0]).map(|it| it.validity.not_after),
                next_ms: self.due_ms(domains, &attempts),
                failures: attempts.failures,
                last_error: attempts.last_error,
            }
        });
        self.live.set_report(report.collect());
    }

    /// What the disk has of what is wanted.
    fn read_copies(&mut self) {
        for domains in &self.orders.acme.clone().domains {
            let first = &domains[0];
            let sealed = match self.orders.copies.read(first) {
                Ok(sealed) => sealed,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) => {
                    tracing::warn!(certificate = first, %cause, "the copy of this certificate can't be read");
                    continue;
                }
            };
            let name = self.orders.names.certificate(first);
            let opened = self.orders.sealer.open(&name, &sealed);
            let record = opened.and_then(|it| serde_json::from_slice::<CertificateRecord>(&it.value).ok());
            match record.and_then(|it| Held::new(it, 0)) {
                Some(held) => drop(self.held.insert(first.clone(), held)),
                None => tracing::warn!(
                    certificate = first,
                    "the copy of this certificate is of another cluster-key, or broken"
                ),
            }
        }
    }
}

/// What is being tried, when it has ended; never when nothing is.
async fn ended(trying: &mut Option<(String, Trying)>) -> (String, Tried) {
    let Some((_, running)) = trying else { return std::future::pending().await };
    let tried = running.await;
    let name = trying.take().map(|(name, _)| name).unwrap_or_default();
    (name, tried)
}

fn answers(records: &[(String, ChallengeRecord)]) -> Answers {
    let mut answers = Answers::default();
    for (_, record) in records {
        match record {
            ChallengeRecord::Http { token, answer } => {
                answers.http.insert(token.clone(), answer.as_str().into());
            }
            ChallengeRecord::TlsAlpn { name, digest } => match challenge_certificate(name, digest) {
                Some(key) => drop(answers.tls.insert(name.to_ascii_lowercase(), TlsChallenge(Arc::new(key)))),
                None => tracing::warn!(name, "an answer for `tls-alpn-01` can't be made"),
            },
        }
    }
    answers
}

/// The certificate of RFC 8737 §3: signed by itself, of that one name, with the digest in an extension.
fn challenge_certificate(name: &str, digest: &str) -> Option<CertifiedKey> {
    let byte = |at: usize| u8::from_str_radix(digest.get(at..at + 2)?, 16).ok();
    let digest: [u8; 32] = (0..32).map(|at| byte(2 * at)).collect::<Option<Vec<u8>>>()?.try_into().ok()?;
    let mut params = CertificateParams::new([name.to_owned()]).ok()?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate().ok()?;
    let certificate = params.self_signed(&key).ok()?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).ok()?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // The library would refuse to look into it: its extension is critical.
    let key = provider.key_provider.load_private_key(key).ok()?;
    Some(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests;
