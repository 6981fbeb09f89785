//! `member.proto`'s service.

use super::{audit, input};
use crate::{hub::Hub, serve::Caller};
use proto::hub::v1::{
    AskLead, Command, HeartbeatNoted, Leads, ListMembers, Member, MemberAdmin, MemberAdminSet,
    MemberHeartbeat, MemberList, MemberState, MemberStateSet, RegisterMember, Registered, SetMemberAdmin,
    SetMemberState, command, members_server::Members,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// A member's record is small.
const BYTES: usize = 256;

/// A refusal names at most so many members.
const NAMED: usize = 64;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct MemberService(pub(crate) Arc<Hub>);

impl MemberService {
    fn members(&self) -> Vec<Member> {
        self.0.node().view().read().state.members().iter().cloned().collect()
    }

    /// A member; the refusal names those that there are.
    fn known(&self, id: &str) -> Result<Member, Status> {
        let applied = self.0.node().view().read();
        let members = applied.state.members();
        members.get(id).cloned().ok_or_else(|| {
            let known = members.iter().map(|it| it.id.as_str()).take(NAMED).collect::<Vec<_>>().join(", ");
            let text = format!("id is {id:?}: no such server has registered; expected one of {known}");
            Status::invalid_argument(text)
        })
    }
}

#[tonic::async_trait]
impl Members for MemberService {
    async fn register(&self, request: Request<RegisterMember>) -> Result<Response<Registered>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let member = request.into_inner().member;
        let member = member.ok_or_else(|| Status::invalid_argument("member is missing"))?;
        input::server("member.id", &member.id)?;
        input::own("member.id", &member.id, caller.as_ref())?;
        input::server("member.cluster", &member.cluster)?;
        input::server("member.address", &member.address)?;
        // Heard from now: a registration that is under way must not be followed by "down".
        self.0.heartbeats().heard(&member.id, member.started_ms, self.0.now());
        let register = Command { command: Some(command::Command::RegisterMember(member)) };
        self.0.propose(vec![register], BYTES).await?;
        Ok(Response::new(Registered { members: self.members() }))
    }

    async fn heartbeat(&self, request: Request<MemberHeartbeat>) -> Result<Response<HeartbeatNoted>, Status> {
        // The word of a leader that was deposed without knowing it would keep its members from the one that counts them.
        self.0.must_be_confirmed()?;
        let caller = request.extensions().get::<Caller>().cloned();
        let heartbeat = request.into_inner();
        input::server("id", &heartbeat.id)?;
        input::own("id", &heartbeat.id, caller.as_ref())?;
        let known = {
            let applied = self.0.node().view().read();
            let member = applied.state.members().get(&heartbeat.id);
            member.is_some_and(|it| it.started_ms == heartbeat.started_ms && it.state() != MemberState::Down)
        };
        if known {
            let MemberHeartbeat { id, started_ms, cpu_load } = heartbeat;
            self.0.heartbeats().heard(&id, started_ms, self.0.now());
            if let Some(cpu_load) = cpu_load {
                self.0.heartbeats().loaded(id, cpu_load);
            }
        }
        Ok(Response::new(HeartbeatNoted { unknown: !known }))
    }

    async fn set_state(&self, request: Request<SetMemberState>) -> Result<Response<MemberStateSet>, Status> {
        self.0.must_be_confirmed()?;
        let caller = request.extensions().get::<Caller>().cloned();
        let set = request.into_inner();
        input::server("id", &set.id)?;
        if set.state() == MemberState::Unspecified {
            let text = format!("state is {}: expected active, standby, draining or down", set.state);
            return Err(Status::invalid_argument(text));
        }
        if set.state() != MemberState::Down {
            input::own("id", &set.id, caller.as_ref())?;
        } else if !self.0.believes_down(caller.as_ref(), &set) {
            return Ok(Response::new(MemberStateSet {}));
        }
        let set = Command { command: Some(command::Command::SetMemberState(set)) };
        self.0.propose(vec![set], BYTES).await?;
        Ok(Response::new(MemberStateSet {}))
    }

    async fn set_admin(&self, request: Request<SetMemberAdmin>) -> Result<Response<MemberAdminSet>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let mut set = request.into_inner();
        input::server("id", &set.id)?;
        audit::check(set.author.as_ref())?;
        if MemberAdmin::try_from(set.admin).is_err() {
            let text =
                format!("admin is {}: expected enabled (0), disabled-soft (1) or disabled (2)", set.admin);
            return Err(Status::invalid_argument(text));
        }
        // So that a member that has just registered is known here.
        self.0.confirm_read().await?;
        let id = set.id.clone();
        self.known(&id)?;
        tracing::info!(member = id, admin = set.admin().as_str_name(), "an administrator says");
        set.author = audit::signed(&self.0, set.author, caller.as_ref());
        let set = Command { command: Some(command::Command::SetMemberAdmin(set)) };
        self.0.propose(vec![set], BYTES).await?;
        Ok(Response::new(MemberAdminSet { member: Some(self.known(&id)?) }))
    }

    async fn list(&self, _request: Request<ListMembers>) -> Result<Response<MemberList>, Status> {
        self.0.confirm_read().await?;
        Ok(Response::new(MemberList { members: self.members() }))
    }

    async fn lead(&self, _request: Request<AskLead>) -> Result<Response<Leads>, Status> {
        self.0.must_be_confirmed()?;
        Ok(Response::new(Leads {}))
    }
}
