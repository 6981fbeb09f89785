//! The servers of the cluster, as the file and the hub have them.

use crate::timestamp;
use common::config::{Config, topology_hash};
use proto::hub::v1::{Member, MemberAdmin, MemberState};
use serde::Serialize;
use std::collections::HashMap;

/// `GET /api/servers`.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    /// In the order of the file; then those that the hub knows and the file does not.
    pub(crate) servers: Vec<ServerRecord>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServerRecord {
    pub(crate) id: String,
    pub(crate) cluster: String,
    /// `host:port` of its cluster port.
    pub(crate) address: String,
    /// `up`, `draining`, `stopping` or `down`, as the hub has it; `unknown`: it has never been started.
    pub(crate) state: &'static str,
    /// When that last changed.
    pub(crate) state_since: Option<String>,
    /// `enabled`, `disabled` or `disabled-soft`, as an administrator has said.
    pub(crate) admin: &'static str,
    /// When that last changed; none for never.
    pub(crate) admin_since: Option<String>,
    /// Of the software.
    pub(crate) version: Option<String>,
    /// Whether its configuration file has the same servers as this one's; none while that is not known.
    pub(crate) same_file: Option<bool>,
    /// Whether this server's file has it.
    pub(crate) in_file: bool,
}

impl ServerRecord {
    /// What the hub says of a member, `in_file` or not.
    pub(crate) fn of(member: &Member, topology: u64, in_file: bool) -> Self {
        Self {
            id: member.id.clone(),
            cluster: member.cluster.clone(),
            address: member.address.clone(),
            state: state(member.state()),
            state_since: timestamp::format(member.since_ms),
            admin: admin(member.admin()),
            admin_since: timestamp::format(member.admin_since_ms),
            version: Some(member.version.clone()).filter(|it| !it.is_empty()),
            same_file: Some(member.config_hash == topology),
            in_file,
        }
    }

    /// Whether it takes the requests of anyone.
    pub(crate) fn takes_requests(&self) -> bool {
        self.state == "up" && self.admin == admin(MemberAdmin::Enabled)
    }
}

/// All of them.
pub(crate) fn list(config: &Config, members: &[Member]) -> Vec<ServerRecord> {
    let topology = topology_hash(config);
    let mut known: HashMap<&str, &Member> = members.iter().map(|it| (it.id.as_str(), it)).collect();
    let mut servers: Vec<_> = config
        .servers()
        .map(|(cluster, server)| match known.remove(server.id.as_str()) {
            Some(member) => ServerRecord::of(member, topology, true),
            None => ServerRecord {
                id: server.id.to_string(),
                cluster: cluster.id.to_string(),
                address: server.cluster_address(),
                state: state(MemberState::Unspecified),
                state_since: None,
                admin: admin(MemberAdmin::Enabled),
                admin_since: None,
                version: None,
                same_file: None,
                in_file: true,
            },
        })
        .collect();
    let others = members.iter().filter(|it| known.contains_key(it.id.as_str()));
    servers.extend(others.map(|it| ServerRecord::of(it, topology, false)));
    servers
}

fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Unspecified => "unknown",
        MemberState::Active => "up",
        MemberState::Standby => "stopping",
        MemberState::Draining => "draining",
        MemberState::Down => "down",
    }
}

/// As the JSON and the logs have it.
pub(crate) fn admin(admin: MemberAdmin) -> &'static str {
    match admin {
        MemberAdmin::Enabled => "enabled",
        MemberAdmin::DisabledSoft => "disabled-soft",
        MemberAdmin::Disabled => "disabled",
    }
}
