//! What every tier of Copal shares: the configuration file, ids, password hashes, the cluster port's handshake, networks, clock,
//! backoff, files that change, errors of our own machine, and telemetry.

pub mod backoff;
pub mod cidr;
pub mod clock;
pub mod cluster_port;
pub mod config;
pub mod file_watch;
pub mod hub_age;
pub mod id;
pub mod password;
pub mod rendezvous;
pub mod session_id;
pub mod shortage;
pub mod telemetry;
pub mod witness;
