//! The life of a request, one function a phase: normalise → route → prepare → (choose a server → take a socket → send), the
//! last three again while that is safe → the answer's head. The client's side passes the body on.

mod attempt;
mod cached;
mod compressed;
pub(crate) mod error_pages;
pub(crate) mod forward;
mod forwarded_port;
mod guard;
pub(crate) mod local;
mod mirror;
mod prepare;
mod tries;
pub(crate) mod tunnel;
pub(crate) mod why;

use crate::{
    cache::settings::CacheSettings,
    error::ProxyError,
    http1::{Fields, Length, Name, RequestHead, ResponseHead},
    limit::{Subject, key},
    memory::{
        buffer::{Piece, SIZE},
        shelf::Shelved,
    },
    observe::access_log::put_masked,
    proxy::{
        forward::{may_go_on, remove_nominated},
        local::{Local, Why, edit_answer},
    },
    route::{
        Routes,
        host::without_port,
        normalise::{decoded, normalise_request},
        rules::{Decision, Edit, ForeignTarget, Noted, Outcome, RequestView, Site, SiteRequest, Target},
        session_url::InUrl,
        trusted::Asker,
    },
    upstream::{
        Upstream,
        balance::Affinity,
        exchange::{BodyError, ClientSide, Exchange, Outgoing},
        sticky::{Belongs, Stickiness},
    },
    worker::{Worker, client::Client},
};
use attempt::{Failure, attempt, discard};
use cached::{Ask, Plan};
use common::{
    config::{RequestKey, Strategy},
    shortage::is_shortage,
};
use compressed::compress;
use guard::Guarded;
use http::{Method, StatusCode};
use prepare::prepare;
use std::{borrow::Cow, future::poll_fn, net::IpAddr, rc::Rc};
use tries::{Tries, is_outdated};

/// An answer's head, and the exchange that brings its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Shelved<Box<ResponseHead>>,
    pub(crate) exchange: Box<Exchange>,
    /// The request, of which a part may still have to be sent.
    pub(crate) outgoing: Outgoing,
}

/// What a client gets.
#[derive(Debug)]
pub(crate) enum Reply {
    Server(Answer),
    Local(Local),
}

impl Reply {
    fn head(&mut self) -> &mut ResponseHead {
        match self {
            Self::Server(answer) => &mut answer.head,
            Self::Local(local) => &mut local.head,
        }
    }

    /// As the client gets it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Server(answer) => answer.head.status,
            Self::Local(local) => local.head.status,
        }
    }
}

/// Nobody is there any more to hear an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientGone;

/// Answers a request: by a server, or by what the rules say of it.
pub(crate) async fn answer<S: ClientSide>(
    client: &Rc<Client>,
    head: &mut RequestHead,
    side: &mut S,
) -> Result<Reply, ClientGone> {
    head.noted.clear();
    let routes = client.worker.routes();
    let in_url = match begin(client, &routes, head) {
        Ok(in_url) => in_url,
        Err(local) => return Ok(Reply::Local(local)),
    };
    let asker = Asker::of(&routes.trusted, &client.peer, &head.fields, client.tls.is_some());
    note_client(client, &asker);
    let Outcome { decision, noted, set_cookies, rewritten } =
        evaluate(client, &routes, &asker, head, in_url.as_ref());
    let Noted { edits, guards, mirrors, may_mirror } = noted;
    if may_mirror || !guards.is_empty() {
        remove_nominated(head);
    }
    if may_mirror {
        mirror::remove_mark(&mut head.fields);
    }
    let guarded = match &guards[..] {
        [] => Guarded::default(),
        // In a box, as every request would be as large.
        guards => Box::pin(guard::check(client, (&routes, guards), &asker, in_url.as_ref(), head)).await,
    };
    let Guarded { refused, told, knows_user } = guarded;
    if knows_user {
        side.drop_trailers();
    }
    let mirrors: Vec<_> = mirrors.into_iter().map(|place| routes.upstreams[place].clone()).collect();
    if let Some(in_url) = in_url.as_ref().filter(|_| !keeps_session(&decision)) {
        head.set_path(&in_url.path);
    }
    let rewritten = rewritten.map_or(Ok(()), |to| head.set_target(&to.target(), &routes.head_limits));
    let compresses = decision.compresses();
    let takes_page = takes_page(refused.as_ref(), &decision);
    let subject = Subject { remote: asker.address, path: head.path(), fields: &head.fields };
    let way = Way::of(&routes, (&decision, subject), in_url.as_ref(), (&mirrors, knows_user));
    let reply = if let Err(cause) = rewritten {
        Err(cause.into())
    } else if let Some(refused) = refused {
        refused
    } else if let Some((way, caches)) = way {
        let settings = routes.cache.as_ref().filter(|_| caches);
        if may_go_on(head) {
            proxied(client, (&asker, &way, &edits, settings), head, in_url.is_some(), side).await
        } else {
            Ok(Reply::Local(Local::capabilities(client)))
        }
    } else {
        ruled(client, &routes, head, decision).await
    };
    let mut reply = said(client, reply)?;
    if takes_page {
        reply = error_pages::dress(client, &routes, head, reply);
    }
    finish(&mut reply, &edits, &told, &set_cookies);
    if let Some(rules) = routes.compression.as_ref().filter(|_| compresses) {
        compress(client, rules, head, &mut reply);
    }
    Ok(reply)
}

/// The request in its normal form, and the session that its URL names; or what is answered before any rule is asked.
fn begin(client: &Client, routes: &Routes, head: &mut RequestHead) -> Result<Option<InUrl>, Local> {
    let merges = |head: &RequestHead| routes.hosts.merges_slashes(head);
    if let Err(cause) = normalise_request(head, merges).and_then(|()| check_certificate(client, head)) {
        return Err(error_pages::refusal(client, head, cause));
    }
    // One that redirects all to HTTPS must not stand in the way of the certificate for it.
    if head.method == Method::GET
        && let Some(answer) = client.worker.acme.answer(head.path())
    {
        return Err(Local::challenge(client, &answer));
    }
    let in_url = if routes.session_urls { InUrl::of(head, merges) } else { Ok(None) };
    in_url.map_err(|cause| error_pages::refusal(client, head, cause))
}

/// What the client is told, be it why there is no other answer.
fn said(client: &Client, reply: Result<Reply, ProxyError>) -> Result<Reply, ClientGone> {
    match reply {
        Ok(reply) => Ok(reply),
        Err(ProxyError::ClientGone) => Err(ClientGone),
        Err(cause) => {
            if cause == ProxyError::Busy {
                client.worker.counters.queue_refusals.up();
            }
            Ok(Reply::Local(Local::refusal(client, cause)))
        }
    }
}

/// The access log hears of a client that a trusted proxy has named.
fn note_client(client: &Client, asker: &Asker<'_>) {
    if matches!(asker.text, Cow::Owned(_)) {
        client.log.note(|record| record.behind(&asker.text));
    }
}

/// Whether the host's page may take an error's place.
fn takes_page(refused: Option<&Result<Reply, ProxyError>>, decision: &Decision<'_>) -> bool {
    match refused {
        // It is for the client as it is: a login page, say.
        Some(Ok(Reply::Server(_))) => false,
        Some(_) => true,
        None => !decision.has_words(),
    }
}

/// Says what rules want to be said, whoever answers.
fn finish(reply: &mut Reply, edits: &[Edit<'_>], told: &[(&[u8], Vec<u8>)], set_cookies: &[String]) {
    edit_answer(reply.head(), edits);
    for (name, value) in told {
        reply.head().fields.push(Name::Other, name, value);
    }
    for cookie in set_cookies {
        reply.head().fields.push(Name::Other, b"set-cookie", cookie.as_bytes());
    }
}

/// What rules answer themselves.
async fn ruled(
    client: &Client,
    routes: &Routes,
    head: &RequestHead,
    decision: Decision<'_>,
) -> Result<Reply, ProxyError> {
    Ok(Reply::Local(match decision {
        // In a box, as every request would be as large.
        Decision::Static(site) => Box::pin(file(client, head, site)).await,
        Decision::Redirect { status, location } => Local::redirect(client, status, &location),
        Decision::Error { status, message } => Local::error_page(client, status, message),
        Decision::Maintenance(rule) => error_pages::closed(client, routes, head, rule),
        Decision::None | Decision::Proxy(_) | Decision::HttpProxy(_) => return Err(ProxyError::NoRule),
    }))
}

/// Whether a path that names a session is forwarded as it came: to servers of which no rule says that they want it otherwise.
fn keeps_session(decision: &Decision<'_>) -> bool {
    match decision {
        Decision::Proxy(target) => !target.session_url,
        decision => matches!(decision, Decision::HttpProxy(_)),
    }
}

/// What the rules of the request's host decide.
fn evaluate<'a>(
    client: &Client,
    routes: &'a Routes,
    asker: &Asker<'_>,
    head: &RequestHead,
    in_url: Option<&InUrl>,
) -> Outcome<'a> {
    routes.hosts.evaluate(&RequestView {
        method: head.method.as_str(),
        path: in_url.map_or(head.path(), |it| &it.path),
        query: head.query(),
        host: head.host(),
        headers: &head.fields,
        remote: asker.address,
        secure: asker.secure,
        local_port: client.local_port(),
        now: client.worker.wall(),
    })
}

/// A file of this server.
async fn file(client: &Client, head: &RequestHead, site: &Site) -> Local {
    let request = SiteRequest {
        method: head.method.as_str(),
        path: &decoded(head.path()),
        target: head.path(),
        query: head.query(),
        headers: &Site::headers(&head.fields),
    };
    match site.answer(&request).await {
        Ok(answer) => Local::file(client, answer),
        Err(cause) if is_shortage(&cause) => {
            if let Some(times) = client.worker.short.happened(client.worker.now()) {
                tracing::warn!(%cause, times, "a file can't be read: this machine is short of something");
            }
            Local::refusal(client, ProxyError::Short)
        }
        Err(cause) => {
            // Whoever has a session's id has the session.
            let mut path = Vec::new();
            put_masked(&mut path, head.path().as_bytes());
            tracing::warn!(path = %String::from_utf8_lossy(&path), %cause, "a file can't be read");
            Local { why: Why::Unreadable, ..Local::error_page(client, 500, None) }
        }
    }
}

/// Where a request goes, and how one of the servers there is chosen.
struct Way<'a> {
    upstream: &'a Rc<Upstream>,
    strategy: Strategy,
    /// Sessions on the hub bring requests to their servers.
    sticky: bool,
    /// What brings requests to servers that have sessions of their own.
    stickiness: &'a Stickiness,
    /// What the URL says of a session, where that counts.
    session_url: Option<&'a str>,
    /// Who gets copies of what is sent.
    mirrors: &'a [Rc<Upstream>],
    /// A rule has found out whose request it is.
    knows_user: bool,
    /// The key of `hash-by`.
    hash: Option<Box<str>>,
}

impl<'a> Way<'a> {
    /// That of a request which goes to a server, and whether what comes of it may be kept.
    fn of(
        routes: &'a Routes,
        (decision, subject): (&Decision<'a>, Subject<'_>),
        in_url: Option<&'a InUrl>,
        (mirrors, knows_user): (&'a [Rc<Upstream>], bool),
    ) -> Option<(Self, bool)> {
        let hashed = |by: Option<&RequestKey>| Some(key::text(by?, subject)?.into());
        match *decision {
            Decision::Proxy(target) => {
                let upstream = &routes.upstreams[target.upstream];
                let &Target { strategy, sticky, ref stickiness, .. } = target;
                let session_url = target.session_url.then(|| in_url.map_or("", |it| &it.session));
                let hash = hashed(target.hash_by.as_ref());
                let way =
                    Self { upstream, strategy, sticky, stickiness, session_url, mirrors, knows_user, hash };
                Some((way, target.cache))
            }
            Decision::HttpProxy(target) => {
                let upstream = &routes.foreign[target.place];
                let stickiness = upstream.foreign_members().map_or(&Stickiness::None, |it| &it.stickiness);
                let &ForeignTarget { strategy, cache, .. } = target;
                let (sticky, session_url) = (false, None);
                let hash = hashed(target.hash_by.as_ref());
                let way =
                    Self { upstream, strategy, sticky, stickiness, session_url, mirrors, knows_user, hash };
                Some((way, cache))
            }
            _ => None,
        }
    }

    /// Whether a request with these fields is one of a session, by a cookie that is known here.
    fn is_of_a_session(&self, fields: &Fields) -> bool {
        match self.stickiness {
            Stickiness::Session { .. } => self.stickiness.belongs(fields).affinity != Affinity::None,
            _ => self.upstream.session(fields, None) != Affinity::None,
        }
    }

    /// Where a request with these fields belongs. A session in a server's own memory is there alone, so it comes before one on the hub.
    fn belongs<'b>(&'b self, fields: &'b Fields) -> Belongs<'b> {
        let belongs = self.stickiness.belongs(fields);
        if belongs.affinity != Affinity::None {
            return belongs;
        }
        let in_url = self.session_url.filter(|session| !session.is_empty());
        let session = if self.sticky { self.upstream.session(fields, in_url) } else { Affinity::None };
        match (session, &self.hash) {
            (Affinity::None, Some(key)) => Belongs::of(Affinity::Hash(key)),
            (session, _) => Belongs::of(session),
        }
    }
}

/// Answers a request by a server, or by what is kept of one.
async fn proxied<S: ClientSide>(
    client: &Rc<Client>,
    (asker, way, edits, settings): (&Asker<'_>, &Way<'_>, &[Edit<'_>], Option<&CacheSettings>),
    head: &mut RequestHead,
    in_url: bool,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    let caches = settings.map(|settings| Ask { client, asker, way, edits, settings });
    let question = match caches {
        None => None,
        Some(ask) => match cached::plan(ask, head, in_url) {
            Plan::Reply(reply) => return Ok(reply),
            Plan::Ask(question) => Some(question),
            // In a box, as every request would be as large.
            Plan::Wait(wait) => match Box::pin(wait.over(ask, head)).await {
                Ok(reply) => return Ok(reply),
                Err(question) => Some(question),
            },
        },
    };
    let answered = forward(client, asker, way, head, edits, side).await;
    match caches.zip(question) {
        None => Ok(Reply::Server(answered?.with_cookies(way, head, asker.secure))),
        Some((ask, question)) => question.answered(ask, head, answered),
    }
}

/// An answer, and which server gave it.
#[derive(Debug)]
struct Passed {
    answer: Answer,
    server: usize,
}

impl Passed {
    /// The answer with what brings the client back to its server.
    fn with_cookies(mut self, way: &Way<'_>, head: &RequestHead, secure: bool) -> Answer {
        if !matches!(way.stickiness, Stickiness::None) {
            let token = way.belongs(&head.fields).token();
            way.stickiness.put_cookies(token, self.server, &mut self.answer.head.fields, secure);
        }
        self.answer
    }

    /// Nobody wants it.
    fn discard(self, method: &Method) {
        let sent = self.answer.outgoing.is_sent();
        discard(self.answer.exchange, &self.answer.head, method, sent);
    }
}

/// Sends a request to a server of its cluster, and to another one while that is safe.
async fn forward<S: ClientSide>(
    client: &Rc<Client>,
    asker: &Asker<'_>,
    way: &Way<'_>,
    head: &mut RequestHead,
    edits: &[Edit<'_>],
    side: &mut S,
) -> Result<Passed, ProxyError> {
    let worker = &client.worker;
    let body = match head.length {
        Length::Empty => None,
        _ if head.fields.first(Name::Expect).is_some() => {
            client.progress.holds_back();
            None
        }
        Length::Exact(length) if length <= SIZE as u64 => Some(gather(worker, side).await?),
        _ => None,
    };
    if !way.mirrors.is_empty() {
        mirror::send(client, (asker, way.mirrors), head, edits, body.as_deref().map(|it| &it[..]));
    }
    let mut outgoing = prepare(client, asker, way, head, edits);
    if let Some(body) = body {
        outgoing.put_body(&body);
    }
    try_servers(client, way, head, (outgoing, asker.address), side).await
}

/// Sends a request that is ready.
async fn try_servers<S: ClientSide>(
    client: &Rc<Client>,
    way: &Way<'_>,
    head: &mut RequestHead,
    (outgoing, address): (Outgoing, IpAddr),
    side: &mut S,
) -> Result<Passed, ProxyError> {
    let (worker, upstream) = (&client.worker, way.upstream);
    let mut tries = Tries::new(outgoing, address, head);
    upstream.count_request(worker.now());
    let budget = || upstream.may_retry(worker.now());
    loop {
        let belongs = way.belongs(&head.fields);
        let lease = upstream.lease(worker.now(), belongs.affinity, way.strategy, tries.tried);
        let Some(lease) = lease else { return Err(tries.last_error) };
        let server = lease.index();
        head.noted.server = Some(upstream.server(server).name.clone());
        tries.bound = belongs.affinity.is_bound();
        match attempt(client, upstream, lease, &mut tries, side).await {
            Ok((exchange, answer)) if tries.again_after_answer(client, server, &answer, budget) => {
                discard(exchange, &answer, &head.method, tries.sent);
            }
            Ok((exchange, answer)) if is_outdated(client, &answer) => {
                discard(exchange, &answer, &head.method, tries.sent);
                return Err(ProxyError::NoServer);
            }
            Ok((exchange, head)) => {
                return Ok(Passed { answer: Answer { head, exchange, outgoing: tries.outgoing }, server });
            }
            Err(Failure::Full { .. }) if tries.bound => return Err(ProxyError::Busy),
            Err(failure) => tries.again_after_failure(server, failure, budget)?,
        }
        worker.counters.retries.up();
    }
}

/// Reads a short body to its end before a server is chosen: as long as it takes, it holds no socket. One without a known length is not
/// waited for, as its client may wait for the answer.
async fn gather<S: ClientSide>(worker: &Worker, side: &mut S) -> Result<Shelved<Box<Piece>>, BodyError> {
    let mut body = worker.buffers.take();
    while !poll_fn(|cx| side.poll_body(cx, &mut body)).await? {}
    Ok(body)
}

/// A client that was shown the certificate of one host does not speak to another on the same connection.
fn check_certificate(client: &Client, head: &RequestHead) -> Result<(), ProxyError> {
    let Some(tls) = &client.tls else { return Ok(()) };
    if tls.is_misdirected(without_port(head.host())) { Err(ProxyError::Misdirected) } else { Ok(()) }
}
