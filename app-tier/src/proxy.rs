//! Sends a request to an app's process and streams its answer back.

mod answer;
mod backend;
mod expectation;
mod headers;
mod progress;
mod target;

pub(crate) use answer::{Answer, Pause};
pub(crate) use backend::Backend;
pub(crate) use headers::{
    DELIVERY, FENCE, HUB_AGE, REQUEST, SESSION_ID, SESSION_LINK, SESSION_URL, SOURCE, end_to_end, without_own,
};
pub(crate) use target::Target;

#[cfg(test)]
mod tests;
