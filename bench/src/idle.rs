//! Idle connections: opens many, asks once on each, and holds them until its standard input ends.

use crate::{backend::content_length, say};
use anyhow::{Context, bail};
use socket2::{Domain, Socket, Type};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Connections from one source address: well below the number of ports that the kernel gives out to one.
const PER_SOURCE: usize = 5000;

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to connect
    #[arg(long)]
    to: SocketAddr,
    /// How often
    #[arg(long)]
    count: usize,
    /// A header line of each request
    #[arg(long, default_value = "X-Bench: 1")]
    header: String,
}

/// Prints a line once all are open.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n", arguments.to, arguments.header);
    let mut open = Vec::with_capacity(arguments.count);
    for number in 0..arguments.count {
        let mut stream = connect(arguments.to, number).with_context(|| format!("connection {number}"))?;
        ask(&mut stream, request.as_bytes()).with_context(|| format!("connection {number}"))?;
        open.push(stream);
    }
    say("open");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(open);
    Ok(())
}

/// A connection from one of several loopback addresses.
fn connect(to: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let last =
        u8::try_from(2 + number / PER_SOURCE).context("too many connections for the source addresses")?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = |net: u8| socket.bind(&SocketAddr::from(([127, 0, net, last], 0)).into());
    // Former connections may hold the ports of an address for a minute yet.
    (0..8).find_map(|net| from(net).ok()).context("the source addresses have no port left")?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<()> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes)? {
            0 => bail!("closed after {:?}", String::from_utf8_lossy(&answer)),
            read => answer.extend_from_slice(&bytes[..read]),
        }
        if let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).into_owned();
            if !head.starts_with("HTTP/1.1 200 ") {
                bail!("answered {:?}", head.lines().next().unwrap_or_default());
            }
            if answer.len() >= end + 4 + content_length(&head).unwrap_or(0) {
                return Ok(());
            }
        }
    }
}
