//! `copal start`: one server in the foreground.

use crate::{
    check::{BAD_CONFIGURATION, complain, read, say},
    cli::StartArguments,
    reload::{Reloader, Why},
    server::RunningServer,
    signals::{Hangups, Stops, stop_with_stdin},
};
use anyhow::Context;
use common::{
    config::{ClusterEncryption, Config, Encryption, guessable},
    id::ServerId,
    telemetry,
};
use std::{convert::Infallible, process::ExitCode, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What a hub server says of apps that fail at its start.
const NOT_JOINED: &str = "this server's part of the hub goes on, requests go to other servers: an app that fails is started again and again, \
                          and once all are healthy requests come; a folder or file that is wrong needs a restart once it is mended";

pub(crate) fn run(arguments: &StartArguments) -> ExitCode {
    let mut reloader = Reloader::new(&arguments.file);
    let config = match read(&arguments.file) {
        Ok(loaded) => {
            reloader.has_read(&loaded);
            Arc::new(loaded.config)
        }
        Err(status) => return status,
    };
    let id = ServerId::from(arguments.server.as_str());
    if config.server(&id).is_none() {
        complain(&crate::server::unknown_server(&config, &id));
        return BAD_CONFIGURATION.into();
    }
    match started(arguments, config, id, reloader) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn started(
    arguments: &StartArguments,
    config: Arc<Config>,
    id: ServerId,
    reloader: Reloader,
) -> anyhow::Result<()> {
    let _logs = telemetry::start(arguments.log_file.as_deref(), &log_filter())
        .with_context(|| format!("log file {:?} can't be opened", arguments.log_file))?;
    warn_of_the_port(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut stops = Stops::listen()?;
        let hangups = Hangups::listen()?;
        let parent_gone = CancellationToken::new();
        if arguments.stop_with_stdin {
            stop_with_stdin(parent_gone.clone());
        }
        serve(config, id, reloader, &parent_gone, &mut stops, hangups).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// What weakens the cluster port is said loudly, and where operators look; it takes no running cluster down.
fn warn_of_the_port(config: &Config) {
    let beyond = |address: &str| ClusterEncryption::BeyondLoopback.of(address) != Encryption::Plain;
    if !config.servers().any(|(_, server)| beyond(&server.address)) {
        return;
    }
    if let Some(why) = guessable(&config.cluster_key) {
        tracing::error!(
            "the cluster key can be guessed: {why}. Whoever listens in can find it and take the cluster over. Make one with \
             `openssl rand -base64 32`; docs/operating.md says how to change it"
        );
    }
    match config.cluster_encryption {
        ClusterEncryption::Never => tracing::warn!(
            "cluster-encryption: false: whoever listens in reads what servers say to each other"
        ),
        ClusterEncryption::Optional => tracing::warn!(
            "cluster-encryption: optional: connections without encryption are taken too. When all servers have it, make it true"
        ),
        ClusterEncryption::BeyondLoopback | ClusterEncryption::Always => {}
    }
}

/// `RUST_LOG`, or what an operator wants to see.
pub(crate) fn log_filter() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "info,openraft=error".to_owned())
}

/// Reloads whenever somebody says so.
async fn reload_for_ever(
    server: &mut RunningServer,
    reloader: &mut Reloader,
    hangups: &mut Hangups,
) -> Infallible {
    loop {
        let why = tokio::select! {
            () = hangups.next() => Why::Hangup,
            why = reloader.changed() => why,
        };
        reloader.reload(server, why).await;
    }
}

async fn serve(
    config: Arc<Config>,
    id: ServerId,
    mut reloader: Reloader,
    parent_gone: &CancellationToken,
    stops: &mut Stops,
    mut hangups: Hangups,
) -> anyhow::Result<()> {
    let mut server = tokio::select! {
        started = RunningServer::start(config, id) => started?,
        () = stops.next() => return Ok(()),
    };
    let ready = tokio::select! {
        ready = server.ready() => Some(ready),
        () = stops.next() => None,
        () = parent_gone.cancelled() => None,
    };
    let ready = match ready {
        Some(Err(error)) if server.is_hub() => {
            complain(&error.context(NOT_JOINED));
            server.join_when_apps_recover();
            Some(Ok(()))
        }
        ready => ready,
    };
    let ended = match ready {
        Some(Ok(())) => {
            server.listeners().iter().for_each(|line| say(line));
            let failed = server.failed();
            tokio::select! {
                () = stops.next() => Ok(()),
                () = parent_gone.cancelled() => Ok(()),
                error = failed => Err(error),
                // A reload may take most of a minute (a file system that hangs, a resolver that is silent). A stop does not wait for
                // it: what it has not changed yet does not matter any more.
                never = reload_for_ever(&mut server, &mut reloader, &mut hangups) => match never {},
            }
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    let stopping = async {
        server.drain().await;
        server.stop().await;
    };
    tokio::select! {
        () = stopping => ended,
        () = stops.next() => ended.and(Err(anyhow::anyhow!("stopped at once by a second signal"))),
    }
}
