//! The loads: wrk, h2load and `openssl s_time`, each on the load's core, each saying how much it got done.

use super::LOAD_CORE;
use crate::http3;
use anyhow::{Context, bail};
use std::{fs, net::SocketAddr, path::Path, process::Command};

/// Every request belongs to a session at home on the first server.
pub(super) const COOKIE: &str = "Cookie: JSESSIONID=aaBenchSession0123456789";

/// Clients that make handshakes at once.
const HANDSHAKERS: usize = 4;

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// GETs of a path over 64 keep-alive connections.
    Get(&'static str),
    /// POSTs of 1 KB over 64 keep-alive connections.
    Post,
    /// TLS handshakes, with a request each.
    Handshakes { resumed: bool },
    /// HTTP/2 over TLS: 4 connections with 100 streams each.
    Http2,
    /// HTTP/3: the same, GETs of a path.
    Http3(&'static str),
    /// Calls in gRPC with messages of 100 bytes, without TLS: the same.
    Grpc,
}

impl Load {
    /// Runs it for so many seconds; the number of requests that were answered. An answer other than 2xx is an error.
    pub(super) fn run(self, address: SocketAddr, seconds: u32, folder: &Path) -> anyhow::Result<f64> {
        match self {
            Self::Get(path) => wrk(address, path, seconds, &[]),
            Self::Post => {
                let script = folder.join("post.lua");
                fs::write(&script, "wrk.method = 'POST'\nwrk.body = string.rep('x', 1024)\n")?;
                wrk(address, "/", seconds, &["-s", &script.to_string_lossy()])
            }
            Self::Handshakes { resumed } => handshakes(address, seconds, resumed),
            Self::Http2 => h2load(seconds, &format!("https://{address}/"), &[]),
            Self::Http3(path) => http3_load(address, seconds, path),
            Self::Grpc => {
                let message = folder.join("message");
                fs::write(&message, [&[0, 0, 0, 0, 100][..], &[b'x'; 100]].concat())?;
                let more = [
                    "-d",
                    &message.to_string_lossy(),
                    "-H",
                    "content-type: application/grpc",
                    "-H",
                    "te: trailers",
                ];
                h2load(seconds, &format!("http://{address}/bench.Echo/Say"), &more)
            }
        }
    }
}

fn on_load_core(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &LOAD_CORE.to_string(), program]);
    command
}

/// Whether a program is there to be started.
fn require(program: &str, package: &str) -> anyhow::Result<()> {
    match Command::new(program).arg("--version").output() {
        Ok(_) => Ok(()),
        Err(cause) => bail!("{program} can't be started ({cause}): it is in Debian's package {package}"),
    }
}

fn wrk(address: SocketAddr, path: &str, seconds: u32, more: &[&str]) -> anyhow::Result<f64> {
    require("wrk", "wrk")?;
    let output = on_load_core("wrk")
        .args(["-t1", "-c64", "-d", &format!("{seconds}s"), "-H", COOKIE])
        .args(more)
        .arg(format!("http://{address}{path}"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrk at {address}: {text}");
    }
    wrk_count(&text).with_context(|| format!("wrk does not say how many requests: {text}"))
}

pub(crate) fn wrk_count(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn h2load(seconds: u32, url: &str, more: &[&str]) -> anyhow::Result<f64> {
    require("h2load", "nghttp2-client")?;
    let output = on_load_core("h2load")
        .args(["-t1", "-c4", "-m100", "-D", &seconds.to_string(), "-H", COOKIE])
        .args(more)
        .arg(url)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    h2load_count(&text).with_context(|| format!("h2load at {url}: {text}"))
}

fn http3_load(address: SocketAddr, seconds: u32, path: &str) -> anyhow::Result<f64> {
    let this = std::env::current_exe()?;
    let cookie = COOKIE.trim_start_matches("Cookie: ");
    let output = on_load_core(&this.to_string_lossy())
        .args(["http3", "--to", &address.to_string(), "--seconds", &seconds.to_string()])
        .args(["--path", path, "--cookie", cookie])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    http3::answered(&text)
        .with_context(|| format!("HTTP/3 at {address}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, …` over `Application protocol: h2` (or `h2c`); none may have failed.
pub(crate) fn h2load_count(text: &str) -> Option<f64> {
    let is_h2 =
        text.lines().any(|line| matches!(line, "Application protocol: h2" | "Application protocol: h2c"));
    let line = text.lines().find_map(|line| line.strip_prefix("requests: ")).filter(|_| is_h2)?;
    let count = |what: &str| -> Option<f64> {
        line.split(", ").find_map(|part| part.strip_suffix(what))?.trim().parse().ok()
    };
    (count("failed")? == 0.0 && count("errored")? == 0.0).then_some(count("succeeded")?)
}

/// Handshakes by several clients at once; TLS 1.3, a request to read its answer each, so that tickets arrive.
fn handshakes(address: SocketAddr, seconds: u32, resumed: bool) -> anyhow::Result<f64> {
    require("openssl", "openssl")?;
    let mut clients = Vec::new();
    for _ in 0..HANDSHAKERS {
        let mut command = on_load_core("openssl");
        command.args(["s_time", "-connect", &address.to_string(), "-www", "/", "-tls1_3"]);
        command.args([if resumed { "-reuse" } else { "-new" }, "-time", &seconds.to_string()]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        clients.push(command.spawn()?);
    }
    let mut total = 0.0;
    for client in clients {
        let output = client.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let count = s_time_count(&text, resumed);
        total += count.with_context(|| {
            format!("openssl at {address}: {text}{}", String::from_utf8_lossy(&output.stderr))
        })?;
    }
    Ok(total)
}

/// `9 connections in 1.00s; …`, after a letter for each handshake: `r` for one that was resumed. With `resumed` nearly all have to
/// be.
fn s_time_count(text: &str, resumed: bool) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(" connections in ") && line.contains(';'))?;
    let count: f64 = line.split_whitespace().next()?.parse().ok()?;
    let letters = text.lines().find(|line| line.len() > 10 && line.bytes().all(|it| b"rtT*".contains(&it)));
    let reused = letters.map_or(0, |line| line.bytes().filter(|it| *it == b'r').count());
    let enough = if resumed { reused as f64 >= 0.9 * count } else { reused == 0 };
    (count > 0.0 && enough).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_say_is_understood() {
        let wrk =
            "Running 5s test\n  2 threads\n  225123 requests in 5.00s, 60MB read\nRequests/sec: 45024\n";
        assert_eq!(wrk_count(wrk), Some(225_123.0));
        assert_eq!(wrk_count(""), None);
        let h2 = "Application protocol: h2\nfinished in 5s\nrequests: 90 total, 95 started, 90 done, 90 succeeded, \
                  0 failed, 0 errored, 0 timeout\n";
        assert_eq!(h2load_count(h2), Some(90.0));
        assert_eq!(h2load_count(&h2.replace("0 failed", "1 failed")), None);
        assert_eq!(h2load_count(&h2.replace(": h2", ": http/1.1")), None);
    }

    #[test]
    fn handshakes_are_counted_if_they_are_of_the_kind_that_was_asked_for() {
        let text = |letters: &str| {
            format!(
                "Collecting connection statistics for 2 seconds\n{letters}\n\n12 connections in 0.07s; 171.43 connections/user sec, bytes read 2280\n12 connections in 3 real seconds, 190 bytes read per connection\n"
            )
        };
        assert_eq!(s_time_count(&text("************"), false), Some(12.0));
        assert_eq!(s_time_count(&text("rrrrrrrrrrrr"), true), Some(12.0));
        assert_eq!(s_time_count(&text("************"), true), None);
        assert_eq!(s_time_count(&text("rrrrrrrrrrrr"), false), None);
    }
}
