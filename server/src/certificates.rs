//! Certificates by ACME: gets them as the file says, and as another one says after a reload.

use acme::{HubStorage, Live, Manager, ManagerConfig, Times};
use common::{
    clock::SystemClock,
    config::{Config, Secret},
    id::ServerId,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use triad_client::{Hub, Secrets};

/// What it goes by.
type Wanted = (acme::Wanted, [Secret; 2]);

/// Gets the certificates of a web-tier's cluster.
#[derive(Debug)]
pub(crate) struct Certificates {
    me: ServerId,
    hub: (Hub, Secrets),
    started_ms: u64,
    data: PathBuf,
    live: Live,
    running: Option<(Wanted, Manager)>,
}

impl Certificates {
    /// Those of the cluster of `me`, if it has listeners: others have no use for them.
    pub(crate) fn start(
        config: &Config,
        me: &ServerId,
        hub: (Hub, Secrets),
        started_ms: u64,
        data: &Path,
    ) -> Self {
        let mut made = Self {
            me: me.clone(),
            hub,
            started_ms,
            data: data.to_owned(),
            live: Live::default(),
            running: None,
        };
        made.go_by(config);
        made
    }

    /// What there is of them.
    pub(crate) fn live(&self) -> Live {
        self.live.clone()
    }

    /// Goes by this file from now on.
    pub(crate) fn go_by(&mut self, config: &Config) {
        let found = config.server(&self.me).filter(|(_, server)| !server.http.is_empty());
        let found = found.and_then(|(cluster, _)| Some((&cluster.id, cluster.acme.as_ref()?)));
        let Some((cluster, acme)) = found else {
            if self.running.take().is_some() {
                self.live.clear();
            }
            return;
        };
        let keys = [config.cluster_key.clone(), config.cluster_key_also.clone()];
        let wanted = (acme::Wanted::new(acme, cluster), keys);
        if self.running.as_ref().is_some_and(|(running, _)| *running == wanted) {
            return;
        }
        // The former one first: both would order.
        self.running = None;
        let (hub, secrets) = self.hub.clone();
        let storage = HubStorage::new(hub, secrets, cluster, self.me.clone(), self.started_ms);
        let [key, key_also] = wanted.1.clone();
        let manager = ManagerConfig {
            acme: acme.clone(),
            cluster: cluster.clone(),
            key,
            key_also,
            data: self.data.clone(),
            times: Times::default(),
        };
        let manager = Manager::start(manager, self.live.clone(), Arc::new(storage), Arc::new(SystemClock));
        self.running = Some((wanted, manager));
    }

    /// Orders that have failed are tried again: an operator has mended something.
    pub(crate) fn try_now(&self) {
        if let Some((_, manager)) = &self.running {
            manager.try_now();
        }
    }
}
