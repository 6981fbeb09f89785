//! What a service manager does for a server and hears of it: sockets that it holds, and words by sd_notify(3).

use super::{apart, holder, signal};
use crate::cluster::{Cluster, PATIENCE, copal};
use rustix::process::Signal;
use std::{
    fs::File,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

/// Starts `web-a` as systemd does: the socket is descriptor 3, and variables name the process that is meant.
async fn start(cluster: &Cluster, socket: &TcpListener, notify: &Path) -> Child {
    let log = File::options().create(true).append(true).open(cluster.folder().join("web-a.log")).unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(copal())
        .args(["start", "--server", "web-a", "--conf"])
        .arg(cluster.file())
        .env("NOTIFY_SOCKET", notify)
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())))
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("it gets ready").unwrap();
    assert!(line.is_some_and(|it| it.starts_with("web-a")));
    child
}

async fn stop(mut child: Child) {
    signal(i32::try_from(child.id().unwrap()).unwrap(), Signal::TERM);
    assert!(timeout(PATIENCE, child.wait()).await.expect("it stops").unwrap().success());
}

async fn ask(web: &str) -> TcpStream {
    let mut stream = TcpStream::connect(web).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {web}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut said = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut said)).await.expect("an answer comes").unwrap();
    said.lines().next().unwrap_or_default().to_owned()
}

/// The next words that are not of the watchdog.
fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes).expect("a word in time");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_the_service_manager_outlives_restarts_and_upgrades_and_it_hears_of_both() {
    let mut cluster = Cluster::prepare(1, apart);
    cluster.start_one("app-a").await;
    let web = cluster.web();
    let socket = TcpListener::bind(&web).unwrap();
    let path = cluster.folder().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();

    let child = start(&cluster, &socket, &path).await;
    assert!(heard(&manager).starts_with("READY=1\nSTATUS=web-a of Copal "));
    assert_eq!(answer(ask(&web).await).await, "HTTP/1.1 200 OK");
    stop(child).await;
    assert!(heard(&manager).starts_with("STOPPING=1\n"));
    // Nobody accepts, and nobody is refused.
    let waits = ask(&web).await;
    let mut child = start(&cluster, &socket, &path).await;
    assert!(heard(&manager).starts_with("READY=1\n"));
    assert_eq!(answer(waits).await, "HTTP/1.1 200 OK");

    signal(holder(&cluster), Signal::HUP);
    assert!(heard(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(heard(&manager).starts_with("READY=1\n"));
    let old = holder(&cluster);
    signal(old, Signal::USR2);
    let named = heard(&manager);
    assert!(heard(&manager).starts_with("READY=1\n"), "by the new process, which is the main one now");
    let new = holder(&cluster);
    assert_eq!((named, old == new), (format!("MAINPID={new}"), false));
    assert!(timeout(PATIENCE, child.wait()).await.expect("the old one ends").unwrap().success());
    assert_eq!(answer(ask(&web).await).await, "HTTP/1.1 200 OK");
    signal(new, Signal::TERM);
    assert!(heard(&manager).starts_with("STOPPING=1\n"));
    super::until("it ends", async || !Path::new(&format!("/proc/{new}")).exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_are_meant_for_another_process_are_not_taken() {
    let mut cluster = Cluster::prepare(1, apart);
    cluster.start_one("app-a").await;
    let socket = TcpListener::bind(cluster.web()).unwrap();
    let output = Command::new("sh")
        .args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
        .arg(copal())
        .args(["start", "--server", "web-a", "--conf"])
        .arg(cluster.file())
        .envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1")])
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .output();
    let output = timeout(PATIENCE, output).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the address is in use by another process"), "{said}");
}
