//! The life of a worker: one thread, one runtime. It accepts, follows reloads and what is known of servers, and stops.

use crate::{
    listen::listening_sockets::{ListenerChange, ListenerId, ListeningSockets},
    observe::{
        access_log::{AccessLog, LogPipes},
        status::Asked,
    },
    route::{
        Plan,
        pages::{self, Pages},
    },
    transport::tls::{self, TlsListener},
    upstream::foreign::ForeignWatch,
    worker::{Setup, Worker, follow_foreign, follow_members, tick},
};
use std::{
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_local},
    time::{Instant, sleep_until},
};

/// What a worker's thread is given.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) setup: Setup,
    /// The listeners that it begins with.
    pub(crate) sockets: Vec<ListenerChange>,
    /// What it is told, as it comes.
    pub(crate) told: mpsc::Receiver<Told>,
    /// Who wants to know how it is.
    pub(crate) asked: mpsc::Receiver<Asked>,
    /// How it is to end, once it is.
    pub(crate) stop: watch::Receiver<Option<Stop>>,
}

/// How a worker ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// What is left then is closed.
    pub(crate) deadline: Instant,
    /// Connections without a request are closed at once; if not, they wait for one, as its client may be sending it.
    pub(crate) closes_idle: bool,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// To go by another configuration.
    Reload(Box<Reload>),
    /// That a listener has a socket more.
    Listener(Box<ListenerChange>),
    /// To give copies of its sockets.
    CopySockets(oneshot::Sender<io::Result<Vec<(ListenerId, OwnedFd)>>>),
}

/// What a worker is told by a reload.
#[derive(Debug)]
pub(crate) struct Reload {
    /// This server is in its configuration.
    pub(crate) plan: Plan,
    pub(crate) sockets: Vec<ListenerChange>,
    pub(crate) access_log: LogChange,
    /// Is told when the worker goes by it.
    pub(crate) done: oneshot::Sender<()>,
}

/// What a reload makes of a worker's access log.
#[derive(Debug, Clone)]
pub(crate) enum LogChange {
    /// It stays.
    None,
    /// Lines of requests that end from now on go to this one, or nowhere.
    To(Option<LogPipes>),
}

/// How many tasks run before the sockets are looked at again, if there are as many. A request takes four: with tokio's 61 a
/// busy worker would make a system call every 15 requests in the middle of its work.
const EVENT_INTERVAL: u32 = 256;

/// Between the end of the listeners and that of idle connections.
const LAST_REQUESTS: Duration = Duration::from_millis(100);

/// Runs a worker on the present thread, until `orders.stop`. `ready` hears once whether it stands. Returns the number of
/// connections that it had to cut.
pub(crate) fn run(orders: Orders, ready: &SyncSender<io::Result<()>>) -> u64 {
    let mut builder = runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().event_interval(EVENT_INTERVAL).build_local(Default::default());
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(orders, ready)),
        Err(cause) => Err(cause),
    };
    // The runtime is gone here, and with it every connection.
    outcome.unwrap_or_else(|cause| {
        let _ = ready.send(Err(cause));
        0
    })
}

async fn serve(orders: Orders, ready: &SyncSender<io::Result<()>>) -> io::Result<u64> {
    let Orders { mut setup, sockets: opening, mut told, mut asked, mut stop } = orders;
    let worker = Rc::new(Worker::new(&setup));
    spawn_local(tick(worker.clone()));
    spawn_local(follow_members(worker.clone(), setup.members.clone(), setup.picture.clone(), setup.number));
    spawn_local(follow_foreign(worker.clone(), setup.plan.foreign.news()));
    let mut sockets = ListeningSockets::new(worker.clone());
    for change in opening {
        sockets.make(change).await?;
    }
    // Certificates are shared, and so are foreign servers: one worker looks after them.
    let mut caretaker = (setup.number == 0).then(Caretaker::default);
    if let Some(caretaker) = &mut caretaker {
        caretaker.go_by(&setup.plan, &sockets);
    }
    let _ = ready.send(Ok(()));
    let stop = loop {
        let order = tokio::select! {
            biased;
            // An error means that the WebTier was dropped: stop at once.
            stopped = stop.wait_for(Option::is_some) => break stopped.ok().and_then(|stop| *stop),
            Some(order) = told.recv() => order,
            Some(asked) = asked.recv() => {
                worker.tell(asked, setup.number);
                continue;
            }
        };
        match order {
            Told::Reload(reload) => {
                follow(&worker, &mut setup, &mut sockets, caretaker.as_mut(), *reload).await;
            }
            Told::Listener(change) => {
                if let Err(cause) = sockets.make(*change).await {
                    tracing::error!(%cause, worker = setup.number, "a worker can't use a socket");
                }
            }
            Told::CopySockets(asked) => {
                let _gone = asked.send(sockets.copies());
            }
        }
    };
    sockets.close(stop.is_some_and(|it| !it.closes_idle)).await;
    if let Some(Stop { deadline, closes_idle }) = stop {
        if !closes_idle {
            let _ = tokio::time::timeout_at(deadline, worker.connections.gone()).await;
        } else if worker.connections.count() > 0 {
            // Who was accepted a moment ago is not idle: his request is about to be read.
            sleep_until(deadline.min(Instant::now() + LAST_REQUESTS)).await;
        }
        let _ = tokio::time::timeout_at(deadline, worker.connections.finish()).await;
    }
    Ok(worker.connections.count())
}

/// Takes over a new configuration. The rules come first, so that no request by a new listener goes by the old ones; new listeners
/// come before old ones end.
async fn follow(
    worker: &Rc<Worker>,
    setup: &mut Setup,
    listening: &mut ListeningSockets,
    caretaker: Option<&mut Caretaker>,
    reload: Reload,
) {
    let Reload { plan, sockets: changes, access_log, done } = reload;
    setup.plan = plan;
    worker.reload(setup);
    if let LogChange::To(log) = access_log {
        // The former one passes its last lines on as it is dropped.
        drop(worker.access_log.replace(log.map(AccessLog::new)));
    }
    let (opening, others): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| matches!(change, ListenerChange::Open { .. }));
    let ends = !others.is_empty();
    for change in opening.into_iter().chain(others) {
        if let Err(cause) = listening.make(change).await {
            tracing::error!(%cause, worker = setup.number, "a worker can't use a listener as the new file says");
        }
    }
    if ends {
        // Connections in HTTP/2 tell their clients.
        worker.connections.wake();
    }
    if let Some(caretaker) = caretaker {
        caretaker.go_by(&setup.plan, listening);
    }
    let _ = done.send(());
}

/// What one worker does for all: looks after the files of certificates and pages, and after foreign servers.
#[derive(Debug, Default)]
struct Caretaker {
    foreign: ForeignWatch,
    secured: Vec<TlsListener>,
    certificates: Option<JoinHandle<()>>,
    pages: Option<(Arc<Pages>, JoinHandle<()>)>,
}

impl Caretaker {
    fn go_by(&mut self, plan: &Plan, sockets: &ListeningSockets) {
        self.foreign.go_by(&plan.foreign);
        if self.pages.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, &plan.pages)) {
            let watching = spawn_local(pages::watch(plan.pages.clone(), pages::INTERVAL));
            if let Some((_, former)) = self.pages.replace((plan.pages.clone(), watching)) {
                former.abort();
            }
        }
        let secured = sockets.secured();
        let is_new = |it: &TlsListener| !self.secured.iter().any(|known| known.is(it));
        if secured.len() != self.secured.len() || secured.iter().any(is_new) {
            self.secured.clone_from(&secured);
            let watching = spawn_local(tls::watch(secured, tls::INTERVAL));
            if let Some(former) = self.certificates.replace(watching) {
                former.abort();
            }
        }
    }
}
