//! How it was: the hub's servers are asked for what each has kept, and what they say becomes one, so that one that was away leaves no
//! gap. Graphs and `GET /api/v1/history` show the same.

mod merge;
#[cfg(test)]
pub(crate) mod planted;
mod question;
mod record;

pub(crate) use question::{Question, Range};
pub(crate) use record::PastRecord;

use crate::{Inner, refusal::Refusal, status::collect::Collector};
use common::{
    config::{Config, Server},
    id::is_id,
};
use futures_util::future::join_all;
use merge::merge;
use proto::history::v1::{Past, ReadHistory, Series, history_client::HistoryClient};
use std::time::Duration;
use tokio::time::timeout;

/// How long a hub server is given.
const WAIT: Duration = Duration::from_secs(1);

/// The longest reason that is told, in characters.
const WHY_MAX: usize = 300;

/// The name of a series in JSON: that of the contract in small letters.
pub(crate) fn name(series: Series) -> String {
    series.as_str_name().trim_start_matches("SERIES_").to_lowercase()
}

/// The series of this name.
pub(crate) fn named(name: &str) -> Option<Series> {
    all().find(|it| self::name(*it) == name)
}

/// Every series.
pub(crate) fn all() -> impl Iterator<Item = Series> {
    (1..).map_while(|it| Series::try_from(it).ok())
}

impl Inner {
    /// What has been kept of a server, or of all together.
    ///
    /// # Errors
    /// There is no such server, and never was; or no hub server answers.
    pub(crate) async fn past(&self, config: &Config, question: &Question) -> Result<PastRecord, Refusal> {
        let now_s = self.clock.unix_ms() / 1000;
        let asked = question.call(now_s);
        let answers = self.collector.past(config, &asked).await;
        let pasts: Vec<&Past> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
        if pasts.is_empty() {
            let why =
                answers.iter().filter_map(|(id, answer)| Some(format!("{id}: {}", answer.as_ref().err()?)));
            let why = why.collect::<Vec<_>>().join("; ");
            let none = "the file has no hub".to_owned();
            return Err(Refusal::NoPast(if why.is_empty() { none } else { why }));
        }
        let merged = merge(&asked, &pasts);
        if let Some(id) = &question.server
            && merged.samples.iter().all(|it| *it == 0)
        {
            let members = self.members.borrow().clone();
            let known: Vec<String> =
                crate::servers::list(config, &members).into_iter().map(|it| it.id).collect();
            if !known.contains(id) {
                return Err(Refusal::UnknownServer { id: id.clone(), known });
            }
        }
        Ok(PastRecord::of(question, &asked, merged, &answers))
    }
}

impl Collector {
    /// What the hub's servers answer, in the order of the file, or why one does not.
    async fn past(&self, config: &Config, asked: &ReadHistory) -> Vec<(String, Result<Past, String>)> {
        let of_hub = config.hub();
        let asking = of_hub
            .iter()
            .map(|server| async { (server.id.to_string(), self.past_of(server, asked.clone()).await) });
        join_all(asking).await
    }

    async fn past_of(&self, server: &Server, asked: ReadHistory) -> Result<Past, String> {
        // Who asks how all servers are now has the connections for a second at most.
        let mut client = HistoryClient::new(self.channel_to(server).await);
        match timeout(WAIT, client.read(asked)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(refused)) if refused.code() == tonic::Code::Unimplemented => {
                Err("its version keeps no history".to_owned())
            }
            Ok(Err(refused)) => Err(refused.message().chars().take(WHY_MAX).collect()),
            Err(_) => Err(format!("no answer within {WAIT:?}")),
        }
    }
}

/// Whether a text may name a server; what it can't be is on no page.
pub(crate) fn may_be_server(id: &str) -> bool {
    is_id(id)
}
