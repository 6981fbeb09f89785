//! Asks every web-tier whether it goes by what an administrator has said of a member, so that a command that has succeeded is in
//! force everywhere.

use cluster_port::Credentials;
use common::{
    config::{Config, Server},
    id::ServerId,
};
use futures_util::future::join_all;
use proto::{
    hub::v1::{Member, MemberState},
    web::v1::{HeedAdmin, balancer_client::BalancerClient},
};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use triad_client::channel;

/// How long a web-tier that lives is given; the hub tells it within milliseconds.
const WAIT: Duration = Duration::from_secs(5);

/// How long one that is down, by the hub's word, is given: it may live all the same, cut off from the hub.
const WAIT_FOR_DOWN: Duration = Duration::from_secs(1);

/// Beyond the wait, for the way there and back.
const WAY: Duration = Duration::from_secs(1);

/// A web-tier, and whether it goes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WebTierRecord {
    pub(crate) id: String,
    pub(crate) state: WebTierState,
    /// Why it is not known whether it goes by it.
    pub(crate) why: Option<String>,
}

/// Whether a web-tier goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WebTierState {
    /// It does: all of its workers.
    Informed,
    /// It has not said so in time.
    Unconfirmed,
    /// It is not there, by the hub's word as well.
    Down,
}

/// Why it is not known whether a web-tier goes by it.
#[derive(Debug, thiserror::Error)]
enum Silent {
    /// It lives, whatever the hub says.
    #[error("it has not heard of it within {0:?}: is it cut off from the hub?")]
    Unaware(Duration),
    #[error("{0}")]
    Unreachable(String),
}

/// Asks all web-tiers of the file at once about the change that `changed` shows, one of `members`.
pub(crate) async fn ask(
    config: &Config,
    (me, credentials): (&ServerId, &Credentials),
    members: &[Member],
    changed: &Member,
) -> Vec<WebTierRecord> {
    let web_tiers = config.servers().map(|(_, server)| server).filter(|server| server.listens());
    let asked = web_tiers.map(|server| async move {
        let member = members.iter().find(|it| it.id == server.id.as_str());
        let lives =
            member.is_some_and(|it| !matches!(it.state(), MemberState::Down | MemberState::Unspecified));
        let wait = if lives { WAIT } else { WAIT_FOR_DOWN };
        let (state, why) = match ask_one(server, me, credentials, changed, wait).await {
            Ok(()) => (WebTierState::Informed, None),
            Err(Silent::Unreachable(_)) if !lives => (WebTierState::Down, None),
            Err(why) => (WebTierState::Unconfirmed, Some(why.to_string())),
        };
        WebTierRecord { id: server.id.to_string(), state, why }
    });
    join_all(asked).await
}

async fn ask_one(
    server: &Server,
    me: &ServerId,
    credentials: &Credentials,
    changed: &Member,
    wait: Duration,
) -> Result<(), Silent> {
    let mut client = BalancerClient::new(channel(me, credentials, &server.id, &server.cluster_address()));
    let asked = HeedAdmin {
        id: changed.id.clone(),
        admin: changed.admin,
        admin_since_ms: changed.admin_since_ms,
        wait_ms: wait.as_millis().try_into().unwrap_or(u32::MAX),
    };
    match timeout(wait + WAY, client.heed(asked)).await {
        Ok(Ok(answer)) if answer.get_ref().heeded => Ok(()),
        Ok(Ok(_)) => Err(Silent::Unaware(wait)),
        Ok(Err(status)) => Err(Silent::Unreachable(format!("it can't be asked: {}", status.message()))),
        Err(_) => Err(Silent::Unreachable(format!("no answer within {:?}", wait + WAY))),
    }
}
