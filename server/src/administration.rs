//! Puts the administration where web-apps have `admin: true`.

use admin::Admin;
use app_tier::InProcessService;
use common::config::{Config, Content};
use http_body_util::BodyExt;

/// The administration as an app of the app tier.
pub(crate) fn service(admin: Admin) -> InProcessService {
    InProcessService::new(move |prefix, request| {
        let admin = admin.clone();
        async move {
            let answer = admin.answer(&prefix, request).await;
            answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
        }
    })
}

/// Says so where nobody could sign in.
pub(crate) fn warn_without_users(config: &Config) {
    let hosts = config.clusters.iter().flat_map(|cluster| &cluster.hosts);
    let mounted = hosts.flat_map(|host| &host.web_apps).any(|web_app| web_app.content == Content::Admin);
    if mounted && config.admin_users.is_empty() {
        tracing::warn!(
            "a web-app has `admin: true`, and `admin` has no `users`: it answers 403 to everyone; \
             `deploy-tool password-generate` makes a line for a user"
        );
    }
}
