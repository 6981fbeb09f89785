//! Clones and fetches: what the client wants and lacks is packed while it is sent.

use super::{
    answer::Answer,
    body::Body,
    fetch_request::{self, Fetch, FetchRequest},
    is_version_2, pkt_line,
    references::References,
    route::{Place, Service},
};
use crate::{AnswerBody, Inner, RequestBody, answer_bytes, refusal::Refusal};
use http::{HeaderMap, Response, StatusCode};
use repository::{ObjectId, Repository, RepositoryError};
use std::collections::{HashSet, VecDeque};
use tokio::sync::OwnedSemaphorePermit;

/// The largest request, in bytes, inflated: what it says of 100,000 commits.
const REQUEST_MAX: u64 = 8 << 20;

/// Commits that are looked at for one request, to find out which come from which. Who has more history fetches more than is needed.
const COMMITS_MAX: usize = 100_000;

/// Commits of which the hub's servers are told that they are here.
const KNOWN_MAX: usize = 1000;

/// What both sides know of each other.
#[derive(Debug)]
struct Negotiated {
    /// What the client has and is here.
    common: Vec<ObjectId>,
    /// It is enough to know which objects the client lacks.
    ready: bool,
}

impl Inner {
    /// `POST …/git-upload-pack`.
    pub(crate) async fn upload_pack(
        &self,
        place: &Place,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let body = Body::new(headers, body, REQUEST_MAX)?.whole().await?;
        let request = fetch_request::read(&body, is_version_2(headers))?;
        drop(body);
        let references = self.references(place).await?;
        let mut out = Vec::new();
        match request {
            FetchRequest::ListReferences(asked) => references.list(&asked, &mut out),
            FetchRequest::Fetch(fetch) if fetch.wants.is_empty() => {}
            FetchRequest::Fetch(fetch) => {
                let place = super::place(&self.git.fetches)?;
                match self.negotiate(&references, &fetch).await {
                    Ok(negotiated) => {
                        if acknowledge(&fetch, &negotiated, &mut out) {
                            return self.send_pack(place, out, fetch, negotiated.common);
                        }
                    }
                    // Git shows no text of an answer that is an error of HTTP's here.
                    Err(refusal) => pkt_line::put(&mut out, format!("ERR {refusal}\n").as_bytes()),
                }
            }
        }
        Ok(answer_bytes(StatusCode::OK, Service::UploadPack.result(), out))
    }

    /// Brings what is wanted here, and finds what the client has of it.
    async fn negotiate(&self, references: &References, fetch: &Fetch) -> Result<Negotiated, Refusal> {
        let deployments = self.deployments()?;
        let haves = fetch.haves.clone();
        let mut known = self.read(move |repository| Ok(those_here(repository, &haves))).await?;
        known.truncate(KNOWN_MAX);
        let tips = references.tips();
        let wanted: HashSet<_> = fetch.wants.iter().copied().collect();
        let foreign: Vec<_> = wanted.iter().copied().filter(|it| !tips.contains(it)).collect();
        for tip in tips.iter().filter(|it| wanted.contains(it) || !foreign.is_empty()) {
            deployments.hub_servers.fetch(&deployments.repository, *tip, &known).await?;
        }
        let (wants, done) = (fetch.wants.clone(), fetch.done);
        let haves = fetch.haves.clone();
        let negotiated = self.read(move |repository| {
            // Asked for before the branch moved on, or no business of the client's.
            let ours =
                if foreign.is_empty() { HashSet::new() } else { History::new(repository).of(&tips)? };
            if let Some(want) = foreign.into_iter().find(|it| !ours.contains(it)) {
                return Err(RepositoryError::Missing(want));
            }
            let common = those_here(repository, &haves);
            let ready = done || all_reach(repository, &wants, &common)?;
            Ok(Negotiated { common, ready })
        });
        negotiated.await
    }

    /// Sends a pack, after what has been said.
    fn send_pack(
        &self,
        place: OwnedSemaphorePermit,
        said: Vec<u8>,
        fetch: Fetch,
        common: Vec<ObjectId>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let repository = &self.deployments()?.repository;
        let (mut answer, response) = Answer::new(Service::UploadPack.result(), fetch.side_band);
        let mut chunks = deployments::pack(repository, fetch.wants, common);
        tokio::spawn(async move {
            let _place = place;
            answer.plain(said).await;
            while !answer.is_over() {
                match answer.keep_alive_during(chunks.recv()).await {
                    Some(Ok(chunk)) => answer.data(chunk).await,
                    Some(Err(cause)) => return answer.fail(&cause).await,
                    None => return answer.end().await,
                }
            }
        });
        Ok(response)
    }
}

/// Those that are here.
fn those_here(repository: &Repository, haves: &[ObjectId]) -> Vec<ObjectId> {
    let missing: HashSet<_> = repository.missing(haves).into_iter().collect();
    haves.iter().copied().filter(|it| !missing.contains(it)).collect()
}

/// Whether each of these comes from one of the others.
fn all_reach(
    repository: &Repository,
    wants: &[ObjectId],
    common: &[ObjectId],
) -> Result<bool, RepositoryError> {
    let common: HashSet<_> = common.iter().copied().collect();
    if common.is_empty() {
        return Ok(false);
    }
    let mut history = History::new(repository);
    for want in wants {
        if !history.walk(&[*want], |it| common.contains(it))?.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Walks back from commits, [`COMMITS_MAX`] in all.
#[derive(Debug)]
struct History<'a> {
    repository: &'a Repository,
    left: usize,
}

impl<'a> History<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self { repository, left: COMMITS_MAX }
    }

    /// These commits and what came before them.
    fn of(&mut self, from: &[ObjectId]) -> Result<HashSet<ObjectId>, RepositoryError> {
        Ok(self.walk(from, |_| false)?.1)
    }

    /// Whether there is such a commit among these and what came before them, and all that were seen.
    fn walk(
        &mut self,
        from: &[ObjectId],
        is_it: impl Fn(&ObjectId) -> bool,
    ) -> Result<(bool, HashSet<ObjectId>), RepositoryError> {
        let mut seen: HashSet<_> = from.iter().copied().collect();
        let mut waiting: VecDeque<_> = from.iter().copied().collect();
        while let Some(id) = waiting.pop_front() {
            if is_it(&id) {
                return Ok((true, seen));
            }
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            let parents = self.repository.commit_info(id)?.parents;
            waiting.extend(parents.into_iter().filter(|it| seen.insert(*it)));
        }
        Ok((false, seen))
    }
}

/// Says what is known of what the client has; whether the pack follows.
fn acknowledge(fetch: &Fetch, negotiated: &Negotiated, out: &mut Vec<u8>) -> bool {
    let Negotiated { common, ready } = negotiated;
    if fetch.version_2 {
        acknowledge_2(fetch, common, *ready, out)
    } else {
        acknowledge_0(fetch, common, *ready, out)
    }
}

fn acknowledge_2(fetch: &Fetch, common: &[ObjectId], ready: bool, out: &mut Vec<u8>) -> bool {
    if !fetch.done {
        pkt_line::put(out, b"acknowledgments\n");
        common.iter().for_each(|id| pkt_line::put(out, format!("ACK {id}\n").as_bytes()));
        if common.is_empty() {
            pkt_line::put(out, b"NAK\n");
        }
        if !ready {
            out.extend_from_slice(pkt_line::FLUSH);
            return false;
        }
        pkt_line::put(out, b"ready\n");
        out.extend_from_slice(pkt_line::DELIMITER);
    }
    pkt_line::put(out, b"packfile\n");
    true
}

/// As `upload-pack.c` does in `get_common_commits`, for one request that has all that was said before.
fn acknowledge_0(fetch: &Fetch, common: &[ObjectId], ready: bool, out: &mut Vec<u8>) -> bool {
    let mut say = |id: &ObjectId, more: &str| pkt_line::put(out, format!("ACK {id}{more}\n").as_bytes());
    if fetch.detailed {
        common.iter().for_each(|id| say(id, " common"));
        if let Some(last) = common.last().filter(|_| ready && !fetch.done) {
            say(last, " ready");
        }
    }
    match (common.first(), common.last()) {
        (Some(first), _) if !fetch.detailed => say(first, ""),
        (_, Some(last)) if fetch.done => say(last, ""),
        _ => pkt_line::put(out, b"NAK\n"),
    }
    fetch.done
}
