//! Measurements beside the peers: `bench/run proxy`, `hub`, `deploy`, `cache`, `services`, `queues` and `status` print the tables of bench/README.md again.

mod backend;
mod cache;
mod deploy;
mod etcd;
mod http3;
mod hub;
mod idle;
mod open_loop;
mod process;
mod proxy;
mod queues;
mod services;
mod status;
mod visitors;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Proxied requests beside nginx and HAProxy: CPU time a request, memory a connection, latency
    Proxy(proxy::Arguments),
    /// Acknowledged session saves beside etcd
    Hub(hub::Arguments),
    /// Deployments beside git: time, what is stored, memory
    Deploy(deploy::Arguments),
    /// Pages that are open and metrics that are scraped: CPU time of the servers for each request
    Status(status::Arguments),
    /// Kept answers beside nginx and Varnish: CPU time a hit
    Cache(cache::Arguments),
    /// Near reads of the caches of apps beside Redis
    Services(services::Arguments),
    /// Queues beside NATS JetStream, RabbitMQ, Redis and etcd
    Queues(queues::Arguments),
    /// Visitors who come once, more than the hub has memory for
    Visitors(visitors::Arguments),
    /// The servers behind the proxies (started by `proxy`)
    Backend(backend::Arguments),
    /// Asks in HTTP/3, or holds idle connections (started by `proxy`)
    Http3(http3::Arguments),
    /// Holds idle connections (started by `proxy`)
    Idle(idle::Arguments),
    /// Sends by a fixed schedule and prints latencies (started by `proxy`)
    OpenLoop(open_loop::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Proxy(arguments) => proxy::run(&arguments),
        What::Hub(arguments) => hub::run(&arguments),
        What::Deploy(arguments) => deploy::run(&arguments),
        What::Status(arguments) => status::run(&arguments),
        What::Cache(arguments) => cache::run(&arguments),
        What::Services(arguments) => services::run(&arguments),
        What::Queues(arguments) => queues::run(&arguments),
        What::Visitors(arguments) => visitors::run(&arguments),
        What::Backend(arguments) => backend::run(&arguments),
        What::Http3(arguments) => http3::run(&arguments),
        What::Idle(arguments) => idle::run(&arguments),
        What::OpenLoop(arguments) => open_loop::run(&arguments),
    }
}

/// A line of a table.
#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
