//! Sessions in this server's memory.

use app_tier::AppTier;
use proto::session::v1::{
    FindHeld, ForgetHeld, HeldSessions, SessionForgotten,
    memory_server::{Memory, MemoryServer},
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service, for the cluster port.
pub(super) fn service(app_tier: Arc<AppTier>) -> MemoryServer<impl Memory> {
    MemoryServer::new(MemoryService(app_tier))
}

#[derive(Debug)]
struct MemoryService(Arc<AppTier>);

#[tonic::async_trait]
impl Memory for MemoryService {
    async fn find(&self, request: Request<FindHeld>) -> Result<Response<HeldSessions>, Status> {
        Ok(Response::new(HeldSessions { sessions: self.0.inquire(&request.into_inner().id) }))
    }

    async fn forget(&self, request: Request<ForgetHeld>) -> Result<Response<SessionForgotten>, Status> {
        Ok(Response::new(SessionForgotten { apps: self.0.end_session(&request.into_inner().id) }))
    }
}
