//! The hub's gRPC services, one a concept: check, replicate or confirm, answer.

mod app;
mod audit;
mod cache;
mod input;
mod job;
mod lead;
mod lease;
mod member;
mod pipeline;
mod purge;
mod queue;
mod secret;
mod session;
mod session_admin;
mod status;
mod token;
mod topic;
mod watch;

pub(crate) use app::AppService;
pub(crate) use audit::AuditService;
pub(crate) use cache::CacheService;
pub(crate) use job::{JobService, schedule_of};
pub(crate) use lead::{LeadService, note_hand_over};
pub(crate) use lease::LeaseService;
pub(crate) use member::MemberService;
pub(crate) use purge::PurgeService;
pub(crate) use queue::QueueService;
pub(crate) use secret::SecretService;
pub(crate) use session::SessionService;
pub(crate) use session_admin::SessionAdminService;
pub(crate) use status::StatusService;
pub(crate) use token::TokenService;
pub(crate) use topic::TopicService;
pub(crate) use watch::WatchService;
