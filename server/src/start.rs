//! `copal start`: one server in the foreground.

use crate::{
    check::{BAD_CONFIGURATION, complain, read, say},
    cli::StartArguments,
    handover::{
        takeover::{Given, Takeover},
        upgrade::{WAIT, hand_over},
    },
    reload::{Reloader, Why},
    server::RunningServer,
    service_manager::{ServiceManager, listening_sockets},
    signals::{Stops, Wishes, stop_with},
};
use anyhow::Context;
use common::{
    config::{ClusterEncryption, Config, Encryption, guessable},
    id::ServerId,
    telemetry,
};
use std::{fs::File, os::fd::AsFd, process::ExitCode, sync::Arc};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

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
    let (takeover, given, parent) = if arguments.take_over {
        let (takeover, given, parent) = Takeover::receive(WAIT)?;
        (Some(takeover), given, parent)
    } else {
        let http = listening_sockets().context("LISTEN_FDS")?;
        let stdin = arguments.stop_with_stdin.then(|| std::io::stdin().as_fd().try_clone_to_owned());
        (None, Given { http, ..Given::default() }, stdin.transpose()?.map(File::from))
    };
    let _logs = telemetry::start(arguments.log_file.as_deref(), &log_filter())
        .with_context(|| format!("log file {:?} can't be opened", arguments.log_file))?;
    warn_of_the_port(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let parent_gone = CancellationToken::new();
        let asked = Asked {
            stops: Stops::listen()?,
            hangups: Wishes::to_reload()?,
            upgrades: Wishes::to_hand_over()?,
            parent_gone: parent_gone.clone(),
            manager: Arc::new(ServiceManager::from_environment()),
            parent,
        };
        if let Some(parent) = &asked.parent {
            stop_with(parent.try_clone()?, parent_gone);
        }
        serve(config, id, reloader, (given, takeover), asked).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// Who may want something of this process.
#[derive(Debug)]
struct Asked {
    stops: Stops,
    hangups: Wishes,
    upgrades: Wishes,
    parent_gone: CancellationToken,
    manager: Arc<ServiceManager>,
    /// What ends with the parent, if this process is to stop then too: the standard input of the first one.
    parent: Option<File>,
}

/// Why a server ended.
#[derive(Debug)]
enum End {
    Stopped,
    Failed(anyhow::Error),
    HandedOver,
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

/// Reloads whenever somebody says so, until another process has taken over.
async fn work(
    server: &mut RunningServer,
    reloader: &mut Reloader,
    (hangups, upgrades): (&mut Wishes, &mut Wishes),
    (manager, parent): (&ServiceManager, Option<&File>),
) {
    let id = server.id().clone();
    loop {
        let why = tokio::select! {
            () = hangups.next() => Why::Hangup,
            why = reloader.changed() => why,
            () = upgrades.next() => {
                tracing::info!(server = %id, "SIGUSR2: the program is started anew, to take over");
                match hand_over(server, parent, |pid| manager.main_pid(pid)).await {
                    Ok(pid) => {
                        tracing::info!(server = %id, pid, "another process has taken over: what is open here ends");
                        return;
                    }
                    Err(cause) => {
                        tracing::error!(server = %id, "not upgraded, this process goes on: {cause:#}");
                        server.note_upgrade(&format!("{cause:#}"));
                    }
                }
                continue;
            }
        };
        if why == Why::Hangup {
            manager.reloading();
        }
        reloader.reload(server, why).await;
        if why == Why::Hangup {
            manager.ready(&serves(&id));
        }
    }
}

fn serves(id: &ServerId) -> String {
    format!("{id} of Copal {} serves", env!("CARGO_PKG_VERSION"))
}

/// Tells the service manager that this server lives, for as long as its workers answer.
fn watchdog(server: &RunningServer, manager: &Arc<ServiceManager>) -> Option<AbortOnDropHandle<()>> {
    let (interval, manager, view) = (manager.watchdog()?, manager.clone(), server.web_view());
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let answers = match &view {
                Some(view) => view.answers().await,
                None => true,
            };
            if answers {
                manager.alive();
            } else {
                tracing::warn!(
                    "a worker of the web tier does not answer: the service manager is not told that this server lives"
                );
            }
            tokio::time::sleep(interval).await;
        }
    })))
}

async fn serve(
    config: Arc<Config>,
    id: ServerId,
    mut reloader: Reloader,
    (given, takeover): (Given, Option<Takeover>),
    mut asked: Asked,
) -> anyhow::Result<()> {
    let mut server = tokio::select! {
        started = RunningServer::start(config, id, given) => started?,
        () = asked.stops.next() => return Ok(()),
    };
    if let Some(takeover) = &takeover {
        takeover.serves()?;
    }
    let ready = tokio::select! {
        ready = server.ready() => Some(ready),
        () = asked.stops.next() => None,
        () = asked.parent_gone.cancelled() => None,
    };
    let ready = match ready {
        Some(Err(error)) if server.is_hub() => {
            complain(&error.context(NOT_JOINED));
            server.join_when_apps_recover();
            Some(Ok(()))
        }
        ready => ready,
    };
    let end = match ready {
        Some(Ok(())) => {
            if let Some(takeover) = takeover {
                takeover.ready()?;
                server.sign();
            }
            serve_until_the_end(&mut server, &mut reloader, &mut asked).await
        }
        Some(Err(error)) => End::Failed(error),
        None => End::Stopped,
    };
    let ended = match end {
        End::HandedOver => {
            let retiring = async {
                server.retire().await;
                server.stop().await;
            };
            // A signal, or the parent's end, means what is left of this process: it is not waited for.
            tokio::select! {
                () = retiring => {}
                () = asked.stops.next() => {}
                () = asked.parent_gone.cancelled() => {}
            }
            return Ok(());
        }
        End::Failed(error) => Err(error),
        End::Stopped => Ok(()),
    };
    asked.manager.stopping();
    let stopping = async {
        server.drain().await;
        server.stop().await;
    };
    tokio::select! {
        () = stopping => ended,
        () = asked.stops.next() => ended.and(Err(anyhow::anyhow!("stopped at once by a second signal"))),
    }
}

async fn serve_until_the_end(server: &mut RunningServer, reloader: &mut Reloader, asked: &mut Asked) -> End {
    let Asked { stops, hangups, upgrades, parent_gone, manager, parent } = asked;
    server.listeners().iter().for_each(|line| say(line));
    manager.ready(&serves(server.id()));
    let _watchdog = watchdog(server, manager);
    let failed = server.failed();
    tokio::select! {
        () = stops.next() => End::Stopped,
        () = parent_gone.cancelled() => End::Stopped,
        error = failed => End::Failed(error),
        // A reload may take most of a minute (a file system that hangs, a resolver that is silent). A stop does not wait for
        // it: what it has not changed yet does not matter any more.
        () = work(server, reloader, (hangups, upgrades), (manager, parent.as_ref())) => End::HandedOver,
    }
}
