//! How large a gRPC message of the hub may be.

/// The largest gRPC message: a session may be larger than gRPC's usual 4 MiB.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;
