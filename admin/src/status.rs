//! How the whole cluster is: every server is asked about itself at once ([`collect`]), what came is put beside what the hub and the
//! file say ([`record`]), and what is wrong is put into words ([`problem`]). The pages and the JSON show the same records.

pub(crate) mod app;
pub(crate) mod check;
pub(crate) mod collect;
pub(crate) mod csv;
pub(crate) mod daemon;
pub(crate) mod hub;
pub(crate) mod metrics;
pub(crate) mod problem;
pub(crate) mod quantile;
pub(crate) mod record;
pub(crate) mod upstream;

#[cfg(test)]
pub(crate) mod planted;

use crate::{AnswerBody, Inner, json, refusal::Refusal};
use collect::Snapshot;
use common::config::Config;
use http::{Response, StatusCode};
use record::{ClusterRecord, OneRecord};
use std::sync::Arc;

impl Inner {
    /// What all servers say now, or said less than a second ago.
    pub(crate) async fn snapshot(&self, config: &Config) -> Arc<Snapshot> {
        let members = self.members.borrow().clone();
        let apps = self.deployments.as_ref().and_then(|it| it.apps.borrow().clone()).unwrap_or_default();
        self.collector.snapshot(config, &members, &apps, &*self.clock).await
    }

    /// The cluster as the pages and the JSON have it.
    pub(crate) async fn cluster(&self, config: &Config) -> Arc<ClusterRecord> {
        let snapshot = self.snapshot(config).await;
        let make = || {
            let mut cluster = ClusterRecord::of(&snapshot, config);
            self.collector.remember(&mut cluster.problems, self.clock.unix_ms());
            cluster
        };
        self.collector.record(&snapshot, make).await
    }

    /// One server of it.
    pub(crate) async fn server(&self, config: &Config, id: String) -> Result<Response<AnswerBody>, Refusal> {
        let cluster = self.cluster(config).await;
        if let Some(record) = OneRecord::of(&cluster, &id) {
            return Ok(json(StatusCode::OK, &record));
        }
        let known = cluster.servers.iter().map(|it| it.known.id.clone()).collect();
        Err(Refusal::UnknownServer { id, known })
    }
}
