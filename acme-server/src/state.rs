//! Accounts, orders and authorizations, and what requests do to them.

use crate::{
    jws::{self, Signed},
    lock,
    validate::{Question, validate},
};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use rcgen::{CertificateSigningRequestParams, CustomExtension, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::CertificateSigningRequestDer;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How an authority is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where `http-01` is asked for, in turns.
    pub http: Vec<SocketAddr>,
    /// Where `tls-alpn-01` is asked for, in turns.
    pub tls: Vec<SocketAddr>,
    /// How long ago its certificates begin to be valid, and for how long they are from now on.
    pub valid_before: Duration,
    /// See `valid_before`.
    pub valid_after: Duration,
    /// What the next orders are refused with.
    pub refusals: Vec<Refusal>,
    /// The key of the accounts that its accounts have to be bound to, and its name.
    pub bound: Option<(String, Vec<u8>)>,
    /// The next so many requests are refused for their nonce.
    pub bad_nonces: usize,
    /// An extension of its certificates: its identifier's arcs, and its content.
    pub extension: Option<(Vec<u64>, Vec<u8>)>,
}

/// An order that is refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The kind (RFC 8555 §6.7), without `urn:ietf:params:acme:error:`.
    pub kind: String,
    /// `Retry-After`, in seconds.
    pub retry_after: u64,
}

#[derive(Debug)]
struct Order {
    account: String,
    names: Vec<String>,
    certificate: Option<String>,
}

#[derive(Debug)]
struct Authorization {
    name: String,
    token: String,
    status: &'static str,
    error: Option<String>,
    /// By which challenge.
    is_tls: bool,
}

/// All there is.
#[derive(Debug)]
pub(crate) struct State {
    base: String,
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    pub(crate) settings: Settings,
    nonces: HashSet<String>,
    last: u64,
    /// The keys, by URL.
    pub(crate) accounts: HashMap<String, Vec<u8>>,
    /// Of all accounts that there have ever been.
    pub(crate) keys: HashSet<Vec<u8>>,
    orders: Vec<Order>,
    /// Order by order, name by name.
    authorizations: HashMap<(usize, usize), Authorization>,
    pub(crate) orders_asked: usize,
    pub(crate) asked: Vec<SocketAddr>,
    pub(crate) retry_after: u64,
}

type Answer = Response<Full<Bytes>>;

impl State {
    pub(crate) fn new(base: String, issuer: Issuer<'static, KeyPair>, root_pem: String) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            base,
            issuer,
            root_pem,
            settings: Settings {
                http: Vec::new(),
                tls: Vec::new(),
                valid_before: Duration::from_secs(3600),
                valid_after: DAY * 90,
                refusals: Vec::new(),
                bound: None,
                bad_nonces: 0,
                extension: None,
            },
            nonces: HashSet::new(),
            last: 0,
            accounts: HashMap::new(),
            keys: HashSet::new(),
            orders: Vec::new(),
            authorizations: HashMap::new(),
            orders_asked: 0,
            asked: Vec::new(),
            retry_after: 0,
        }
    }

    pub(crate) fn nonce(&mut self) -> String {
        self.last += 1;
        let nonce = format!("nonce-{}", self.last);
        self.nonces.insert(nonce.clone());
        nonce
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let base = &self.base;
        match path {
            "/directory" => answer(
                StatusCode::OK,
                None,
                &json!({
                    "newNonce": format!("{base}/nonce"),
                    "newAccount": format!("{base}/new-account"),
                    "newOrder": format!("{base}/new-order"),
                    "revokeCert": format!("{base}/revoke"),
                    "keyChange": format!("{base}/key-change"),
                    "meta": {"externalAccountRequired": self.settings.bound.is_some()},
                }),
            ),
            "/nonce" => answer(StatusCode::OK, None, &Value::Null),
            _ => problem(StatusCode::NOT_FOUND, "malformed", "there is nothing here"),
        }
    }

    pub(crate) fn post(&mut self, shared: &Arc<Mutex<Self>>, path: &str, body: &[u8]) -> Answer {
        if jws::account(body).is_some_and(|it| !self.accounts.contains_key(&it)) {
            return problem(StatusCode::BAD_REQUEST, "accountDoesNotExist", "no such account");
        }
        let Some(signed) = jws::verify(body, |account| self.accounts.get(account).cloned()) else {
            return problem(StatusCode::UNAUTHORIZED, "unauthorized", "the signature is not good");
        };
        let said = |key: &str| signed.header.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if !self.nonces.remove(&said("nonce")) || self.settings.bad_nonces > 0 {
            self.settings.bad_nonces = self.settings.bad_nonces.saturating_sub(1);
            return problem(StatusCode::BAD_REQUEST, "badNonce", "this nonce is not mine");
        }
        if said("url") != format!("{}{path}", self.base) {
            return problem(StatusCode::UNAUTHORIZED, "unauthorized", "another url was signed");
        }
        if path == "/new-account" {
            return self.new_account(&signed);
        }
        let account = said("kid");
        if account.is_empty() {
            return problem(StatusCode::UNAUTHORIZED, "unauthorized", "no account");
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |at: usize| parts.get(at).and_then(|it| it.parse::<usize>().ok()).unwrap_or(usize::MAX);
        match parts[0] {
            "new-order" => self.new_order(&account, &signed),
            "account" => answer(StatusCode::OK, None, &json!({"status": "valid"})),
            kind if self.orders.get(number(1)).is_none_or(|it| it.account != account) => {
                problem(StatusCode::NOT_FOUND, "malformed", &format!("no such {kind} of yours"))
            }
            "order" => answer(StatusCode::OK, None, &self.order(number(1))),
            "authz" => match self.authorizations.get(&(number(1), number(2))) {
                Some(_) => answer(StatusCode::OK, None, &self.authorization((number(1), number(2)))),
                None => problem(StatusCode::NOT_FOUND, "malformed", "no such authorization"),
            },
            "challenge" => {
                self.challenge(shared, (number(1), number(2)), parts.get(3) == Some(&"tls"), &signed.key)
            }
            "finalize" => self.finalize(number(1), &signed),
            "certificate" => match &self.orders[number(1)].certificate {
                Some(chain) => {
                    let answer =
                        Response::builder().header(header::CONTENT_TYPE, "application/pem-certificate-chain");
                    answer.body(Full::from(chain.clone())).expect("an answer")
                }
                None => problem(StatusCode::FORBIDDEN, "orderNotReady", "not yet"),
            },
            _ => problem(StatusCode::NOT_FOUND, "malformed", "there is nothing here"),
        }
    }

    fn new_account(&mut self, signed: &Signed) -> Answer {
        let payload: Value = serde_json::from_slice(&signed.payload).unwrap_or_default();
        if payload.get("termsOfServiceAgreed") != Some(&Value::Bool(true)) {
            return problem(StatusCode::FORBIDDEN, "userActionRequired", "the terms were not agreed to");
        }
        if let Some((key_id, secret)) = &self.settings.bound {
            let bound = payload.get("externalAccountBinding").cloned().unwrap_or_default();
            if !jws::is_bound(&bound, key_id, secret, &signed.key) {
                return problem(
                    StatusCode::FORBIDDEN,
                    "externalAccountRequired",
                    "it is bound to no account",
                );
            }
        }
        let known = self.accounts.iter().find(|(_, key)| **key == signed.key).map(|(url, _)| url.clone());
        let url = known.unwrap_or_else(|| format!("{}/account/{}", self.base, self.accounts.len()));
        self.accounts.insert(url.clone(), signed.key.clone());
        self.keys.insert(signed.key.clone());
        answer(
            StatusCode::CREATED,
            Some(&url),
            &json!({"status": "valid", "orders": format!("{url}/orders")}),
        )
    }

    fn new_order(&mut self, account: &str, signed: &Signed) -> Answer {
        self.orders_asked += 1;
        if !self.settings.refusals.is_empty() {
            let refusal = self.settings.refusals.remove(0);
            self.retry_after = refusal.retry_after;
            let status = StatusCode::from_u16(refusal.status).expect("a status");
            return problem(status, &refusal.kind, "the order is refused, as the test wants it");
        }
        let payload: Value = serde_json::from_slice(&signed.payload).unwrap_or_default();
        let identifiers = payload.get("identifiers").and_then(Value::as_array).cloned().unwrap_or_default();
        let names: Vec<String> = identifiers
            .iter()
            .filter(|it| it["type"] == "dns")
            .filter_map(|it| it["value"].as_str().map(str::to_owned))
            .collect();
        if names.is_empty() || names.len() != identifiers.len() {
            return problem(StatusCode::BAD_REQUEST, "malformed", "no names");
        }
        let number = self.orders.len();
        for (at, name) in names.iter().enumerate() {
            self.last += 1;
            let token = format!("token-{}_{}", self.last, jws::encode(name.as_bytes()));
            let new =
                Authorization { name: name.clone(), token, status: "pending", error: None, is_tls: false };
            self.authorizations.insert((number, at), new);
        }
        self.orders.push(Order { account: account.to_owned(), names, certificate: None });
        let url = format!("{}/order/{number}", self.base);
        answer(StatusCode::CREATED, Some(&url), &self.order(number))
    }

    fn status(&self, number: usize) -> &'static str {
        let order = &self.orders[number];
        let all: Vec<_> =
            (0..order.names.len()).map(|at| self.authorizations[&(number, at)].status).collect();
        match () {
            () if order.certificate.is_some() => "valid",
            () if all.contains(&"invalid") => "invalid",
            () if all.iter().all(|it| *it == "valid") => "ready",
            () => "pending",
        }
    }

    fn order(&self, number: usize) -> Value {
        let (base, order) = (&self.base, &self.orders[number]);
        let identifiers: Vec<_> = order.names.iter().map(|it| json!({"type": "dns", "value": it})).collect();
        let authorizations: Vec<_> =
            (0..order.names.len()).map(|at| format!("{base}/authz/{number}/{at}")).collect();
        let mut value = json!({
            "status": self.status(number),
            "identifiers": identifiers,
            "authorizations": authorizations,
            "finalize": format!("{base}/finalize/{number}"),
        });
        if order.certificate.is_some() {
            value["certificate"] = format!("{base}/certificate/{number}").into();
        }
        value
    }

    fn authorization(&self, place: (usize, usize)) -> Value {
        let it = &self.authorizations[&place];
        let challenge = |kind: &str, part: &str, is_tls: bool| {
            let mut value = json!({
                "type": kind,
                "url": format!("{}/challenge/{}/{}/{part}", self.base, place.0, place.1),
                "token": it.token,
                "status": if it.is_tls == is_tls { it.status } else { "pending" },
            });
            if let Some(error) = it.error.as_ref().filter(|_| it.is_tls == is_tls) {
                value["error"] = json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": error});
            }
            value
        };
        json!({
            "status": it.status,
            "identifier": {"type": "dns", "value": it.name},
            "challenges": [challenge("http-01", "http", false), challenge("tls-alpn-01", "tls", true)],
        })
    }

    /// Asks, in the background.
    fn challenge(
        &mut self,
        shared: &Arc<Mutex<Self>>,
        place: (usize, usize),
        is_tls: bool,
        key: &[u8],
    ) -> Answer {
        let Some(authorization) = self.authorizations.get_mut(&place) else {
            return problem(StatusCode::NOT_FOUND, "malformed", "no such challenge");
        };
        authorization.is_tls = is_tls;
        let targets = if is_tls { &self.settings.tls } else { &self.settings.http };
        let question = targets.get(self.asked.len() % targets.len().max(1)).map(|at| Question {
            is_tls,
            at: *at,
            name: authorization.name.clone(),
            token: authorization.token.clone(),
            expected: format!("{}.{}", authorization.token, jws::thumbprint(key)),
        });
        self.asked.extend(question.as_ref().map(|it| it.at));
        let shared = shared.clone();
        tokio::spawn(async move {
            let result = match question {
                Some(question) => validate(&question).await,
                None => Err("the name has no address".to_owned()),
            };
            let mut state = lock(&shared);
            if let Some(authorization) = state.authorizations.get_mut(&place) {
                authorization.status = if result.is_ok() { "valid" } else { "invalid" };
                authorization.error = result.err();
            }
        });
        let value = self.authorization(place);
        answer(StatusCode::OK, None, &value["challenges"][usize::from(is_tls)])
    }

    fn finalize(&mut self, number: usize, signed: &Signed) -> Answer {
        if self.status(number) != "ready" {
            return problem(StatusCode::FORBIDDEN, "orderNotReady", "not yet");
        }
        let payload: Value = serde_json::from_slice(&signed.payload).unwrap_or_default();
        let request = payload.get("csr").and_then(Value::as_str).and_then(jws::decode).unwrap_or_default();
        let request = CertificateSigningRequestDer::from(request);
        let Ok(mut request) = CertificateSigningRequestParams::from_der(&request) else {
            return problem(StatusCode::BAD_REQUEST, "badCSR", "it is none, or its signature is not good");
        };
        let mut names: Vec<_> = request.params.subject_alt_names.iter().map(name).collect();
        let mut ordered: Vec<_> = self.orders[number].names.iter().cloned().map(Some).collect();
        names.sort();
        ordered.sort();
        if names != ordered {
            return problem(StatusCode::BAD_REQUEST, "badCSR", "other names were ordered");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = date_time_ymd(1970, 1, 1);
        request.params.not_before = epoch + now.saturating_sub(self.settings.valid_before);
        request.params.not_after = epoch + now + self.settings.valid_after;
        if let Some((id, content)) = &self.settings.extension {
            request.params.custom_extensions = vec![CustomExtension::from_oid_content(id, content.clone())];
        }
        match request.signed_by(&self.issuer) {
            Ok(certificate) => {
                self.orders[number].certificate = Some(format!("{}{}", certificate.pem(), self.root_pem));
                answer(StatusCode::OK, None, &self.order(number))
            }
            Err(cause) => problem(StatusCode::BAD_REQUEST, "badCSR", &cause.to_string()),
        }
    }
}

fn name(name: &SanType) -> Option<String> {
    if let SanType::DnsName(it) = name { Some(it.as_str().to_owned()) } else { None }
}

fn answer(status: StatusCode, location: Option<&str>, value: &Value) -> Answer {
    let mut answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if let Some(location) = location {
        answer = answer.header(header::LOCATION, location);
    }
    answer.body(Full::from(value.to_string())).expect("an answer")
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Answer {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    answer(status, None, &json!({"type": kind, "detail": detail, "status": status.as_u16()}))
}
