//! Deployed versions between servers. Each hub server, and each server that runs apps, has a Git repository (`repository`). Objects
//! go to all hub servers and are safe on a majority ([`HubServers`]), before the hub's log says that a version is in use; whoever runs
//! it fetches what it lacks from any of them, and so does a hub server that was away ([`mirror`]). docs/deployments.md.

mod disk_full;
mod hub_servers;
mod mirror;
mod pack_pipe;
mod service;
#[cfg(test)]
mod tests;
mod upkeep;

pub use hub_servers::{HubServers, PublishError, VerifiedCommit};
pub use mirror::mirror;
pub use pack_pipe::pack;
pub use service::{ObjectService, objects};
pub use upkeep::upkeep;
