//! One order, as it is spoken about with the authority (RFC 8555 §7.4): identifiers, challenges, the request for a certificate, the certificate.

use crate::{
    key,
    records::{CertificateRecord, ChallengeRecord},
    times::Times,
};
use common::config::{Acme, AcmeChallenge};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::sign::CertifiedKey;
use std::fmt::Write;
use tokio::task::spawn_blocking;
use x509::X509;

/// The longest token of a challenge; they have some 43 characters.
const TOKEN_MAX: usize = 256;

/// Why an order came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// The authority said so, or can't be reached.
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    /// It does not believe that a name is ours.
    #[error("the authority refuses the order: {0}")]
    Refused(String),
    /// It does not know the kind of challenge.
    #[error("the authority has no challenge `{challenge}` for {name}")]
    NoChallenge { challenge: &'static str, name: String },
    /// The answers could not be put where all web-tiers hear of them.
    #[error("the answers to the authority's challenges can't be put on the hub: {0}")]
    Publish(String),
    /// A key could not be made.
    #[error("a private key can't be made: {0}")]
    Key(String),
    /// What came is not what was ordered.
    #[error("the authority's certificate is of no use: {0}")]
    Certificate(&'static str),
    /// It took too long.
    #[error("the order was not done within {0:?}")]
    Late(std::time::Duration),
}

impl OrderError {
    /// The kind of the authority's refusal (RFC 8555 §6.7), without the prefix that all have.
    pub(crate) fn kind(&self) -> Option<&str> {
        match self {
            Self::Acme(instant_acme::Error::Api(problem)) => {
                problem.r#type.as_deref().map(|it| it.trim_start_matches("urn:ietf:params:acme:error:"))
            }
            _ => None,
        }
    }
}

/// Where answers are put, so that every web-tier gives them.
#[async_trait::async_trait]
pub(crate) trait Publish: Sync {
    /// Returns when all can be expected to have heard.
    async fn publish(&self, answers: Vec<ChallengeRecord>) -> Result<(), String>;
}

/// Orders a certificate for `names`. What was published is the caller's to take back.
pub(crate) async fn order(
    account: &Account,
    acme: &Acme,
    names: &[String],
    publish: &dyn Publish,
    times: &Times,
) -> Result<CertificateRecord, OrderError> {
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let policy = RetryPolicy::new().initial_delay(times.poll).backoff(1.5).timeout(times.order);
    if order.state().status == OrderStatus::Pending {
        let kind = match acme.challenge {
            AcmeChallenge::Http01 => ChallengeType::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let answers = answers(&mut order, &kind, names).await?;
        if !answers.is_empty() {
            publish.publish(answers).await.map_err(OrderError::Publish)?;
            ask(&mut order, &kind).await?;
        }
        match order.poll_ready(&policy).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(OrderError::Refused(why(&mut order, None).await)),
            Err(instant_acme::Error::Api(problem)) => {
                return Err(OrderError::Refused(why(&mut order, Some(problem.to_string())).await));
            }
            Err(cause) => return Err(cause.into()),
        }
    }
    let (kind, wanted) = (acme.key_type, names.to_vec());
    let made = spawn_blocking(move || {
        let key = key::generate(kind)?;
        Ok::<_, rcgen::Error>((key::request(&wanted, &key)?, key.serialize_pem()))
    });
    let (request, key) = made
        .await
        .map_err(|cause| OrderError::Key(cause.to_string()))?
        .map_err(|cause| OrderError::Key(cause.to_string()))?;
    if order.state().status == OrderStatus::Ready {
        order.finalize_csr(&request).await?;
    }
    let chain = order.poll_certificate(&policy).await?;
    let record = CertificateRecord {
        directory: acme.directory.clone(),
        key_type: acme.key_type.name().to_owned(),
        names: names.to_vec(),
        chain,
        key,
    };
    check(&record).map_err(OrderError::Certificate)?;
    Ok(record)
}

fn challenge_name(kind: &ChallengeType) -> &'static str {
    if matches!(kind, ChallengeType::Http01) { "http-01" } else { "tls-alpn-01" }
}

/// What is to be answered for the names that the authority does not yet believe to be ours.
async fn answers(
    order: &mut Order,
    kind: &ChallengeType,
    names: &[String],
) -> Result<Vec<ChallengeRecord>, OrderError> {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        if !names.iter().any(|it| it.eq_ignore_ascii_case(&name)) {
            return Err(OrderError::Refused(format!("it asks about {name}, which was not ordered")));
        }
        let Some(challenge) = authorization.challenge(kind.clone()) else {
            return Err(OrderError::NoChallenge { challenge: challenge_name(kind), name });
        };
        // It becomes a part of a path.
        let is_token = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
        if challenge.token.is_empty()
            || challenge.token.len() > TOKEN_MAX
            || !challenge.token.bytes().all(is_token)
        {
            return Err(OrderError::Refused(format!("its token for {name} is not one of RFC 8555")));
        }
        let answer = challenge.key_authorization();
        found.push(match kind {
            ChallengeType::TlsAlpn01 => {
                let mut digest = String::new();
                answer.digest().as_ref().iter().for_each(|byte| {
                    let _never_fails = write!(digest, "{byte:02x}");
                });
                ChallengeRecord::TlsAlpn { name, digest }
            }
            _ => ChallengeRecord::Http { token: challenge.token.clone(), answer: answer.as_str().to_owned() },
        });
    }
    Ok(found)
}

/// Has the authority ask.
async fn ask(order: &mut Order, kind: &ChallengeType) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(kind.clone())
        {
            challenge.set_ready().await?;
        }
    }
    Ok(())
}

/// Why the authority does not believe it, name by name, in its own words.
async fn why(order: &mut Order, said: Option<String>) -> String {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            break;
        }
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|it| it.error.as_ref());
        found.extend(problems.map(|problem| format!("{name}: {problem}")));
    }
    if found.is_empty() { said.unwrap_or_else(|| "it does not say why".to_owned()) } else { found.join("; ") }
}

/// Whether the certificate is one that can be shown for its names, with its key.
pub(crate) fn check(record: &CertificateRecord) -> Result<(), &'static str> {
    let chain = record.certificates().ok_or("it is no certificate in PEM")?;
    let key = record.private_key().ok_or("its private key can't be read")?;
    let x509 = X509::parse(&chain[0]).ok_or("it is no X.509 certificate")?;
    let bears = |name: &String| x509.dns_names.iter().any(|it| it.eq_ignore_ascii_case(name));
    if !record.names.iter().all(bears) {
        return Err("it does not bear all names that were ordered");
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map(drop)
        .map_err(|_| "it is not of the key that has asked for it")
}
