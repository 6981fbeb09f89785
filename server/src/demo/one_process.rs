//! The demo's cluster in one process.

use super::{Demo, SERVERS, print_what_to_try};
use crate::{
    check::say, handover::takeover::Given, server::RunningServer, signals::Stops, start::log_filter,
};
use anyhow::bail;
use common::telemetry;
use std::sync::Arc;

pub(super) fn run(demo: &Demo) -> anyhow::Result<()> {
    let log = demo.folder.join("demo.log");
    let _logs = telemetry::start(Some(&log), &log_filter())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut stops = Stops::listen()?;
        let mut servers = Vec::new();
        let running = tokio::select! {
            ended = up(demo, &mut servers) => ended.map(|()| true),
            () = stops.next() => Ok(false),
        };
        let ended = match running {
            Ok(true) => {
                stops.next().await;
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        tokio::select! {
            () = down(servers) => ended,
            () = stops.next() => bail!("stopped at once by a second signal"),
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn up(demo: &Demo, servers: &mut Vec<RunningServer>) -> anyhow::Result<()> {
    let config = Arc::new(demo.config.clone());
    for id in SERVERS {
        servers.push(RunningServer::start(config.clone(), id.into(), Given::default()).await?);
    }
    for server in servers.iter_mut() {
        server.ready().await?;
        server.listeners().iter().for_each(|line| say(line));
    }
    print_what_to_try(demo, false);
    Ok(())
}

/// All tiers drain while the whole hub is still there to save their sessions.
async fn down(mut servers: Vec<RunningServer>) {
    for server in servers.iter_mut().rev() {
        server.drain().await;
    }
    for server in servers.into_iter().rev() {
        server.stop().await;
    }
}
