//! A server's place among the members: registered, kept alive by heartbeats, left with a word.

use crate::{
    HubError,
    cpu::CpuMeter,
    leader::{Leader, TRY_TIMEOUT},
};
use common::backoff::Backoff;
use proto::hub::v1::{
    Member, MemberHeartbeat, MemberState, RegisterMember, SetMemberState, members_client::MembersClient,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::AbortHandle};

/// One registration or heartbeat may take this long before it is tried again.
const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// Waits between failed registrations.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(2);

/// A registered server; dropped without [`Self::leave`] it is missed after three heartbeats.
#[derive(Debug)]
pub struct Membership {
    leader: Arc<Leader>,
    member: Member,
    registered: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Membership {
    pub(crate) fn start(leader: Arc<Leader>, member: Member, interval: Duration) -> Self {
        let (sender, registered) = watch::channel(false);
        let task = tokio::spawn(keep(leader.clone(), member.clone(), interval, sender)).abort_handle();
        Self { leader, member, registered, task }
    }

    /// Waits until the hub has the member on disk on a majority.
    pub async fn registered(&self) {
        // An error means that the task is gone, which only `leave` and a drop do.
        let _ = self.registered.clone().wait_for(|done| *done).await;
    }

    /// Announces a graceful stop: no new requests are to come, those that this server has will be answered. Heartbeats go on.
    ///
    /// # Errors
    /// The hub did not answer within `deadline`.
    pub async fn stand_by(&self, deadline: Duration) -> Result<(), HubError> {
        self.announce(MemberState::Standby, deadline).await
    }

    /// Announces that this server is gone: whoever still waits for an answer of it need not wait any longer.
    ///
    /// # Errors
    /// The hub did not answer within `deadline`; it will find out by missed heartbeats.
    pub async fn leave(self, deadline: Duration) -> Result<(), HubError> {
        self.task.abort();
        self.announce(MemberState::Down, deadline).await
    }

    async fn announce(&self, state: MemberState, deadline: Duration) -> Result<(), HubError> {
        let request = SetMemberState {
            id: self.member.id.clone(),
            started_ms: self.member.started_ms,
            state: state.into(),
        };
        self.leader
            .call(deadline, TRY_TIMEOUT, |channel| {
                let request = request.clone();
                async move { MembersClient::new(channel).set_state(request).await }
            })
            .await?;
        Ok(())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(leader: Arc<Leader>, member: Member, interval: Duration, registered: watch::Sender<bool>) {
    let mut cpu = CpuMeter::default();
    loop {
        register(&leader, &member).await;
        registered.send_replace(true);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match heartbeat(&leader, &member, cpu.load()).await {
                Ok(known) if known => {}
                Ok(_unknown) => break,
                Err(cause) => tracing::debug!(%cause, "heartbeat"),
            }
        }
        tracing::info!(member = member.id, "the hub does not know this server any more: registering again");
    }
}

async fn register(leader: &Leader, member: &Member) {
    let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
    let request = RegisterMember { member: Some(member.clone()) };
    loop {
        let called = leader.call(CALL_DEADLINE, TRY_TIMEOUT, |channel| {
            let request = request.clone();
            async move { MembersClient::new(channel).register(request).await }
        });
        match called.await {
            Ok(_) => return,
            Err(cause) => tracing::info!(member = member.id, %cause, "not registered with the hub yet"),
        }
        tokio::time::sleep(backoff.wait(rand::random())).await;
    }
}

async fn heartbeat(leader: &Leader, member: &Member, cpu_load: Option<u32>) -> Result<bool, HubError> {
    let request = MemberHeartbeat { id: member.id.clone(), started_ms: member.started_ms, cpu_load };
    let noted = leader
        .call(CALL_DEADLINE, TRY_TIMEOUT, |channel| {
            let request = request.clone();
            async move { MembersClient::new(channel).heartbeat(request).await }
        })
        .await?;
    Ok(!noted.unknown)
}
