//! What web-tiers keep of answers: how much, what most, what not and why; and what is to be forgotten, on all of them.

use crate::{
    Inner,
    ask::{Answers, SilentServer, ask_all},
    pages::form::Form,
    refusal::Refusal,
    sign_in::SignedIn,
    status::collect::Snapshot,
};
use common::config::Config;
use proto::{
    hub::v1::{AuditKind, NoteAudit},
    status::v1::{DiskTier, ProxyCache},
    web::v1::{
        CachePurged, CacheReport, GetCacheReport, PurgeCache, cache_client::CacheClient, purge_cache::What,
    },
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Entries of a list, of one web-tier.
const MOST: u32 = 20;

/// How long the hub may take to write a purge down.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// The longest body of a purge, in bytes.
const BODY_MAX: usize = 8 << 10;

/// `GET /api/v1/cache`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CacheRecord {
    /// Each that keeps something.
    pub(crate) web_tiers: Vec<WebTierCacheRecord>,
    pub(crate) silent: Vec<SilentServer>,
}

/// What a web-tier keeps. Counts are since its start.
#[derive(Debug, Default, Serialize)]
pub(crate) struct WebTierCacheRecord {
    pub(crate) server: String,
    pub(crate) capacity_bytes: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) hits: u64,
    pub(crate) stale: u64,
    pub(crate) misses: u64,
    pub(crate) revalidated: u64,
    pub(crate) stale_on_error: u64,
    pub(crate) collapsed: u64,
    pub(crate) passed: u64,
    pub(crate) stored: u64,
    pub(crate) evicted: u64,
    /// Answers that were found on disk.
    pub(crate) from_disk: u64,
    /// Of one with a `disk-size`.
    pub(crate) disk: Option<DiskRecord>,
    /// Of all that asked for something that could be kept, the part that was answered from it; none without requests.
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) not_kept: Vec<NotKeptRecord>,
    pub(crate) largest: Vec<CacheEntryRecord>,
    pub(crate) hottest: Vec<CacheEntryRecord>,
    /// One of several of the last answers that were not kept.
    pub(crate) lately_not_kept: Vec<LatelyRecord>,
}

/// What is kept on disk.
#[derive(Debug, Serialize)]
pub(crate) struct DiskRecord {
    pub(crate) capacity_bytes: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) damaged: u64,
    pub(crate) dropped: u64,
    pub(crate) failed: u64,
}

impl DiskRecord {
    fn of(it: &DiskTier) -> Self {
        Self {
            capacity_bytes: it.capacity_bytes,
            bytes: it.bytes,
            entries: it.entries,
            written: it.written,
            read: it.read,
            damaged: it.damaged,
            dropped: it.dropped,
            failed: it.failed,
        }
    }
}

/// How many answers were not kept.
#[derive(Debug, Serialize)]
pub(crate) struct NotKeptRecord {
    pub(crate) why: String,
    pub(crate) count: u64,
}

/// An answer that is kept.
#[derive(Debug, Serialize)]
pub(crate) struct CacheEntryRecord {
    /// `host/path?query`.
    pub(crate) url: String,
    pub(crate) status: u32,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
    pub(crate) age_s: u64,
    pub(crate) lifetime_s: u64,
}

/// A URL whose answer was not kept.
#[derive(Debug, Serialize)]
pub(crate) struct LatelyRecord {
    pub(crate) url: String,
    pub(crate) why: String,
}

/// `POST /api/v1/cache/purge`: one of the first five.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Purge {
    pub(crate) url: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) all: bool,
    pub(crate) soft: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct PurgedRecord {
    pub(crate) web_tiers: Vec<PurgedOnRecord>,
    /// Those that have not answered: they may still have it.
    pub(crate) silent: Vec<SilentServer>,
    /// The hub has it: who has not answered forgets it when it hears the hub again.
    pub(crate) written: bool,
}

/// On a web-tier.
#[derive(Debug, Serialize)]
pub(crate) struct PurgedOnRecord {
    pub(crate) server: String,
    pub(crate) count: u64,
}

impl CacheRecord {
    /// Of what is known of all servers, and what web-tiers said.
    pub(crate) fn of(snapshot: &Snapshot, answers: &Answers<CacheReport>) -> Self {
        let reports =
            |server: &str| answers.said.iter().find(|(it, _)| it == server).map(|(_, report)| report);
        let web_tiers = snapshot.answers().filter_map(|(server, answer)| {
            let cache = answer.status.web_tier.as_ref()?.cache.as_ref()?;
            Some(WebTierCacheRecord::of(server, cache, reports(server)))
        });
        Self { web_tiers: web_tiers.collect(), silent: answers.silent.clone() }
    }
}

impl WebTierCacheRecord {
    fn of(server: &str, cache: &ProxyCache, report: Option<&CacheReport>) -> Self {
        let asked = cache.hits + cache.misses + cache.collapsed;
        let entries = |list: fn(&CacheReport) -> &[proto::web::v1::CacheEntry]| {
            let list = report.map(list).unwrap_or_default();
            let record = |it: &proto::web::v1::CacheEntry| CacheEntryRecord {
                url: it.url.clone(),
                status: it.status,
                bytes: it.bytes,
                hits: it.hits,
                age_s: it.age_s,
                lifetime_s: it.lifetime_s,
            };
            list.iter().map(record).collect()
        };
        let not_kept = cache.not_kept.iter();
        let lately = report.map(|it| &it.not_kept[..]).unwrap_or_default().iter();
        Self {
            server: server.to_owned(),
            capacity_bytes: cache.capacity_bytes,
            bytes: cache.bytes,
            entries: cache.entries,
            hits: cache.hits,
            stale: cache.stale,
            misses: cache.misses,
            revalidated: cache.revalidated,
            stale_on_error: cache.stale_on_error,
            collapsed: cache.collapsed,
            passed: cache.passed,
            stored: cache.stored,
            evicted: cache.evicted,
            from_disk: cache.from_disk,
            disk: cache.disk.as_ref().map(DiskRecord::of),
            hit_ratio: (asked > 0).then(|| (cache.hits + cache.collapsed) as f64 / asked as f64),
            not_kept: not_kept.map(|it| NotKeptRecord { why: it.why.clone(), count: it.count }).collect(),
            largest: entries(|it| &it.largest),
            hottest: entries(|it| &it.hottest),
            lately_not_kept: lately
                .map(|it| LatelyRecord { url: it.url.clone(), why: it.why.clone() })
                .collect(),
        }
    }
}

impl Purge {
    /// Reads a body.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn read(body: &str) -> Result<Self, Refusal> {
        let expected = "expected one of {\"url\": …}, {\"prefix\": …}, {\"pattern\": …}, {\"tag\": …}, {\"all\": true}, \
                        perhaps with \"soft\": true";
        if body.len() > BODY_MAX {
            return Err(Refusal::Body(format!("the body has {} bytes: {expected}", body.len())));
        }
        serde_json::from_str(body).map_err(|cause| Refusal::Body(format!("{cause}: {expected}")))
    }

    /// Of the page's form.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn of_form(form: &Form) -> Result<Self, Refusal> {
        let value = Some(form.field("value").trim().to_owned());
        let soft = form.field("soft") == "soft";
        match form.field("what") {
            "url" => Ok(Self { url: value, soft, ..Self::default() }),
            "prefix" => Ok(Self { prefix: value, soft, ..Self::default() }),
            "pattern" => Ok(Self { pattern: value, soft, ..Self::default() }),
            "tag" => Ok(Self { tag: value, soft, ..Self::default() }),
            _ => {
                Err(Refusal::Body("what is to be forgotten: expected url, prefix, pattern or tag".to_owned()))
            }
        }
    }

    /// As web-tiers are asked, and in words.
    fn asked(&self) -> Result<(PurgeCache, String), Refusal> {
        let named = [
            ("url", self.url.clone().map(What::Url)),
            ("prefix", self.prefix.clone().map(What::Prefix)),
            ("pattern", self.pattern.clone().map(What::Pattern)),
            ("tag", self.tag.clone().map(What::Tag)),
            ("all", self.all.then_some(What::All(true))),
        ];
        let mut named = named.into_iter().filter_map(|(name, what)| Some((name, what?)));
        let (Some((name, what)), None) = (named.next(), named.next()) else {
            return Err(Refusal::Body(
                "name one of url, prefix, pattern, tag or all that is to be forgotten".to_owned(),
            ));
        };
        if matches!(&what, What::Url(text) | What::Prefix(text) | What::Pattern(text) | What::Tag(text) if text.is_empty())
        {
            return Err(Refusal::Body(format!("{name} is empty: expected what is to be forgotten")));
        }
        let words = match &what {
            What::Url(text) | What::Prefix(text) | What::Pattern(text) | What::Tag(text) => {
                format!("{name} {text}")
            }
            What::All(_) => "all".to_owned(),
        };
        let words = words.chars().take(200).collect();
        Ok((PurgeCache { what: Some(what), soft: self.soft, number: 0 }, words))
    }
}

impl Inner {
    /// What web-tiers keep.
    pub(crate) async fn cache(&self, config: &Config) -> CacheRecord {
        let asked = ask_all(self.web_tiers(config).await, |_, channel| async move {
            CacheClient::new(channel).report(GetCacheReport { most: MOST }).await
        });
        let (answers, snapshot) = tokio::join!(asked, self.snapshot(config));
        CacheRecord::of(&snapshot, &answers)
    }

    /// Has all web-tiers forget answers. When it returns, none that has answered gives them any more.
    ///
    /// # Errors
    /// The user may not, or what is asked makes no sense.
    pub(crate) async fn purge_cache(
        &self,
        config: &Config,
        asker: &SignedIn,
        purge: &Purge,
    ) -> Result<PurgedRecord, Refusal> {
        asker.must_operate()?;
        let (asked, words) = purge.asked()?;
        // First, as its number tells a web-tier that hears of it twice that it does.
        let written = self.hub.note_purge(asked.clone(), WRITE_WAIT).await;
        let number = written.as_ref().copied().unwrap_or(0);
        let answers: Answers<CachePurged> = ask_all(self.web_tiers(config).await, |_, channel| {
            let asked = PurgeCache { number, ..asked.clone() };
            async move { CacheClient::new(channel).purge(asked).await }
        })
        .await;
        // All would say the same of a purge that makes no sense.
        if answers.said.is_empty()
            && let Some(why) = answers.invalid
        {
            return Err(Refusal::Body(why));
        }
        let on = answers.said.into_iter().filter(|(_, purged)| !purged.off);
        let web_tiers: Vec<_> =
            on.map(|(server, purged)| PurgedOnRecord { server, count: purged.count }).collect();
        let count: u64 = web_tiers.iter().map(|it| it.count).sum();
        tracing::info!(
            user = asker.user.name,
            purge = words,
            soft = purge.soft,
            count,
            "an operator purges the proxy cache"
        );
        if let Err(cause) = &written {
            tracing::warn!(%cause, "a purge is not on the hub: who is cut off will not hear of it");
        }
        let written = written.is_ok();
        let silent: Vec<&str> = answers.silent.iter().map(|it| it.server.as_str()).collect();
        self.note(NoteAudit {
            kind: AuditKind::Action.into(),
            author: Some(asker.author("")),
            action: if purge.soft { "purge-soft" } else { "purge" }.to_owned(),
            target: words,
            outcome: if silent.is_empty() {
                format!("{count} entries")
            } else {
                let later = if written { "which will hear of it" } else { "nor from the hub" };
                format!("{count} entries; no answer from {}, {later}", silent.join(", "))
            },
            ..NoteAudit::default()
        });
        Ok(PurgedRecord { web_tiers, silent: answers.silent, written })
    }

    /// The servers with listeners.
    async fn web_tiers(&self, config: &Config) -> Vec<(String, tonic::transport::Channel)> {
        let is_web_tier =
            |id: &str| config.servers().any(|(_, it)| it.id.as_str() == id && !it.http.is_empty());
        self.collector.channels(config).await.into_iter().filter(|(id, _)| is_web_tier(id)).collect()
    }
}
