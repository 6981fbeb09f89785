//! What a service manager is told, and what it hands over: the protocol of sd_notify(3) and sd_listen_fds(3), as systemd has it.

use rustix::time::{ClockId, clock_gettime};
use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};
use web_tier::Inherited;

/// How long a manager that takes no message is waited for.
const SEND_MAX: Duration = Duration::from_secs(1);

/// The service manager, if this process has one that listens.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment has it: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(crate) fn from_environment() -> Self {
        let Ok(name) = env::var("NOTIFY_SOCKET") else { return Self::default() };
        let pid = env::var("WATCHDOG_PID").ok();
        let watchdog = env::var("WATCHDOG_USEC").ok().filter(|_| is_ours(pid.as_deref()));
        match Self::new(&name, watchdog.as_deref()) {
            Ok(manager) => manager,
            Err(cause) => {
                tracing::warn!(%cause, name, "the service manager can't be told anything (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    fn new(name: &str, watchdog_us: Option<&str>) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        let watchdog = watchdog_us.and_then(|it| it.parse().ok()).filter(|it| *it > 0);
        Ok(Self { socket: Some((socket, address)), watchdog: watchdog.map(Duration::from_micros) })
    }

    /// This process serves.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// It reads its file again; [`Self::ready`] follows.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reads its file again"));
    }

    /// It stops.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stops: requests in flight end");
    }

    /// Another process is the server from now on.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// It is alive.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How often [`Self::alive`] is to be told at least: twice in the time that the manager waits. `None`: it does not care.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|it| it / 2)
    }

    fn tell(&self, text: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(cause) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::warn!(%cause, text, "the service manager was not told");
        }
    }
}

/// Whether a variable that names a process means this one.
fn is_ours(pid: Option<&str>) -> bool {
    pid.is_none_or(|it| it.parse() == Ok(std::process::id()))
}

/// The listening sockets that the service manager holds for this server (`LISTEN_FDS`, `LISTEN_PID`): it keeps them when the server
/// restarts. Called once, before there are threads: what this process starts gets neither the sockets nor the variables.
///
/// # Errors
/// One of them is no TCP socket that listens.
pub(crate) fn listening_sockets() -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    let mut sockets = listenfd::ListenFd::from_env();
    for number in 0..sockets.len() {
        if let Some(socket) = sockets.take_tcp_listener(number)? {
            inherited.add(&socket.into(), None)?;
        }
    }
    Ok(inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_manager_hears_each_word_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("copal-notify-{}", std::process::id());
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.to_string_lossy().into_owned()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}"),
            ),
        ];
        for (socket, name) in sockets {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let manager = ServiceManager::new(&name, Some("3000000")).unwrap();
            assert_eq!(manager.watchdog(), Some(Duration::from_millis(1500)));
            manager.ready("serves\nnow");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=serves now", "a line break would begin a variable");
            manager.reloading();
            let said = heard(&socket);
            let now = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|it| it.split_once('\n'));
            assert!(now.unwrap().0.parse::<u64>().unwrap() > 0, "{said}");
            manager.main_pid(7);
            assert_eq!(heard(&socket), "MAINPID=7");
            manager.alive();
            assert_eq!(heard(&socket), "WATCHDOG=1");
            manager.stopping();
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn without_a_manager_or_with_one_that_is_gone_nothing_happens() {
        ServiceManager::default().ready("serves");
        assert_eq!(ServiceManager::default().watchdog(), None);
        let gone = ServiceManager::new("/nowhere/notify", Some("0")).unwrap();
        gone.alive();
        assert_eq!(gone.watchdog(), None);
        assert!(ServiceManager::new(&"x".repeat(300), None).is_err());
        assert!(is_ours(None) && is_ours(Some(&std::process::id().to_string())) && !is_ours(Some("x")));
    }
}
