//! The integration tests: real processes of the real binary, killed, paused and starved.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod access_log;
mod audit;
mod caches;
mod caching;
mod client;
mod cluster;
mod tell;
mod tool;

mod browser;
mod cluster_demo;
mod cluster_port;
mod confinement;
mod daemons;
mod demo;
mod deploy;
mod disk_full;
mod encryption;
mod examples;
mod foreign;
mod git_http;
mod health;
mod history;
mod hub;
mod inquiry;
mod jobs;
mod layers;
mod many;
mod openapi;
mod operating;
mod private;
mod queues;
mod readme;
mod reload;
mod session;
mod session_url;
mod start;
mod status;
mod stopping;
mod streams;
mod tidy;
mod tokens;
mod topics;
mod traces;
mod upload;
