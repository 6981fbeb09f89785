//! What a server answers an operator beyond its status, on its cluster port: log lines, requests, sessions in memory, its configuration.

mod cache;
mod logs;
mod requests;
mod sessions;

use admin::Admin;
use app_tier::AppTier;
use std::sync::Arc;
use tonic::service::Routes;
use web_tier::WebTierView;

/// Adds the services of the roles that this server plays.
pub(crate) fn add(
    routes: Routes,
    admin: &Admin,
    web_tier: Option<WebTierView>,
    app_tier: Option<Arc<AppTier>>,
) -> Routes {
    let mut routes = routes.add_service(logs::service()).add_service(admin.configuration_service());
    if let Some(view) = web_tier {
        routes = routes.add_service(requests::service(view.clone())).add_service(cache::service(view));
    }
    if let Some(app_tier) = app_tier {
        routes = routes.add_service(sessions::service(app_tier));
    }
    routes
}
