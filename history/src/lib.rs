//! What servers have said of themselves, kept on the hub's servers in files of a fixed size: 24 hours by 10 seconds and 30 days by 5
//! minutes of each. [`Sampler`] makes points of what they say, [`History`] keeps them and reads them, [`service`] answers for it.

mod point;
mod ring;
mod sampler;
mod service;
mod store;

pub use point::{PLACES, Point};
pub use sampler::Sampler;
pub use service::{POINTS_MAX, SERVERS_ASKED_MAX, service};
pub use store::{History, Question, QuestionError, SERVERS_MAX};

/// Seconds from one point to the next, for 24 hours.
pub const STEP_S: u64 = 10;

/// Seconds from one point to the next, for 30 days.
pub const LONG_STEP_S: u64 = 300;
