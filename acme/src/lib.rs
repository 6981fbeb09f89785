//! Certificates that the web-tiers of a cluster get, and renew, by themselves (ACME, RFC 8555): accounts, orders and what they come to.
//!
//! Each web-tier runs a [`Manager`]. What they have together is on the hub ([`Storage`]), sealed by the cluster's key: the account, the
//! certificates with their keys, the answers to challenges, and when an order may be tried again. One of them at a time orders, by a lease;
//! all take what comes, and keep a copy on their disk. [`Live`] is what the workers of a web-tier see of it. docs/tls.md is for those who run it.

mod copies;
mod directory;
mod key;
mod live;
mod manager;
mod order;
mod orders;
mod records;
mod seal;
mod storage;
mod times;

pub use live::{Issued, Live, OrderReport, TlsChallenge};
pub use manager::{Manager, ManagerConfig, Wanted};
pub use storage::{HubStorage, Storage};
pub use times::Times;
