//! The wire contracts of Copal, generated from the `.proto` files beside this crate.

#[cfg(test)]
mod generated;
pub mod quantile;

/// The hub's contracts, package `copal.hub.v1`.
pub mod hub {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.hub.v1.rs");
    }
}

/// What an app process calls, package `copal.app.v1`.
pub mod app {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.app.v1.rs");
    }
}

/// What any server says of itself, package `copal.status.v1`.
pub mod status {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.status.v1.rs");
    }
}

/// What hub servers have kept of it, package `copal.history.v1`.
pub mod history {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.history.v1.rs");
    }
}

/// What servers ask a web-tier server, package `copal.web.v1`.
pub mod web {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.web.v1.rs");
    }
}

/// The configuration that a server goes by, package `copal.config.v1`.
pub mod config {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.config.v1.rs");
    }
}

/// The last log lines of a server, package `copal.logs.v1`.
pub mod logs {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.logs.v1.rs");
    }
}

/// The requests of a web-tier that an operator asks for, package `copal.requests.v1`.
pub mod requests {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.requests.v1.rs");
    }
}

/// Sessions in the memory of an app server, package `copal.session.v1`.
pub mod session {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/copal.session.v1.rs");
    }
}

/// How any gRPC server is asked whether it can serve, package `grpc.health.v1`.
pub mod health {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/grpc.health.v1.rs");
    }
}

/// Where finished spans go, package `opentelemetry.proto.collector.trace.v1`.
pub mod opentelemetry {
    /// Version 1.
    #[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated")]
    pub mod v1 {
        include!("generated/opentelemetry.proto.collector.trace.v1.rs");
    }
}
