//! The requests of this web-tier that failed or took long.

use proto::requests::v1::{
    GetNotable, NotableRequests,
    requests_server::{Requests, RequestsServer},
};
use tonic::{Request, Response, Status};
use web_tier::WebTierView;

/// The service, for the cluster port.
pub(super) fn service(view: WebTierView) -> RequestsServer<impl Requests> {
    RequestsServer::new(RequestService(view))
}

#[derive(Debug)]
struct RequestService(WebTierView);

#[tonic::async_trait]
impl Requests for RequestService {
    async fn notable(&self, _: Request<GetNotable>) -> Result<Response<NotableRequests>, Status> {
        Ok(Response::new(self.0.notable().await))
    }
}
