//! What every tier of Copal shares: the configuration file, ids, password hashes, the cluster port's handshake, networks, clock,
//! backoff, files that change, what our own machine has and lacks, and telemetry.

pub mod backoff;
pub mod cidr;
pub mod clock;
pub mod cluster_port;
pub mod config;
pub mod file_watch;
pub mod hub_age;
pub mod id;
pub mod log_limit;
pub mod machine_memory;
pub mod password;
pub mod private;
pub mod rendezvous;
pub mod session_id;
pub mod shortage;
pub mod telemetry;
