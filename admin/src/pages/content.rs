//! What a page shows besides the cluster: what it has to ask servers for.

use super::{Page, graph::Graphs, list::ListQuery, sessions::SessionsContent};
use crate::{
    Inner,
    app_caches::AppCachesRecord,
    audit::{AuditQuery, AuditRecord, PAGE_WAIT},
    cache::CacheRecord,
    configuration::ConfigurationRecord,
    health::record::HealthRecord,
    jobs::JobsRecord,
    logs::{LogQuery, LogsRecord},
    pipelines::PipelinesRecord,
    queues::QueuesRecord,
    requests::RequestsRecord,
};
use common::config::Config;

/// A page, with what it shows.
#[derive(Debug)]
pub(crate) enum Content {
    Overview(Graphs),
    Servers,
    Balancer,
    Triad,
    Apps(ListQuery),
    Queues(ListQuery, QueuesRecord),
    Pipelines(ListQuery, PipelinesRecord),
    /// With the queues that their runs are in.
    Jobs(ListQuery, JobsRecord, QueuesRecord),
    Daemons(ListQuery),
    AppCaches(ListQuery, AppCachesRecord),
    Requests(RequestsRecord),
    Sessions(SessionsContent),
    Cache(CacheRecord),
    Logs(LogQuery, LogsRecord),
    Health(HealthRecord),
    /// What was asked for, and the log or why there is none.
    Audit(AuditQuery, Result<AuditRecord, String>),
    Configuration(ConfigurationRecord),
}

impl Content {
    /// The page that it is of.
    pub(crate) fn page(&self) -> Page {
        match self {
            Self::Overview(_) => Page::Overview,
            Self::Servers => Page::Servers,
            Self::Balancer => Page::Balancer,
            Self::Triad => Page::Triad,
            Self::Apps(_) => Page::Apps,
            Self::Queues(..) => Page::Queues,
            Self::Pipelines(..) => Page::Pipelines,
            Self::Jobs(..) => Page::Jobs,
            Self::Daemons(_) => Page::Daemons,
            Self::AppCaches(..) => Page::AppCaches,
            Self::Requests(_) => Page::Requests,
            Self::Sessions(_) => Page::Sessions,
            Self::Cache(_) => Page::Cache,
            Self::Logs(..) => Page::Logs,
            Self::Health(_) => Page::Health,
            Self::Audit(..) => Page::Audit,
            Self::Configuration(_) => Page::Configuration,
        }
    }
}

impl Inner {
    /// What a page shows; `query` is that of its URL.
    pub(crate) async fn content(&self, config: &Config, page: Page, query: &str) -> Content {
        match page {
            // Its graphs are drawn by whoever knows the time that they are of.
            Page::Overview => Content::Overview(Graphs::default()),
            Page::Servers => Content::Servers,
            Page::Balancer => Content::Balancer,
            Page::Triad => Content::Triad,
            Page::Apps => Content::Apps(ListQuery::read(query)),
            Page::Queues => Content::Queues(ListQuery::read(query), self.queues().await),
            Page::Pipelines => Content::Pipelines(ListQuery::read(query), self.pipelines().await),
            Page::Jobs => {
                let query = ListQuery::read(query);
                let (jobs, queues) = tokio::join!(self.jobs_of_page(&query), self.queues());
                Content::Jobs(query, jobs, queues)
            }
            Page::Daemons => Content::Daemons(ListQuery::read(query)),
            Page::AppCaches => Content::AppCaches(ListQuery::read(query), self.app_caches(config).await),
            Page::Requests => Content::Requests(self.requests(config).await),
            Page::Sessions => {
                let sessions = self.sessions(config).await;
                Content::Sessions(SessionsContent { sessions, found: None })
            }
            Page::Cache => Content::Cache(self.cache(config).await),
            Page::Logs => {
                // Of a link that makes no sense nothing is filtered.
                let query = LogQuery::read(query).unwrap_or_default();
                let logs = self.logs(config, &query).await;
                Content::Logs(query, logs)
            }
            Page::Health => Content::Health(self.health(config).await),
            Page::Audit => {
                let query = format!("/?{query}").parse().ok().and_then(|uri| AuditQuery::of(&uri).ok());
                let query = query.unwrap_or_else(AuditQuery::newest);
                let log = self.audit(&query, PAGE_WAIT).await.map_err(|refusal| refusal.to_string());
                Content::Audit(query, log)
            }
            Page::Configuration => Content::Configuration(self.configuration(config).await),
        }
    }
}
