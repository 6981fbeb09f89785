//! The integration tests: real processes of the real binary, killed, paused and starved.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod client;
mod cluster;

mod cluster_port;
mod demo;
mod hub;
mod layers;
mod readme;
mod session;
mod start;
mod streams;
mod tidy;
