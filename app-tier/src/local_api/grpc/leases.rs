//! The service `Leases`.

use super::{Answers, InFlight, Services, answers, caller};
use crate::local_api::{
    LocalApi,
    answer::Problem,
    input::{self, millis},
    leases::{self, TTL, TTL_DEFAULT, WAIT},
};
use crate::{content, lease::LeaseError, registry::Running};
use futures_util::stream;
use proto::{
    app::v1::{
        Fence, LeaseAcquireReply, LeaseAcquireRequest, LeaseEvent, LeaseGetRequest, LeaseHolder,
        LeaseReleaseReply, LeaseReleaseRequest, LeaseRenewReply, LeaseRenewRequest, leases_server::Leases,
    },
    hub::v1::Lease,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Leases for Services {
    async fn acquire(
        &self,
        request: Request<LeaseAcquireRequest>,
    ) -> Result<Response<LeaseAcquireReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(acquire(&self.0, &caller, request.into_inner()).await?))
    }

    async fn renew(&self, request: Request<LeaseRenewRequest>) -> Result<Response<LeaseRenewReply>, Status> {
        let caller = caller(&request)?;
        let held = held(&self.0, &caller, request.into_inner().lease)?;
        leases::leases(&self.0)?.renew(&held).await.map_err(Problem::from)?;
        Ok(Response::new(LeaseRenewReply { left_ms: content::millis(held.left()) }))
    }

    async fn release(
        &self,
        request: Request<LeaseReleaseRequest>,
    ) -> Result<Response<LeaseReleaseReply>, Status> {
        let caller = caller(&request)?;
        let held = held(&self.0, &caller, request.into_inner().lease)?;
        leases::leases(&self.0)?.release(&held).await.map_err(Problem::from)?;
        Ok(Response::new(LeaseReleaseReply {}))
    }

    async fn get(&self, request: Request<LeaseGetRequest>) -> Result<Response<LeaseHolder>, Status> {
        let found = leases::heard(&self.0, &leases::name(&request.into_inner().name)?)?;
        Ok(Response::new(holder(found)))
    }

    type WatchStream = Answers<LeaseEvent>;

    async fn watch(&self, request: Request<LeaseGetRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let in_flight = InFlight::of(&request)?;
        let name = leases::name(&request.into_inner().name)?;
        let leases = leases::leases(&self.0)?.clone();
        let events = stream::unfold((leases, name, None), |(leases, name, known)| async move {
            let held = leases.heard_another(&name, known).await;
            let token = held.as_ref().map_or(0, |it| it.token);
            Some((Ok(LeaseEvent { holder: held.map(holder) }), (leases, name, Some(token))))
        });
        Ok(answers(in_flight, events))
    }
}

async fn acquire(
    api: &LocalApi,
    caller: &Running,
    request: LeaseAcquireRequest,
) -> Result<LeaseAcquireReply, Problem> {
    let LeaseAcquireRequest { name, ttl_ms, wait_ms } = request;
    let name = leases::name(&name)?;
    let ttl = millis("ttl_ms", ttl_ms, &TTL)?.unwrap_or(TTL_DEFAULT);
    let wait = millis("wait_ms", wait_ms, &WAIT)?.unwrap_or_default();
    let held = leases::acquired(leases::leases(api)?, caller, &name, ttl, wait).await?;
    let lease = Fence { name: name.name.as_str().to_owned(), token: held.token() };
    Ok(LeaseAcquireReply { lease: Some(lease), left_ms: content::millis(held.left()) })
}

fn held(api: &LocalApi, caller: &Running, lease: Option<Fence>) -> Result<Arc<crate::lease::Held>, Problem> {
    let fence = input::told_fence(lease)?.ok_or_else(|| Problem::bad("lease is missing"))?;
    let held = leases::held(leases::leases(api)?, caller, &leases::name(&fence.name)?, fence.token);
    held.map_err(|cause: LeaseError| cause.into())
}

fn holder(lease: Lease) -> LeaseHolder {
    let Lease { server, token, ttl_ms, since_ms, .. } = lease;
    LeaseHolder { server, token, ttl_ms, since_ms }
}
