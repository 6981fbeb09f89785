//! Which calls of gRPC a server may make on another's cluster port, by its roles in the file. What is not named here nobody may.

use cluster_port::Rights;
use proto::{
    config::v1::configuration_server,
    history::v1::history_server,
    hub::v1::{
        apps_server, audits_server, caches_server, jobs_server, lead_server, leases_server, members_server,
        objects_server, purges_server, queues_server, raft_server, secrets_server, session_admin_server,
        sessions_server, tokens_server, topics_server, triad_server, watch_server,
    },
    logs::v1::logs_server,
    requests::v1::requests_server,
    session::v1::memory_server,
    status::v1::status_server,
    web::v1::{balancer_server, cache_server},
};

/// Whether a server with these rights may make the call at this path (`/service/method`).
pub(crate) fn may_call(rights: Rights, path: &str) -> bool {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return false;
    };
    match service {
        // Votes, the log, snapshots.
        raft_server::SERVICE_NAME => rights.hub,
        caches_server::SERVICE_NAME | queues_server::SERVICE_NAME if method == "Describe" => true,
        // Messages are the apps' own; an operator may look at them.
        queues_server::SERVICE_NAME if method == "Browse" => rights.apps || rights.administers,
        jobs_server::SERVICE_NAME if method == "List" => rights.apps || rights.administers,
        caches_server::SERVICE_NAME | queues_server::SERVICE_NAME | jobs_server::SERVICE_NAME
            if method == "Manage" =>
        {
            rights.administers
        }
        queues_server::SERVICE_NAME if matches!(method, "ListRuns" | "ManageRun") => rights.administers,
        // Certificates and the keys to them are the web-tiers', and so is the lease of who renews them: which ones that are is looked at
        // call by call.
        secrets_server::SERVICE_NAME => rights.listens,
        leases_server::SERVICE_NAME => rights.apps || rights.listens,
        sessions_server::SERVICE_NAME
        | caches_server::SERVICE_NAME
        | queues_server::SERVICE_NAME
        | jobs_server::SERVICE_NAME
        | topics_server::SERVICE_NAME => rights.apps,
        // Every server is a member; of whom it speaks there is looked at call by call.
        members_server::SERVICE_NAME if method == "SetAdmin" => rights.administers,
        // The status is what a server says of itself, the history what hub servers have kept of that: any of them may be asked for the
        // status page.
        watch_server::SERVICE_NAME if matches!(method, "Follow" | "Tell") => rights.apps,
        members_server::SERVICE_NAME
        | watch_server::SERVICE_NAME
        | status_server::SERVICE_NAME
        | history_server::SERVICE_NAME => true,
        // What a server runs it says itself; what is to run, an administrator.
        apps_server::SERVICE_NAME if method == "Report" => rights.apps,
        apps_server::SERVICE_NAME if method == "List" => true,
        // The hub's leader acts on what its health checks find: it starts apps anew, and writes down what it did.
        apps_server::SERVICE_NAME if method == "Deploy" => rights.administers || rights.hub,
        // Whoever runs apps fetches them, and who shows what is in them; hub servers bring each other up to date.
        objects_server::SERVICE_NAME if method == "Fetch" => rights.apps || rights.hub || rights.administers,
        objects_server::SERVICE_NAME if method == "Store" => rights.administers,
        audits_server::SERVICE_NAME | objects_server::SERVICE_NAME => rights.administers || rights.hub,
        apps_server::SERVICE_NAME
        | tokens_server::SERVICE_NAME
        | purges_server::SERVICE_NAME
        | lead_server::SERVICE_NAME
        | triad_server::SERVICE_NAME
        | balancer_server::SERVICE_NAME
        | cache_server::SERVICE_NAME
        // What an operator looks at beyond the status.
        | logs_server::SERVICE_NAME
        | requests_server::SERVICE_NAME
        | session_admin_server::SERVICE_NAME
        | memory_server::SERVICE_NAME
        | configuration_server::SERVICE_NAME => rights.administers,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: bool = true;
    const NO: bool = false;

    const CALLS: [(&str, [bool; 5]); 79] = [
        ("/copal.hub.v1.Raft/Append", [YES, NO, NO, NO, NO]),
        ("/copal.hub.v1.Raft/Vote", [YES, NO, NO, NO, NO]),
        ("/copal.hub.v1.Raft/InstallSnapshot", [YES, NO, NO, NO, NO]),
        ("/copal.hub.v1.Raft/TransferLeader", [YES, NO, NO, NO, NO]),
        ("/copal.hub.v1.Raft/Hello", [YES, NO, NO, NO, NO]),
        ("/copal.hub.v1.Raft/Dial", [YES, NO, NO, NO, NO]),
        ("/copal.hub.v1.Sessions/Load", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Sessions/Write", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Caches/Write", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Caches/Load", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Caches/Describe", [YES; 5]),
        ("/copal.hub.v1.Watch/Confirm", [YES; 5]),
        ("/copal.hub.v1.Watch/Follow", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Watch/Tell", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Leases/Acquire", [NO, YES, YES, NO, NO]),
        ("/copal.hub.v1.Leases/Renew", [NO, YES, YES, NO, NO]),
        ("/copal.hub.v1.Leases/Release", [NO, YES, YES, NO, NO]),
        ("/copal.hub.v1.Secrets/Put", [NO, NO, YES, NO, NO]),
        ("/copal.hub.v1.Queues/Write", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Queues/Deliver", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Queues/Consume", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Queues/Describe", [YES; 5]),
        ("/copal.hub.v1.Queues/Browse", [NO, YES, NO, YES, NO]),
        ("/copal.hub.v1.Queues/Replay", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Queues/Run", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Queues/Manage", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Queues/ListRuns", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Queues/ManageRun", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Caches/Manage", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Jobs/Declare", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Jobs/List", [NO, YES, NO, YES, NO]),
        ("/copal.hub.v1.Jobs/Manage", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Topics/Tell", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Topics/Listen", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Topics/Follow", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Members/SetAdmin", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Members/Register", [YES; 5]),
        ("/copal.hub.v1.Members/Heartbeat", [YES; 5]),
        ("/copal.hub.v1.Members/SetState", [YES; 5]),
        ("/copal.hub.v1.Members/List", [YES; 5]),
        ("/copal.hub.v1.Apps/Deploy", [YES, NO, NO, YES, NO]),
        ("/copal.hub.v1.Apps/Undeploy", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Apps/SetStopped", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Apps/Report", [NO, YES, NO, NO, NO]),
        ("/copal.hub.v1.Apps/List", [YES; 5]),
        ("/copal.hub.v1.Objects/Missing", [YES, NO, NO, YES, NO]),
        ("/copal.hub.v1.Objects/Room", [YES, NO, NO, YES, NO]),
        ("/copal.hub.v1.Objects/Store", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Objects/Verify", [YES, NO, NO, YES, NO]),
        ("/copal.hub.v1.Objects/Fetch", [YES, YES, NO, YES, NO]),
        ("/copal.hub.v1.Tokens/Create", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Tokens/Revoke", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Tokens/List", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Purges/Note", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Audits/List", [YES, NO, NO, YES, NO]),
        ("/copal.hub.v1.Audits/Note", [YES, NO, NO, YES, NO]),
        ("/copal.hub.v1.Lead/HandOver", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Triad/Status", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.Watch/Events", [YES; 5]),
        ("/copal.web.v1.Balancer/Heed", [NO, NO, NO, YES, NO]),
        ("/copal.web.v1.Cache/Purge", [NO, NO, NO, YES, NO]),
        ("/copal.web.v1.Cache/Report", [NO, NO, NO, YES, NO]),
        ("/copal.status.v1.Status/Get", [YES; 5]),
        ("/copal.history.v1.History/Read", [YES; 5]),
        ("/copal.logs.v1.Logs/Tail", [NO, NO, NO, YES, NO]),
        ("/copal.requests.v1.Requests/Notable", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.SessionAdmin/Count", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.SessionAdmin/Find", [NO, NO, NO, YES, NO]),
        ("/copal.hub.v1.SessionAdmin/Invalidate", [NO, NO, NO, YES, NO]),
        ("/copal.session.v1.Memory/Find", [NO, NO, NO, YES, NO]),
        ("/copal.session.v1.Memory/Forget", [NO, NO, NO, YES, NO]),
        ("/copal.config.v1.Configuration/Get", [NO, NO, NO, YES, NO]),
        ("/copal.app.v1.Sessions/Load", [NO; 5]),
        ("/grpc.health.v1.Health/Check", [NO; 5]),
        ("/copal.hub.v1.Raft", [NO; 5]),
        ("copal.hub.v1.Watch/Events", [NO; 5]),
        ("//copal.hub.v1.Watch/Events", [NO; 5]),
        ("/", [NO; 5]),
        ("", [NO; 5]),
    ];

    /// A row a call: may the hub, an app server, a web-tier, one with the administration, one without any role make it?
    #[test]
    fn each_role_has_its_calls_and_no_others() {
        let none = Rights::default();
        let roles = [
            Rights { hub: true, ..none },
            Rights { apps: true, ..none },
            Rights { listens: true, ..none },
            Rights { administers: true, ..none },
            none,
        ];
        for (path, expected) in CALLS {
            assert_eq!(roles.map(|rights| may_call(rights, path)), expected, "{path}");
        }
    }

    /// A service or method that is added has to be thought of here.
    #[test]
    fn every_call_of_the_cluster_port_is_somebodys() {
        let files = [
            "hub/v1/app",
            "hub/v1/audit",
            "hub/v1/cache",
            "hub/v1/job",
            "hub/v1/lead",
            "hub/v1/lease",
            "hub/v1/object",
            "hub/v1/queue",
            "hub/v1/raft",
            "hub/v1/secret",
            "hub/v1/session",
            "hub/v1/token",
            "hub/v1/topic",
            "hub/v1/triad",
            "hub/v1/member",
            "hub/v1/watch",
            "history/v1/history",
            "status/v1/status",
            "hub/v1/session_admin",
            "logs/v1/logs",
            "requests/v1/request",
            "session/v1/memory",
            "config/v1/configuration",
            "web/v1/balancer",
            "web/v1/cache",
        ];
        for file in files {
            let path = format!("{}/../proto/proto/copal/{file}.proto", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let word = |line: &str| line.split([' ', '(']).nth(1).unwrap().to_owned();
            let package = text
                .lines()
                .find(|line| line.starts_with("package "))
                .map(|line| line.trim_start_matches("package ").trim_end_matches(';').to_owned());
            let service = text.lines().find(|line| line.starts_with("service ")).map(word).unwrap();
            for line in text.lines().map(str::trim).filter(|line| line.starts_with("rpc ")) {
                let path = format!("/{}.{service}/{}", package.clone().unwrap(), word(line));
                assert!(may_call(Rights::ALL, &path), "{path}");
            }
        }
    }
}
