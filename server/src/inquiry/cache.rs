//! What this web-tier keeps of answers.

use proto::web::v1::{
    CachePurged, CacheReport, GetCacheReport, PurgeCache,
    cache_server::{Cache, CacheServer},
};
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};
use web_tier::WebTierView;

/// The most entries of a list.
const MOST: u32 = 200;

/// The service, for the cluster port.
pub(super) fn service(view: WebTierView) -> CacheServer<impl Cache> {
    CacheServer::new(CacheService(view))
}

#[derive(Debug)]
struct CacheService(WebTierView);

#[tonic::async_trait]
impl Cache for CacheService {
    async fn purge(&self, request: Request<PurgeCache>) -> Result<Response<CachePurged>, Status> {
        let (view, asked) = (self.0.clone(), request.into_inner());
        let purged = spawn_blocking(move || view.purge(&asked)).await;
        let purged = purged.map_err(|cause| Status::internal(cause.to_string()))?;
        Ok(Response::new(purged.map_err(Status::invalid_argument)?))
    }

    async fn report(&self, request: Request<GetCacheReport>) -> Result<Response<CacheReport>, Status> {
        let (view, most) = (self.0.clone(), request.into_inner().most.min(MOST));
        let report = spawn_blocking(move || view.cache_report(most as usize)).await;
        Ok(Response::new(report.map_err(|cause| Status::internal(cause.to_string()))?))
    }
}
