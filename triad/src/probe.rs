//! Members that may have died are dialed: a refused connection, seen by the leader and by one other hub server, is a member that
//! is down, long before it has missed its heartbeats.

use crate::hub::Hub;
use proto::hub::v1::{Command, Member, MemberState, SetMemberState, command};
use std::{
    collections::HashSet,
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// A dial takes no longer; one that takes longer was not refused.
const DIAL: Duration = Duration::from_millis(500);
/// The other hub servers answer within this.
const ASK: Duration = Duration::from_secs(1);
/// Waits before each try: of a process that is killed, the connections may end a moment before its port does.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];
/// Members that are dialed at once; the others' turn comes with the next heartbeat interval.
const PENDING: usize = 256;

/// Members that are being dialed, each once at a time.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<HashSet<String>>);

impl Probes {
    fn begin(self: &Arc<Self>, id: &str) -> Option<Probe> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = pending.len() < PENDING && pending.insert(id.to_owned());
        new.then(|| Probe { probes: self.clone(), id: id.to_owned() })
    }
}

/// One member that is being dialed.
#[derive(Debug)]
struct Probe {
    probes: Arc<Probes>,
    id: String,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.probes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Whether nobody listens at `address`: its machine is there and refuses the connection.
pub(crate) async fn is_refused(address: &str) -> bool {
    let dialed = timeout(DIAL, TcpStream::connect(address)).await;
    matches!(dialed, Ok(Err(cause)) if cause.kind() == ErrorKind::ConnectionRefused)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_refusal_is_a_refusal() {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap().to_string();
        assert!(!is_refused(&address).await);
        drop(port);
        assert!(is_refused(&address).await);
        assert!(!is_refused("no address at all").await);
    }

    #[test]
    fn a_member_is_looked_at_once_at_a_time_and_not_too_many() {
        let probes = Arc::new(Probes::default());
        let first = probes.begin("a");
        assert!(first.is_some() && probes.begin("a").is_none());
        drop(first);
        assert!(probes.begin("a").is_some());
        let held: Vec<_> = (0..PENDING).map(|n| probes.begin(&format!("{n}"))).collect();
        assert!(held.iter().all(Option::is_some) && probes.begin("b").is_none());
    }
}
