//! `balancer.proto`'s service: what other servers of the cluster ask a web tier.

use crate::worker::picture::Picture;
use proto::web::v1::{
    AdminHeeded, HeedAdmin,
    balancer_server::{Balancer, BalancerServer},
};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The service of a web tier with this picture, for the cluster port.
pub fn balancer(picture: Picture) -> BalancerServer<impl Balancer> {
    BalancerServer::new(BalancerService(picture))
}

#[derive(Debug)]
struct BalancerService(Picture);

#[tonic::async_trait]
impl Balancer for BalancerService {
    async fn heed(&self, request: Request<HeedAdmin>) -> Result<Response<AdminHeeded>, Status> {
        let asked = request.into_inner();
        let wait = Duration::from_millis(asked.wait_ms.into()).min(WAIT_MAX);
        let heeded = self.0.heeds(&asked.id, asked.admin(), asked.admin_since_ms, wait).await;
        Ok(Response::new(AdminHeeded { heeded }))
    }
}
