//! Members that may have died are dialed: a refused connection, seen by the leader and by one other hub server, is a member that
//! is down, long before it has missed its heartbeats.

use crate::{dial::is_refused, hub::Hub};
use proto::hub::v1::{Command, Member, MemberState, SetMemberState, command};
use std::{sync::Arc, time::Duration};

/// The other hub servers answer within this.
const ASK: Duration = Duration::from_secs(1);
/// Waits before each try: of a process that is killed, the connections may end a moment before its port does.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];
/// Looks, in the background, whether a member still lives, and replicates that it is down when it does not. Does nothing on
/// a server that does not lead, or while the member is being looked at.
pub(crate) fn suspect(hub: &Arc<Hub>, id: &str) {
    if hub.must_lead().is_err() {
        return;
    }
    let Some(probe) = hub.probes().begin(id) else { return };
    let hub = hub.clone();
    tokio::spawn(async move {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            let Some(member) = living(&hub, &probe.id) else { return };
            if is_refused(&member.address).await && others_agree(&hub, &member).await {
                tracing::warn!(member = member.id, "the member refuses connections: it is down");
                announce(&hub, &member).await;
                return;
            }
        }
    });
}

fn living(hub: &Hub, id: &str) -> Option<Member> {
    hub.must_lead().ok()?;
    let applied = hub.node().view().read();
    applied.state.members().get(id).filter(|it| it.state() != MemberState::Down).cloned()
}

/// Whether another hub server is refused too. In a hub of one or two the leader's own word is enough: the other one may be
/// the member that died.
async fn others_agree(hub: &Hub, member: &Member) -> bool {
    hub.is_small() || hub.node().ask_dial(&member.id, member.started_ms, ASK).await
}

async fn announce(hub: &Hub, member: &Member) {
    let state = MemberState::Down.into();
    let set = SetMemberState { id: member.id.clone(), started_ms: member.started_ms, state };
    let command = Command { command: Some(command::Command::SetMemberState(set)) };
    if let Err(cause) = hub.propose(vec![command], 64).await {
        tracing::debug!(%cause, member = member.id, "that the member is down must wait");
    }
}
