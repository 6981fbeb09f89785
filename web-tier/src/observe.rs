//! What is told of requests: to the access log, in counters, to who follows one by its ids, and to operators who ask. Each worker writes
//! its own; a sum is made when somebody asks.

pub(crate) mod access_log;
pub(crate) mod cache_counters;
pub(crate) mod counters;
pub(crate) mod histogram;
pub(crate) mod notable;
pub(crate) mod rate_limited_log;
pub(crate) mod recent;
pub(crate) mod request_id;
pub(crate) mod status;
pub(crate) mod tcp_counters;
pub(crate) mod trace_context;
