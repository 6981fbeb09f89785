//! HTTP/3 in a process that has taken over from another one: a port of UDP is one process's at a time, as both would get packets of
//! the other's connections. The former one has it until its last connection over QUIC has ended; clients speak HTTP/2 meanwhile.

use super::run::Told;
use crate::listen::listeners::WithoutQuic;
use std::time::Duration;
use tokio::{runtime::Handle, sync::mpsc, time::sleep};

/// How often it is looked whether a port is free.
const LOOK: Duration = Duration::from_millis(250);

/// Waits in the background until the ports are free, and lets the workers speak HTTP/3 then.
pub(super) fn follow(listeners: Vec<WithoutQuic>, workers: Vec<mpsc::Sender<Told>>) {
    if listeners.is_empty() {
        return;
    }
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(wait(listeners, workers))),
        Err(cause) => tracing::error!(%cause, "no HTTP/3: nobody can wait until its port is free"),
    }
}

async fn wait(mut listeners: Vec<WithoutQuic>, workers: Vec<mpsc::Sender<Told>>) {
    for listener in &listeners {
        let address = listener.address();
        tracing::info!(%address, "HTTP/3 is spoken when the process before this one has ended its connections");
    }
    while !listeners.is_empty() && workers.iter().all(|it| !it.is_closed()) {
        sleep(LOOK).await;
        let mut waiting = Vec::new();
        for listener in listeners {
            match listener.bind() {
                Ok(None) => waiting.push(listener),
                Ok(Some(changes)) => {
                    tracing::info!(address = %listener.address(), "HTTP/3 is spoken");
                    for (worker, change) in workers.iter().zip(changes) {
                        // One that has gone needs nothing.
                        let _ = worker.send(Told::Listener(Box::new(change))).await;
                    }
                }
                Err(cause) => tracing::error!(%cause, "no HTTP/3 at this address"),
            }
        }
        listeners = waiting;
    }
}
