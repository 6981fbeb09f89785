//! A name server of a few lines, over TCP: one service, whose hosts are all on loopback.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A name as it stands in a message.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.').filter(|it| !it.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

pub(crate) fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// What an SRV record says.
pub(crate) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
    [numbers, name(target)].concat()
}

/// An answer to a question, with these records.
pub(crate) fn answer(asked: &[u8], flags: [u8; 2], records: &[Vec<u8>]) -> Vec<u8> {
    let question = &asked[12..asked.len() - 11];
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    [&asked[..2], &flags, &[0, 1], &count, &[0, 0, 0, 0], question, &records.concat()].concat()
}

/// The flags of an answer.
pub(crate) const FINE: [u8; 2] = [0x81, 0x80];

/// Points to the name of the question.
pub(crate) const ITS_NAME: [u8; 2] = [0xc0, 12];

/// What it says of a server: priority, weight, port, target.
pub(crate) type Server = (u16, u16, u16, &'static str);

/// What it answers with.
#[derive(Debug, Default)]
struct Zone {
    /// None: there is no such name.
    servers: Vec<Server>,
    /// It hangs up on everybody.
    silent: bool,
    /// How often it was asked for the service.
    asked: usize,
}

/// The name server.
#[derive(Debug)]
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    accepting: JoinHandle<()>,
}

impl DnsServer {
    pub(crate) async fn start(servers: &[Server]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone { servers: servers.to_vec(), ..Zone::default() }));
        let known = zone.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, known.clone()));
            }
        });
        Self { address, zone, accepting }
    }

    pub(crate) fn say(&self, servers: &[Server]) {
        self.zone.lock().unwrap().servers = servers.to_vec();
    }

    pub(crate) fn be_silent(&self, silent: bool) {
        self.zone.lock().unwrap().silent = silent;
    }

    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    let Ok(length) = stream.read_u16().await else { return };
    let mut asked = vec![0; usize::from(length)];
    if stream.read_exact(&mut asked).await.is_err() {
        return;
    }
    let said = {
        let mut zone = zone.lock().unwrap();
        let kind = asked[asked.len() - 14];
        zone.asked += usize::from(kind == 33);
        if zone.silent {
            return;
        }
        let servers = zone.servers.iter().map(|it| record(&ITS_NAME, 33, 0, &srv(it.0, it.1, it.2, it.3)));
        match kind {
            33 if zone.servers.is_empty() => answer(&asked, [0x81, 0x83], &[]),
            33 => answer(&asked, FINE, &servers.collect::<Vec<_>>()),
            1 => answer(&asked, FINE, &[record(&ITS_NAME, 1, 60, &[127, 0, 0, 1])]),
            _ => answer(&asked, FINE, &[]),
        }
    };
    let _ = stream.write_u16(u16::try_from(said.len()).unwrap()).await;
    let _ = stream.write_all(&said).await;
}
