//! Deploys what a form brings: an archive, its app's name and a message. The form's token comes before the file, so that nobody's gigabytes
//! are taken in before it is known whose they are.

use super::multipart::{Fields, Multipart};
use crate::{
    Inner, RequestBody,
    apps::{archive::Upload, publish::drain},
    browser::{Keys, Visitor},
    refusal::Refusal,
    sign_in::SignedIn,
};
use common::{
    app_tag::{AppTag, DEFAULT_HOST},
    config::Config,
};
use http::HeaderMap;

/// What is still taken of a form that was refused, in bytes: a browser reads its answer when it has sent everything.
const DRAINED_MAX: u64 = 64 << 20;

/// The file's name in the form.
const FILE: &str = "archive";

impl Inner {
    /// Takes an archive in and begins its rollout, as `PUT …/archive` does.
    ///
    /// # Errors
    /// Whoever sent it, if that is known, and why not.
    pub(crate) async fn upload(
        &self,
        config: &Config,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<(), (Option<Visitor>, Refusal)> {
        let Some((session, user)) = self.session(config, headers) else {
            drain(body, DRAINED_MAX).await;
            return Err((None, Refusal::SignIn("sign in")));
        };
        let keys = Keys::new(config, &self.browser_key);
        let token = session.token(&keys);
        let visitor =
            || Some(Visitor { user: user.clone(), token: Some(token.clone()), done: String::new() });
        let asker = SignedIn::new(user.clone(), None, headers);
        let mut form = match Multipart::new(headers, body) {
            Ok(form) => form,
            Err((refusal, body)) => {
                drain(body, DRAINED_MAX).await;
                return Err((visitor(), refusal));
            }
        };
        let read = form.fields(FILE).await.and_then(|fields| {
            if !session.made(fields.field("token"), &keys) {
                return Err(Refusal::FormToken);
            }
            self.deployments()?;
            asker.must_deploy()?;
            let tag = tag(config, &fields)?;
            Ok((tag, Upload::said(fields.field("message"), fields.field("replace") == "true")?))
        });
        let (tag, upload) = match read {
            Ok(read) => read,
            Err(refusal) => {
                drain(form.rest(), DRAINED_MAX).await;
                return Err((visitor(), refusal));
            }
        };
        let deployed = self.deploy_archive(config, &asker, &tag, upload, form.file()).await;
        self.collector.forget().await;
        deployed.map(drop).map_err(|refusal| (visitor(), refusal))
    }
}

/// Of the stage that this cluster runs, under the default host.
fn tag(config: &Config, fields: &Fields) -> Result<AppTag, Refusal> {
    let (name, version) = (fields.field("name").trim(), fields.field("version").trim());
    let version = Some(version).filter(|it| !it.is_empty());
    let tag = AppTag::new(&config.deployments.stage, DEFAULT_HOST, name, version);
    tag.map_err(|cause| Refusal::Body(cause.to_string()))
}
