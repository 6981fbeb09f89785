//! Git over HTTP (gitprotocol-http, its "smart" half): `deploy.git` is every app's history to clone, `git/NAME.git` one app's own, and a
//! push to that deploys. docs/git.md.
//!
//! A request's way: `route` → a clone or fetch: `references`, `fetch_request`, `upload_pack`; a push: `push_request`, `receive_pack`,
//! `rollout`. `body` reads what comes, `answer` writes while the client reads; `pkt_line` is what both are made of. There is no `git`
//! here, no shell and no hook.

mod answer;
mod body;
mod fetch_request;
mod pkt_line;
mod push_request;
mod receive_pack;
mod references;
mod rollout;
pub(crate) mod route;
mod upload_pack;

use crate::{AnswerBody, HUB_WAIT, Inner, RequestBody, answer_bytes, refusal::Refusal, sign_in::SignedIn};
use common::config::Config;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use references::References;
use route::{GitRoute, Place, Service};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Packs that are made, and pushes that are taken, at once.
const FETCHES: usize = 8;
const PUSHES: usize = 4;

/// What this server says it is.
const AGENT: &str = concat!("agent=copal/", env!("CARGO_PKG_VERSION"));

/// The version of the protocol that a client wishes for (gitprotocol-http).
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// What may go on at once: a client that is slow holds a place for as long as it takes.
#[derive(Debug)]
pub(crate) struct GitPlaces {
    fetches: Arc<Semaphore>,
    pushes: Arc<Semaphore>,
}

impl Default for GitPlaces {
    fn default() -> Self {
        Self { fetches: Arc::new(Semaphore::new(FETCHES)), pushes: Arc::new(Semaphore::new(PUSHES)) }
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    places.clone().try_acquire_owned().map_err(|_| Refusal::GitCrowded)
}

impl Inner {
    /// The answer to a request of Git's, from a user who has signed in.
    pub(crate) async fn git(
        self: &Arc<Self>,
        config: &Arc<Config>,
        asker: &SignedIn,
        route: GitRoute,
        request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        self.deployments()?;
        let (place, service) = route.wants();
        if service == Service::ReceivePack {
            if *place == Place::All {
                return Err(Refusal::GitReadOnly);
            }
            asker.must_deploy()?;
        }
        let (parts, body) = request.into_parts();
        match route {
            GitRoute::Advertise(place, service) => self.advertise(&place, service, &parts.headers).await,
            GitRoute::Answer(place, service) => {
                service.check(&parts.headers)?;
                match service {
                    Service::UploadPack => self.upload_pack(&place, &parts.headers, body).await,
                    Service::ReceivePack => {
                        self.receive_pack(config, asker, place, &parts.headers, body).await
                    }
                }
            }
        }
    }

    async fn references(&self, place: &Place) -> Result<References, Refusal> {
        Ok(References::of(place, &self.hub.apps(HUB_WAIT).await?))
    }

    /// `GET …/info/refs`: what the branches are at, and what can be asked.
    async fn advertise(
        &self,
        place: &Place,
        service: Service,
        headers: &HeaderMap,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let mut out = Vec::new();
        if service == Service::UploadPack && is_version_2(headers) {
            for line in ["version 2", AGENT, "ls-refs=unborn", "fetch", "object-format=sha1"] {
                pkt_line::put(&mut out, format!("{line}\n").as_bytes());
            }
            out.extend_from_slice(pkt_line::FLUSH);
        } else {
            let references = self.references(place).await?;
            pkt_line::put(&mut out, format!("# service={}\n", service.name()).as_bytes());
            out.extend_from_slice(pkt_line::FLUSH);
            let (offered, with_head) = match service {
                Service::UploadPack => ("multi_ack_detailed side-band-64k ofs-delta", true),
                // Nothing is deleted by a push: it is offered to say what to do instead.
                Service::ReceivePack => ("report-status delete-refs side-band-64k ofs-delta", false),
            };
            references.advertise(&format!("{offered} object-format=sha1 {AGENT}"), with_head, &mut out);
        }
        Ok(answer_bytes(StatusCode::OK, service.advertisement(), out))
    }
}

/// Whether the client speaks version 2; with everyone else it is version 0, as version 1 is no more than that with a greeting.
fn is_version_2(headers: &HeaderMap) -> bool {
    let asked = headers.get(GIT_PROTOCOL).map(HeaderValue::as_bytes).unwrap_or_default();
    asked.split(|it| *it == b':').any(|it| it == b"version=2")
}
