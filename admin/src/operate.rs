//! Takes a server out of the balancing, or puts it back.

use crate::{
    HUB_WAIT, Inner,
    refusal::Refusal,
    servers::{self, ServerRecord},
    sign_in::SignedIn,
    web_tiers::{self, WebTierRecord, WebTierState},
};
use common::{
    config::{Config, topology_hash},
    id::ServerId,
};
use proto::hub::v1::MemberAdmin;
use serde::Serialize;
use triad_client::HubError;

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    /// The server as it is now, on disk on a majority of the hub.
    pub(crate) server: ServerRecord,
    /// False when it was so before.
    pub(crate) changed: bool,
    /// Whether each web-tier goes by it.
    pub(crate) web_tiers: Vec<WebTierRecord>,
}

impl Inner {
    /// Says `admin` of the server `id`; returns when the hub has it on disk and every web-tier that lives goes by it, or has had its
    /// time. Refuses to take the last server of a cluster away unless `force` is given.
    pub(crate) async fn set_admin(
        &self,
        config: &Config,
        asker: &SignedIn,
        id: &str,
        admin: MemberAdmin,
        force: bool,
    ) -> Result<Done, Refusal> {
        let members = self.hub.members(HUB_WAIT).await?;
        let before = servers::list(config, &members);
        let server = find(&before, id)?;
        if server.state == "unknown" {
            return Err(Refusal::NeverStarted(id.to_owned()));
        }
        if admin != MemberAdmin::Enabled && !force {
            keep_the_last(server, &before)?;
        }
        let (was, word) = (server.admin, servers::admin(admin));
        tracing::info!(
            user = asker.user.name,
            server = id,
            was,
            admin = word,
            force,
            "an administrator sets a server"
        );
        let member = self.hub.set_admin(&ServerId::from(id), admin, asker.author(""), HUB_WAIT).await;
        let member = member.map_err(unsure)?;
        let web_tiers = web_tiers::ask(config, (&self.me, &self.credentials), &members, &member).await;
        for it in web_tiers.iter().filter(|it| it.state == WebTierState::Unconfirmed) {
            tracing::warn!(web_tier = it.id, server = id, why = it.why, "a web-tier may not go by it yet");
        }
        let server = ServerRecord::of(&member, topology_hash(config), server.in_file);
        Ok(Done { changed: was != server.admin, server, web_tiers })
    }
}

fn find<'a>(servers: &'a [ServerRecord], id: &str) -> Result<&'a ServerRecord, Refusal> {
    let known = || servers.iter().map(|it| it.id.clone()).collect();
    let found = servers.iter().find(|it| it.id == id);
    found.ok_or_else(|| Refusal::UnknownServer { id: id.to_owned(), known: known() })
}

/// A write that was not answered may be on the hub's disks.
fn unsure(cause: HubError) -> Refusal {
    match cause {
        HubError::Unavailable { .. } => Refusal::Unsure(cause),
        HubError::Overloaded(_) | HubError::NoRoom | HubError::Refused(_) => Refusal::Hub(cause),
    }
}

/// # Errors
/// Nobody else of its cluster takes requests.
fn keep_the_last(server: &ServerRecord, all: &[ServerRecord]) -> Result<(), Refusal> {
    let mut others = all.iter().filter(|it| it.cluster == server.cluster && it.id != server.id);
    if server.takes_requests() && !others.any(ServerRecord::takes_requests) {
        return Err(Refusal::Last { id: server.id.clone(), cluster: server.cluster.clone() });
    }
    Ok(())
}
