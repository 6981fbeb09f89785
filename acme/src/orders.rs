//! Who orders, and how often: one web-tier at a time, by a lease; each try is written down before it begins, so that neither a crash nor another
//! server tries again before it is time.

use crate::{
    copies::Copies,
    directory::Directory,
    order::{OrderError, Publish, order},
    records::{AccountRecord, AttemptsRecord, CertificateRecord, ChallengeRecord, Names},
    seal::Sealer,
    storage::Storage,
    times::Times,
};
use bytes::Bytes;
use common::{clock::Clock, config::Acme};
use instant_acme::{Account, ExternalAccountKey, Key, NewAccount};
use proto::hub::v1::{PutSecret, secret_put::Outcome};
use rustls::pki_types::PrivateKeyDer;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// An answer to a challenge is of no use after so long.
const CHALLENGE_VALID: Duration = Duration::from_secs(3600);

/// The longest error that is kept.
const ERROR_MAX: usize = 1000;

/// Errors that will be the same in an hour: tried as seldom as can be.
const FOR_LONG: [&str; 4] = ["rejectedIdentifier", "accountDoesNotExist", "unsupportedIdentifier", "caa"];

/// There were too many (RFC 8555 §6.6).
const LIMITED: &str = "rateLimited";

/// What orders are made with; clones are the same.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) acme: Arc<Acme>,
    pub(crate) names: Names,
    pub(crate) sealer: Sealer,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) times: Times,
    pub(crate) copies: Copies,
    /// A certificate that has come, until the hub has it.
    pub(crate) issued: Arc<Mutex<Option<CertificateRecord>>>,
}

/// What a try came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// There is a new certificate, on the hub.
    Ordered,
    /// It failed; that is on the hub, too.
    Failed(String),
    /// Another server has the lease, or has just ordered.
    ByAnother,
    /// The hub does not answer: nothing was ordered.
    NoHub(String),
}

/// One certificate that is due.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) domains: Vec<String>,
    /// What is known of it.
    pub(crate) attempts: AttemptsRecord,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Orders {
    /// The record of this name, as last heard, and its version.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> (Option<T>, u64) {
        let table = self.storage.secrets().borrow().clone().unwrap_or_default();
        let Some(secret) = table.get(name) else { return (None, 0) };
        let value = self.sealer.open(name, &secret.sealed);
        (value.and_then(|it| serde_json::from_slice(&it.value).ok()), secret.version)
    }

    /// Puts a record in place of the version that is known; its own version, or `None` when another is there.
    pub(crate) async fn put(
        &self,
        name: &str,
        record: &impl Serialize,
        if_version: u64,
        valid: Option<Duration>,
    ) -> Result<Option<u64>, String> {
        let value = serde_json::to_vec(record).map_err(|cause| cause.to_string())?;
        let sealed = self.sealer.seal(name, &value).ok_or("the system has no random numbers")?;
        self.put_sealed(name, sealed.into(), if_version, valid).await
    }

    pub(crate) async fn put_sealed(
        &self,
        name: &str,
        sealed: Bytes,
        if_version: u64,
        valid: Option<Duration>,
    ) -> Result<Option<u64>, String> {
        let valid_ms = valid.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let put = PutSecret { name: name.to_owned(), sealed, if_version, valid_ms };
        match self.storage.put(put).await {
            Ok(Outcome::Put(it)) => Ok(Some(it.version)),
            Ok(Outcome::Conflict(_)) => Ok(None),
            Ok(Outcome::Full(count)) => Err(format!("there is no room beside {count} others")),
            Err(cause) => Err(cause.to_string()),
        }
    }

    async fn remove(&self, name: &str, if_version: u64) {
        let put = PutSecret { name: name.to_owned(), sealed: Bytes::new(), if_version, valid_ms: 0 };
        if let Err(cause) = self.storage.put(put).await {
            tracing::debug!(%cause, name, "a record of ACME is left to its end");
        }
    }

    /// Orders a certificate, if nobody else does, and writes down what came of it.
    pub(crate) async fn try_order(self, due: Due) -> Tried {
        // The lease counts from before it was asked for.
        let mut held = Instant::now();
        let token = match self.storage.acquire(self.times.lease).await {
            Ok(Some(token)) => token,
            Ok(None) => return Tried::ByAnother,
            Err(cause) => return Tried::NoHub(cause.to_string()),
        };
        let trying = self.with_lease(&due);
        tokio::pin!(trying);
        let tried = loop {
            tokio::select! {
                tried = &mut trying => break tried,
                () = sleep(self.times.lease / 3) => {
                    let renewing = Instant::now();
                    match self.storage.renew(token).await {
                        Ok(true) => held = renewing,
                        Ok(false) => break Tried::ByAnother,
                        // It may be heard of before its time is over.
                        Err(cause) if held.elapsed() >= self.times.lease * 2 / 3 => break Tried::NoHub(cause.to_string()),
                        Err(_) => {}
                    }
                }
            }
        };
        self.storage.release(token).await;
        tried
    }

    async fn with_lease(&self, due: &Due) -> Tried {
        let first = &due.domains[0];
        let name = self.names.attempts(first);
        let (known, version) = self.read::<AttemptsRecord>(&name);
        // Sealed by a key that is unknown here: each goes by what it knows.
        let unknown = || if version == 0 { AttemptsRecord::default() } else { due.attempts.clone() };
        let known = known.unwrap_or_else(unknown);
        if known != due.attempts {
            return Tried::ByAnother;
        }
        let (wanted, now_ms) = (wanted(&self.acme, &due.domains), self.clock.unix_ms());
        // As if it had failed, until it is known that it has not. One that an operator wants makes those that come by themselves no rarer.
        let one_more = u32::from(!known.is_early(&wanted, now_ms));
        let failures = known.failed().saturating_add(one_more).max(1);
        let next_ms = self.after(self.times.retry(failures, None, rand::random()));
        let pending = known.begin(wanted, now_ms, next_ms);
        let version = match self.put(&name, &pending, version, None).await {
            Ok(Some(version)) => version,
            Ok(None) => return Tried::ByAnother,
            Err(cause) => return Tried::NoHub(cause),
        };
        tracing::info!(
            names = due.domains.join(", "),
            directory = self.acme.directory,
            "ordering a certificate (ACME)"
        );
        let published = Published { orders: self, put: Mutex::default() };
        let ordered = timeout(self.times.order, self.order(due, &published)).await;
        let ordered =
            ordered.unwrap_or(Err(Ended { cause: OrderError::Late(self.times.order), asked: None }));
        published.take_back().await;
        let (after, tried) = match ordered {
            Ok(()) => (pending.done(self.clock.unix_ms()), Tried::Ordered),
            Err(ended) => {
                let last_error: String = ended.cause.to_string().chars().take(ERROR_MAX).collect();
                let (failures, wait) = self.wait_after(&ended, failures);
                let (next_ms, tried) = (self.after(wait), Tried::Failed(last_error.clone()));
                let is_held_back = ended.is_held_back();
                (
                    AttemptsRecord { failures, next_ms, last_error, is_held_back, begun: false, ..pending },
                    tried,
                )
            }
        };
        // It may have been sealed anew meanwhile.
        if let Err(cause) = self.put_over(&name, &after, version).await {
            tracing::warn!(name, %cause, "how an order of a certificate ended can't be written down");
        }
        tried
    }

    /// How many failures an order that failed counts for, and how long is waited after it.
    fn wait_after(&self, Ended { cause, asked }: &Ended, failures: u32) -> (u32, Duration) {
        let is_for_long = cause.kind().is_some_and(|it| FOR_LONG.contains(&it));
        let failures = if is_for_long { failures.max(6) } else { failures };
        let limited = (cause.kind() == Some(LIMITED)).then_some(Duration::from_secs(3600));
        (failures, self.times.retry(failures, asked.or(limited), rand::random()))
    }

    async fn order(&self, due: &Due, published: &Published<'_>) -> Result<(), Ended> {
        let acme = self.acme.clone();
        let directory = tokio::task::spawn_blocking(move || Directory::new(&acme)).await;
        let directory = match directory {
            Ok(Ok(directory)) => directory,
            Ok(Err(fault)) => return Err(Ended::of(OrderError::Refused(fault.to_string()))),
            Err(cause) => return Err(Ended::of(OrderError::Key(cause.to_string()))),
        };
        let ended = |cause: OrderError| Ended { cause, asked: directory.take_asked() };
        let mut ordered = self.order_by(&directory, due, published, false).await;
        if ordered.as_ref().is_err_and(|cause| cause.kind() == Some("accountDoesNotExist")) {
            tracing::warn!(
                directory = self.acme.directory,
                "the authority does not know the account any more (ACME): it is made anew"
            );
            ordered = self.order_by(&directory, due, published, true).await;
        }
        let record = ordered.map_err(ended)?;
        self.keep(&due.domains[0], record).await;
        Ok(())
    }

    /// Orders in the name of the cluster's account, which is made `anew` if the authority does not know it.
    async fn order_by(
        &self,
        directory: &Directory,
        due: &Due,
        published: &Published<'_>,
        anew: bool,
    ) -> Result<CertificateRecord, OrderError> {
        let account = self.account(directory, anew).await?;
        order(&account, &self.acme, &due.domains, published, &self.times).await
    }

    /// It has cost an order: this server has it, whatever becomes of the hub, or of the lease.
    pub(crate) async fn keep(&self, first: &str, record: CertificateRecord) {
        *self.issued.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
        let name = self.names.certificate(first);
        if let Ok(value) = serde_json::to_vec(&record)
            && let Some(sealed) = self.sealer.seal(&name, &value)
        {
            self.copies.write(first, sealed).await;
        }
        let version = self.read::<CertificateRecord>(&name).1;
        match self.put_over(&name, &record, version).await {
            Ok(()) => drop(self.take_issued()),
            Err(cause) => {
                tracing::warn!(certificate = first, %cause, "a new certificate is not on the hub yet: this server alone has it");
            }
        }
    }

    /// A certificate that has come, and is not on the hub.
    pub(crate) fn take_issued(&self) -> Option<CertificateRecord> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The new one counts whatever is there, for who has the lease.
    async fn put_over(&self, name: &str, record: &impl Serialize, mut version: u64) -> Result<(), String> {
        let value = serde_json::to_vec(record).map_err(|cause| cause.to_string())?;
        let sealed: Bytes = self.sealer.seal(name, &value).ok_or("the system has no random numbers")?.into();
        let mut last = String::new();
        // A hub that is away for a moment.
        for _ in 0..10 {
            let put =
                PutSecret { name: name.to_owned(), sealed: sealed.clone(), if_version: version, valid_ms: 0 };
            match self.storage.put(put).await {
                Ok(Outcome::Put(_)) => return Ok(()),
                Ok(Outcome::Conflict(there)) => version = there.version,
                Ok(Outcome::Full(count)) => return Err(format!("there is no room beside {count} others")),
                Err(cause) => {
                    last = cause.to_string();
                    sleep(self.times.poll).await;
                }
            }
        }
        Err(last)
    }

    /// The cluster's account at the authority; made when there is none. `anew`: it does not know the account, and is told of the same key again,
    /// which is nothing new to one that does know it. One that is bound to another account gets another key.
    async fn account(&self, directory: &Directory, anew: bool) -> Result<Account, OrderError> {
        let acme = &self.acme;
        let bound = acme.external_account.as_ref();
        let name = self.names.account(&acme.directory, bound.map(|it| it.key_id.as_str()));
        let (known, version) = self.read::<AccountRecord>(&name);
        let contact: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
        let (known, former) = if anew { (None, known) } else { (known, None) };
        if let Some(AccountRecord { credentials, contact: told }) = known {
            let account = Account::builder_with_http(Box::new(directory.clone()));
            // It is read anew where it is wanted again: it can't be copied.
            let account = account.from_credentials(credentials).await?;
            if told != acme.contact {
                account.update_contacts(&contact).await?;
                if let (Some(AccountRecord { credentials, .. }), version) = self.read(&name) {
                    let record = AccountRecord { credentials, contact: acme.contact.clone() };
                    self.put(&name, &record, version, None).await.map_err(OrderError::Publish)?;
                }
            }
            return Ok(account);
        }
        let builder = Account::builder_with_http(Box::new(directory.clone()));
        let (account, credentials) = match (former, bound) {
            (Some(former), None) => {
                let key = former.credentials.private_key().clone_key();
                let key = (Key::from_pkcs8_der(key.clone_key())?, PrivateKeyDer::Pkcs8(key));
                let (account, credentials) = builder.create_from_key(key, acme.directory.clone()).await?;
                if !contact.is_empty() {
                    account.update_contacts(&contact).await?;
                }
                (account, credentials)
            }
            (_, bound) => {
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let bound = bound.map(|it| ExternalAccountKey::new(it.key_id.clone(), it.hmac_key.bytes()));
                builder.create(&new, acme.directory.clone(), bound.as_ref()).await?
            }
        };
        let record = AccountRecord { credentials, contact: acme.contact.clone() };
        if anew {
            self.put_over(&name, &record, version).await.map_err(OrderError::Publish)?;
            return Ok(account);
        }
        match self.put(&name, &record, version, None).await.map_err(OrderError::Publish)? {
            Some(_) => Ok(account),
            None => Err(OrderError::Publish("another server has made an account meanwhile".into())),
        }
    }

    fn after(&self, wait: Duration) -> u64 {
        self.clock.unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

/// By what a certificate is another one.
pub(crate) fn wanted(acme: &Acme, domains: &[String]) -> String {
    format!("{} {} {} {:?}", acme.directory, acme.key_type.name(), domains.join(","), acme.challenge)
}

/// Why an order ended, and how long the authority has asked to wait.
struct Ended {
    cause: OrderError,
    asked: Option<Duration>,
}

impl Ended {
    fn of(cause: OrderError) -> Self {
        Self { cause, asked: None }
    }

    /// Whether the authority wants no order before the time is over.
    fn is_held_back(&self) -> bool {
        self.asked.is_some() || self.cause.kind() == Some(LIMITED)
    }
}

/// Puts answers on the hub, and takes them back.
struct Published<'a> {
    orders: &'a Orders,
    /// The records, and their versions.
    put: Mutex<Vec<(String, u64)>>,
}

impl Published<'_> {
    async fn take_back(&self) {
        let put = std::mem::take(&mut *self.put.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, version) in put {
            self.orders.remove(&name, version).await;
        }
    }
}

#[async_trait::async_trait]
impl Publish for Published<'_> {
    async fn publish(&self, answers: Vec<ChallengeRecord>) -> Result<(), String> {
        let orders = self.orders;
        for answer in answers {
            let name = orders.names.challenge(match &answer {
                ChallengeRecord::Http { token, .. } => token,
                ChallengeRecord::TlsAlpn { name, .. } => name,
            });
            let version = orders.read::<ChallengeRecord>(&name).1;
            let Some(version) = orders.put(&name, &answer, version, Some(CHALLENGE_VALID)).await? else {
                return Err("another server has put one there".into());
            };
            self.put.lock().unwrap_or_else(PoisonError::into_inner).push((name, version));
        }
        // Every web-tier hears of it in milliseconds; nobody can say that each of them has.
        sleep(orders.times.propagation).await;
        Ok(())
    }
}
