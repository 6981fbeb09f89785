//! What every tier of Copal shares: the configuration file, ids, cookies, password hashes, networks, clock, backoff, files
//! that change, the files of certificates, what our own machine has and lacks, and telemetry.

pub mod app_tag;
pub mod backoff;
pub mod cidr;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod file_watch;
pub mod hub_age;
pub mod id;
pub mod log_limit;
pub mod machine_memory;
pub mod password;
pub mod private;
pub mod recent_logs;
pub mod rendezvous;
pub mod schedule;
pub mod service_name;
pub mod session_id;
pub mod shortage;
pub mod telemetry;
pub mod tls_files;
pub mod witness;
