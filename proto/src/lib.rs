//! The wire contracts of Copal, generated from the `.proto` files beside this crate.

/// The hub's contracts, package `copal.hub.v1`.
pub mod hub {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("copal.hub.v1");
    }
}

/// What an app process calls, package `copal.app.v1`.
pub mod app {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("copal.app.v1");
    }
}

/// What servers ask a web-tier server, package `copal.web.v1`.
pub mod web {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("copal.web.v1");
    }
}

/// How any gRPC server is asked whether it can serve, package `grpc.health.v1`.
pub mod health {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("grpc.health.v1");
    }
}
